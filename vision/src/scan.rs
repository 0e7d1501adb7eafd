//! From a spec's `[data]` to the manifest: every file is read once, digested and decoded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_common::Digest;
use convoy_common::file_tree::{FileTree, Files};
use convoy_common::manifest::{FileEntry, Label, LabelKind, Manifest, Sample, Split};
use convoy_common::spec::{BadImage, Data, Task};

use crate::decode::decode;
use crate::error::ScanError;
use crate::limits::Limits;
use crate::scanned::{ImageFacts, Scanned, SplitFacts};
use crate::source::{self, Ignored, Labelled, Listed, ListedImage, Listing, RawLabel, idx};

/// Told how many of how many files are done; may be called from any thread.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Reads and decodes all data of a job in `tree`. Relative paths in `data` start at `base`. `seed` decides which
/// samples are held out for validation where there is no validation data; `progress` is told how many files are done.
///
/// The manifest is the same on every machine that sees the same bytes, for any number of threads.
///
/// # Errors
/// When data is missing, makes no sense, cannot be read, or holds broken images and `data.bad_images` is `"fail"`.
///
/// # Examples
/// Two classes with one image each, in folders called `cat` and `dog`:
/// ```
/// use convoy_common::spec::{Data, Task};
/// use convoy_vision::{Disk, Pixels, scan};
///
/// let root = tempfile::tempdir()?;
/// for (class, shade) in [("cat", 50), ("dog", 200)] {
///     std::fs::create_dir(root.path().join(class))?;
///     std::fs::write(root.path().join(class).join("0.png"), Pixels::filled(12, 10, 3, shade).to_png())?;
/// }
/// let data = Data { validation_fraction: 0.0, ..Data::at(".") };
/// let scanned = scan(&Disk, &data, Task::Auto, 0, root.path(), &|done, total| println!("{done} of {total}"))?;
/// assert_eq!(scanned.manifest.names, ["cat", "dog"]);
/// assert_eq!(scanned.train.sizes(), Some([(12, 10); 3]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn scan(
    tree: &dyn FileTree,
    data: &Data,
    task: Task,
    seed: u64,
    base: &Path,
    progress: &Progress,
) -> Result<Scanned, ScanError> {
    let scanned = match source::list(tree, data, task, base)? {
        Listing::Files { train, validation } => scan_files(tree, data, seed, train, validation, progress)?,
        Listing::Idx { train, validation } => scan_idx(tree, data, seed, &train, validation.as_ref())?,
    };
    check_broken(data, base, &scanned.manifest)?;
    Ok(scanned)
}

/// Reads and decodes data at `path` whose classes or targets are the `names` of a trained model: a folder of class
/// folders, a table or IDX files. Of a folder with training and validation data, the validation data is taken.
///
/// # Errors
/// As [`scan`], and when the data has a class that is not among `names`.
pub fn scan_known(
    tree: &dyn FileTree,
    path: &Path,
    data: &Data,
    names: &[String],
    labels: LabelKind,
    progress: &Progress,
) -> Result<(Split, SplitFacts), ScanError> {
    let mut at = data.clone();
    if labels == LabelKind::Values {
        at.label_columns = names.to_vec();
    }
    let task = match labels {
        LabelKind::Class => Task::Multiclass,
        LabelKind::Set => Task::Multilabel,
        LabelKind::Values => Task::Regression,
    };
    let (split, facts) = match source::list_labelled(tree, path, &at, task)? {
        Labelled::Files(listed) => scan_split(tree, listed, names, data, progress)?,
        Labelled::Idx(paths) => {
            let read = idx::IdxData::read(tree, &paths)?;
            let classes = idx_classes(&read, names, &paths)?;
            idx_split(&read, &paths, &classes, &vec![true; read.len()])
        }
    };
    let manifest = Manifest { names: names.to_vec(), labels, train: split, validation: Split::default() };
    check_broken(data, path, &manifest)?;
    Ok((manifest.train, facts))
}

