//! From IDX files to splits of a manifest: what a scan does with them.

use convoy_common::Digest;
use convoy_common::file_tree::FileTree;
use convoy_common::manifest::{FileEntry, Label, LabelKind, Manifest, Sample, SampleList, Split};
use convoy_common::spec::Data;

use crate::error::ScanError;
use crate::scanned::{ImageFacts, Scanned, SplitFacts};
use crate::source::{self, idx};
use crate::taken::Taken;

/// Reads training and validation data.
pub(crate) fn scan_idx(
    tree: &dyn FileTree,
    data: &Data,
    seed: u64,
    train: &idx::IdxPaths,
    validation: Option<&idx::IdxPaths>,
    taken: Taken,
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
    let manifest = Manifest { names, labels: LabelKind::Class, train: train.into(), validation: validation.into() };
    let (problems, empty_classes) = (Vec::new(), Vec::new());
    Ok(Scanned { manifest, train: train_facts, validation: validation_facts, taken, problems, empty_classes })
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
pub(crate) fn idx_classes(read: &idx::IdxData, names: &[String], paths: &idx::IdxPaths) -> Result<Vec<u32>, ScanError> {
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
pub(crate) fn idx_split<'a>(
    read: &idx::IdxData,
    paths: &'a idx::IdxPaths,
    classes: &[u32],
    wanted: &[bool],
) -> (Split, SplitFacts) {
    let entry = |(path, (size, blake3)): (&'a String, (u64, Digest))| FileEntry { path, size, blake3 };
    let files = [&paths.images, &paths.labels].into_iter().zip(read.files).map(entry).collect();
    let root = paths.folder.to_string_lossy().into_owned();
    let mut split = Split { root, files, samples: SampleList::default() };
    let mut facts = SplitFacts::default();
    for (index, class) in (0u32..).zip(classes).filter(|(index, _)| wanted[*index as usize]) {
        split.samples.push(Sample { file: 0, index, label: Label::Class(*class), broken: None });
        let pixels = read.pixels(index);
        facts.within.push(pixels.as_ref().map(|pixels| Digest::of(&pixels.data)).unwrap_or_default());
        let (width, height, channels) = (read.width, read.height, read.channels);
        facts.images.push(pixels.map(|_| ImageFacts { width, height, channels, orientation: 1, range16: None }));
    }
    (split, facts)
}
