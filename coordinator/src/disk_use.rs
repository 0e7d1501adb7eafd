//! How much of the disk is used by whom, and how much may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, fs};

use convoy_files::UnpackLimit;
use parking_lot::Mutex;

/// The most that data sets and jobs may take of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskLimits {
    /// All of them together; `None` for nine tenths of the disk that the state folder is on.
    pub all: Option<u64>,
    /// Those of one member; `None` for half of all. Callers on the coordinator's own machine have no limit of this
    /// kind.
    pub member: Option<u64>,
    /// What is left free on the disk, for checkpoints and logs of jobs that run; `None` for a twentieth of the disk, at
    /// most 1 GiB.
    pub reserve: Option<u64>,
}

/// Why nothing more is taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// Of one member.
    #[error(
        "data and jobs of `{member}` take {used} of the {limit} that a member may, and {wanted} more are asked for; \
         remove some of them with `convoy data rm` or `convoy rm`, or have the coordinator started with a larger \
         --max-member-disk-gib"
    )]
    Member {
        /// Who asks.
        member: String,
        /// What they have.
        used: Bytes,
        /// What they may have.
        limit: Bytes,
        /// What they ask for.
        wanted: Bytes,
    },
    /// Of all together.
    #[error(
        "data and jobs of this coordinator take {used} of the {limit} that they may, and {wanted} more are asked for; \
         remove some of them with `convoy data rm` or `convoy rm`, or have it started with a larger --max-disk-gib"
    )]
    All {
        /// What is used.
        used: Bytes,
        /// What may be used.
        limit: Bytes,
        /// What is asked for.
        wanted: Bytes,
    },
    /// Of the disk.
    #[error(
        "{free} are free on the coordinator's disk, {reserve} of which are kept for jobs that run, and {wanted} are \
         asked for; make room there"
    )]
    Disk {
        /// What is free.
        free: Bytes,
        /// What must be left.
        reserve: Bytes,
        /// What is asked for.
        wanted: Bytes,
    },
}

/// A number of bytes, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = *self;
        match bytes {
            0..1024 => write!(f, "{bytes} bytes"),
            1024..1_048_576 => write!(f, "{:.1} KiB", bytes as f64 / 1024.0),
            1_048_576..1_073_741_824 => write!(f, "{:.1} MiB", bytes as f64 / 1_048_576.0),
            _ => write!(f, "{:.1} GiB", bytes as f64 / 1_073_741_824.0),
        }
    }
}

/// What is used of the disk, by whom.
#[derive(Debug)]
pub(crate) struct DiskUse {
    /// Where it is.
    folder: PathBuf,
    limits: DiskLimits,
    used: Mutex<BTreeMap<String, u64>>,
}

/// Room that was given for something which is not there yet: given back when it is dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct Room {
    disk: Arc<DiskUse>,
    owner: String,
    bytes: u64,
}

impl DiskUse {
    /// Nothing is used of the disk that `folder` is on.
    pub(crate) fn new(folder: &Path, limits: DiskLimits) -> Arc<Self> {
        Arc::new(DiskUse { folder: folder.to_owned(), limits, used: Mutex::default() })
    }

    /// Counts what is there already, whatever the limits say.
    pub(crate) fn count(&self, owner: &str, bytes: u64) {
        let mut used = self.used.lock();
        let owned = used.entry(owner.to_owned()).or_default();
        *owned = owned.saturating_add(bytes);
    }

    /// Counts no more what was removed.
    pub(crate) fn give_back(&self, owner: &str, bytes: u64) {
        let mut used = self.used.lock();
        if let Some(owned) = used.get_mut(owner) {
            *owned = owned.saturating_sub(bytes);
            if *owned == 0 {
                used.remove(owner);
            }
        }
    }

    /// No room yet, for what `owner` brings.
    pub(crate) fn room(self: &Arc<Self>, owner: &str) -> Room {
        Room { disk: self.clone(), owner: owner.to_owned(), bytes: 0 }
    }

    /// What all may take together.
    fn all(&self, disk: Option<Disk>) -> u64 {
        self.limits.all.unwrap_or(disk.map_or(u64::MAX, |disk| disk.size / 10 * 9))
    }

    /// What is left free.
    fn reserve(&self, disk: Option<Disk>) -> u64 {
        self.limits.reserve.unwrap_or(disk.map_or(0, |disk| (disk.size / 20).min(1 << 30)))
    }

