//! Files that came over the network, kept on disk by their digest.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use convoy_common::Digest;
use convoy_common::durable::{self, remove_file, rename};
use parking_lot::Mutex;

/// A folder of files named by their blake3 digests, of bounded size. Several processes may share it; then each looks
/// again at what all of them hold after every sixteenth of the bound that it wrote, so that n of them may exceed it by
/// n sixteenths.
///
/// A file that the present run needs is never dropped for another one of the same run: an epoch asks for each file
/// once, in another order each time, so nothing would be gained. Files that earlier runs left are dropped, the oldest
/// first.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    limit: u64,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    held: HashMap<Digest, Held>,
    bytes: u64,
    /// Written since the folder was last looked at.
    written: u64,
    run: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    size: u64,
    /// The run of this process that used it last; 0 for none.
    run: u64,
    modified: SystemTime,
}

impl Contents {
    /// Takes over what was found on the disk, with the runs that are known to have used it.
    fn replace(&mut self, mut found: HashMap<Digest, Held>) {
        for (digest, held) in &mut found {
            held.run = self.held.get(digest).map_or(0, |known| known.run);
        }
        self.bytes = found.values().map(|held| held.size).sum();
        self.held = found;
        self.written = 0;
    }

    /// Forgets files that earlier runs left until at most `limit` bytes are held, and names them: those of the earliest
    /// run first, within a run the oldest first.
    fn drop_oldest(&mut self, limit: u64) -> Vec<Digest> {
        if self.bytes <= limit {
            return Vec::new();
        }
        let run = self.run;
        let left_over = self.held.iter().filter(|(_, held)| held.run < run || run == 0);
        let mut oldest: Vec<_> = left_over.map(|(digest, held)| (held.run, held.modified, digest.0)).collect();
        oldest.sort_unstable();
        let mut dropped = Vec::new();
        for (_, _, digest) in oldest {
            if self.bytes <= limit {
                break;
            }
            let digest = Digest(digest);
            if let Some(held) = self.held.remove(&digest) {
                self.bytes -= held.size;
                dropped.push(digest);
            }
        }
        dropped
    }
}

