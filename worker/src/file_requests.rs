//! Which files of a run are wanted, on their way, or here.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;

/// Files of a run that come from the coordinator, by their numbers in the manifest. Files that a thread waits for go
/// before files that may be wanted later.
#[derive(Debug, Default)]
pub(crate) struct FileRequests {
    /// Not asked for yet.
    queue: VecDeque<u32>,
    /// In the queue or on their way.
    asked: HashSet<u32>,
    /// How many threads wait for a file.
    waiting: BTreeMap<u32, usize>,
    /// Files that came and are not kept elsewhere.
    here: BTreeMap<u32, Arrived>,
    /// Bytes of files that came before anybody waited for them.
    ahead: usize,
}

/// A file that came, or why it does not.
#[derive(Debug)]
struct Arrived {
    contents: Result<Bytes, String>,
    /// Whether its bytes count as `ahead`.
    ahead: bool,
}

impl FileRequests {
    /// The files on their way are lost: all of them are to be asked for again, after those in the queue.
    pub(crate) fn ask_again(&mut self) {
        let mut lost: Vec<u32> = self.asked.iter().filter(|file| !self.queue.contains(file)).copied().collect();
        lost.sort_unstable();
        self.queue.extend(lost);
    }

    /// Somebody may want `file` later. Whether it is new in the queue.
    pub(crate) fn will_need(&mut self, file: u32) -> bool {
        let new = !self.here.contains_key(&file) && self.asked.insert(file);
        if new {
            self.queue.push_back(file);
        }
        new
    }

    /// A thread begins to wait for `file`. Whether it is now the first of the queue.
    pub(crate) fn begin_to_wait(&mut self, file: u32) -> bool {
        *self.waiting.entry(file).or_default() += 1;
        if self.here.contains_key(&file) {
            return false;
        }
        let queued = self.queue.iter().position(|queued| *queued == file);
        if let Some(at) = queued {
            self.queue.remove(at);
        }
        let first = self.asked.insert(file) || queued.is_some();
        if first {
            self.queue.push_front(file);
        }
        first
    }

    /// Whether `file`, or the reason why it does not come, is here.
    pub(crate) fn is_here(&self, file: u32) -> bool {
        self.here.contains_key(&file)
    }

