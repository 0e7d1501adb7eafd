//! The arrays of a zip file: stored ones are read where they lie, deflated ones are unpacked once.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use convoy_common::file_tree::{FileTree, Files};
use flate2::read::DeflateDecoder;
use parking_lot::Mutex;
use zip::{CompressionMethod, ZipArchive};

use super::super::range_reader::RangeReader;
use super::super::unpacked::Unpacked;
use super::array::{NpyHeader, wrong};
use crate::disk::Disk;

/// An array in a file.
#[derive(Debug)]
pub(super) struct ArrayFile {
    pub name: String,
    pub header: NpyHeader,
    files: Arc<dyn FileTree>,
    path: PathBuf,
    /// Where its bytes begin in the file, and how many there are.
    offset: u64,
    packed: u64,
    /// For one that is deflated, where it is unpacked to.
    deflated: Option<Deflated>,
}

#[derive(Debug)]
struct Deflated {
    folder: Unpacked,
    plain: OnceLock<PathBuf>,
    /// Who unpacks it; others wait.
    busy: Mutex<()>,
}

/// Bytes that are read at once.
const PART: u64 = 1 << 16;
/// More bytes than deflate can make of one.
const DEFLATE_LIMIT: u64 = 1100;
/// Arrays of a file at most.
const MOST: usize = 1000;
/// Bytes of an array that is read whole: labels.
const LARGEST_LABELS: u64 = 1 << 30;

/// All arrays of the file at `path`, in its order.
///
/// # Errors
/// When it is damaged, or an array's header makes no sense: an error that names the array.
pub(super) fn arrays(files: &Arc<dyn FileTree>, path: &Path, unpacked: &Unpacked) -> io::Result<Vec<Arc<ArrayFile>>> {
    let damaged = |error: zip::result::ZipError| wrong(format!("it is a damaged or cut zip file: {error}"));
    let reader = RangeReader::new(files.clone(), path.to_owned(), PART)?;
    let mut zip = ZipArchive::new(BufReader::new(reader)).map_err(damaged)?;
    if zip.len() > MOST {
        return Err(wrong(format!("it holds {} files; arrays are at most {MOST}", zip.len())));
    }
    let mut found = Vec::new();
    for index in 0..zip.len() {
        let entry = zip.by_index_raw(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?;
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let fail = |error: io::Error| io::Error::new(error.kind(), format!("array `{name}` {}", words(&error)));
        let deflated = match entry.compression() {
            CompressionMethod::Stored => false,
            method if method == CompressionMethod::DEFLATE => true,
            method => return Err(fail(wrong(format!("is packed by {method}, which is not read")))),
        };
        let offset = entry.data_start().ok_or_else(|| fail(wrong("lies nowhere")))?;
        let (packed, size) = (entry.compressed_size(), entry.size());
        drop(entry);
        let raw = raw(files, path, offset, packed);
        let mut plain: Box<dyn Read> = if deflated { Box::new(DeflateDecoder::new(raw?)) } else { Box::new(raw?) };
        let header = NpyHeader::read(&mut plain).map_err(fail)?;
        let most = if deflated { packed.saturating_mul(DEFLATE_LIMIT) } else { packed };
        if header.total() != Some(size) || size > most {
            let text =
                format!("of shape {:?} does not fit its {size} bytes, of which {packed} are stored", header.shape);
            return Err(fail(wrong(text)));
        }
        let deflated =
            deflated.then(|| Deflated { folder: unpacked.clone(), plain: OnceLock::new(), busy: Mutex::new(()) });
        let (files, path) = (files.clone(), path.to_owned());
        found.push(Arc::new(ArrayFile { name, header, files, path, offset, packed, deflated }));
    }
    Ok(found)
}

/// The text of an error, of which the system's own for an early end says too little.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "ends too early".to_owned(),
        _ => error.to_string(),
    }
}

/// The bytes of a file from `offset` as a reader.
fn raw(files: &Arc<dyn FileTree>, path: &Path, offset: u64, length: u64) -> io::Result<impl Read + use<>> {
    use io::{Seek, SeekFrom};
    let mut reader = RangeReader::new(files.clone(), path.to_owned(), PART)?;
    reader.seek(SeekFrom::Start(offset))?;
    Ok(BufReader::new(reader).take(length))
}

impl ArrayFile {
    /// `length` bytes from byte `offset` of the numbers.
    ///
    /// # Errors
    /// When they cannot be read or unpacked.
    pub(super) fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let at = offset + self.header.length;
        match &self.deflated {
            None => self.files.read_range(&self.path, self.offset + at, length),
            Some(deflated) => Disk.read_range(&self.plain(deflated)?, at, length),
        }
    }

    /// All bytes of the numbers.
    ///
    /// # Errors
    /// As [`ArrayFile::read`], and when they are too many for labels.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = self.header.total().unwrap_or(u64::MAX) - self.header.length;
        if length > LARGEST_LABELS {
            return Err(wrong(format!("array `{}` of {length} bytes is too large for labels", self.name)));
        }
        if self.deflated.is_none() {
            return self.read(0, length);
        }
        let mut bytes = Vec::new();
        self.unpack()?
            .take(length + self.header.length + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.broken(&error))?;
        self.check(bytes.len() as u64)?;
        bytes.drain(..self.header.length as usize);
        Ok(bytes)
    }

    fn broken(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("array `{}` is damaged or cut: {error}", self.name))
    }

    fn unpack(&self) -> io::Result<impl Read> {
        Ok(DeflateDecoder::new(raw(&self.files, &self.path, self.offset, self.packed)?))
    }

    /// Whether `size` bytes are what the header promises.
    fn check(&self, size: u64) -> io::Result<()> {
        let expected = self.header.total().unwrap_or(u64::MAX);
        let more = if size > expected { " or more" } else { "" };
        let text = format!("array `{}` is {size} bytes{more} when it is unpacked, not {expected}", self.name);
        if size == expected { Ok(()) } else { Err(wrong(text)) }
    }

    /// The array as a file of this machine.
    fn plain(&self, deflated: &Deflated) -> io::Result<PathBuf> {
        if let Some(path) = deflated.plain.get() {
            return Ok(path.clone());
        }
        let _busy = deflated.busy.lock();
        if let Some(path) = deflated.plain.get() {
            return Ok(path.clone());
        }
        let total = self.header.total().unwrap_or(u64::MAX);
        let name = format!("{}.npy", self.offset);
        let path = deflated.folder.kept(&self.files, &self.path, &name, |file| {
            let from = self.unpack()?.take(total.saturating_add(1));
            deflated.folder.copy(from, file).map_err(|error| self.broken(&error))?;
            self.check(file.metadata()?.len())
        })?;
        Ok(deflated.plain.get_or_init(|| path).clone())
    }
}
