//! Looking at files: each is read, digested and decoded once, on all cores; what an earlier look found is taken from a
//! cache while the file is the one it was.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_common::Digest;
use convoy_common::file_tree::{FileTree, Files, Stamp};
use parking_lot::Mutex;

use crate::decode::decode;
use crate::limits::Limits;
use crate::look::{Look, Looks};
use crate::look_cache::LookCache;
use crate::paths::Paths;
use crate::progress::Progress;
use crate::scanned::ImageFacts;
use crate::threads::in_chunks;

/// Looks at the files at `paths`, which are in byte order, below `root`. `progress` is told how many of those that are
/// read are done. A cache comes with the number of this list of files among those below `root`.
pub(crate) fn look_at_all(
    tree: &dyn FileTree,
    root: &Path,
    paths: &Paths,
    limits: &Limits,
    cache: Option<(&LookCache, u8)>,
    progress: &Progress,
) -> Looks {
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
        return looks;
    }
    looks = look_anew(tree, root, paths, &new, limits, looks, progress);
    let records = paths.iter().zip(&stamps).enumerate();
    file.write(records.filter_map(|(number, (path, stamp))| Some((path, (*stamp)?, looks.at(number)))));
    looks
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
) -> Looks {
    let (done, looks) = (AtomicUsize::new(0), Mutex::new(looks));
    in_chunks(new.len(), |range| {
        let some: Vec<(usize, Look)> = new[range]
            .iter()
            .map(|number| {
                let look = look_at(files, root, paths.at(*number), limits);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, new.len());
                (*number, look)
            })
            .collect();
        let mut looks = looks.lock();
        some.into_iter().for_each(|(number, look)| looks.set(number, look));
    });
    looks.into_inner()
}

fn look_at<F: Files + ?Sized>(files: &F, root: &Path, path: &str, limits: &Limits) -> Look {
    let bytes = match files.read(&root.join(path)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::NotFound => "does not exist".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            return Look { size: 0, digest: Digest::of(&[]), image: Err(why), found: false };
        }
    };
    let image = match decode(&bytes, limits) {
        Ok(decoded) => Ok(ImageFacts {
            width: decoded.pixels.width,
            height: decoded.pixels.height,
            channels: decoded.pixels.channels,
            orientation: decoded.orientation,
            range16: decoded.range16,
        }),
        Err(error) => Err(error.to_string()),
    };
    Look { size: bytes.len() as u64, digest: Digest::of(&bytes), image, found: true }
}
