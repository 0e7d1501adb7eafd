//! Archives as folders: an overlay over the files of any place.
//!
//! A file that is an archive stays a file, and is a folder at the same time: `shard.tar/a/0.jpg` is the file `a/0.jpg`
//! in it. What an archive holds is found out when somebody first asks for it, once for each process.

mod archive;
mod cifar;
mod npz;
mod opening;
mod parquet;
mod range_reader;
mod rows;
mod tar_archive;
mod unpacked;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use convoy_common::Digest;
use convoy_common::file_tree::{Contents, FileKind, FileTree, Files, Stamp};
use convoy_common::samples::Samples;
use parking_lot::Mutex;

use archive::Archive;
use unpacked::{NoLimit, Unpacked};

pub use unpacked::UnpackLimit;

/// Archives that are kept open; each holds some memory for every file in it.
const OPEN: usize = 4096;

/// The files of a place, with those in archives.
#[derive(Debug)]
pub struct Archives {
    inner: Arc<dyn FileTree>,
    unpacked: Unpacked,
    open: Mutex<HashMap<PathBuf, Slot>>,
}

/// A file that was opened as an archive, if it could be. Whoever needs it waits for who opens it.
type Slot = Arc<Mutex<Option<Opened>>>;

#[derive(Debug, Clone)]
struct Opened {
    size: u64,
    stamp: Option<Stamp>,
    archive: Option<Arc<dyn Archive>>,
    /// When the file was last seen to be this one.
    seen: Instant,
}

/// For this long, a file that was seen is not looked at again: members of an archive are asked for by the hundred
/// thousand.
const AT_HAND: Duration = Duration::from_secs(1);

/// An archive that a path leads into.
struct Around {
    archive: Arc<dyn Archive>,
    path: PathBuf,
    /// What follows the archive's path.
    name: String,
}

impl Archives {
    /// The files of `inner`, with those in archives. Compressed archives are unpacked into the folder `unpacked` of
    /// this machine, which is made when it is needed.
    pub fn new(inner: Arc<dyn FileTree>, unpacked: PathBuf) -> Self {
        Archives::limited(inner, unpacked, Arc::new(NoLimit))
    }

    /// As [`Archives::new`]; no more is unpacked than `limit` allows.
    pub fn limited(inner: Arc<dyn FileTree>, unpacked: PathBuf, limit: Arc<dyn UnpackLimit>) -> Self {
        Archives { inner, unpacked: Unpacked::new(unpacked, limit), open: Mutex::default() }
    }

    /// The archive at `path`, which must be a file; `None` where it is none.
    fn archive(&self, path: &Path) -> io::Result<Option<Arc<dyn Archive>>> {
        let slot = {
            let mut open = self.open.lock();
            if open.len() >= OPEN && !open.contains_key(path) {
                open.clear();
            }
            open.entry(path.to_owned()).or_default().clone()
        };
        let (size, stamp) = (self.inner.size(path)?, self.inner.stamp(path)?);
        let mut slot = slot.lock();
        if let Some(opened) = slot.as_mut().filter(|opened| opened.size == size && opened.stamp == stamp) {
            opened.seen = Instant::now();
            return Ok(opened.archive.clone());
        }
        *slot = None;
        let archive = opening::open(&self.inner, path, &self.unpacked)?;
        *slot = Some(Opened { size, stamp, archive: archive.clone(), seen: Instant::now() });
        Ok(archive)
    }

    /// The archive that `path` leads into, if its file was looked at a moment ago; with the stamp of that file.
    fn at_hand(&self, path: &Path) -> Option<(Around, Option<Stamp>)> {
        let (outer, slot) = {
            let open = self.open.lock();
            path.ancestors().skip(1).find_map(|outer| Some((outer, open.get(outer)?.clone())))?
        };
        let opened = slot.try_lock()?.clone().filter(|opened| opened.seen.elapsed() < AT_HAND)?;
        let name = path.strip_prefix(outer).ok()?.to_str()?.to_owned();
        Some((Around { archive: opened.archive?, path: outer.to_owned(), name }, opened.stamp))
    }

    /// The archive that `path` leads into; `None` where no file lies around `path`, or it is no archive.
    fn around(&self, path: &Path) -> io::Result<Option<Around>> {
        let around = || path.ancestors().skip(1).filter(|outer| !outer.as_os_str().is_empty());
        let open = |outer: &&Path| self.open.lock().contains_key(*outer);
        let is_file = |outer: &&Path| self.inner.is_file(outer);
        let Some(outer) = around().find(open).or_else(|| around().find(is_file)) else { return Ok(None) };
        let Some(name) = path.strip_prefix(outer).ok().and_then(Path::to_str) else { return Ok(None) };
        let archive = self.archive(outer)?;
        Ok(archive.map(|archive| Around { archive, path: outer.to_owned(), name: name.to_owned() }))
    }

