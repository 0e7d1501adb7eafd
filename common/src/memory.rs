//! How much memory a process takes for what others ask of it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// For work: pictures that are decoded to look at them, files that are read whole.
pub static WORK: MemoryBudget = MemoryBudget::new();
/// For calls: what is on its way in, and replies on their way out.
pub static CALLS: MemoryBudget = MemoryBudget::new();

/// Bounds all that this process takes for others to `bytes`: a quarter for calls, so that those who keep them open hold
/// up no work, and the rest for work. Without this call there is no bound.
pub fn bound(bytes: u64) {
    CALLS.bound(bytes / 4);
    WORK.bound(bytes - bytes / 4);
}

/// Bytes that may be taken at the same time. Whoever holds some does not wait for more: they [try](Self::try_take), or
/// give back what they hold first. So nobody waits for somebody who waits.
#[derive(Debug)]
pub struct MemoryBudget {
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug)]
struct State {
    limit: u64,
    taken: u64,
}

/// Why memory is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfMemory {
    /// It is more than there is in all.
    #[error(
        "this takes {} MiB of memory, more than the {} MiB that are there for it; make it smaller, or have the \
         coordinator started with a larger --memory-mib", needed.div_ceil(1 << 20), limit >> 20
    )]
    TooMuch {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that there are in all.
        limit: u64,
    },
    /// Others have it.
    #[error(
        "this takes {} MiB of memory, and others use all but {} of the {} MiB that are there for it; try again later",
        needed.div_ceil(1 << 20), free >> 20, limit >> 20
    )]
    Busy {
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that nobody has.
        free: u64,
        /// Bytes that there are in all.
        limit: u64,
    },
}

impl State {
    fn take(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        let State { limit, taken } = *self;
        if bytes > limit {
            return Err(OutOfMemory::TooMuch { needed: bytes, limit });
        }
        match taken.checked_add(bytes).filter(|taken| *taken <= limit) {
            Some(taken) => self.taken = taken,
            None => return Err(OutOfMemory::Busy { needed: bytes, free: limit.saturating_sub(taken), limit }),
        }
        Ok(())
    }
}

impl MemoryBudget {
    /// A budget without a bound.
    pub const fn new() -> Self {
        MemoryBudget { state: Mutex::new(State { limit: u64::MAX, taken: 0 }), given_back: Condvar::new() }
    }

    /// There are `bytes` in all from now on; what is taken stays taken.
    pub fn bound(&self, bytes: u64) {
        self.state().limit = bytes;
    }

    /// Bytes that there are in all.
    pub fn limit(&self) -> u64 {
        self.state().limit
    }

    /// Whether there is a bound.
    pub fn is_bounded(&self) -> bool {
        self.limit() < u64::MAX
    }

    /// Takes `bytes`; waits for those that hold them. Blocks the thread.
    ///
    /// # Errors
    /// When there are not so many in all.
    pub fn take(&self, bytes: u64) -> Result<HeldMemory<'_>, OutOfMemory> {
        let mut state = self.state();
        loop {
            match state.take(bytes) {
                Ok(()) => return Ok(HeldMemory { budget: self, bytes }),
                Err(OutOfMemory::Busy { .. }) => {
                    state = self.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes `bytes` if they are free.
    ///
    /// # Errors
    /// When they are not, or there are not so many in all.
    pub fn try_take(&self, bytes: u64) -> Result<HeldMemory<'_>, OutOfMemory> {
        self.state().take(bytes).map(|()| HeldMemory { budget: self, bytes })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryBudget {
    fn default() -> Self {
        MemoryBudget::new()
    }
}

/// Bytes of a budget, until this is dropped.
#[derive(Debug)]
pub struct HeldMemory<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl HeldMemory<'_> {
    /// Holds `bytes` more, if they are free.
    ///
    /// # Errors
    /// As [`MemoryBudget::try_take`]; what is held stays.
    pub fn try_grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        self.budget.state().take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for HeldMemory<'_> {
    fn drop(&mut self) {
        self.budget.state().taken -= self.bytes;
        self.budget.given_back.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is() {
        let budget = MemoryBudget::new();
        drop(budget.take(u64::MAX).unwrap());
        budget.bound(10);
        assert_eq!(budget.take(11).unwrap_err(), OutOfMemory::TooMuch { needed: 11, limit: 10 });
        let mut held = budget.take(6).unwrap();
        assert_eq!(budget.try_take(5).unwrap_err(), OutOfMemory::Busy { needed: 5, free: 4, limit: 10 });
        held.try_grow(4).unwrap();
        assert!(held.try_grow(1).is_err() && budget.try_take(1).is_err());
        drop(held);
        drop(budget.try_take(10).unwrap());
    }

    #[test]
    fn who_waits_gets_what_others_give_back() {
        let budget = MemoryBudget::new();
        budget.bound(10);
        let most = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for bytes in 1..=10 {
                let (budget, most) = (&budget, &most);
                scope.spawn(move || {
                    for _ in 0..100 {
                        let _held = budget.take(bytes).unwrap();
                        most.fetch_max(budget.state().taken, std::sync::atomic::Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 10);
        assert_eq!(budget.state().taken, 0);
    }

    #[test]
    fn why_memory_is_not_given_is_said_with_figures() {
        let budget = MemoryBudget::new();
        budget.bound(1 << 30);
        let text = budget.take((3 << 30) + 1).unwrap_err().to_string();
        assert!(text.starts_with("this takes 3073 MiB of memory, more than the 1024 MiB"), "{text}");
    }
}
