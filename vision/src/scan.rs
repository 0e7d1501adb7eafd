//! From a spec's `[data]` to the manifest: every file is read once, digested and decoded.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoy_common::file_tree::FileTree;
use convoy_common::manifest::{LabelKind, Manifest, Split};
use convoy_common::spec::{BadImage, Data, EmptyClasses, Task};

use crate::error::ScanError;
use crate::image_list::ImageList;
use crate::limits::Limits;
use crate::look::Looks;
use crate::look_cache::LookCache;
use crate::looking::look_at_all;
use crate::progress::Progress;
use crate::scan_idx::{idx_classes, idx_split, scan_idx};
use crate::scanned::{Scanned, SplitFacts};
use crate::source::{self, Labelled, Listed, Listing, Parts, RawLabel, idx};
use crate::taken::Taken;

/// Reads and decodes all data of a job in `tree`. Relative paths in `data` start at `base`. `seed` decides which
/// samples are held out for validation where there is no validation data. Files that are as an earlier scan with
/// `cache` saw them are not read; `progress` is told how many of the others are done.
///
/// The manifest is the same on every machine that sees the same bytes, for any number of threads and any cache.
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
/// let scanned = scan(&Disk, &data, Task::Auto, 0, root.path(), None, &|done, total| println!("{done} of {total}"))?;
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
    cache: Option<&LookCache>,
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
    let scanned = read_all(tree, data, seed, listing, cache, progress)?;
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
    cache: Option<&LookCache>,
    progress: &Progress,
) -> Result<Scanned, ScanError> {
    let data = Data { bad_images: BadImage::Quarantine, empty_classes: EmptyClasses::Ignore, ..data.clone() };
    let listing = source::list(tree, &data, task, base)?;
    let scanned = read_all(tree, &data, seed, listing, cache, progress)?;
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
    cache: Option<&LookCache>,
    progress: &Progress,
) -> Result<Scanned, ScanError> {
    let looker = Looker { tree, limits: Limits::from(data), cache, progress };
    let mut scanned = match listing.parts {
        Parts::Files { train, validation } => scan_files(&looker, data, seed, *train, validation, listing.taken)?,
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
    cache: Option<&LookCache>,
    progress: &Progress,
) -> Result<(Arc<Split>, SplitFacts, Taken), ScanError> {
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
            let (listed, problems) = ImageList::of(*listed, names)?;
            refuse_problems(path, &problems)?;
            let looker = Looker { tree, limits: Limits::from(data), cache, progress };
            listed.split(&looker.look(&listed, 0)?, |_| true)
        }
        Labelled::Idx(paths) => {
            let read = idx::IdxData::read(tree, &paths)?;
            let classes = idx_classes(&read, names, &paths)?;
            idx_split(&read, &paths, &classes, &vec![true; read.len()])
        }
    };
    let manifest = Manifest { names: names.to_vec(), labels, train: split.into(), validation: Arc::default() };
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
                if listed.archives.is_empty() {
                    let full = listed.entries.iter().map(|entry| listed.root.join(&entry.path));
                    found.extend(full.filter(|path| tree.is_file(path)));
                }
                found.extend(listed.archives.into_iter().chain(listed.lists));
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
    looker: &Looker<'_>,
    data: &Data,
    seed: u64,
    train: Listed,
    validation: Option<Listed>,
    taken: Taken,
) -> Result<Scanned, ScanError> {
    let (labels, names, empty_classes) = (train.labels, names_of(&train), train.empty.clone());
    let listed = std::iter::once(&train).chain(&validation);
    let mut problems: Vec<String> = listed.flat_map(|listed| listed.problems.iter().cloned()).collect();
    let mut list = |listed| {
        let (list, wrong) = ImageList::of(listed, &names)?;
        problems.extend(wrong);
        Ok::<_, ScanError>(list)
    };
    let (train, validation) = (list(train)?, validation.map(&mut list).transpose()?);
    let looks = looker.look(&train, 0)?;
    let ((train, train_facts), (validation, validation_facts)) = match validation {
        Some(validation) => {
            // Two lists of one folder, as the rows of a table.
            let list = u8::from(validation.listed.root == train.listed.root);
            let (train, validation_looks) = (train.split(&looks, |_| true), looker.look(&validation, list)?);
            (train, validation.split(&validation_looks, |_| true))
        }
        None => {
            let held_out = train.held_out(data.validation_fraction, seed);
            let mut validation = Default::default();
            if held_out.contains(&true) {
                validation = train.split(&looks, |at| held_out[at]);
                validation.1.ignored = 0;
            }
            (train.split(&looks, |at| !held_out[at]), validation)
        }
    };
    let manifest = Manifest { names, labels, train: train.into(), validation: validation.into() };
    Ok(Scanned { manifest, train: train_facts, validation: validation_facts, taken, problems, empty_classes })
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

/// Looks at files.
struct Looker<'a> {
    tree: &'a dyn FileTree,
    limits: Limits,
    cache: Option<&'a LookCache>,
    progress: &'a Progress<'a>,
}

impl Looker<'_> {
    /// Reads and decodes every file; `list` tells lists of files of one folder apart.
    fn look(&self, images: &ImageList, list: u8) -> Result<Looks, ScanError> {
        let cache = self.cache.map(|cache| (cache, list));
        let root = &images.listed.root;
        let looks = look_at_all(self.tree, root, &images.paths, &self.limits, cache, self.progress)?;
        images.refuse_absent(&looks)?;
        Ok(looks)
    }
}

fn check_broken(data: &Data, base: &Path, manifest: &Manifest) -> Result<(), ScanError> {
    const SHOWN: usize = 5;
    let splits = [&manifest.train, &manifest.validation];
    let all = splits.into_iter().flat_map(|split| split.samples.iter().map(move |sample| (split, sample)));
    let broken = all.filter_map(|(split, sample)| {
        let why = sample.broken?;
        Some((split.files.at(sample.file as usize).path.to_owned(), why.to_owned()))
    });
    let first: Vec<(String, String)> = broken.take(SHOWN).collect();
    if !first.is_empty() && data.bad_images == BadImage::Fail {
        let (count, total) = splits
            .iter()
            .fold((0, 0), |(count, total), split| (count + split.samples.broken(), total + split.samples.len()));
        return Err(ScanError::Broken { count, total, first });
    }
    if manifest.train.usable().is_empty() {
        let total = manifest.train.samples.len();
        return Err(ScanError::NothingUsable { path: base.join(&data.train), total, first });
    }
    Ok(())
}