impl DiskCache {
    /// Opens the cache in `folder`, or makes it; `limit` is in bytes.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let cache = DiskCache { folder: folder.to_owned(), limit, contents: Mutex::default() };
        let held = cache.look()?;
        let mut contents = cache.contents.lock();
        contents.bytes = held.values().map(|held| held.size).sum();
        contents.held = held;
        drop(contents);
        // A file whose name came only with an error counts from now on.
        cache.make_room(0);
        Ok(cache)
    }

    /// A run begins: what others needed may go from now on.
    pub(crate) fn begin_run(&self) {
        self.contents.lock().run += 1;
    }

    /// Whether the contents are here, as far as is known without looking.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.contents.lock().held.contains_key(digest)
    }

    /// The contents with this digest. What does not have it any more is removed.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => bytes,
            Ok(_) => {
                tracing::warn!(path = %path.display(), "damaged in the cache; it is fetched again");
                _ = remove_file(&path);
                self.forget(digest);
                return None;
            }
            Err(_) => {
                self.forget(digest);
                return None;
            }
        };
        let mut contents = self.contents.lock();
        let run = contents.run;
        match contents.held.get_mut(digest) {
            Some(held) => held.run = run,
            // Another process put it there.
            None => {
                let size = bytes.len() as u64;
                contents.held.insert(*digest, Held { size, run, modified: SystemTime::now() });
                contents.bytes += size;
            }
        }
        Some(bytes)
    }

    /// Keeps contents; `false` where there is no room, or the disk does not take them.
    pub(crate) fn put(&self, digest: &Digest, bytes: &[u8]) -> bool {
        let size = bytes.len() as u64;
        if self.holds(digest) {
            return true;
        }
        if !self.make_room(size) {
            return false;
        }
        if let Err(error) = self.write(digest, bytes) {
            tracing::warn!(%error, folder = %self.folder.display(), "the cache takes nothing");
            return false;
        }
        let mut contents = self.contents.lock();
        let run = contents.run;
        if contents.held.insert(*digest, Held { size, run, modified: SystemTime::now() }).is_none() {
            contents.bytes += size;
        }
        contents.written += size;
        true
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        // Not synced: what a crash leaves is verified when it is read.
        let file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
        durable::write(file.path(), bytes, |bytes| file.as_file().write_all(bytes))?;
        let hidden = file.into_temp_path();
        rename(&hidden, &path)?;
        // Nothing is left to be removed.
        _ = hidden.keep();
        Ok(())
    }

    /// Whether `size` more bytes fit, once files that earlier runs left are dropped as far as needed.
    fn make_room(&self, size: u64) -> bool {
        if self.contents.lock().written > self.limit / 16
            && let Ok(found) = self.look()
        {
            self.contents.lock().replace(found);
        }
        let mut contents = self.contents.lock();
        for digest in contents.drop_oldest(self.limit.saturating_sub(size)) {
            _ = remove_file(&self.path(&digest));
        }
        contents.bytes + size <= self.limit
    }

    fn forget(&self, digest: &Digest) {
        let mut contents = self.contents.lock();
        if let Some(held) = contents.held.remove(digest) {
            contents.bytes -= held.size;
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.folder.join(&name[..2]).join(name)
    }

    /// What lies in the folder.
    fn look(&self) -> io::Result<HashMap<Digest, Held>> {
        let mut found = HashMap::new();
        for folder in fs::read_dir(&self.folder)? {
            let folder = folder?.path();
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let digest = entry.file_name().to_str().and_then(|name| name.parse::<Digest>().ok());
                // Another process may remove it right now.
                let (Some(digest), Ok(facts)) = (digest, entry.metadata()) else { continue };
                let modified = facts.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.insert(digest, Held { size: facts.len(), run: 0, modified });
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use convoy_common::durable::faults::{Fault, FaultPlan, Faults};

    use super::*;

    fn content(number: u8) -> (Digest, Vec<u8>) {
        let bytes = vec![number; 100];
        (Digest::of(&bytes), bytes)
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_process_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (digest, bytes) = content(1);
        assert!(DiskCache::open(folder.path(), 1000).unwrap().put(&digest, &bytes));
        let cache = DiskCache::open(folder.path(), 1000).unwrap();
        assert!(cache.holds(&digest));
        assert_eq!(cache.get(&digest).unwrap(), bytes);
        fs::write(cache.path(&digest), "other").unwrap();
        assert_eq!(cache.get(&digest), None);
        assert!(!cache.holds(&digest) && !cache.path(&digest).exists());
        assert_eq!(cache.contents.lock().bytes, 0);
    }

    #[test]
    fn a_full_cache_keeps_what_the_run_needs_and_drops_what_others_left() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 350).unwrap();
        cache.begin_run();
        let put = |number| cache.put(&content(number).0, &content(number).1);
        assert!(put(1) && put(2) && put(3));
        assert!(!put(4), "no room, and all of it is needed");
        cache.begin_run();
        assert!(cache.get(&content(2).0).is_some());
        assert!(put(4) && put(5));
        assert!(!put(6));
        let held: Vec<u8> = (1..=6).filter(|number| cache.get(&content(*number).0).is_some()).collect();
        assert_eq!(held, [2, 4, 5]);
    }

    #[test]
    fn two_processes_that_share_a_folder_stay_near_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (DiskCache::open(folder.path(), 1600).unwrap(), DiskCache::open(folder.path(), 1600).unwrap());
        a.begin_run();
        b.begin_run();
        for number in 0..40 {
            let (digest, bytes) = content(number);
            if number % 2 == 0 {
                a.put(&digest, &bytes)
            } else {
                b.put(&digest, &bytes)
            };
        }
        let bytes: u64 = a.look().unwrap().values().map(|held| held.size).sum();
        assert!((1500..=1900).contains(&bytes), "{bytes}");
    }

    #[test]
    fn of_files_that_are_left_over_the_earliest_runs_oldest_goes_first() {
        let held =
            |run, age: u64| Held { size: 100, run, modified: SystemTime::UNIX_EPOCH + Duration::from_secs(100 - age) };
        let digests: Vec<Digest> = (0..4).map(|number| content(number).0).collect();
        let files = [held(2, 50), held(1, 10), held(1, 20), held(3, 99)];
        let contents = Contents { held: digests.iter().copied().zip(files).collect(), bytes: 400, written: 0, run: 3 };
        let drop = |limit| {
            let mut contents = Contents { held: contents.held.clone(), ..contents };
            let dropped = contents.drop_oldest(limit);
            let numbers = dropped.iter().map(|digest| digests.iter().position(|known| known == digest).unwrap());
            (numbers.collect::<Vec<_>>(), contents.bytes)
        };
        assert_eq!(drop(400), (vec![], 400));
        assert_eq!(drop(399), (vec![2], 300));
        assert_eq!(drop(200), (vec![2, 1], 200));
        assert_eq!(drop(0), (vec![2, 1, 0], 100), "the present run's file stays");
    }

    #[test]
    fn a_file_larger_than_the_cache_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 99).unwrap();
        let (digest, bytes) = content(1);
        assert!(!cache.put(&digest, &bytes) && !cache.holds(&digest));
    }

    #[test]
    fn a_file_of_another_process_is_found_when_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) =
            (DiskCache::open(folder.path(), 1000).unwrap(), DiskCache::open(folder.path(), 1000).unwrap());
        let (digest, bytes) = content(1);
        assert!(theirs.put(&digest, &bytes));
        assert!(!ours.holds(&digest));
        assert_eq!(ours.get(&digest), Some(bytes));
        assert!(ours.holds(&digest));
        assert_eq!(ours.contents.lock().bytes, 100);
    }

    #[test]
    fn a_file_that_vanished_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 1000).unwrap();
        let (digest, bytes) = content(1);
        assert!(cache.put(&digest, &bytes));
        fs::remove_file(cache.path(&digest)).unwrap();
        assert_eq!(cache.get(&digest), None);
        assert!(!cache.holds(&digest));
        assert_eq!(cache.contents.lock().bytes, 0);
    }

    /// Keeps two files and drops one on a disk with a fault; whether it struck.
    fn kept_through(plan: FaultPlan) -> bool {
        let case = format!("{plan:?}");
        let folder = tempfile::tempdir().unwrap();
        let faults = Faults::in_folder(folder.path(), Some(plan));
        let (first, second) = (content(1), content(2));
        let fill = || {
            let cache = DiskCache::open(folder.path(), 150).unwrap();
            cache.begin_run();
            let mut kept = cache.put(&first.0, &first.1);
            cache.begin_run();
            // The first one has to go.
            kept &= cache.put(&second.0, &second.1);
            for (digest, bytes) in [&first, &second] {
                assert!(cache.get(digest).is_none_or(|found| found == *bytes), "{case}");
            }
            kept
        };
        let kept = fill();
        assert!(kept || faults.struck(), "{case}");
        if plan.fault == Fault::PowerCut {
            faults.cut_power();
        }
        faults.heal();
        assert!(fill(), "{case}: it takes nothing any more");
        let cache = DiskCache::open(folder.path(), 150).unwrap();
        assert_eq!(cache.get(&second.0), Some(second.1), "{case}");
        assert!(cache.contents.lock().bytes <= 150, "{case}");
        faults.struck()
    }

    #[test]
    fn a_fault_at_any_point_costs_files_that_are_fetched_again() {
        for fault in [Fault::Eio, Fault::Full, Fault::Short, Fault::Crash, Fault::PowerCut] {
            for lasting in [false, true] {
                let reached = (1..).take_while(|point| kept_through(FaultPlan { point: *point, fault, lasting }));
                assert_eq!(reached.count(), 10, "{fault:?}: two files written and named, one removed");
            }
        }
    }

    #[test]
    fn a_disk_that_takes_nothing_costs_the_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::open(folder.path(), 1000).unwrap();
        let (digest, bytes) = content(1);
        // A file where the folder of this digest should be.
        fs::write(cache.path(&digest).parent().unwrap(), "").unwrap();
        assert!(!cache.put(&digest, &bytes));
        assert_eq!(cache.contents.lock().bytes, 0);
    }
}
