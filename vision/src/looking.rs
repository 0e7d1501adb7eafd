//! Looking at files: each is read, digested and decoded once, on all cores; what an earlier look found is taken from a
//! cache while the file is the one it was.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_common::Digest;
use convoy_common::file_tree::{FileTree, Stamp};
use convoy_common::memory::{HeldMemory, MemoryBudget, OutOfMemory, WORK};
use parking_lot::Mutex;

use crate::decode::{Decoded, decode};
use crate::decode_error::DecodeError;
use crate::error::ScanError;
use crate::limits::{Limits, SMALL_BYTES, bytes_of};
use crate::look::{Look, Looks};
use crate::look_cache::LookCache;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::scanned::ImageFacts;
use crate::threads::in_chunks;

/// Looks at the files at `paths`, which are in byte order, below `root`. `progress` is told how many of those that are
/// read are done. A cache comes with the number of this list of files among those below `root`.
///
/// # Errors
/// When a file takes more memory than there is: what is usable must not depend on who looks.
pub(crate) fn look_at_all(
    tree: &dyn FileTree,
    root: &Path,
    paths: &Paths,
    limits: &Limits,
    cache: Option<(&LookCache, u8)>,
    progress: &Progress,
) -> Result<Looks, ScanError> {
    let mut looks = Looks::of(paths.len());
    let Some((cache, list)) = cache else {
        let all: Vec<usize> = (0..paths.len()).collect();
        return look_anew(tree, root, paths, &all, limits, looks, progress);
    };
    let stamps = stamps(tree, root, paths);
    let place = tree.real(root).unwrap_or_else(|_| root.to_owned());
    let file = cache.file(&place, limits, list);
    let mut new = Vec::new();
    let mut known = file.read();
    for (number, path) in paths.iter().enumerate() {
        match known.take(path).filter(|(stamp, _)| stamps[number] == Some(*stamp)) {
            Some((_, look)) => looks.set(number, look),
            None => new.push(number),
        }
    }
    if new.is_empty() {
        file.used();
        return Ok(looks);
    }
    looks = look_anew(tree, root, paths, &new, limits, looks, progress)?;
    let records = paths.iter().zip(&stamps).enumerate();
    let records = records.filter_map(|(number, (path, stamp))| Some((path, (*stamp)?, looks.at(number))));
    // What could not be read now may be another time.
    file.write(records.filter(|(_, _, look)| look.found));
    Ok(looks)
}

/// The stamps of files before they are read: a file that changes meanwhile is another one than its stamp says.
fn stamps(tree: &dyn FileTree, root: &Path, paths: &Paths) -> Vec<Option<Stamp>> {
    let stamps = Mutex::new(vec![None; paths.len()]);
    in_chunks(paths.len(), |range| {
        let stamp = |number| tree.stamp(&root.join(paths.at(number))).ok().flatten();
        let some: Vec<_> = range.clone().map(stamp).collect();
        stamps.lock()[range].copy_from_slice(&some);
    });
    stamps.into_inner()
}

/// Reads and decodes the files with the numbers `new`.
fn look_anew(
    files: &dyn FileTree,
    root: &Path,
    paths: &Paths,
    new: &[usize],
    limits: &Limits,
    looks: Looks,
    progress: &Progress,
) -> Result<Looks, ScanError> {
    let (done, looks) = (AtomicUsize::new(0), Mutex::new(Ok(looks)));
    in_chunks(new.len(), |range| {
        let some: Result<Vec<(usize, Look)>, ScanError> = new[range]
            .iter()
            .map(|number| {
                let look = look_at(files, &root.join(paths.at(*number)), limits, &WORK)?;
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, new.len());
                Ok((*number, look))
            })
            .collect();
        let mut looks = looks.lock();
        match (&mut *looks, some) {
            (Ok(looks), Ok(some)) => some.into_iter().for_each(|(number, look)| looks.set(number, look)),
            (Ok(_), Err(error)) => *looks = Err(error),
            (Err(_), _) => {}
        }
    });
    looks.into_inner()
}

fn look_at(files: &dyn FileTree, path: &Path, limits: &Limits, memory: &MemoryBudget) -> Result<Look, ScanError> {
    let no_look = |why: String| Look { size: 0, digest: Digest::of(&[]), image: Err(why), found: false };
    let ReadAndDecoded { bytes, decoded, _held } = match read_and_decode(files, path, limits, memory) {
        Ok(decoded) => decoded,
        Err(NoLook::Read(error)) if error.kind() == ErrorKind::NotFound => {
            return Ok(no_look("does not exist".to_owned()));
        }
        Err(NoLook::Read(error)) => return Ok(no_look(format!("cannot be read: {error}"))),
        Err(NoLook::Memory(source)) => return Err(ScanError::NoMemory { path: path.to_owned(), source }),
    };
    let image = match decoded {
        Ok(decoded) => Ok(ImageFacts {
            width: decoded.pixels.width,
            height: decoded.pixels.height,
            channels: decoded.pixels.channels,
            orientation: decoded.orientation,
            range16: decoded.range16,
        }),
        Err(error) => Err(error.to_string()),
    };
    Ok(Look { size: bytes.len() as u64, digest: Digest::of(&bytes), image, found: true })
}

