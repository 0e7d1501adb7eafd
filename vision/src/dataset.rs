//! The images of a split, loaded on demand and checked against the manifest.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use convoy_common::file_tree::Files;
use convoy_common::manifest::{FileEntry, Split};
use convoy_common::{Batch, Digest, Plan, Targets};

use crate::decode::{decode, decode_in};
use crate::error::{LoadError, ScanError};
use crate::jpeg::Baseline;
use crate::limits::Limits;
use crate::pixels::{Pixels, Window};
use crate::prepare::{Mode, Preparation};
use crate::source::idx::{IdxData, IdxPaths};

/// The images of a split. Shared by threads.
pub struct Images {
    split: Arc<Split>,
    files: Arc<dyn Files>,
    limits: Limits,
    /// What becomes 0 and 255 of images of 16 bits; without it their upper byte counts.
    range16: Option<[u16; 2]>,
    /// The pair of IDX files, held whole.
    idx: Option<IdxData>,
    /// Decoded images that are kept, one place for each sample.
    kept: Vec<OnceLock<Arc<Pixels>>>,
    /// Bytes that may still be kept.
    budget: AtomicUsize,
}

impl Images {
    /// The images of `split`, read from `files`. Up to `cache_bytes` of decoded pixels are kept in memory: those of the
    /// first images that are asked for, as long as they fit. Kept images are never replaced, which would gain nothing:
    /// an epoch asks for each sample once, in another order each time.
    ///
    /// # Errors
    /// When IDX files cannot be read or are not those of the manifest.
    pub fn open(
        split: Arc<Split>,
        files: Arc<dyn Files>,
        limits: Limits,
        cache_bytes: usize,
    ) -> Result<Self, LoadError> {
        let idx = if is_idx(&split) { Some(open_idx(&split, files.as_ref())?) } else { None };
        let kept = (0..split.samples.len()).map(|_| OnceLock::new()).collect();
        Ok(Images { split, files, limits, range16: None, idx, kept, budget: AtomicUsize::new(cache_bytes) })
    }

    /// The same images, those of 16 bits brought from `range16` to eight; see [`decode_in`].
    pub fn stretched(mut self, range16: Option<[u16; 2]>) -> Self {
        self.range16 = range16;
        self
    }

    /// The split that these images are of.
    pub fn split(&self) -> &Split {
        &self.split
    }

    /// The decoded, upright image of a sample.
    ///
    /// # Errors
    /// When there is no such sample, its file cannot be read, has changed since the manifest was made, or is one that
    /// the manifest calls broken.
    pub fn pixels(&self, sample: u32) -> Result<Arc<Pixels>, LoadError> {
        let count = self.kept.len();
        let place = self.kept.get(sample as usize).ok_or(LoadError::NoSuchSample { sample, count })?;
        match place.get() {
            Some(pixels) => Ok(Arc::clone(pixels)),
            None => self.whole(sample, self.load(sample)?),
        }
    }

    /// Whether samples are read from memory.
    pub(crate) fn are_in_memory(&self) -> bool {
        self.idx.is_some()
    }

    /// A sample: decoded if its pixels are kept or will be, otherwise as a file whose windows can be decoded.
    fn picture(&self, sample: u32) -> Result<Picture, LoadError> {
        if let Some(Some(pixels)) = self.kept.get(sample as usize).map(OnceLock::get) {
            return Ok(Picture::Whole(Arc::clone(pixels)));
        }
        match self.load(sample)? {
            Picture::Jpeg(file) if !self.fits(&file) => Ok(Picture::Jpeg(file)),
            picture => self.whole(sample, picture).map(Picture::Whole),
        }
    }

    /// Decodes all of a picture, and keeps the pixels if they fit.
    fn whole(&self, sample: u32, picture: Picture) -> Result<Arc<Pixels>, LoadError> {
        let pixels = match picture {
            Picture::Whole(pixels) => pixels,
            Picture::Jpeg(file) => Arc::new(self.part(sample, &file, Window::whole(file.size()))?),
        };
        if self.idx.is_none() && self.reserve(pixels.data.len()) {
            // Another thread may have been first; then the reservation is given back.
            if self.kept[sample as usize].set(Arc::clone(&pixels)).is_err() {
                self.budget.fetch_add(pixels.data.len(), Ordering::Relaxed);
            }
        }
        Ok(pixels)
    }

    /// The pixels of a window of a file.
    fn part(&self, sample: u32, file: &Baseline, window: Window) -> Result<Pixels, LoadError> {
        if let Some(part) = file.window(window) {
            return Ok(part);
        }
        match decode(file.bytes(), &self.limits) {
            Ok(decoded) => Ok(decoded.pixels.crop(window)),
            Err(error) => Err(self.broken(sample, error.to_string())),
        }
    }

    fn fits(&self, file: &Baseline) -> bool {
        let (width, height) = file.size();
        self.budget.load(Ordering::Relaxed) >= width as usize * height as usize * file.channels() as usize
    }

