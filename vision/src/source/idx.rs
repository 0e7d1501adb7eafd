//! MNIST's IDX files, plain or gzipped: images (type 0x08 with 3 dimensions, or 4 with 1 or 3 channels last) and labels
//! (type 0x08 with 1 dimension).

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use convoy_common::Digest;
use convoy_common::file_tree::{FileTree, Files};
use convoy_common::memory::{HeldMemory, WORK};
use flate2::read::GzDecoder;

use crate::error::ScanError;
use crate::pixels::Pixels;

/// Which of the four usual files are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Validation,
}

/// Where images and labels lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdxPaths {
    pub folder: PathBuf,
    pub images: String,
    pub labels: String,
}

/// The usual names of the images of a part.
fn usual_names(prefix: &str) -> [String; 4] {
    ["-images-idx3-ubyte", "-images-idx3-ubyte.gz", "-images.idx3-ubyte", "-images.idx3-ubyte.gz"]
        .map(|suffix| format!("{prefix}{suffix}"))
}

const TRAIN: &str = "train";
const VALIDATION: &str = "t10k";

/// Whether the folder holds images under one of the usual names.
pub(crate) fn is_idx_folder(tree: &dyn FileTree, folder: &Path) -> bool {
    [TRAIN, VALIDATION].into_iter().flat_map(usual_names).any(|name| tree.is_file(&folder.join(name)))
}

/// Whether a file's name speaks of IDX.
pub(crate) fn looks_like_idx(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains("-idx") || name.contains(".idx"))
}

impl IdxPaths {
    /// The files that `path` means: a folder with the usual names, or the images' file, whose labels' file has
    /// `labels` for `images` and `idx1` for `idx3` in its name.
    pub(crate) fn find(tree: &dyn FileTree, path: &Path, part: Part) -> Result<Self, ScanError> {
        let fail = |problem: String| ScanError::Idx { path: path.to_owned(), problem };
        let (folder, images) = if tree.is_folder(path) {
            let prefixes: &[&str] = if part == Part::Train { &[TRAIN] } else { &[VALIDATION, TRAIN] };
            let names: Vec<String> = prefixes.iter().flat_map(|prefix| usual_names(prefix)).collect();
            let found = names.iter().find(|name| tree.is_file(&path.join(name)));
            let none = || fail(format!("holds no IDX images; looked for {}", names.join(", ")));
            (path.to_owned(), found.ok_or_else(none)?.clone())
        } else {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| ScanError::NotUtf8 { path: path.to_owned() })?;
            (path.parent().unwrap_or(Path::new("")).to_owned(), name.to_owned())
        };
        if !images.contains("images") {
            return Err(fail("name the images' file; its labels are found by the name, `labels` for `images`".into()));
        }
        let labels = labels_name(tree, &folder, &images).ok_or_else(|| {
            fail(format!("its labels are missing: looked for {} beside it", images_to_labels(&images)))
        })?;
        Ok(IdxPaths { folder, images, labels })
    }

    /// The validation files beside training files of the usual names.
    pub(crate) fn beside(&self, tree: &dyn FileTree) -> Option<Self> {
        let rest = self.images.strip_prefix(TRAIN)?;
        let stem = rest.strip_suffix(".gz").unwrap_or(rest);
        let candidates =
            [format!("{VALIDATION}{rest}"), format!("{VALIDATION}{stem}"), format!("{VALIDATION}{stem}.gz")];
        let images = candidates.into_iter().find(|name| tree.is_file(&self.folder.join(name)))?;
        let labels = labels_name(tree, &self.folder, &images)?;
        Some(IdxPaths { folder: self.folder.clone(), images, labels })
    }
}

fn images_to_labels(images: &str) -> String {
    images.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
}

/// The labels' file, which may be gzipped when the images are not, and the other way round.
fn labels_name(tree: &dyn FileTree, folder: &Path, images: &str) -> Option<String> {
    let name = images_to_labels(images);
    let stem = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
    let candidates = [name, stem.clone(), format!("{stem}.gz")];
    candidates.into_iter().find(|name| tree.is_file(&folder.join(name)))
}

/// Size and digest of a file.
type SizeAndDigest = (u64, Digest);