/// The files that [`scan`] would read for `data` in `tree`, without reading images: full paths, in any order.
///
/// # Errors
/// When data is missing or makes no sense.
pub fn files_of(tree: &dyn FileTree, data: &Data, task: Task, base: &Path) -> Result<Vec<PathBuf>, ScanError> {
    let mut found = BTreeSet::new();
    match source::list(tree, data, task, base)? {
        Listing::Files { train, validation } => {
            for listed in [Some(train), validation].into_iter().flatten() {
                found.extend(listed.entries.iter().map(|entry| listed.root.join(&entry.path)));
                // A table is a file itself.
                found.extend((listed.origin != listed.root).then_some(listed.origin));
            }
        }
        Listing::Idx { train, validation } => {
            for paths in [Some(train), validation].into_iter().flatten() {
                found.extend([&paths.images, &paths.labels].map(|name| paths.folder.join(name)));
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn scan_files(
    tree: &dyn FileTree,
    data: &Data,
    seed: u64,
    train: Listed,
    validation: Option<Listed>,
    progress: &Progress,
) -> Result<Scanned, ScanError> {
    let (labels, names) = (train.labels, names_of(&train));
    let (train, validation) = match validation {
        Some(validation) => (train, Some(validation)),
        None => divide(train, &names, data.validation_fraction, seed),
    };
    let total = train.entries.len() + validation.as_ref().map_or(0, |validation| validation.entries.len());
    let done_before = train.entries.len();
    let (train, train_facts) = scan_split(tree, train, &names, data, &|done, _| progress(done, total))?;
    let (validation, validation_facts) = match validation {
        Some(listed) => scan_split(tree, listed, &names, data, &|done, _| progress(done_before + done, total))?,
        None => Default::default(),
    };
    let manifest = Manifest { names, labels, train, validation };
    Ok(Scanned { manifest, train: train_facts, validation: validation_facts })
}

/// Classes or labels in byte order; targets in the table's order.
fn names_of(listed: &Listed) -> Vec<String> {
    let mut names: Vec<&String> = listed
        .entries
        .iter()
        .flat_map(|entry| match &entry.label {
            RawLabel::Class(class) => std::slice::from_ref(class),
            RawLabel::Set(labels) => labels.as_slice(),
            RawLabel::Values(_) => &[],
        })
        .collect();
    names.sort();
    names.dedup();
    if listed.labels == LabelKind::Values { listed.targets.clone() } else { names.into_iter().cloned().collect() }
}

/// Splits off validation data; stratified by class where there are classes.
fn divide(train: Listed, names: &[String], fraction: f64, seed: u64) -> (Listed, Option<Listed>) {
    let stratum = |label: &RawLabel| match label {
        RawLabel::Class(class) => names.binary_search(class).map_or(0, |class| class as u32),
        RawLabel::Set(_) | RawLabel::Values(_) => 0,
    };
    let strata: Vec<u32> = train.entries.iter().map(|entry| stratum(&entry.label)).collect();
    let held_out = source::held_out(&strata, fraction, seed);
    if !held_out.contains(&true) {
        return (train, None);
    }
    let part = |wanted: bool| {
        let entries = train.entries.iter().zip(&held_out).filter(|(_, held)| **held == wanted);
        Listed { entries: entries.map(|(entry, _)| entry.clone()).collect(), ..train.clone() }
    };
    (part(false), Some(Listed { ignored: Ignored::default(), ..part(true) }))
}

/// Reads and decodes every file of a split.
fn scan_split(
    tree: &dyn FileTree,
    listed: Listed,
    names: &[String],
    data: &Data,
    progress: &Progress,
) -> Result<(Split, SplitFacts), ScanError> {
    let count = listed.entries.len();
    if u32::try_from(count).is_err() {
        return Err(ScanError::TooMany { path: listed.origin, count });
    }
    // A table may name a file in several rows; entries are sorted, so that these are neighbours.
    let mut paths: Vec<&str> = listed.entries.iter().map(|entry| entry.path.as_str()).collect();
    paths.dedup();
    let seen = look_at_all(tree, &listed.root, &paths, &Limits::from(data), progress)?;
    let mut split = Split { root: text(&listed.root), ..Split::default() };
    let mut facts = SplitFacts { ignored: listed.ignored.clone(), ..SplitFacts::default() };
    let mut file = 0;
    for entry in &listed.entries {
        file += usize::from(paths[file] != entry.path);
        let broken = seen[file].image.as_ref().err().cloned();
        let label = label_of(entry, names, &listed)?;
        split.samples.push(Sample { file: file as u32, index: 0, label, broken });
        facts.images.push(seen[file].image.as_ref().ok().copied());
    }
    split.files = seen.into_iter().map(|seen| seen.entry).collect();
    Ok((split, facts))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn label_of(entry: &ListedImage, names: &[String], listed: &Listed) -> Result<Label, ScanError> {
    let number = |class: &String| {
        names.binary_search(class).map(|class| class as u32).map_err(|_| ScanError::UnknownClass {
            class: class.clone(),
            place: match entry.line {
                Some(line) => format!("{}, line {line},", listed.origin.display()),
                None => listed.root.join(&entry.path).display().to_string(),
            },
            known: names.to_vec(),
        })
    };
    Ok(match &entry.label {
        RawLabel::Class(class) => Label::Class(number(class)?),
        RawLabel::Set(labels) => {
            let mut labels = labels.iter().map(number).collect::<Result<Vec<u32>, _>>()?;
            labels.sort_unstable();
            labels.dedup();
            Label::Set(labels)
        }
        RawLabel::Values(values) => Label::Values(values.clone()),
    })
}

struct Seen {
    entry: FileEntry,
    image: Result<ImageFacts, String>,
}

/// Looks at all files on as many threads as the machine has; results in the order of `paths`, and so is the error
/// that is reported.
fn look_at_all(
    files: &dyn Files,
    root: &Path,
    paths: &[&str],
    limits: &Limits,
    progress: &Progress,
) -> Result<Vec<Seen>, ScanError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(paths.len().max(1));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut seen = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(path) = paths.get(index) else { return seen };
            seen.push((index, look_at(files, root, path, limits)));
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, paths.len());
        }
    };
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<_>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().flat_map(join).collect()
    });
    all.sort_by_key(|(index, _)| *index);
    all.into_iter().map(|(_, seen)| seen).collect()
}

