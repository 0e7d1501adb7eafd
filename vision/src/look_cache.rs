//! What looks at files found, kept on disk: a second start decodes nothing again that has not changed.
//!
//! For each folder that was looked at there is a file with a record for each picture, in byte order of the paths: a
//! path is how many bytes it shares with the path before, and the rest; then stamp, size, digest, and what the picture
//! is or why it is none. It is of one build of this program, because another one may decode otherwise. Nothing depends
//! on it: a file that is missing or damaged costs another look, and whatever is trained on is compared with its digest.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use convoy_common::file_tree::Stamp;
use convoy_common::{Digest, leb128};

use crate::channel_sums::ChannelSums;
use crate::limits::Limits;
use crate::look::Look;
use crate::scanned::ImageFacts;

/// What files begin with; then comes the digest of the records.
const MAGIC: &[u8] = b"convoy looks 1\n";
/// Where records begin.
const HEADER: u64 = MAGIC.len() as u64 + 32;
/// A file that nobody used for this long is removed when another is written.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest path or reason that is read.
const LONGEST: u64 = 1 << 16;

/// A folder of files with what looks found.
#[derive(Debug, Clone)]
pub struct LookCache {
    folder: PathBuf,
    /// Whether what was found before counts.
    trusted: bool,
}

/// What was found below one folder.
pub(crate) struct LookFile {
    path: PathBuf,
    trusted: bool,
}

/// The digest of this very program; none where it cannot be read.
fn program() -> Option<Digest> {
    static PROGRAM: OnceLock<Option<Digest>> = OnceLock::new();
    *PROGRAM.get_or_init(|| Some(Digest::of(&fs::read(std::env::current_exe().ok()?).ok()?)))
}

impl LookCache {
    /// The cache in `folder`, which is made when something is written.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        LookCache { folder: folder.into(), trusted: true }
    }

    /// The same cache for one who trusts nothing that was found before, but keeps what is found now.
    pub fn anew(self) -> Self {
        LookCache { trusted: false, ..self }
    }

    /// The sums that are kept under `key`, which names all that they depend on; else what `measure` gives, kept.
    ///
    /// # Errors
    /// As `measure`.
    pub(crate) fn sums<E>(
        &self,
        key: &[u8],
        measure: impl FnOnce() -> Result<Vec<ChannelSums>, E>,
    ) -> Result<Vec<ChannelSums>, E> {
        let key = [&program().unwrap_or_default().0, key].concat();
        let path = self.folder.join(format!("{}.sums", &Digest::of(&key).to_string()[..32]));
        let known = || serde_json::from_slice(&fs::read(&path).ok().filter(|_| self.trusted)?).ok();
        if let Some(sums) = known() {
            used(&path);
            return Ok(sums);
        }
        let sums = measure()?;
        let bytes = serde_json::to_vec(&sums).unwrap_or_default();
        if program().is_some() {
            // What cannot be kept is measured again.
            _ = fs::create_dir_all(&self.folder).and_then(|()| in_place(&path, |file| (&*file).write_all(&bytes)));
        }
        Ok(sums)
    }

    /// What was found below `root` within `limits`. Lists of files that differ have different `list`s.
    pub(crate) fn file(&self, root: &Path, limits: &Limits, list: u8) -> LookFile {
        let program = program().unwrap_or_default();
        let limits = [u64::from(limits.max_side), limits.max_pixels].map(u64::to_le_bytes).concat();
        let key = [&program.0, limits.as_slice(), &[list], root.as_os_str().as_encoded_bytes()].concat();
        LookFile {
            trusted: self.trusted,
            path: self.folder.join(format!("{}.looks", &Digest::of(&key).to_string()[..32])),
        }
    }
}

impl LookFile {
    /// The records, from the first on; none where there is no file.
    pub(crate) fn read(&self) -> Records {
        let file = if self.trusted { open(&self.path).ok() } else { None };
        let mut records = Records { file, path: Vec::new(), next: None };
        records.advance();
        records
    }

    /// Notes that it was used.
    pub(crate) fn used(&self) {
        used(&self.path);
    }

    /// Writes the file anew; what cannot be written is looked at again the next time.
    pub(crate) fn write<'a>(&self, records: impl Iterator<Item = (&'a str, Stamp, Look)>) {
        if program().is_some() {
            _ = self.try_to_write(records);
        }
    }

    fn try_to_write<'a>(&self, records: impl Iterator<Item = (&'a str, Stamp, Look)>) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(folder)?;
        sweep(folder)?;
        in_place(&self.path, |file| write_records(file, records))
    }
}