    fn reserve(&self, bytes: usize) -> bool {
        let less = |budget: usize| budget.checked_sub(bytes);
        self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn load(&self, sample: u32) -> Result<Picture, LoadError> {
        let entry = self.split.samples.get(sample as usize);
        let entry = entry.ok_or(LoadError::NoSuchSample { sample, count: self.kept.len() })?;
        if let Some(reason) = entry.broken {
            return Err(self.broken(sample, reason.to_owned()));
        }
        if let Some(idx) = &self.idx {
            let whole = |pixels| Picture::Whole(Arc::new(pixels));
            let missing = || self.broken(sample, "is not in the file".to_owned());
            return idx.pixels(entry.index).map(whole).ok_or_else(missing);
        }
        let file = self.split.files.at(entry.file as usize);
        let path = Path::new(&self.split.root).join(file.path);
        let bytes = self.files.read(&path).map_err(|source| LoadError::Io { path: path.clone(), source })?;
        check_unchanged(path, file, bytes.len() as u64, Digest::of(&bytes))?;
        // The scan decoded all of this very file, so it may be decoded in parts.
        match Baseline::open(bytes, &self.limits) {
            Ok(file) => Ok(Picture::Jpeg(Box::new(file))),
            Err(bytes) => match decode_in(&bytes, &self.limits, self.range16) {
                Ok(decoded) => Ok(Picture::Whole(Arc::new(decoded.pixels))),
                Err(error) => Err(self.broken(sample, error.to_string())),
            },
        }
    }

    fn broken(&self, sample: u32, reason: String) -> LoadError {
        let path = Path::new(&self.split.root).join(self.split.file_of(sample as usize).path);
        LoadError::Broken { sample, path, reason }
    }
}

/// A sample, decoded or not.
enum Picture {
    Whole(Arc<Pixels>),
    Jpeg(Box<Baseline>),
}

/// IDX samples all lie in the first of two files; of image files, each has a sample.
fn is_idx(split: &Split) -> bool {
    split.files.len() == 2 && !split.samples.is_empty() && split.samples.iter().all(|sample| sample.file == 0)
}

fn open_idx(split: &Split, files: &dyn Files) -> Result<IdxData, LoadError> {
    let [images, labels] = [0, 1].map(|file| split.files.at(file).path.to_owned());
    let paths = IdxPaths { folder: PathBuf::from(&split.root), images, labels };
    let data = IdxData::read(files, &paths).map_err(|error| match error {
        ScanError::Io { path, source } => LoadError::Io { path, source },
        other => LoadError::Broken { sample: 0, path: paths.folder.join(&paths.images), reason: other.to_string() },
    })?;
    for (then, (size, digest)) in split.files.iter().zip(data.files) {
        check_unchanged(paths.folder.join(then.path), then, size, digest)?;
    }
    Ok(data)
}

/// Whether the file at `path` has the `size` and `digest` that it had then.
fn check_unchanged(path: PathBuf, then: FileEntry<'_>, size: u64, digest: Digest) -> Result<(), LoadError> {
    if (then.size, then.blake3) == (size, digest) {
        return Ok(());
    }
    let (expected, expected_size) = (then.blake3.short(), then.size);
    Err(LoadError::Changed { path, expected_size, expected, size, digest: digest.short() })
}

/// A split and how its images become batches. Shared by threads.
pub struct Dataset {
    images: Images,
    preparation: Preparation,
    /// Names of classes, labels or targets.
    names: usize,
}

impl Dataset {
    /// The samples of `images`, prepared by `preparation`; `names` is the number of classes, labels or targets.
    pub fn new(images: Images, preparation: Preparation, names: usize) -> Self {
        Dataset { images, preparation, names }
    }

    /// A split of a plan's manifest, read from `files`, with `data.cache_mib` for decoded images.
    ///
    /// # Errors
    /// As [`Images::open`].
    pub fn open(plan: &Plan, split: Arc<Split>, files: Arc<dyn Files>) -> Result<Self, LoadError> {
        let cache = plan.spec.data.cache_mib as usize * (1 << 20);
        let images = Images::open(split, files, Limits::from(&plan.spec.data), cache)?
            .stretched(plan.spec.prepare.depth16.range());
        Ok(Dataset::new(images, Preparation::of(plan), plan.names.len()))
    }

    /// The images before preparation.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// How images become numbers.
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// The prepared samples, in the order given, with their targets.
    ///
    /// # Errors
    /// The first sample that cannot be loaded; nothing is left out.
    pub fn batch(&self, samples: &[u32], mode: Mode) -> Result<Batch, LoadError> {
        let length = self.preparation.input().len();
        let mut x_nhwc = vec![0.0; samples.len() * length];
        for (sample, out) in samples.iter().zip(x_nhwc.chunks_exact_mut(length)) {
            match self.images.picture(*sample)? {
                Picture::Whole(pixels) => self.preparation.prepare(&pixels, mode, *sample, out),
                Picture::Jpeg(file) => {
                    let (width, height) = file.size();
                    let window = self.preparation.window(width, height, mode, *sample);
                    let part = self.images.part(*sample, &file, window)?;
                    self.preparation.prepare_part(&part, mode, *sample, out);
                }
            }
        }
        let labels = samples.iter().map(|sample| self.images.split.samples.at(*sample as usize).label);
        Ok(Batch { x_nhwc, samples: samples.to_vec(), targets: Targets::of(labels, self.names) })
    }
}
