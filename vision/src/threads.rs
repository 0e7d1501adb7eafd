//! Work on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Things that a thread takes at a time.
const CHUNK: usize = 256;

/// Calls `work` with ranges that together are `0..count`, on as many threads as the machine has.
pub(crate) fn in_chunks(count: usize, work: impl Fn(std::ops::Range<usize>) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // The last chunks of few things should not be one thread's.
    let chunk = (count / (4 * threads)).clamp(1, CHUNK);
    let next = AtomicUsize::new(0);
    let run = || {
        loop {
            let start = next.fetch_add(chunk, Ordering::Relaxed);
            if start >= count {
                return;
            }
            work(start..count.min(start + chunk));
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(count)).map(|_| scope.spawn(run)).collect();
        run();
        for thread in others {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// What `work` makes of each number below `count`, in their order, on as many threads as the machine has.
pub(crate) fn in_order<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let done = Mutex::new((0..count).map(|_| None).collect::<Vec<Option<T>>>());
    in_chunks(count, |range| {
        for at in range {
            let made = work(at);
            done.lock()[at] = Some(made);
        }
    });
    done.into_inner().into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        assert_eq!(in_order(1000, |number| 3 * number), (0..1000).map(|number| 3 * number).collect::<Vec<_>>());
        assert_eq!(in_order(0, |number| number), Vec::<usize>::new());
    }

    #[test]
    fn chunks_cover_everything_once() {
        for count in [0, 1, 2, 7, CHUNK, 5 * CHUNK + 3] {
            let seen = Mutex::new(vec![0; count]);
            in_chunks(count, |range| seen.lock()[range].iter_mut().for_each(|times| *times += 1));
            assert_eq!(seen.into_inner(), vec![1; count]);
        }
    }
}