    /// A thread stops waiting, and gets the file if it is here. The last one takes it away.
    pub(crate) fn end_to_wait(&mut self, file: u32) -> Option<Result<Bytes, String>> {
        let contents = self.here.get(&file).map(|arrived| arrived.contents.clone());
        let left = self.waiting.get_mut(&file).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            self.waiting.remove(&file);
            if let Some(Arrived { contents: Ok(bytes), ahead: true }) = self.here.remove(&file) {
                self.ahead -= bytes.len();
            }
        }
        contents
    }

    /// Takes the next files to ask for out of the queue, at most `most`.
    pub(crate) fn take_batch(&mut self, most: usize) -> Vec<u32> {
        let count = self.queue.len().min(most);
        self.queue.drain(..count).collect()
    }

    /// Files that did not come are asked for again before all others.
    pub(crate) fn put_back(&mut self, files: &[u32]) {
        files.iter().rev().for_each(|file| self.queue.push_front(*file));
    }

    /// A file came, or will not. `kept` says that it can be had elsewhere from now on. It is held here for those who
    /// wait, and for later where nothing else keeps it, up to `ahead_limit` bytes of such files.
    pub(crate) fn arrived(&mut self, file: u32, contents: Result<Bytes, String>, kept: bool, ahead_limit: usize) {
        self.asked.remove(&file);
        if self.waiting.contains_key(&file) {
            self.here.insert(file, Arrived { contents, ahead: false });
        } else if let (Ok(bytes), false) = (contents, kept)
            && self.ahead + bytes.len() <= ahead_limit
        {
            self.ahead += bytes.len();
            self.here.insert(file, Arrived { contents: Ok(bytes), ahead: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(count: usize) -> Result<Bytes, String> {
        Ok(vec![1; count].into())
    }

    fn wanted(files: &[u32]) -> FileRequests {
        let mut requests = FileRequests::default();
        assert!(files.iter().all(|file| requests.will_need(*file)));
        requests
    }

    #[test]
    fn files_are_asked_for_once_and_in_order() {
        let mut requests = wanted(&[4, 2, 7]);
        assert!(!requests.will_need(2), "it is in the queue");
        assert_eq!(requests.take_batch(2), [4, 2]);
        assert!(!requests.will_need(4), "it is on its way");
        assert_eq!(requests.take_batch(2), [7]);
        assert!(requests.take_batch(2).is_empty());
    }

    #[test]
    fn a_file_that_a_thread_waits_for_goes_first() {
        let mut requests = wanted(&[4, 2, 7]);
        assert!(requests.begin_to_wait(7) && requests.begin_to_wait(9));
        assert_eq!(requests.take_batch(64), [9, 7, 4, 2]);
        assert!(!requests.begin_to_wait(4), "it is on its way");
        assert!(requests.take_batch(64).is_empty());
    }

    #[test]
    fn all_who_wait_get_the_file_and_the_last_takes_it_away() {
        let mut requests = FileRequests::default();
        requests.begin_to_wait(3);
        requests.begin_to_wait(3);
        requests.take_batch(64);
        requests.arrived(3, bytes(5), false, 0);
        assert!(requests.is_here(3));
        assert_eq!(requests.end_to_wait(3), Some(bytes(5)));
        assert_eq!(requests.end_to_wait(3), Some(bytes(5)));
        assert!(!requests.is_here(3) && requests.will_need(3));
    }

    #[test]
    fn a_thread_that_gives_up_gets_nothing_and_leaves_nothing_behind() {
        let mut requests = FileRequests::default();
        requests.begin_to_wait(3);
        assert_eq!(requests.end_to_wait(3), None);
        requests.arrived(3, Err("gone".to_owned()), false, 100);
        assert!(!requests.is_here(3), "nobody wants the reason");
        assert!(requests.will_need(3), "it may be asked for again");
    }

    #[test]
    fn a_reason_reaches_those_who_wait() {
        let mut requests = FileRequests::default();
        requests.begin_to_wait(3);
        requests.arrived(3, Err("other bytes".to_owned()), false, 0);
        assert_eq!(requests.end_to_wait(3), Some(Err("other bytes".to_owned())));
        assert!(!requests.is_here(3), "a later thread asks anew");
    }

    #[test]
    fn files_that_come_ahead_of_time_are_held_up_to_a_bound() {
        let mut requests = wanted(&[0, 1, 2, 3]);
        requests.take_batch(64);
        requests.arrived(0, bytes(60), false, 100);
        requests.arrived(1, bytes(60), false, 100);
        requests.arrived(2, bytes(40), false, 100);
        requests.arrived(3, bytes(1), true, 100);
        let held: Vec<u32> = (0..4).filter(|file| requests.is_here(*file)).collect();
        assert_eq!(held, [0, 2], "60 and 40 bytes; file 1 does not fit, file 3 is in the cache");
        assert!(requests.will_need(1), "a file that found no room may be asked for again");
        assert!(!requests.begin_to_wait(0), "it is here");
        assert_eq!(requests.end_to_wait(0), Some(bytes(60)));
        requests.arrived(1, bytes(60), false, 100);
        assert!(requests.is_here(1), "there is room again");
    }

    #[test]
    fn files_that_were_waited_for_do_not_count_as_ahead_of_time() {
        let mut requests = wanted(&[0, 1]);
        requests.arrived(0, bytes(100), false, 100);
        requests.begin_to_wait(2);
        requests.arrived(2, bytes(100), false, 100);
        requests.end_to_wait(2);
        requests.arrived(1, bytes(1), false, 100);
        assert!(!requests.is_here(1), "the bound is reached still");
    }

    #[test]
    fn files_that_did_not_come_go_before_all_others() {
        let mut requests = wanted(&[0, 1, 2, 3, 4]);
        let batch = requests.take_batch(3);
        requests.put_back(&batch[1..]);
        assert_eq!(requests.take_batch(64), [1, 2, 3, 4]);
    }

    #[test]
    fn files_on_their_way_are_asked_for_again_from_another_coordinator() {
        let mut requests = wanted(&[5, 3, 8]);
        requests.take_batch(2);
        requests.ask_again();
        requests.ask_again();
        assert_eq!(requests.take_batch(64), [8, 3, 5]);
    }
}