/// Notes that the file at `path` was used. One that cannot be noted is thought to be older than it is.
fn used(path: &Path) {
    _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// Writes the file at `path`, which nobody reads before it is whole.
fn in_place(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = File::create(&temporary).and_then(|file| write(&file)).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        _ = fs::remove_file(&temporary);
    }
    written
}

/// The file at `path`, at its first record, if it is whole.
fn open(path: &Path) -> io::Result<BufReader<File>> {
    let mut file = File::open(path)?;
    let mut header = [0; HEADER as usize];
    file.read_exact(&mut header)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file)?;
    if header != *[MAGIC, hasher.finalize().as_bytes()].concat() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.seek(SeekFrom::Start(HEADER))?;
    Ok(BufReader::with_capacity(1 << 20, file))
}

/// Removes files that nobody used for long.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let modified = entry.metadata()?.modified()?;
        if modified.elapsed().is_ok_and(|age| age > UNUSED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_records<'a>(mut file: &File, records: impl Iterator<Item = (&'a str, Stamp, Look)>) -> io::Result<()> {
    file.write_all(&[0; HEADER as usize])?;
    let mut out = BufWriter::with_capacity(1 << 20, Hashing { file, hasher: blake3::Hasher::new() });
    let mut before = "";
    for (path, stamp, look) in records.filter(|(_, _, look)| look.found) {
        let shared = before.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
        leb128::write(&mut out, shared as u64)?;
        put_bytes(&mut out, &path.as_bytes()[shared..])?;
        out.write_all(&stamp.0.0)?;
        leb128::write(&mut out, look.size)?;
        out.write_all(&look.digest.0)?;
        match look.image {
            Ok(facts) => put_facts(&mut out, &facts)?,
            Err(why) => {
                out.write_all(&[0])?;
                put_bytes(&mut out, why.as_bytes())?;
            }
        }
        before = path;
    }
    let Hashing { hasher, .. } = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&[MAGIC, hasher.finalize().as_bytes()].concat())
}

/// A file that knows the digest of what was written.
struct Hashing<'a> {
    file: &'a File,
    hasher: blake3::Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn put_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    leb128::write(out, bytes.len() as u64)?;
    out.write_all(bytes)
}

/// A byte for orientation (1 to 8) and whether there is a range, then channels, width, height and the range.
fn put_facts(out: &mut impl Write, facts: &ImageFacts) -> io::Result<()> {
    let range = facts.range16.is_some();
    out.write_all(&[facts.orientation | u8::from(range) << 7])?;
    for number in [facts.channels, facts.width, facts.height] {
        leb128::write(out, number.into())?;
    }
    facts.range16.iter().flatten().try_for_each(|number| leb128::write(out, (*number).into()))
}

/// The records of a file, read one after the other.
pub(crate) struct Records {
    file: Option<BufReader<File>>,
    /// The path of the next record.
    path: Vec<u8>,
    next: Option<(Stamp, Look)>,
}

impl Records {
    /// The record of `path`, if there is one; it must come after those that were asked for before.
    pub(crate) fn take(&mut self, path: &str) -> Option<(Stamp, Look)> {
        while self.next.is_some() && self.path.as_slice() < path.as_bytes() {
            self.advance();
        }
        if self.path != path.as_bytes() {
            return None;
        }
        let found = self.next.take();
        self.advance();
        found
    }

    fn advance(&mut self) {
        self.next = self.record().ok();
        if self.next.is_none() {
            self.file = None;
        }
    }

    fn record(&mut self) -> io::Result<(Stamp, Look)> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        let shared = leb128::read(file)?;
        if shared > self.path.len() as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let rest = bytes(file)?;
        self.path.truncate(shared as usize);
        self.path.extend_from_slice(&rest);
        let stamp = Stamp(digest(file)?);
        let (size, digest) = (leb128::read(file)?, digest(file)?);
        let image = match byte(file)? {
            0 => Err(String::from_utf8_lossy(&bytes(file)?).into_owned()),
            first => Ok(facts(file, first)?),
        };
        Ok((stamp, Look { size, digest, image, found: true }))
    }
}

