//! Threads that help with an operation when a worker computes fewer shards than it has threads.
//!
//! An operation is cut where no sum is: between images, rows or output channels; or where a sum is put together from
//! parts that have their bits from the data alone. So its bits are the same however many threads there are to help.

use std::ops::Range;
use std::sync::atomic::{AtomicIsize, Ordering};

use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::ComputeError;

/// Operations on fewer numbers are not worth the waking of a thread.
const WORTH: usize = 32 * 1024;

/// What the executors of one worker share.
pub(crate) struct Team {
    /// Threads that neither compute a pass nor help; below 0 for a moment where a pass begins while its thread still
    /// helps.
    idle: AtomicIsize,
    /// All but one, for a pass has a thread of its own; none if there is one thread.
    helpers: Option<ThreadPool>,
}

impl Team {
    /// A team of `threads`, of which a pass takes one for as long as it lasts.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: usize) -> Result<Self, ComputeError> {
        let helpers = (threads > 1).then(|| {
            let builder = ThreadPoolBuilder::new().num_threads(threads - 1).thread_name(|_| "help".to_owned());
            builder.build().map_err(|error| ComputeError::Thread(error.to_string()))
        });
        Ok(Team { idle: AtomicIsize::new(threads as isize), helpers: helpers.transpose()? })
    }

    /// Counts a pass for as long as the answer lives.
    pub fn begin_pass(&self) -> Taken<'_> {
        self.idle.fetch_sub(1, Ordering::Relaxed);
        Taken { team: self, threads: 1 }
    }

    /// The threads for an operation on so many `numbers` that can be cut into `parts`: the calling one, and those that
    /// are idle. To be called within a [`Team::begin_pass`].
    pub fn threads(&self, numbers: usize, parts: usize) -> Threads<'_> {
        let wanted = if numbers < WORTH { 0 } else { parts.saturating_sub(1) as isize };
        let mut helpers = 0;
        _ = self.idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |idle| {
            helpers = wanted.min(idle).max(0);
            (helpers > 0).then_some(idle - helpers)
        });
        Threads { helpers: Taken { team: self, threads: helpers } }
    }
}

/// Threads that are not idle; when dropped, they are again.
pub(crate) struct Taken<'a> {
    team: &'a Team,
    threads: isize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.team.idle.fetch_add(self.threads, Ordering::Relaxed);
    }
}

/// Threads that work on one operation.
pub(crate) struct Threads<'a> {
    helpers: Taken<'a>,
}

impl Threads<'_> {
    /// How many, the calling one among them.
    pub fn count(&self) -> usize {
        self.helpers.threads as usize + 1
    }

    /// What `work` makes of every item, in their order.
    ///
    /// # Panics
    /// As [`Threads::each`].
    pub fn map<T: Send, R: Send>(
        &self,
        items: impl Iterator<Item = T> + Send,
        work: impl Fn(T) -> R + Sync,
    ) -> impl Iterator<Item = R> {
        let mut items: Vec<(Option<T>, Option<R>)> = items.map(|item| (Some(item), None)).collect();
        self.each(items.iter_mut(), |(item, result)| *result = item.take().map(&work));
        items.into_iter().filter_map(|(_, result)| result)
    }

    /// Does `work` on every item; each thread takes the next one when it has done the one before.
    ///
    /// # Panics
    /// If `work` does, when all threads have come to an end.
    pub fn each<T: Send>(&self, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        let Some(pool) = self.helpers.team.helpers.as_ref().filter(|_| self.count() > 1) else {
            return items.for_each(work);
        };
        let items = Mutex::new(items);
        let next = || items.lock().next();
        let work_through = || {
            while let Some(item) = next() {
                work(item);
            }
        };
        pool.in_place_scope(|scope| {
            (1..self.count()).for_each(|_| scope.spawn(|_| work_through()));
            work_through();
        });
    }
}

/// `0..rows` in at most `parts` ranges that begin at multiples of `unit`.
pub(crate) fn units(rows: usize, unit: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    ranges(rows.div_ceil(unit), parts).map(move |range| range.start * unit..(range.end * unit).min(rows))
}

/// `0..len` in at most `parts` ranges, as even as can be.
pub(crate) fn ranges(len: usize, parts: usize) -> impl Iterator<Item = Range<usize>> {
    let parts = parts.clamp(1, len.max(1));
    (0..parts).map(move |part| len * part / parts..len * (part + 1) / parts)
}