/// Why nothing can be said about a file.
enum NoLook {
    Read(std::io::Error),
    Memory(OutOfMemory),
}

/// A file, what it shows, and the memory that both take.
struct ReadAndDecoded<'a> {
    bytes: Vec<u8>,
    decoded: Result<Decoded, DecodeError>,
    _held: HeldMemory<'a>,
}

/// Reads the file at `path` and decodes it. Most pictures are small; of a larger one, the first attempt finds out how
/// large it is, and where others have the memory for it, everything is given back before it is waited for.
fn read_and_decode<'a>(
    files: &dyn FileTree,
    path: &Path,
    limits: &Limits,
    memory: &'a MemoryBudget,
) -> Result<ReadAndDecoded<'a>, NoLook> {
    let size = if memory.is_bounded() { files.size(path).map_err(NoLook::Read)? } else { 0 };
    let mut held = memory.take(size.saturating_add(SMALL_BYTES)).map_err(NoLook::Memory)?;
    let mut bytes = files.read(path).map_err(NoLook::Read)?;
    let decoded = match decode(&bytes, &limits.of_small()) {
        Err(DecodeError::TooLarge { width, height, .. }) if limits.allow(width, height) => {
            let needed = bytes_of(width * height);
            if held.try_grow(needed).is_err() {
                drop((held, bytes));
                held = memory.take(size.saturating_add(needed)).map_err(NoLook::Memory)?;
                bytes = files.read(path).map_err(NoLook::Read)?;
            }
            decode(&bytes, limits)
        }
        // What is not allowed at all says so with the limits that are in force.
        Err(DecodeError::TooLarge { .. }) => decode(&bytes, limits),
        decoded => decoded,
    };
    Ok(ReadAndDecoded { bytes, decoded, _held: held })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicU64;

    use convoy_common::file_tree::{FileKind, Files};

    use super::*;
    use crate::pixels::Pixels;

    /// A file of a size that is not what it seems, and how often it was read.
    #[derive(Debug)]
    struct OneFile(Vec<u8>, AtomicU64);

    impl Files for OneFile {
        fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Ok(self.0.clone())
        }
    }

    impl FileTree for OneFile {
        fn kind(&self, _: &Path) -> io::Result<Option<FileKind>> {
            Ok(Some(FileKind::File))
        }

        fn entries(&self, _: &Path) -> io::Result<Vec<(PathBuf, FileKind)>> {
            Ok(Vec::new())
        }

        fn size(&self, _: &Path) -> io::Result<u64> {
            Ok(self.0.len() as u64)
        }
    }

    const LIMITS: Limits = Limits { max_side: 4096, max_pixels: 1 << 22 };

    fn picture(side: u32) -> OneFile {
        let png = Pixels::new(side, side, 1, vec![7; (side * side) as usize]).to_png();
        OneFile(png, AtomicU64::new(0))
    }

    #[test]
    fn a_picture_takes_the_memory_that_it_needs() {
        let memory = MemoryBudget::new();
        for (side, megabytes, fits) in [(64, 30, true), (1500, 30, false), (1500, 60, true), (64, 10, false)] {
            memory.bound(megabytes << 20);
            let looked = read_and_decode(&picture(side), Path::new("x.png"), &LIMITS, &memory);
            match looked {
                Ok(read) => assert!(fits && read.decoded.is_ok(), "{side} in {megabytes} MiB"),
                Err(NoLook::Memory(OutOfMemory::TooMuch { .. })) => assert!(!fits, "{side} in {megabytes} MiB"),
                Err(_) => panic!("{side} in {megabytes} MiB"),
            }
        }
    }

    #[test]
    fn what_memory_there_is_decides_nothing_about_a_picture() {
        let memory = MemoryBudget::new();
        let look = |megabytes: u64| {
            memory.bound(megabytes << 20);
            look_at(&picture(1500), Path::new("x.png"), &LIMITS, &memory)
        };
        assert!(look(60).is_ok_and(|look| look.image.is_ok()));
        let refused = look(30).expect_err("it is refused, not broken").to_string();
        assert!(refused.contains("x.png cannot be looked at") && refused.contains("--memory-mib"), "{refused}");
    }

    #[test]
    fn large_pictures_are_decoded_one_after_the_other_where_there_is_room_for_one() {
        let (memory, file) = (MemoryBudget::new(), picture(1500));
        // 2.25 million pixels: 45 MB.
        memory.bound(50 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let Ok(read) = read_and_decode(&file, Path::new("x.png"), &LIMITS, &memory) else {
                        panic!("there is room for one");
                    };
                    assert!(read.decoded.is_ok());
                    assert!(memory.try_take(20 << 20).is_err(), "it holds what it takes");
                });
            }
        });
        assert!(memory.try_take(50 << 20).is_ok());
    }

    #[test]
    fn what_is_never_allowed_says_why() {
        let memory = MemoryBudget::new();
        let looked = read_and_decode(&picture(2500), Path::new("x.png"), &LIMITS, &memory);
        let Ok(ReadAndDecoded { decoded: Err(error), .. }) = looked else { panic!("it is too large") };
        assert!(error.to_string().contains("4194304 in all"), "{error}");
    }
}
