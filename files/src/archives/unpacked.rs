//! Compressed tar archives: unpacked once into plain ones, which can be read anywhere.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use convoy_common::Digest;
use convoy_common::file_tree::FileTree;
use flate2::bufread::GzDecoder;
use tempfile::NamedTempFile;

use super::range_reader::RangeReader;
use super::tar_archive::is_tar;

/// What compressed files begin with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// How many times as large an archive usually is when it is unpacked, at most.
const USUAL: u64 = 4;
/// Bytes that are read and unpacked at once.
const PART: usize = 1 << 20;
/// Unpacked archives that nobody opened for this long make room when another one is unpacked.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Where room is short, those make room that nobody opened for this long.
const KEPT_IF_SHORT: Duration = Duration::from_secs(24 * 60 * 60);

/// How much may be unpacked: a compressed archive of a megabyte may hold gigabytes.
pub trait UnpackLimit: fmt::Debug + Send + Sync {
    /// Bytes that may still be written into `folder`, which need not exist.
    fn left(&self, folder: &Path) -> u64;
}

/// As much as the disk takes.
#[derive(Debug)]
pub(super) struct NoLimit;

impl UnpackLimit for NoLimit {
    fn left(&self, _: &Path) -> u64 {
        u64::MAX
    }
}

/// The folder of unpacked archives. Several processes may share it.
#[derive(Debug, Clone)]
pub(super) struct Unpacked {
    folder: PathBuf,
    limit: Arc<dyn UnpackLimit>,
}

impl Unpacked {
    /// Nothing is made before it is needed.
    pub(super) fn new(folder: PathBuf, limit: Arc<dyn UnpackLimit>) -> Self {
        Unpacked { folder, limit }
    }

