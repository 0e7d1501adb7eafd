//! The files of the machine that this runs on.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use convoy_common::Digest;
use convoy_common::file_tree::{FileKind, FileTree, Files, Stamp};

/// The files of this machine; relative paths start at the current folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

fn kind_of(metadata: &fs::Metadata) -> FileKind {
    match (metadata.is_dir(), metadata.is_file()) {
        (true, _) => FileKind::Folder,
        (_, true) => FileKind::File,
        _ => FileKind::Other,
    }
}

/// What lies at `path`, which must be a file: a pipe without a writer would be waited for, for ever.
fn facts_of(path: &Path) -> io::Result<fs::Metadata> {
    let facts = fs::metadata(path)?;
    match facts.is_file() {
        true => Ok(facts),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a folder, a pipe, a socket or a device")),
    }
}

/// A file that changed within this time may change again without another time of change: clocks of file systems tick
/// every few milliseconds, those of FAT every two seconds.
const SETTLED: Duration = Duration::from_secs(3);

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        facts_of(path)?;
        fs::read(path)
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let facts = facts_of(path)?;
        let end = offset.checked_add(length).filter(|end| *end <= facts.len());
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = vec![0; length as usize];
        read_exact_at(&fs::File::open(path)?, &mut bytes, offset)?;
        Ok(bytes)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &fs::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &fs::File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

/// Which file it is: on Unix device, number and time of change of the entry itself, which no program can set.
#[cfg(unix)]
fn identity(facts: &fs::Metadata) -> [u64; 4] {
    use std::os::unix::fs::MetadataExt;
    [facts.dev(), facts.ino(), facts.ctime() as u64, facts.ctime_nsec() as u64]
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> [u64; 4] {
    [0; 4]
}

/// The stamp of a file that has `facts` at the time `now`.
fn stamp_of(facts: &fs::Metadata, now: SystemTime) -> io::Result<Option<Stamp>> {
    let modified = facts.modified()?;
    // A time in the future says nothing about when it was written.
    if now.duration_since(modified).unwrap_or_default() < SETTLED {
        return Ok(None);
    }
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let [device, number, changed, nanos] = identity(facts);
    let parts = [facts.len(), since.as_secs(), since.subsec_nanos().into(), device, number, changed, nanos];
    Ok(Some(Stamp(Digest::of(&parts.map(u64::to_le_bytes).concat()))))
}

impl FileTree for Disk {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        // The current folder has no name of its own.
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(kind_of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let (entry, path) = entry.map(|entry| (entry.file_type(), entry.path()))?;
            // The folder knows what most of them are, without a look at each of a million.
            let kind = match entry {
                Ok(kind) if kind.is_dir() => FileKind::Folder,
                Ok(kind) if kind.is_file() => FileKind::File,
                // A link that leads nowhere is a file that cannot be read; whoever reads it says so.
                _ => self.kind(&path)?.unwrap_or(FileKind::File),
            };
            found.push((path, kind));
        }
        Ok(found)
    }

    fn real(&self, folder: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(folder)
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        stamp_of(&facts_of(path)?, SystemTime::now())
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(facts_of(path)?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_links_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("file"), b"x").unwrap();
        fs::create_dir(at("folder")).unwrap();
        assert_eq!(Disk.kind(&at("file")).unwrap(), Some(FileKind::File));
        assert_eq!(Disk.kind(&at("folder")).unwrap(), Some(FileKind::Folder));
        assert_eq!(Disk.kind(&at("nothing")).unwrap(), None);
        assert_eq!(Disk.kind(Path::new("")).unwrap(), Some(FileKind::Folder), "the current folder");
        let mut entries = Disk.entries(root.path()).unwrap();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(entries, [(at("file"), FileKind::File), (at("folder"), FileKind::Folder)]);
        assert_eq!(Disk.read(&at("file")).unwrap(), b"x");
        assert_eq!(Disk.size(&at("file")).unwrap(), 1);
        assert!(Disk.size(&at("folder")).is_err());
    }

    #[test]
    fn parts_of_a_file_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, b"abcdef").unwrap();
        assert_eq!(Disk.read_range(&path, 2, 3).unwrap(), b"cde");
        for (offset, length) in [(5, 2), (7, 0), (1, u64::MAX)] {
            let error = Disk.read_range(&path, offset, length).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_stamp_tells_a_file_from_what_it_was_and_from_another() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, modified: u64| {
            let path = root.path().join(name);
            fs::write(&path, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(modified);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            fs::metadata(path).unwrap()
        };
        let later = SystemTime::now() + 2 * SETTLED;
        let stamp = |facts: &fs::Metadata| stamp_of(facts, later).unwrap().unwrap();
        let first = write("a", "x", 1000);
        assert_eq!(stamp(&first), stamp(&fs::metadata(root.path().join("a")).unwrap()));
        let others = [write("b", "x", 1000), write("a", "x", 1001), write("a", "xy", 1000)];
        for other in others {
            assert_ne!(stamp(&first), stamp(&other));
        }
        let young = stamp_of(&first, SystemTime::UNIX_EPOCH + Duration::from_secs(1002)).unwrap();
        assert_eq!(young, None, "it may be written again within the same tick");
    }

    #[cfg(unix)]
    #[test]
    fn links_lead_to_one_real_folder_or_are_files_that_cannot_be_read() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink(at("folder"), at("link")).unwrap();
        assert_eq!(Disk.real(&at("link")).unwrap(), Disk.real(&at("folder")).unwrap());
        std::os::unix::fs::symlink(at("nothing"), at("dead")).unwrap();
        let entries = Disk.entries(root.path()).unwrap();
        assert!(entries.contains(&(at("dead"), FileKind::File)));
        assert!(entries.contains(&(at("link"), FileKind::Folder)));
    }
}
