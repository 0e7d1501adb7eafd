//! Packs: tar files of many images, which any tar opens; where each file lies in them is kept beside.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use convoy_common::Digest;
use convoy_common::durable::{self, Act, act, rename, sync_file, sync_folder};

/// A pack is closed once it holds this much.
pub(super) const PACK_BYTES: u64 = 64 << 20;
const BLOCK: u64 = 512;

/// Where a file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) pack: Digest,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// A pack whose bytes are on the disk, under a name that nobody looks for.
#[derive(Debug)]
pub(super) struct Closed {
    pub(super) packed: Packed,
    file: tempfile::NamedTempFile,
}

impl Closed {
    /// Gives it its name.
    pub(super) fn persist(self, folder: &Path) -> io::Result<Packed> {
        let hidden = self.file.into_temp_path();
        rename(&hidden, &path_of(folder, &self.packed.digest))?;
        // Nothing is left to be removed.
        _ = hidden.keep();
        sync_folder(folder)?;
        Ok(self.packed)
    }
}

/// What is in a pack: its digest is its name.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) digest: Digest,
    /// Digest, offset and size of each file.
    pub(super) files: Vec<(Digest, u64, u64)>,
}

pub(super) fn path_of(folder: &Path, pack: &Digest) -> PathBuf {
    folder.join(format!("{pack}.tar"))
}

/// The file of a pack that has no name yet: each write to it is an act. What a failed write left is written over by
/// the next one, as whoever buffers believes that nothing of it came.
#[derive(Debug)]
struct Hidden {
    file: tempfile::NamedTempFile,
    at: u64,
}

impl Write for Hidden {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Hidden { file, at } = self;
        durable::write(file.path(), bytes, |bytes| file.as_file().write_all_at(bytes, *at))?;
        *at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Hidden {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

/// A pack that is being written. Dropped without [`PackWriter::close`], it leaves nothing behind.
pub(super) struct PackWriter {
    file: BufWriter<Hidden>,
    hasher: blake3::Hasher,
    length: u64,
    files: Vec<(Digest, u64, u64)>,
    /// Length and digest so far where the file began that is not whole yet.
    begun: Option<(u64, blake3::Hasher)>,
}

impl PackWriter {
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix(".pack-").suffix(".tmp").tempfile_in(folder)?;
        let hasher = blake3::Hasher::new();
        Ok(PackWriter {
            file: BufWriter::new(Hidden { file, at: 0 }),
            hasher,
            length: 0,
            files: Vec::new(),
            begun: None,
        })
    }

    /// Bytes of the disk that a file of `size` bytes takes in a pack, at most.
    pub(super) fn room_for(size: u64) -> u64 {
        size.saturating_add(4 * BLOCK)
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Begins a file of `size` bytes. `path` is what tar shows; the digest's hex where it does not fit tar's header.
    pub(super) fn begin(&mut self, path: &str, digest: &Digest, size: u64) -> io::Result<()> {
        self.begun = Some((self.length, self.hasher.clone()));
        let mut header = tar::Header::new_ustar();
        if header.set_path(path).is_err() {
            header.set_path(digest.to_string())?;
        }
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    /// Adds the file that began, now that all `size` bytes of it are written.
    pub(super) fn end(&mut self, digest: Digest, size: u64) -> io::Result<()> {
        let offset = self.length - size;
        let padding = self.length.next_multiple_of(BLOCK) - self.length;
        self.write(&[0; BLOCK as usize][..padding as usize])?;
        self.files.push((digest, offset, size));
        self.begun = None;
        Ok(())
    }

    /// Takes back what was written of a file that began and is not whole.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        let Some((length, hasher)) = self.begun.take() else { return Ok(()) };
        self.file.seek(SeekFrom::Start(length))?;
        let Hidden { file, .. } = self.file.get_ref();
        act(Act::Cut, file.path(), || file.as_file().set_len(length))?;
        (self.length, self.hasher) = (length, hasher);
        Ok(())
    }

    /// Writes a piece of the file that began.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Writes it through to the disk. `None` when nothing was added.
    pub(super) fn close(mut self) -> io::Result<Option<Closed>> {
        self.take_back()?;
        if self.files.is_empty() {
            return Ok(None);
        }
        self.write(&[0; 2 * BLOCK as usize])?;
        let digest = Digest(*self.hasher.finalize().as_bytes());
        let Hidden { file, .. } = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        sync_file(file.path(), file.as_file())?;
        Ok(Some(Closed { packed: Packed { digest, files: self.files }, file }))
    }
}

/// `length` bytes from `offset` of a file in a pack.
pub(super) fn read_range(folder: &Path, at: &Located, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let inside = offset.checked_add(length).is_some_and(|end| end <= at.size);
    let start = at.offset.checked_add(offset).filter(|_| inside).ok_or(io::ErrorKind::UnexpectedEof)?;
    read(folder, &Located { offset: start, size: length, ..*at })
}

/// The bytes of a file in a pack.
pub(super) fn read(folder: &Path, at: &Located) -> io::Result<Vec<u8>> {
    let file = File::open(path_of(folder, &at.pack))?;
    let end = at.offset.checked_add(at.size).filter(|end| file.metadata().is_ok_and(|facts| *end <= facts.len()));
    if end.is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("pack {} is too short", at.pack)));
    }
    let mut bytes = vec![0; at.size as usize];
    file.read_exact_at(&mut bytes, at.offset)?;
    Ok(bytes)
}

