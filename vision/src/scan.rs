//! From a spec's `[data]` to the manifest: every file is read once, digested and decoded.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use convoy_common::Digest;
use convoy_common::file_tree::{FileTree, Files};
use convoy_common::manifest::{FileEntry, Label, LabelKind, Manifest, Sample, Split};
use convoy_common::spec::{BadImage, Data, EmptyClasses, Task};

use crate::decode::decode;
use crate::error::ScanError;
use crate::left_out::{LeftOut, Why};
use crate::limits::Limits;
use crate::scan_idx::{idx_classes, idx_split, scan_idx};
use crate::scanned::{ImageFacts, Scanned, SplitFacts};
use crate::source::{self, Labelled, Listed, ListedImage, Listing, Parts, RawLabel, idx};
use crate::taken::Taken;

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
/// use convoy_files::Disk;
/// use convoy_vision::{Pixels, scan};
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
    let listing = source::list(tree, data, task, base)?;
    let place = base.join(&data.train);
    // What is known without reading files is refused before they are read.
    if let Parts::Files { train, validation } = &listing.parts {
        for listed in std::iter::once(&**train).chain(validation) {
            refuse_problems(&listed.origin, &listed.problems)?;
        }
        refuse_empty(&place, data, &train.empty)?;
    }
    let scanned = read_all(tree, data, seed, listing, progress)?;
    refuse_problems(&place, &scanned.problems)?;
    check_broken(data, base, &scanned.manifest)?;
    refuse_empty(&place, data, &scanned.empty_classes)?;
    Ok(scanned)
}

/// As [`scan`], but goes on to the end whatever it finds: broken images are quarantined, classes without images
/// ignored, rows and samples that make no sense left out and named.
///
/// # Errors
/// When data is missing, cannot be listed, or nothing of it can be used.
pub fn survey(
    tree: &dyn FileTree,
    data: &Data,
    task: Task,
    seed: u64,
    base: &Path,
    progress: &Progress,
) -> Result<Scanned, ScanError> {
    let data = Data { bad_images: BadImage::Quarantine, empty_classes: EmptyClasses::Ignore, ..data.clone() };
    let scanned = read_all(tree, &data, seed, source::list(tree, &data, task, base)?, progress)?;
    if scanned.manifest.train.samples.is_empty() {
        refuse_problems(&base.join(&data.train), &scanned.problems)?;
    }
    check_broken(&data, base, &scanned.manifest)?;
    Ok(scanned)
}

fn read_all(
    tree: &dyn FileTree,
    data: &Data,
    seed: u64,
    listing: Listing,
    progress: &Progress,
) -> Result<Scanned, ScanError> {
    let mut scanned = match listing.parts {
        Parts::Files { train, validation } => {
            scan_files(tree, data, seed, *train, validation, listing.taken, progress)?
        }
        Parts::Idx { train, validation } => scan_idx(tree, data, seed, &train, validation.as_ref(), listing.taken)?,
    };
    scanned.taken.names = scanned.manifest.names.clone();
    for (class, count) in scanned.manifest.names.iter().zip(scanned.manifest.class_counts()) {
        if count == 0 {
            scanned.empty_classes.push((class.clone(), "none of its images can be used".to_owned()));
        }
    }
    Ok(scanned)
}

fn refuse_problems(place: &Path, problems: &[String]) -> Result<(), ScanError> {
    match problems.is_empty() {
        true => Ok(()),
        false => Err(ScanError::Problems { path: place.to_owned(), problems: problems.to_vec() }),
    }
}

fn refuse_empty(place: &Path, data: &Data, classes: &[(String, String)]) -> Result<(), ScanError> {
    match classes.is_empty() || data.empty_classes == EmptyClasses::Ignore {
        true => Ok(()),
        false => Err(ScanError::EmptyClasses { path: place.to_owned(), classes: classes.to_vec() }),
    }
}