    /// What `in_archive` says of a path that leads into an archive, where `inner` has nothing.
    fn or_inside<T>(
        &self,
        path: &Path,
        inner: io::Result<T>,
        in_archive: impl FnOnce(&dyn Archive, &Path, &str) -> io::Result<T>,
    ) -> io::Result<T> {
        let Err(error) = inner else { return inner };
        if !is_nothing(&error) {
            return Err(error);
        }
        match self.around(path)? {
            Some(Around { archive, path, name }) => in_archive(&*archive, &path, &name),
            None => Err(error),
        }
    }
}

/// The stamp of the member `name` of an archive whose file has the stamp `outer`.
fn stamp_of_member(archive: &dyn Archive, name: &str, outer: Option<Stamp>) -> io::Result<Option<Stamp>> {
    archive.kind(name)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(outer.map(|Stamp(outer)| Stamp(Digest::of(&[&outer.0[..], name.as_bytes()].concat()))))
}

/// Whether an error says that nothing lies at a path.
fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Files for Archives {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // One that has changed since is opened again.
        if let Some((Around { archive, name, .. }, _)) = self.at_hand(path)
            && let Ok(bytes) = archive.read(&name)
        {
            return Ok(bytes);
        }
        self.or_inside(path, self.inner.read(path), |archive, _, name| archive.read(name))
    }

    fn read_range(&self, path: &Path, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let inner = self.inner.read_range(path, offset, length);
        self.or_inside(path, inner, |archive, _, name| archive.read_range(name, offset, length))
    }

    fn doubt(&self, path: &Path) -> io::Result<()> {
        match self.around(path)? {
            Some(around) => self.inner.doubt(&around.path),
            None => self.inner.doubt(path),
        }
    }
}

impl FileTree for Archives {
    fn kind(&self, path: &Path) -> io::Result<Option<FileKind>> {
        let inner = self.inner.kind(path);
        if !inner.as_ref().map_or_else(is_nothing, Option::is_none) {
            return inner;
        }
        match self.around(path)? {
            Some(around) => around.archive.kind(&around.name),
            // Who has nothing may say why.
            None => inner,
        }
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
        let inner = self.inner.entries(folder);
        if !inner.as_ref().is_err_and(is_nothing) {
            return inner;
        }
        let (archive, prefix) = match self.around(folder)? {
            Some(Around { archive, name, .. }) => (Some(archive), format!("{name}/")),
            None if self.inner.is_file(folder) => (self.archive(folder)?, String::new()),
            None => (None, String::new()),
        };
        let Some(archive) = archive else { return inner };
        let mut found = BTreeSet::new();
        for member in archive.contents()?.members {
            let Some(rest) = member.name.strip_prefix(&prefix) else { continue };
            let (name, is_folder) = rest.split_once('/').map_or((rest, false), |(name, _)| (name, true));
            found.insert((name.to_owned(), is_folder));
        }
        let kind = |is_folder| if is_folder { FileKind::Folder } else { FileKind::File };
        match found.is_empty() && !prefix.is_empty() {
            true => Err(io::ErrorKind::NotFound.into()),
            false => Ok(found.into_iter().map(|(name, is_folder)| (folder.join(name), kind(is_folder))).collect()),
        }
    }

    fn real(&self, folder: &Path) -> io::Result<PathBuf> {
        self.or_inside(folder, self.inner.real(folder), |_, outer, name| Ok(self.inner.real(outer)?.join(name)))
    }

    fn known(&self, path: &Path) -> io::Result<Option<(u64, Digest)>> {
        self.or_inside(path, self.inner.known(path), |_, _, _| Ok(None))
    }

    fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        if let Some((Around { archive, name, .. }, outer)) = self.at_hand(path)
            && let Ok(stamp) = stamp_of_member(&*archive, &name, outer)
        {
            return Ok(stamp);
        }
        let in_archive =
            |archive: &dyn Archive, outer: &Path, name: &str| stamp_of_member(archive, name, self.inner.stamp(outer)?);
        self.or_inside(path, self.inner.stamp(path), in_archive)
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        self.or_inside(path, self.inner.size(path), |archive, _, name| archive.size(name))
    }

    fn contents(&self, path: &Path) -> io::Result<Option<Contents>> {
        match self.inner.is_file(path) {
            true => self.archive(path)?.map(|archive| archive.contents()).transpose(),
            false => Ok(None),
        }
    }

    fn samples(&self, path: &Path) -> io::Result<Vec<Arc<dyn Samples>>> {
        match self.inner.is_file(path) {
            true => Ok(self.archive(path)?.map_or_else(Vec::new, Archive::samples)),
            false => Ok(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests;