/// Removes what an earlier process was writing when it ended.
pub(super) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The packs in a folder.
pub(super) fn list(folder: &Path) -> io::Result<Vec<Digest>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| name.strip_suffix(".tar")?.parse::<Digest>().ok()));
    }
    Ok(found)
}

/// The digest of what `from` gives, at most `length` bytes, and how many there were.
pub(super) fn digest_of(from: impl Read, length: u64) -> io::Result<(Digest, u64)> {
    let mut hasher = blake3::Hasher::new();
    let came = io::copy(&mut from.take(length), &mut hasher)?;
    Ok((Digest(*hasher.finalize().as_bytes()), came))
}

/// The digest of a file in a pack as it is now.
pub(super) fn digest_at(folder: &Path, at: &Located) -> io::Result<Digest> {
    let mut file = File::open(path_of(folder, &at.pack))?;
    let end = file.metadata()?.len();
    if at.offset.checked_add(at.size).is_none_or(|file_end| file_end > end) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(at.offset))?;
    Ok(digest_of(file, at.size)?.0)
}

#[cfg(test)]
mod tests {
    use convoy_common::durable::faults::{Fault, FaultPlan, Faults};

    use super::*;

    /// Writes a pack of one file in `folder`.
    fn write(folder: &Path) -> io::Result<Packed> {
        let (bytes, mut pack) = (b"bytes", PackWriter::create(folder)?);
        let digest = Digest::of(bytes);
        pack.begin("a/x", &digest, bytes.len() as u64)?;
        pack.write(bytes)?;
        pack.end(digest, bytes.len() as u64)?;
        pack.close()?.expect("something was added").persist(folder)
    }

    /// Writes a pack of as many of two files as can be written, which are larger than what is written at once.
    fn write_what_can_be(folder: &Path) -> io::Result<Option<Packed>> {
        let mut pack = PackWriter::create(folder)?;
        for letter in [b'a', b'b'] {
            let bytes = vec![letter; 20_000];
            let digest = Digest::of(&bytes);
            let added = pack.begin("x", &digest, bytes.len() as u64).and_then(|()| {
                bytes.chunks(3000).try_for_each(|piece| pack.write(piece))?;
                pack.end(digest, bytes.len() as u64)
            });
            if added.is_err() {
                break;
            }
        }
        pack.close()?.map(|closed| closed.persist(folder)).transpose()
    }

    #[test]
    fn what_came_before_a_moment_without_room_is_kept_as_it_came() {
        for fault in [Fault::Full, Fault::Short] {
            let mut kept = [0; 3];
            for point in 1.. {
                let folder = tempfile::tempdir().unwrap();
                let faults = Faults::in_folder(folder.path(), Some(FaultPlan { point, fault, lasting: false }));
                let packed = write_what_can_be(folder.path()).ok().flatten();
                if let Some(packed) = &packed {
                    let file = File::open(path_of(folder.path(), &packed.digest)).unwrap();
                    assert_eq!(digest_of(file, u64::MAX).unwrap().0, packed.digest, "{fault:?} {point}");
                    for (digest, offset, size) in packed.files.iter().copied() {
                        let at = Located { pack: packed.digest, offset, size };
                        assert_eq!(digest_at(folder.path(), &at).unwrap(), digest, "{fault:?} {point}");
                    }
                }
                kept[packed.map_or(0, |packed| packed.files.len())] += 1;
                if !faults.struck() {
                    break;
                }
            }
            assert!(kept.iter().all(|times| *times > 0), "{fault:?}: {kept:?} times with none, one and both");
        }
    }

    #[test]
    fn a_pack_is_there_and_whole_or_not_at_all() {
        for fault in [Fault::Eio, Fault::Full, Fault::Short, Fault::Crash, Fault::PowerCut] {
            for point in 1.. {
                let folder = tempfile::tempdir().unwrap();
                let plan = FaultPlan { point, fault, lasting: false };
                let faults = Faults::in_folder(folder.path(), Some(plan));
                let written = write(folder.path());
                if fault == Fault::PowerCut && faults.struck() {
                    faults.cut_power();
                }
                let packs = list(folder.path()).unwrap();
                for pack in &packs {
                    let file = File::open(path_of(folder.path(), pack)).unwrap();
                    assert_eq!(digest_of(file, u64::MAX).unwrap().0, *pack, "{fault:?} {point}");
                }
                assert!(written.is_err() || packs.len() == 1, "{fault:?} {point}: it is told, and not there");
                if !faults.struck() {
                    assert_eq!(point, 9, "write, sync, rename and sync of the folder, before and after each");
                    break;
                }
            }
        }
    }
}