/// A pair of files in memory.
pub(crate) struct IdxData {
    /// Size and digest of the images' file and of the labels' file.
    pub files: [SizeAndDigest; 2],
    pub width: u32,
    pub height: u32,
    pub channels: u32,
    images: Vec<u8>,
    pub labels: Vec<u8>,
    /// For both.
    _held: [HeldMemory<'static>; 2],
}

impl IdxData {
    /// Reads both files whole and checks that headers, sizes and counts agree.
    pub(crate) fn read(files: &dyn Files, paths: &IdxPaths) -> Result<Self, ScanError> {
        let (image_entry, dimensions, images, held) = read_file(files, &paths.folder, &paths.images)?;
        let (label_entry, label_dimensions, labels, held_for_labels) = read_file(files, &paths.folder, &paths.labels)?;
        let fail = |name: &str, problem: String| ScanError::Idx { path: paths.folder.join(name), problem };
        let (count, height, width, channels) = match dimensions[..] {
            [count, height, width] => (count, height, width, 1),
            [count, height, width, channels @ (1 | 3)] => (count, height, width, channels),
            _ => return Err(fail(&paths.images, format!("has dimensions {dimensions:?}, not images, rows, columns"))),
        };
        if height == 0 || width == 0 || count == 0 {
            return Err(fail(&paths.images, format!("has no pixels: its dimensions are {dimensions:?}")));
        }
        if label_dimensions != [count] {
            let text = format!("has dimensions {label_dimensions:?}, but {} holds {count} images", paths.images);
            return Err(fail(&paths.labels, text));
        }
        let held = [held, held_for_labels];
        Ok(IdxData { files: [image_entry, label_entry], width, height, channels, images, labels, _held: held })
    }

    /// Image `index` as it is stored.
    pub(crate) fn pixels(&self, index: u32) -> Option<Pixels> {
        let length = self.width as usize * self.height as usize * self.channels as usize;
        let data = self.images.chunks_exact(length).nth(index as usize)?;
        Some(Pixels::new(self.width, self.height, self.channels, data.to_vec()))
    }

    /// Number of images and labels.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}

/// More bytes than deflate can make of one.
const DEFLATE_LIMIT: u64 = 1100;

/// What a file of IDX holds: its size and digest, dimensions and contents after the header, and the memory that they
/// take.
type IdxFile = (SizeAndDigest, Vec<u32>, Vec<u8>, HeldMemory<'static>);

/// Reads a file. Nothing is allocated on the header's word alone.
fn read_file(files: &dyn Files, folder: &Path, name: &str) -> Result<IdxFile, ScanError> {
    let path = folder.join(name);
    let fail = |problem: String| ScanError::Idx { path: path.clone(), problem };
    let stored = files.read(&path).map_err(|source| ScanError::Io { path: path.clone(), source })?;
    let entry = (stored.len() as u64, Digest::of(&stored));
    let zipped = stored.starts_with(&[0x1F, 0x8B]);
    let mut reader: Box<dyn Read> =
        if zipped { Box::new(GzDecoder::new(stored.as_slice())) } else { Box::new(stored.as_slice()) };
    let damaged = |error: io::Error| fail(format!("is truncated or damaged: {error}"));

    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(damaged)?;
    let [0, 0, kind, rank @ 1..=4] = magic else {
        return Err(fail(format!("is not an IDX file: it begins with {magic:02x?}")));
    };
    if kind != 0x08 {
        return Err(fail(format!("holds numbers of type 0x{kind:02x}; only bytes (0x08) are read")));
    }
    let mut dimensions = Vec::new();
    for _ in 0..rank {
        let mut side = [0; 4];
        reader.read_exact(&mut side).map_err(damaged)?;
        dimensions.push(u32::from_be_bytes(side));
    }
    let claimed = dimensions.iter().try_fold(1u64, |product, side| product.checked_mul(u64::from(*side)));
    let most = stored.len() as u64 * if zipped { DEFLATE_LIMIT } else { 1 };
    let wrong = |found: String| {
        fail(format!("its header says {dimensions:?}, which is {} bytes, but {found}", claimed.unwrap_or(u64::MAX)))
    };
    let Some(claimed) = claimed.filter(|claimed| *claimed <= most) else {
        return Err(wrong(format!("the file has only {}", stored.len())));
    };
    // Others may be waiting for this while they hold memory themselves, so nobody is waited for.
    let taken = claimed.saturating_add(stored.len() as u64);
    let held = WORK.try_take(taken).map_err(|error| fail(format!("cannot be looked at: {error}")))?;
    let mut data = Vec::new();
    let no_memory = |_| fail(format!("holds {claimed} bytes, for which there is no memory"));
    data.try_reserve_exact(claimed as usize + 1).map_err(no_memory)?;
    reader.take(claimed + 1).read_to_end(&mut data).map_err(damaged)?;
    if data.len() as u64 != claimed {
        let more = data.len() as u64 > claimed;
        return Err(wrong(if more { "there is more".to_owned() } else { format!("there are only {}", data.len()) }));
    }
    Ok((entry, dimensions, data, held))
}