/// Reads and decodes data at `path` whose classes or targets are the `names` of a trained model: a folder of class
/// folders, a table or IDX files. Of a folder with training and validation data, the validation data is taken. What was
/// taken comes out too.
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
) -> Result<(Split, SplitFacts, Taken), ScanError> {
    let mut at = data.clone();
    if labels == LabelKind::Values {
        at.label_columns = names.to_vec();
    }
    let task = match labels {
        LabelKind::Class => Task::Multiclass,
        LabelKind::Set => Task::Multilabel,
        LabelKind::Values => Task::Regression,
    };
    let (labelled, mut taken) = source::list_labelled(tree, path, &at, task, names)?;
    taken.names = names.to_vec();
    let (split, facts) = match labelled {
        Labelled::Files(listed) => {
            refuse_problems(&listed.origin, &listed.problems)?;
            let mut problems = Vec::new();
            let scanned = scan_split(tree, *listed, names, data, &mut problems, progress)?;
            refuse_problems(path, &problems)?;
            scanned
        }
        Labelled::Idx(paths) => {
            let read = idx::IdxData::read(tree, &paths)?;
            let classes = idx_classes(&read, names, &paths)?;
            idx_split(&read, &paths, &classes, &vec![true; read.len()])
        }
    };
    let manifest = Manifest { names: names.to_vec(), labels, train: split, validation: Split::default() };
    check_broken(data, path, &manifest)?;
    Ok((manifest.train, facts, taken))
}

/// What [`scan`] would read.
#[derive(Debug)]
pub struct FilesOf {
    /// Full paths of the files that are there, in their order.
    pub files: Vec<PathBuf>,
    /// The folders that pictures are found from.
    pub roots: Vec<PathBuf>,
    /// Whether a table names files by absolute paths, which lead nowhere once its files lie elsewhere.
    pub absolute: bool,
    /// What is taken.
    pub taken: Taken,
}

/// The files that [`scan`] would read for `data` in `tree`, without reading images.
///
/// # Errors
/// When data is missing or makes no sense.
pub fn files_of(tree: &dyn FileTree, data: &Data, task: Task, base: &Path) -> Result<FilesOf, ScanError> {
    let (mut found, mut roots, mut absolute) = (BTreeSet::new(), Vec::new(), false);
    let Listing { parts, mut taken } = source::list(tree, data, task, base)?;
    match parts {
        Parts::Files { train, validation } => {
            refuse_empty(&base.join(&data.train), data, &train.empty)?;
            taken.names = names_of(&train);
            for listed in [Some(*train), validation].into_iter().flatten() {
                refuse_problems(&listed.origin, &listed.problems)?;
                let full = listed.entries.iter().map(|entry| listed.root.join(&entry.path));
                found.extend(full.filter(|path| tree.is_file(path)));
                // A table is a file itself.
                found.extend((listed.origin != listed.root).then_some(listed.origin));
                roots.push(listed.root);
                absolute |= listed.absolute;
            }
        }
        Parts::Idx { train, validation } => {
            for paths in [Some(train), validation].into_iter().flatten() {
                found.extend([&paths.images, &paths.labels].map(|name| paths.folder.join(name)));
            }
        }
    }
    Ok(FilesOf { files: found.into_iter().collect(), roots, absolute, taken })
}

