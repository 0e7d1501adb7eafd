//! Files that came over the network, kept on disk by their digest.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use convoy_common::Digest;

/// A folder of files named by their blake3 digests, of bounded size. Several processes may share it; then each looks
/// again at what all of them hold after every sixteenth of the bound that it wrote, so that n of them may exceed it by
/// n sixteenths.
///
/// What the present run needs is never put out for another file of the same run: an epoch asks for each file once, in
/// another order each time, so nothing would be gained. What earlier runs left goes first, the oldest first.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
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

impl Cache {
    /// Opens the cache in `folder`, or makes it; `limit` is in bytes.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let cache = Cache { folder: folder.to_owned(), limit, state: Mutex::default() };
        let held = cache.look()?;
        let mut state = cache.lock();
        state.bytes = held.values().map(|held| held.size).sum();
        state.held = held;
        drop(state);
        Ok(cache)
    }

    /// A run begins: what others needed may go from now on.
    pub(crate) fn begin_run(&self) {
        self.lock().run += 1;
    }

    /// Whether the contents are here, as far as is known without looking.
    pub(crate) fn holds(&self, digest: &Digest) -> bool {
        self.lock().held.contains_key(digest)
    }

    /// The contents with this digest. What does not have it any more is removed.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => bytes,
            Ok(_) => {
                tracing::warn!(path = %path.display(), "damaged in the cache; it is fetched again");
                _ = fs::remove_file(&path);
                self.forget(digest);
                return None;
            }
            Err(_) => {
                self.forget(digest);
                return None;
            }
        };
        let mut state = self.lock();
        let run = state.run;
        match state.held.get_mut(digest) {
            Some(held) => held.run = run,
            // Another process put it there.
            None => {
                let size = bytes.len() as u64;
                state.held.insert(*digest, Held { size, run, modified: SystemTime::now() });
                state.bytes += size;
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
        let mut state = self.lock();
        let run = state.run;
        if state.held.insert(*digest, Held { size, run, modified: SystemTime::now() }).is_none() {
            state.bytes += size;
        }
        state.written += size;
        true
    }

    fn write(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(digest);
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder)?;
        // Not synced: what a crash leaves is verified when it is read.
        let file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
        fs::write(file.path(), bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Puts out what earlier runs left until `size` more bytes fit.
    fn make_room(&self, size: u64) -> bool {
        if self.lock().written > self.limit / 16
            && let Ok(found) = self.look()
        {
            let mut state = self.lock();
            let runs: HashMap<Digest, u64> = state.held.iter().map(|(digest, held)| (*digest, held.run)).collect();
            let run_of = |digest: &Digest| runs.get(digest).copied().unwrap_or(0);
            state.held =
                found.into_iter().map(|(digest, held)| (digest, Held { run: run_of(&digest), ..held })).collect();
            state.bytes = state.held.values().map(|held| held.size).sum();
            state.written = 0;
        }
        let mut state = self.lock();
        if state.bytes + size <= self.limit {
            return true;
        }
        let run = state.run;
        let mut old: Vec<(u64, SystemTime, Digest)> = state
            .held
            .iter()
            .filter(|(_, held)| held.run < run || run == 0)
            .map(|(digest, held)| (held.run, held.modified, *digest))
            .collect();
        old.sort_unstable_by_key(|a| (a.0, a.1, a.2.0));
        for (_, _, digest) in old {
            if state.bytes + size <= self.limit {
                break;
            }
            if let Some(held) = state.held.remove(&digest) {
                state.bytes -= held.size;
                _ = fs::remove_file(self.path(&digest));
            }
        }
        state.bytes + size <= self.limit
    }

    fn forget(&self, digest: &Digest) {
        let mut state = self.lock();
        if let Some(held) = state.held.remove(digest) {
            state.bytes -= held.size;
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: u8) -> (Digest, Vec<u8>) {
        let bytes = vec![number; 100];
        (Digest::of(&bytes), bytes)
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_process_and_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (digest, bytes) = content(1);
        assert!(Cache::open(folder.path(), 1000).unwrap().put(&digest, &bytes));
        let cache = Cache::open(folder.path(), 1000).unwrap();
        assert!(cache.holds(&digest));
        assert_eq!(cache.get(&digest).unwrap(), bytes);
        fs::write(cache.path(&digest), "other").unwrap();
        assert_eq!(cache.get(&digest), None);
        assert!(!cache.holds(&digest) && !cache.path(&digest).exists());
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn a_full_cache_keeps_what_the_run_needs_and_puts_out_what_others_left() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path(), 350).unwrap();
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
        let (a, b) = (Cache::open(folder.path(), 1600).unwrap(), Cache::open(folder.path(), 1600).unwrap());
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
}