    /// Whether the file at `path`, which begins with `first`, is a compressed tar archive.
    pub(super) fn is_packed_tar(&self, files: &Arc<dyn FileTree>, path: &Path, first: &[u8]) -> io::Result<bool> {
        if !first.starts_with(&MAGIC) {
            return Ok(false);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if name.ends_with(".tar.gz") || name.ends_with(".tgz") {
            return Ok(true);
        }
        let reader = RangeReader::new(files.clone(), path.to_owned(), 1 << 14)?;
        let mut block = Vec::new();
        // What cannot be unpacked is something else.
        let read = GzDecoder::new(BufReader::new(reader)).take(512).read_to_end(&mut block);
        Ok(read.is_ok() && is_tar(&block, u64::MAX, path))
    }

    /// The plain archive of the compressed one at `path`: a file of this machine, unpacked now if it is not there.
    ///
    /// # Errors
    /// When the file is damaged or cut, or there is no room for what is in it. Nothing of it is kept then.
    pub(super) fn plain(&self, files: &Arc<dyn FileTree>, path: &Path) -> io::Result<PathBuf> {
        self.kept(files, path, "tar", |file| {
            self.unpack(RangeReader::new(files.clone(), path.to_owned(), PART as u64)?, file)
        })
    }

    /// The file `name` of those that the one at `path` is unpacked into, written now if it is not there.
    ///
    /// # Errors
    /// Those of `write`, and when there is no room. Nothing is kept then.
    pub(super) fn kept(
        &self,
        files: &Arc<dyn FileTree>,
        path: &Path,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        let plain = self.folder.join(format!("{}.{name}", key(files, path)?));
        if let Ok(file) = File::options().append(true).open(&plain) {
            // Its age is that of its last use. If it cannot be set, it is unpacked again some day.
            _ = file.set_modified(SystemTime::now());
            return Ok(plain);
        }
        fs::create_dir_all(&self.folder).map_err(|error| self.no_room(&error, 0))?;
        self.make_room(KEPT);
        let size = files.size(path)?;
        if self.limit.left(&self.folder) < size.saturating_mul(USUAL) {
            self.make_room(KEPT_IF_SHORT);
        }
        let mut file = NamedTempFile::new_in(&self.folder).map_err(|error| self.no_room(&error, 0))?;
        write(file.as_file_mut())?;
        file.persist(&plain).map_err(|error| self.no_room(&error.error, 0))?;
        Ok(plain)
    }

    /// Writes all that `from` gives.
    ///
    /// # Errors
    /// When it cannot be read, or there is no room.
    pub(super) fn copy(&self, mut from: impl Read, into: &mut File) -> io::Result<()> {
        let (mut buffer, mut written) = (vec![0; PART], 0);
        loop {
            let count = from.read(&mut buffer)?;
            if count == 0 {
                return into.sync_all().map_err(|error| self.no_room(&error, written));
            }
            self.write(into, &buffer[..count], written)?;
            written += count as u64;
        }
    }

    fn unpack(&self, packed: RangeReader, into: &mut File) -> io::Result<()> {
        let mut packed = BufReader::with_capacity(PART, packed);
        let (mut buffer, mut written) = (vec![0; PART], 0);
        // One part of gzip after the other; zeros behind the last fill a tape or a block.
        while let Some(first) = next_byte(&mut packed, written > 0)? {
            if written > 0 && first != MAGIC[0] {
                let text = format!("after {written} unpacked bytes something follows that is not compressed");
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the compressed archive is damaged: {text}"),
                ));
            }
            let mut member = GzDecoder::new(&mut packed);
            loop {
                let count = member.read(&mut buffer).map_err(|error| damaged(&error, written))?;
                if count == 0 {
                    break;
                }
                self.write(into, &buffer[..count], written)?;
                written += count as u64;
            }
        }
        into.sync_all().map_err(|error| self.no_room(&error, written))
    }

    /// Writes a part, after `written` bytes.
    fn write(&self, into: &mut File, part: &[u8], written: u64) -> io::Result<()> {
        let left = self.limit.left(&self.folder);
        if left < part.len() as u64 {
            let full = io::Error::new(io::ErrorKind::StorageFull, "no more may be unpacked there");
            return Err(self.no_room(&full, written));
        }
        into.write_all(part).map_err(|error| self.no_room(&error, written))
    }

    /// Removes what nobody opened for so long.
    fn make_room(&self, kept: Duration) {
        let old = |entry: &fs::DirEntry| {
            let used = entry.metadata().and_then(|facts| facts.modified());
            used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > kept))
        };
        // What cannot be listed or removed stays, and is in nobody's way but that of the disk.
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter(old).for_each(|entry| drop(fs::remove_file(entry.path())));
    }

    fn no_room(&self, error: &io::Error, written: u64) -> io::Error {
        let text = format!(
            "it is compressed and must be unpacked into {} ({written} bytes so far): {error}; make room there, or name \
             another folder with CONVOY_CACHE",
            self.folder.display()
        );
        io::Error::new(error.kind(), text)
    }
}

/// The next byte, which stays where it is; zeros before it are passed if they are `allowed`.
fn next_byte(packed: &mut impl BufRead, zeros_allowed: bool) -> io::Result<Option<u8>> {
    loop {
        let bytes = packed.fill_buf()?;
        let zeros = bytes.iter().take_while(|byte| zeros_allowed && **byte == 0).count();
        match bytes.first() {
            Some(0) if zeros > 0 => packed.consume(zeros),
            first => return Ok(first.copied()),
        }
    }
}

fn damaged(error: &io::Error, written: u64) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            format!("the compressed archive is cut: it ends after {written} unpacked bytes")
        }
        _ => format!("the compressed archive is damaged after {written} unpacked bytes: {error}"),
    };
    io::Error::new(error.kind(), text)
}

/// What tells the file at `path` from all others: its place and its stamp or, without one, its bytes.
fn key(files: &Arc<dyn FileTree>, path: &Path) -> io::Result<Digest> {
    let state = match files.stamp(path)? {
        Some(stamp) => stamp.0,
        None => {
            let mut reader =
                BufReader::with_capacity(PART, RangeReader::new(files.clone(), path.to_owned(), PART as u64)?);
            let mut parts = Vec::new();
            loop {
                let part = reader.fill_buf()?;
                if part.is_empty() {
                    break Digest::of(&parts);
                }
                parts.extend(Digest::of(part).0);
                let count = part.len();
                reader.consume(count);
            }
        }
    };
    let place = files.real(path)?;
    Ok(Digest::of(&[&state.0[..], place.as_os_str().as_encoded_bytes()].concat()))
}
