//! Tar archives: headers are read, bytes of files only when somebody asks for them.

use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::Digest;
use convoy_common::file_tree::{ArchiveKind, Contents, FileKind, FileTree, Member, PassedOver};
use tar::{Entry, EntryType, Header};

use super::archive::Archive;
use super::range_reader::RangeReader;

/// Bytes of a header, and what the bytes of files are padded to.
const BLOCK: u64 = 512;
/// Bytes that are read at once while headers are looked at: of small files several headers, of large ones little else.
const PART: u64 = 4096;
/// Bytes of a `.json` that is read along with its header.
const SMALL_JSON: u64 = 4096;
/// Bytes of all that describes one member: a longer name is not one of a file.
const LONGEST_HEADER: u64 = 1 << 20;
/// Bytes behind the end that are looked at: archives are filled up with zeros to a multiple of 10 KiB at least.
const LOOKED_AFTER: u64 = 1 << 16;

/// Whether a file of `size` bytes that begins with `first` is a tar archive. Only its name says it of an empty one.
pub(super) fn is_tar(first: &[u8], size: u64, path: &Path) -> bool {
    let Ok(block) = <&[u8; BLOCK as usize]>::try_from(first) else { return false };
    if block.iter().all(|byte| *byte == 0) {
        let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
        return named && size >= 2 * BLOCK;
    }
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let expected = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
    Header::from_byte_slice(block).cksum().is_ok_and(|stored| stored == expected)
}

/// A digest of a name. That two names of one archive share it is beyond anybody's means.
type NameKey = [u8; 16];

fn key(name: &str) -> NameKey {
    let mut key = NameKey::default();
    key.copy_from_slice(&Digest::of(name.as_bytes()).0[..16]);
    key
}

/// Where the bytes of a member are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    name: NameKey,
    offset: u64,
    size: u64,
}

/// A plain tar archive.
#[derive(Debug)]
pub(super) struct TarArchive {
    files: Arc<dyn FileTree>,
    path: PathBuf,
    /// All members, in the order of their keys.
    places: Vec<Place>,
    /// The folders around members, in the order of their keys.
    folders: Vec<NameKey>,
}

impl TarArchive {
    /// Reads the headers of the archive at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub(super) fn open(files: Arc<dyn FileTree>, path: &Path) -> io::Result<Self> {
        let (mut places, mut folders) = (Vec::new(), Vec::new());
        let mut last_folder = String::new();
        read_headers(&files, path, |found| {
            if let Found::Member { name, offset, size, .. } = found {
                places.push(Place { name: key(&name), offset, size });
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                if folder != last_folder {
                    last_folder = folder.to_owned();
                    folders.extend(name.match_indices('/').map(|(end, _)| key(&name[..end])));
                }
            }
        })?;
        // Of several members of one name the last is what unpacking would leave.
        places.reverse();
        places.sort_by_key(|place| place.name);
        places.dedup_by_key(|place| place.name);
        places.shrink_to_fit();
        folders.sort_unstable();
        folders.dedup();
        Ok(TarArchive { files, path: path.to_owned(), places, folders })
    }

    fn find(&self, name: &str) -> Option<Place> {
        let key = key(name);
        self.places.binary_search_by_key(&key, |place| place.name).ok().map(|at| self.places[at])
    }

    fn place(&self, name: &str) -> io::Result<Place> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "the archive holds no such file");
        self.find(name).ok_or_else(missing)
    }
}

impl Archive for TarArchive {
    fn contents(&self) -> io::Result<Contents> {
        let (mut members, mut passed_over) = (Vec::<Option<Member>>::new(), Vec::new());
        let mut seen: HashMap<NameKey, usize> = HashMap::with_capacity(self.places.len());
        read_headers(&self.files, &self.path, |found| match found {
            Found::Member { name, size, bytes, .. } => {
                if let Some(earlier) = seen.insert(key(&name), members.len()) {
                    members[earlier] = None;
                    passed_over.push((name.clone(), PassedOver::Replaced));
                }
                members.push(Some(Member { name, size: Some(size), bytes }));
            }
            Found::PassedOver { name, why } => passed_over.push((name, why)),
        })?;
        Ok(Contents { kind: ArchiveKind::Tar, members: members.into_iter().flatten().collect(), passed_over })
    }

    fn kind(&self, name: &str) -> io::Result<Option<FileKind>> {
        let folder = || self.folders.binary_search(&key(name)).ok().map(|_| FileKind::Folder);
        Ok(self.find(name).map(|_| FileKind::File).or_else(folder))
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let place = self.place(name)?;
        self.files.read_range(&self.path, place.offset, place.size)
    }

    fn read_range(&self, name: &str, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let place = self.place(name)?;
        let end = offset.checked_add(length).filter(|end| *end <= place.size);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.files.read_range(&self.path, place.offset + offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.place(name)?.size)
    }
}

/// What headers describe.
enum Found {
    Member { name: String, offset: u64, size: u64, bytes: Option<Box<[u8]>> },
    PassedOver { name: String, why: PassedOver },
}