    fn take(&self, owner: &str, bytes: u64) -> Result<(), NoRoom> {
        let wanted = Bytes(bytes);
        let disk = disk_of(&self.folder);
        if let Some(Disk { free, .. }) = disk
            && free < self.reserve(disk).saturating_add(bytes)
        {
            return Err(NoRoom::Disk { free: Bytes(free), reserve: Bytes(self.reserve(disk)), wanted });
        }
        let all = self.all(disk);
        let member_limit = self.limits.member.unwrap_or(all / 2);
        let mut used = self.used.lock();
        let sum = used.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        if sum.saturating_add(bytes) > all {
            return Err(NoRoom::All { used: Bytes(sum), limit: Bytes(all), wanted });
        }
        let owned = used.entry(owner.to_owned()).or_default();
        let more = owned.saturating_add(bytes);
        if more > member_limit && owner != LOCAL {
            let (member, used) = (owner.to_owned(), Bytes(*owned));
            return Err(NoRoom::Member { member, used, limit: Bytes(member_limit), wanted });
        }
        *owned = more;
        Ok(())
    }
}

impl UnpackLimit for DiskUse {
    /// Unpacked archives may take a quarter of what all may, and nothing of the reserve.
    fn left(&self, folder: &Path) -> u64 {
        let disk = disk_of(&self.folder);
        let free = disk.map_or(u64::MAX, |disk| disk.free.saturating_sub(self.reserve(Some(disk))));
        let sizes = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.metadata().ok());
        let used = sizes.fold(0, |sum: u64, facts| sum.saturating_add(facts.len()));
        (self.all(disk) / 4).saturating_sub(used).min(free)
    }
}

/// What callers on the coordinator's own machine, where no cluster is, are called.
pub(crate) const LOCAL: &str = "local";

impl Room {
    /// Asks for room for `bytes` more.
    ///
    /// # Errors
    /// When there is none. What was given before stays.
    pub(crate) fn more(&mut self, bytes: u64) -> Result<(), NoRoom> {
        self.disk.take(&self.owner, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The room is used, by `bytes`, until they are given back.
    pub(crate) fn keep(self, bytes: u64) {
        self.disk.count(&self.owner, bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.disk.give_back(&self.owner, self.bytes);
    }
}

/// A disk: its size, and what is free of it for everybody.
#[derive(Debug, Clone, Copy)]
struct Disk {
    size: u64,
    free: u64,
}

/// The disk that `folder` is on, where the system tells.
fn disk_of(folder: &Path) -> Option<Disk> {
    let facts = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
    Some(Disk { size: bytes(facts.f_blocks), free: bytes(facts.f_bavail) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(all: u64, member: u64) -> (tempfile::TempDir, Arc<DiskUse>) {
        let folder = tempfile::tempdir().unwrap();
        let disk = DiskUse::new(folder.path(), DiskLimits { all: Some(all), member: Some(member), reserve: Some(0) });
        (folder, disk)
    }

    #[test]
    fn each_member_has_a_share_and_all_have_a_bound() {
        let (_folder, disk) = disk(100, 60);
        let mut anna = disk.room("anna");
        anna.more(50).unwrap();
        assert_eq!(
            anna.more(11).unwrap_err().to_string(),
            "data and jobs of `anna` take 50 bytes of the 60 bytes that a member may, and 11 bytes more are asked for; \
             remove some of them with `convoy data rm` or `convoy rm`, or have the coordinator started with a larger \
             --max-member-disk-gib"
        );
        anna.more(10).unwrap();
        let mut otto = disk.room("otto");
        assert!(matches!(otto.more(41), Err(NoRoom::All { used: Bytes(60), .. })));
        drop(anna);
        otto.more(41).unwrap();
        let mut local = disk.room(LOCAL);
        assert!(matches!(local.more(60), Err(NoRoom::All { .. })));
        local.more(59).unwrap();
    }

    #[test]
    fn what_is_kept_counts_until_it_is_removed() {
        let (_folder, disk) = disk(100, 60);
        let mut room = disk.room("anna");
        room.more(60).unwrap();
        room.keep(55);
        assert!(disk.room("anna").more(6).is_err());
        disk.room("anna").more(5).unwrap();
        disk.give_back("anna", 55);
        assert!(disk.used.lock().is_empty());
        disk.count("anna", u64::MAX);
        assert!(disk.room("anna").more(1).is_err());
    }

    #[test]
    fn the_disk_keeps_a_reserve() {
        let folder = tempfile::tempdir().unwrap();
        let disk = DiskUse::new(folder.path(), DiskLimits { reserve: Some(u64::MAX / 2), ..DiskLimits::default() });
        assert!(matches!(disk.room("anna").more(1), Err(NoRoom::Disk { .. })));
    }
}