fn byte(file: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

fn small<T: TryFrom<u64>>(file: &mut impl Read) -> io::Result<T> {
    T::try_from(leb128::read(file)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn bytes(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = leb128::read(file)?;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn digest(file: &mut impl Read) -> io::Result<Digest> {
    let mut digest = Digest::default();
    file.read_exact(&mut digest.0)?;
    Ok(digest)
}

fn facts(file: &mut impl Read, first: u8) -> io::Result<ImageFacts> {
    let (channels, width, height) = (small(file)?, small(file)?, small(file)?);
    let range16 = match first & 0x80 {
        0 => None,
        _ => Some([small(file)?, small(file)?]),
    };
    Ok(ImageFacts { width, height, channels, orientation: first & 0x7F, range16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u8) -> Stamp {
        Stamp(Digest::of(&[number]))
    }

    fn look(number: u8) -> Look {
        let facts = ImageFacts {
            width: 300 + u32::from(number),
            height: 7,
            channels: 3,
            orientation: 1 + number % 8,
            range16: (number % 2 == 1).then_some([number.into(), 65_535]),
        };
        let image = if number == 4 { Err("is cut off".to_owned()) } else { Ok(facts) };
        Look { size: 1 << number, digest: Digest::of(&[number, 0]), image, found: number != 9 }
    }

    const PATHS: [(&str, u8); 5] = [("a/1", 1), ("a/10", 9), ("a/2", 4), ("b", 40), ("b/c", 2)];

    fn write(file: &LookFile) {
        file.write(PATHS.into_iter().map(|(path, number)| (path, stamp(number), look(number))));
    }

    #[test]
    fn what_was_found_comes_back_for_the_paths_that_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LookCache::in_folder(folder.path().join("looks"));
        let limits = Limits { max_side: 100, max_pixels: 1000 };
        let file = cache.file(Path::new("/photos"), &limits, 0);
        assert_eq!(file.read().take("a/1"), None);
        write(&file);
        let mut records = file.read();
        let asked = ["", "a/1", "a/10", "a/11", "a/2", "b/c", "z"].map(|path| records.take(path));
        let found = |number| Some((stamp(number), look(number)));
        assert_eq!(
            asked,
            [None, found(1), None, None, found(4), found(2), None],
            "10 could not be read, so it is none"
        );
        for (root, limits, list) in [
            ("/other", limits, 0),
            ("/photos", Limits { max_side: 99, ..limits }, 0),
            ("/photos", Limits { max_pixels: 999, ..limits }, 0),
            ("/photos", limits, 1),
        ] {
            assert_eq!(cache.file(Path::new(root), &limits, list).read().take("a/1"), None, "{root} {limits:?}");
        }
        let anew = cache.clone().anew();
        assert_eq!(anew.file(Path::new("/photos"), &limits, 0).read().take("a/1"), None, "it trusts nothing");
    }

    #[test]
    fn a_damaged_or_cut_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_side: 100, max_pixels: 1000 };
        let file = LookCache::in_folder(folder.path()).file(Path::new("/photos"), &limits, 0);
        write(&file);
        let bytes = fs::read(&file.path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(&file.path, &damaged).unwrap();
            assert_eq!(file.read().take("a/1"), None, "byte {at}");
            fs::write(&file.path, &bytes[..at]).unwrap();
            assert_eq!(file.read().take("a/1"), None, "{at} bytes");
        }
    }

    #[test]
    fn a_folder_that_takes_nothing_costs_nothing_but_another_look() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("looks"), "a file").unwrap();
        let limits = Limits { max_side: 100, max_pixels: 1000 };
        let cache = LookCache::in_folder(folder.path().join("looks"));
        write(&cache.file(Path::new("/photos"), &limits, 0));
        let measured = cache.sums(b"key", || Ok::<_, ()>(vec![ChannelSums::default()]));
        assert_eq!(measured, Ok(vec![ChannelSums::default()]));
    }

    #[test]
    fn sums_are_measured_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = LookCache::in_folder(folder.path());
        let sums = |count| vec![ChannelSums { count, sum: u64::MAX, squares: 3 }];
        assert_eq!(cache.sums(b"key", || Err("unreadable")), Err("unreadable"));
        assert_eq!(cache.sums(b"key", || Ok::<_, ()>(sums(1))), Ok(sums(1)));
        assert_eq!(cache.sums(b"key", || Ok::<_, ()>(sums(2))), Ok(sums(1)));
        assert_eq!(cache.sums(b"other", || Ok::<_, ()>(sums(3))), Ok(sums(3)));
        assert_eq!(cache.clone().anew().sums(b"key", || Ok::<_, ()>(sums(4))), Ok(sums(4)));
        assert_eq!(cache.sums(b"key", || Ok::<_, ()>(sums(5))), Ok(sums(4)));
    }

    #[test]
    fn what_nobody_used_for_long_goes() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_side: 100, max_pixels: 1000 };
        let file = |root| LookCache::in_folder(folder.path()).file(Path::new(root), &limits, 0);
        let names = ["/old", "/used"].map(|root| {
            write(&file(root));
            let long_ago = SystemTime::now() - UNUSED - Duration::from_secs(60);
            File::options().append(true).open(&file(root).path).unwrap().set_modified(long_ago).unwrap();
            root
        });
        file(names[1]).used();
        write(&file("/new"));
        assert_eq!(names.map(|root| file(root).path.exists()), [false, true]);
    }
}