fn scan_files(
    tree: &dyn FileTree,
    data: &Data,
    seed: u64,
    train: Listed,
    validation: Option<Listed>,
    taken: Taken,
    progress: &Progress,
) -> Result<Scanned, ScanError> {
    let (labels, names) = (train.labels, names_of(&train));
    let listed = || std::iter::once(&train).chain(&validation);
    let mut problems: Vec<String> = listed().flat_map(|listed| listed.problems.iter().cloned()).collect();
    let empty_classes = train.empty.clone();
    let (train, validation) = match validation {
        Some(validation) => (train, Some(validation)),
        None => divide(train, &names, data.validation_fraction, seed),
    };
    let total = train.entries.len() + validation.as_ref().map_or(0, |validation| validation.entries.len());
    let done_before = train.entries.len();
    let (train, train_facts) = scan_split(tree, train, &names, data, &mut problems, &|done, _| progress(done, total))?;
    let (validation, validation_facts) = match validation {
        Some(listed) => {
            let progress = |done, _| progress(done_before + done, total);
            scan_split(tree, listed, &names, data, &mut problems, &progress)?
        }
        None => Default::default(),
    };
    let manifest = Manifest { names, labels, train, validation };
    let facts = (train_facts, validation_facts);
    Ok(Scanned { manifest, train: facts.0, validation: facts.1, taken, problems, empty_classes })
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
    // A label that no row has is one all the same, where it has a column.
    names.extend(&listed.targets);
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
    (part(false), Some(Listed { left_out: LeftOut::default(), ..part(true) }))
}

/// Reads and decodes every file of a split.
fn scan_split(
    tree: &dyn FileTree,
    mut listed: Listed,
    names: &[String],
    data: &Data,
    problems: &mut Vec<String>,
    progress: &Progress,
) -> Result<(Split, SplitFacts), ScanError> {
    let mut labels = Vec::with_capacity(listed.entries.len());
    let mut entries = std::mem::take(&mut listed.entries);
    entries.retain(|entry| match label_of(entry, names, &listed) {
        Ok(label) => {
            labels.push(label);
            true
        }
        Err(problem) => {
            problems.push(problem.to_string());
            false
        }
    });
    listed.entries = entries;
    let count = listed.entries.len();
    if u32::try_from(count).is_err() {
        return Err(ScanError::TooMany { path: listed.origin, count });
    }
    // A table may name a file in several rows; entries are sorted, so that these are neighbours.
    let mut paths: Vec<&str> = listed.entries.iter().map(|entry| entry.path.as_str()).collect();
    paths.dedup();
    let seen = look_at_all(tree, &listed.root, &paths, &Limits::from(data), progress);
    let mut split = Split { root: text(&listed.root), ..Split::default() };
    refuse_absent(&listed, &seen)?;
    let ignored = listed.left_out.count(Why::NoPicture) + listed.left_out.count(Why::BesideClasses);
    let mut facts = SplitFacts { ignored: ignored as u64, ..SplitFacts::default() };
    let mut file = 0;
    for (entry, label) in listed.entries.iter().zip(labels) {
        file += usize::from(paths[file] != entry.path);
        let line = entry.line.filter(|_| !seen[file].found).map(|line| format!(" (line {line})")).unwrap_or_default();
        let broken = seen[file].image.as_ref().err().map(|why| format!("{why}{line}"));
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

/// Refuses a table of which no file is there: then its paths start elsewhere.
fn refuse_absent(listed: &Listed, seen: &[Seen]) -> Result<(), ScanError> {
    let (Some(entry), false) = (listed.entries.first(), seen.iter().any(|seen| seen.found)) else { return Ok(()) };
    let Some(line) = entry.line else { return Ok(()) };
    Err(ScanError::NoFiles {
        path: listed.origin.clone(),
        root: listed.root.clone(),
        total: seen.len(),
        first: format!("{} in line {line}", entry.path),
    })
}

struct Seen {
    entry: FileEntry,
    /// Whether the file could be read.
    found: bool,
    image: Result<ImageFacts, String>,
}

/// Looks at all files on as many threads as the machine has; results in the order of `paths`.
fn look_at_all(files: &dyn Files, root: &Path, paths: &[&str], limits: &Limits, progress: &Progress) -> Vec<Seen> {
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

fn look_at(files: &dyn Files, root: &Path, path: &str, limits: &Limits) -> Seen {
    let bytes = match files.read(&root.join(path)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let entry = FileEntry { path: path.to_owned(), size: 0, blake3: Digest::of(&[]) };
            let why = match error.kind() {
                ErrorKind::NotFound => "does not exist".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            return Seen { entry, found: false, image: Err(why) };
        }
    };
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
    Seen { entry, found: true, image }
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