/// Cuts `values` into one piece for each of `ranges`, `each` values long for every unit of the range.
pub(crate) fn cut<'a, T: 'a>(
    mut values: &'a mut [T],
    each: usize,
    ranges: impl Iterator<Item = Range<usize>>,
) -> impl Iterator<Item = (Range<usize>, &'a mut [T])> {
    ranges.map(move |range| {
        let (piece, rest) = std::mem::take(&mut values).split_at_mut(range.len() * each);
        values = rest;
        (range, piece)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn idle_threads_help_and_are_idle_again() {
        let team = Team::new(4).unwrap();
        let passes = [team.begin_pass(), team.begin_pass()];
        let threads = team.threads(WORTH, 8);
        assert_eq!((threads.count(), team.threads(WORTH, 8).count()), (3, 1));
        // Each waits for the two others, so that all three must be at work.
        let (barrier, done) = (Barrier::new(3), Mutex::new(Vec::new()));
        threads.each(0..3, |item| {
            barrier.wait();
            done.lock().push((item, std::thread::current().id()));
        });
        let mut done = done.into_inner();
        done.sort_by_key(|(item, _)| *item);
        assert_eq!(done.iter().map(|(item, _)| *item).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(done.iter().map(|(_, thread)| thread).collect::<HashSet<_>>().len(), 3);
        assert_eq!(threads.map(0..9, |item| item * item).collect::<Vec<_>>(), [0, 1, 4, 9, 16, 25, 36, 49, 64]);
        drop((threads, passes));
        assert_eq!(team.idle.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn nobody_helps_where_it_does_not_pay_or_nobody_is_idle() {
        let team = Team::new(2).unwrap();
        let pass = team.begin_pass();
        let counts = |numbers, parts| team.threads(numbers, parts).count();
        assert_eq!((counts(WORTH - 1, 8), counts(WORTH, 1), counts(WORTH, 0), counts(WORTH, 8)), (1, 1, 1, 2));
        let more = [team.begin_pass(), team.begin_pass()];
        assert_eq!(counts(WORTH, 8), 1);
        drop((pass, more));
        let alone = Team::new(1).unwrap();
        let _pass = alone.begin_pass();
        assert_eq!(alone.threads(WORTH, 8).count(), 1);
    }

    #[test]
    fn a_panic_of_a_helper_is_the_callers() {
        let team = Team::new(3).unwrap();
        let threads = team.threads(WORTH, 3);
        let panicked = catch_unwind(AssertUnwindSafe(|| threads.each(0..9, |item| assert!(item != 5, "on purpose"))));
        assert!(panicked.is_err());
        drop(threads);
        assert_eq!(team.idle.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn results_stand_in_the_order_of_the_items_whoever_is_first() {
        let team = Team::new(2).unwrap();
        let threads = team.threads(WORTH, 2);
        // The first item ends only after the second one has.
        let second_is_done = Barrier::new(2);
        let results = threads.map(0..2, |item| {
            second_is_done.wait();
            item
        });
        assert_eq!(results.collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_pass_that_begins_while_its_thread_helps_finds_no_helper() {
        let team = Team::new(2).unwrap();
        let pass = team.begin_pass();
        let helped = team.threads(WORTH, 2);
        let other = team.begin_pass();
        assert_eq!((helped.count(), team.threads(WORTH, 2).count(), team.idle.load(Ordering::Relaxed)), (2, 1, -1));
        drop((helped, other));
        assert_eq!(team.threads(WORTH, 2).count(), 2);
        drop(pass);
    }

    #[test]
    fn ranges_are_even_and_cover_all() {
        let all = |len, parts| ranges(len, parts).collect::<Vec<_>>();
        assert_eq!(all(7, 3), [0..2, 2..4, 4..7]);
        assert_eq!(all(2, 5), [0..1, 1..2]);
        assert!(all(0, 5).iter().all(|range| range.is_empty()));
        assert_eq!(units(70, 32, 2).collect::<Vec<_>>(), [0..32, 32..70]);
        let mut values = [0, 1, 2, 3, 4, 5];
        let pieces: Vec<_> = cut(&mut values, 2, ranges(3, 2)).map(|(range, piece)| (range, piece.to_vec())).collect();
        assert_eq!(pieces, [(0..1, vec![0, 1]), (1..3, vec![2, 3, 4, 5])]);
    }
}