fn look_at(files: &dyn Files, root: &Path, path: &str, limits: &Limits) -> Result<Seen, ScanError> {
    let full = root.join(path);
    let bytes = files.read(&full).map_err(|source| ScanError::Io { path: full, source })?;
    let entry = FileEntry { path: path.to_owned(), size: bytes.len() as u64, blake3: Digest::of(&bytes) };
    let image = match decode(&bytes, limits) {
        Ok(decoded) => Ok(ImageFacts {
            width: decoded.pixels.width,
            height: decoded.pixels.height,
            channels: decoded.pixels.channels,
            orientation: decoded.orientation,
            range16: decoded.range16,
            digest: entry.blake3,
        }),
        Err(error) => Err(error.to_string()),
    };
    Ok(Seen { entry, image })
}

fn check_broken(data: &Data, base: &Path, manifest: &Manifest) -> Result<(), ScanError> {
    const SHOWN: usize = 5;
    let splits = [&manifest.train, &manifest.validation];
    let broken: Vec<(String, String)> = splits
        .into_iter()
        .flat_map(|split| split.samples.iter().map(move |sample| (split, sample)))
        .filter_map(|(split, sample)| Some((split.files[sample.file as usize].path.clone(), sample.broken.clone()?)))
        .collect();
    let first: Vec<_> = broken.iter().take(SHOWN).cloned().collect();
    if !broken.is_empty() && data.bad_images == BadImage::Fail {
        let total = splits.into_iter().map(|split| split.samples.len()).sum();
        return Err(ScanError::Broken { count: broken.len(), total, first });
    }
    if manifest.train.usable().is_empty() {
        let total = manifest.train.samples.len();
        return Err(ScanError::NothingUsable { path: base.join(&data.train), total, first });
    }
    Ok(())
}

fn scan_idx(
    tree: &dyn FileTree,
    data: &Data,
    seed: u64,
    train: &idx::IdxPaths,
    validation: Option<&idx::IdxPaths>,
) -> Result<Scanned, ScanError> {
    let read = idx::IdxData::read(tree, train)?;
    let names = idx_names(&read.labels);
    let classes = idx_classes(&read, &names, train)?;
    let (train_parts, validation_parts) = match validation {
        Some(paths) => {
            let read_validation = idx::IdxData::read(tree, paths)?;
            let classes_validation = idx_classes(&read_validation, &names, paths)?;
            let all = vec![true; read_validation.len()];
            let validation = idx_split(&read_validation, paths, &classes_validation, &all);
            (idx_split(&read, train, &classes, &vec![true; read.len()]), validation)
        }
        None => {
            let held_out = source::held_out(&classes, data.validation_fraction, seed);
            let kept: Vec<bool> = held_out.iter().map(|held| !held).collect();
            let validation = match held_out.contains(&true) {
                true => idx_split(&read, train, &classes, &held_out),
                false => Default::default(),
            };
            (idx_split(&read, train, &classes, &kept), validation)
        }
    };
    let ((train, train_facts), (validation, validation_facts)) = (train_parts, validation_parts);
    let manifest = Manifest { names, labels: LabelKind::Class, train, validation };
    Ok(Scanned { manifest, train: train_facts, validation: validation_facts })
}

/// The label values of the training data as names, padded with zeros so that byte order is the order of numbers.
fn idx_names(labels: &[u8]) -> Vec<String> {
    let mut values = labels.to_vec();
    values.sort_unstable();
    values.dedup();
    let width = values.last().map_or(1, |last| last.to_string().len());
    values.into_iter().map(|value| format!("{value:0width$}")).collect()
}

/// The class of each image.
fn idx_classes(read: &idx::IdxData, names: &[String], paths: &idx::IdxPaths) -> Result<Vec<u32>, ScanError> {
    let number = |name: &String| name.parse::<u8>().ok();
    let class = |(index, label): (usize, &u8)| {
        let class = names.iter().position(|name| number(name) == Some(*label));
        class.map(|class| class as u32).ok_or_else(|| ScanError::UnknownClass {
            class: label.to_string(),
            place: format!("{}, label {index},", paths.folder.join(&paths.labels).display()),
            known: names.to_vec(),
        })
    };
    read.labels.iter().enumerate().map(class).collect()
}

/// The split of the images that are `wanted`.
fn idx_split(read: &idx::IdxData, paths: &idx::IdxPaths, classes: &[u32], wanted: &[bool]) -> (Split, SplitFacts) {
    let mut split = Split { root: text(&paths.folder), files: read.files.to_vec(), samples: Vec::new() };
    let mut facts = SplitFacts::default();
    for (index, class) in (0u32..).zip(classes).filter(|(index, _)| wanted[*index as usize]) {
        split.samples.push(Sample { file: 0, index, label: Label::Class(*class), broken: None });
        facts.images.push(read.pixels(index).map(|pixels| ImageFacts {
            width: read.width,
            height: read.height,
            channels: read.channels,
            orientation: 1,
            range16: None,
            digest: Digest::of(&pixels.data),
        }));
    }
    (split, facts)
}