/// Goes through all headers of the archive at `path`.
fn read_headers(files: &Arc<dyn FileTree>, path: &Path, mut found: impl FnMut(Found)) -> io::Result<()> {
    let reader = RangeReader::new(files.clone(), path.to_owned(), PART)?;
    let size = reader.size();
    let mut archive = tar::Archive::new(Headers { reader, read: 0 });
    // Where the next header would be; `None` behind a sparse file, of which only the reader of headers knows.
    let mut end = Some(0);
    let mut last = String::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry.map_err(|error| damaged(&last, &error))?;
        last = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let sparse = entry.header().entry_type() == EntryType::GNUSparse;
        // A sparse entry calls the size of the file with its holes its own.
        let stored = if sparse { entry.header().entry_size()? } else { entry.size() };
        let data_end = entry.raw_file_position().checked_add(stored).filter(|end| *end <= size);
        let Some(data_end) = data_end else {
            let text = format!("the archive is cut: `{last}` has {stored} bytes and would end behind the archive");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        };
        end = (!sparse).then(|| data_end.next_multiple_of(BLOCK));
        if let Some(described) = describe(entry, &last)? {
            found(described);
        }
    }
    if let Some(why) = end.map(|end| what_follows(files, path, end, size)).transpose()?.flatten() {
        found(Found::PassedOver { name: String::new(), why });
    }
    Ok(())
}

fn damaged(last: &str, error: &io::Error) -> io::Error {
    let place = if last.is_empty() { "at its beginning".to_owned() } else { format!("behind `{last}`") };
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive is damaged {place}: {error}"))
}

/// What an entry is: a member, something that is passed over, or, as a folder, nothing.
fn describe<R: Read>(mut entry: Entry<'_, R>, shown: &str) -> io::Result<Option<Found>> {
    let passed_over = |why| Ok(Some(Found::PassedOver { name: shown.to_owned(), why }));
    match entry.header().entry_type() {
        EntryType::Directory | EntryType::XGlobalHeader => return Ok(None),
        EntryType::Link | EntryType::Symlink => return passed_over(PassedOver::Link),
        EntryType::GNUSparse => return passed_over(PassedOver::Sparse),
        EntryType::Regular | EntryType::Continuous => {}
        _ => return passed_over(PassedOver::NoFile),
    }
    // Archives older than types of entries hold a folder as a file whose name ends with a slash.
    if shown.ends_with('/') {
        return Ok(None);
    }
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        if extension?.key_bytes().starts_with(b"GNU.sparse.") {
            return passed_over(PassedOver::Sparse);
        }
    }
    if std::str::from_utf8(&entry.path_bytes()).is_err() {
        return passed_over(PassedOver::NoName);
    }
    match plain_name(shown) {
        Ok(name) => {
            let (offset, size) = (entry.raw_file_position(), entry.size());
            let bytes = if is_label(&name, size) { Some(small_bytes(&mut entry, size)?) } else { None };
            Ok(Some(Found::Member { name, offset, size, bytes }))
        }
        Err(why) => passed_over(why),
    }
}

/// Whether a member is so small that it is no picture but may be a label. It lies in the block behind its header, so
/// that reading it along costs nothing.
fn is_label(name: &str, size: u64) -> bool {
    size <= 64 || (size <= SMALL_JSON && name.ends_with(".json"))
}

fn small_bytes(entry: &mut impl Read, size: u64) -> io::Result<Box<[u8]>> {
    let mut bytes = vec![0; size as usize];
    entry.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

/// A name without `.` and empty parts.
fn plain_name(stored: &str) -> Result<String, PassedOver> {
    let parts = || stored.split('/').filter(|part| !matches!(*part, "" | "."));
    if stored.starts_with('/') || parts().any(|part| part == "..") {
        return Err(PassedOver::Elsewhere);
    }
    let name = parts().collect::<Vec<_>>().join("/");
    if name.is_empty() || name.contains('\0') { Err(PassedOver::NoName) } else { Ok(name) }
}

/// What is wrong with the bytes from `end`, where the end mark should be: two blocks of zeros, and zeros only.
fn what_follows(files: &Arc<dyn FileTree>, path: &Path, end: u64, size: u64) -> io::Result<Option<PassedOver>> {
    let left = size.saturating_sub(end);
    if left < BLOCK {
        return Ok(Some(PassedOver::NoEnd));
    }
    let bytes = files.read_range(path, end, left.min(LOOKED_AFTER))?;
    Ok(bytes.iter().any(|byte| *byte != 0).then_some(PassedOver::AfterEnd))
}

/// The reader of headers, which never reads much without leaving something out.
struct Headers {
    reader: RangeReader,
    /// Bytes read since something was left out.
    read: u64,
}

impl Read for Headers {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(into)?;
        self.read += count as u64;
        match self.read > LONGEST_HEADER {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, "a header of more than 1 MiB")),
            false => Ok(count),
        }
    }
}

impl Seek for Headers {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.read = 0;
        self.reader.seek(to)
    }
}
