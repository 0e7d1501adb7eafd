//! The manifest: which samples a run has, made before its first step and equal on every machine that sees the
//! same bytes.

mod binary;
mod files;
mod samples;

pub use binary::ManifestError;
pub use files::{FileEntry, FileList};
pub use samples::{Label, LabelKind, Labels, Sample, SampleList};

use std::sync::Arc;

use crate::Digest;

/// All samples of a job, in byte order of their paths. Copies share them.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Class names in byte order, label names, or names of regression targets.
    pub names: Vec<String>,
    /// The kind of its labels.
    pub labels: LabelKind,
    /// Training data.
    pub train: Arc<Split>,
    /// Validation data; may be empty.
    pub validation: Arc<Split>,
}

/// Samples of one purpose.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Split {
    /// Folder that the files' paths start from, as this machine sees it. Not part of the digest.
    pub root: String,
    /// Every file, in byte order of the paths. For IDX: the images' file, then the labels' file.
    pub files: FileList,
    /// Every sample, broken ones included.
    pub samples: SampleList,
}

impl Split {
    /// Indices of the samples that decode. The order of an epoch is a permutation of them.
    pub fn usable(&self) -> Vec<u32> {
        (0..).zip(self.samples.iter()).filter(|(_, sample)| sample.broken.is_none()).map(|(index, _)| index).collect()
    }

    /// The file that sample `number` lies in.
    ///
    /// # Panics
    /// When there is no such sample.
    pub fn file_of(&self, number: usize) -> FileEntry<'_> {
        self.files.at(self.samples.at(number).file as usize)
    }

    fn hash_into(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&(self.files.len() as u64).to_le_bytes());
        for file in self.files.iter() {
            hash_text(hasher, file.path);
            hasher.update(&file.size.to_le_bytes());
            hasher.update(&file.blake3.0);
        }
        hasher.update(&(self.samples.len() as u64).to_le_bytes());
        for sample in self.samples.iter() {
            hasher.update(&sample.file.to_le_bytes());
            hasher.update(&sample.index.to_le_bytes());
            hasher.update(&[u8::from(sample.broken.is_some())]);
            sample.label.hash_into(hasher);
        }
    }
}

impl Manifest {
    /// blake3 over names, files (path, size, digest) and samples (file, position, label, whether it decodes).
    /// Where the files lie is not part of it.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[self.labels as u8]);
        hasher.update(&(self.names.len() as u64).to_le_bytes());
        self.names.iter().for_each(|name| hash_text(&mut hasher, name));
        self.train.hash_into(&mut hasher);
        self.validation.hash_into(&mut hasher);
        Digest(*hasher.finalize().as_bytes())
    }

    /// Training samples of each class; empty unless labels are classes.
    pub fn class_counts(&self) -> Vec<u64> {
        if self.labels != LabelKind::Class {
            return Vec::new();
        }
        let mut counts = vec![0; self.names.len()];
        for sample in self.train.samples.iter().filter(|sample| sample.broken.is_none()) {
            if let Label::Class(class) = sample.label {
                counts[class as usize] += 1;
            }
        }
        counts
    }

    /// The first difference between this manifest and `now`, in words that name the file; `None` if they are equal.
    pub fn difference(&self, now: &Manifest) -> Option<String> {
        if self.names != now.names {
            return Some(format!("the classes were {:?} and are now {:?}", self.names, now.names));
        }
        let splits = [("training", &self.train, &now.train), ("validation", &self.validation, &now.validation)];
        splits.into_iter().find_map(|(what, then, now)| split_difference(what, then, now))
    }
}

fn split_difference(what: &str, then: &Split, now: &Split) -> Option<String> {
    for (a, b) in then.files.iter().zip(now.files.iter()) {
        if a.path != b.path {
            let (gone, name) = if a.path < b.path { ("is gone", a.path) } else { ("is new", b.path) };
            return Some(format!("{what} file {name} {gone}"));
        }
        if a != b {
            return Some(format!("{what} file {} has other bytes than when the run began", a.path));
        }
    }
    if let Some(gone) = then.files.get(now.files.len()) {
        return Some(format!("{what} file {} is gone", gone.path));
    }
    if let Some(new) = now.files.get(then.files.len()) {
        return Some(format!("{what} file {} is new", new.path));
    }
    if then.samples.len() != now.samples.len() {
        return Some(format!("{what} samples were {} and are now {}", then.samples.len(), now.samples.len()));
    }
    let index = then.samples.iter().zip(now.samples.iter()).position(|(a, b)| {
        (a.file, a.index, a.label, a.broken.is_some()) != (b.file, b.index, b.label, b.broken.is_some())
    })?;
    let path = then.file_of(index).path;
    Some(format!("{what} sample {index} ({path}) has another label or state than when the run began"))
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(files: &[&str], samples: &[Sample<'_>]) -> Split {
        let file = |path| FileEntry { path, size: 3, blake3: Digest::of(path.as_bytes()) };
        let files = files.iter().map(|path| file(*path)).collect();
        Split { root: "x".into(), files, samples: samples.iter().copied().collect() }
    }

    fn of(train: Split) -> Manifest {
        let names = vec!["a".into(), "b".into()];
        Manifest { names, labels: LabelKind::Class, train: train.into(), validation: Arc::default() }
    }

    const FIRST: Sample<'_> = Sample { file: 0, index: 0, label: Label::Class(0), broken: None };
    const SECOND: Sample<'_> = Sample { file: 1, index: 0, label: Label::Class(1), broken: None };
    const FILES: [&str; 2] = ["a/1", "b/1"];

    fn manifest() -> Manifest {
        of(split(&FILES, &[FIRST, SECOND]))
    }

    #[test]
    fn the_digest_sees_labels_and_state_but_not_the_root() {
        let base = manifest();
        let mut moved = base.clone();
        Arc::make_mut(&mut moved.train).root = "y".into();
        assert_eq!(base.digest(), moved.digest());
        let relabelled = of(split(&FILES, &[Sample { label: Label::Class(1), ..FIRST }, SECOND]));
        assert_ne!(base.digest(), relabelled.digest());
        let broken = of(split(&FILES, &[Sample { broken: Some("truncated"), ..FIRST }, SECOND]));
        assert_ne!(base.digest(), broken.digest());
        assert_eq!((broken.train.usable(), broken.class_counts()), (vec![1], vec![0, 1]));
    }

    #[test]
    fn the_digest_is_over_the_bytes_that_its_description_names() {
        // As Python's blake3 has it, over the same parts written with struct.pack.
        let digest = "9aa0e64078a1272980861e4453e019ad4c16387b90609c67c5920fb343db5bb7";
        assert_eq!(manifest().digest().to_string(), digest);
    }

    #[test]
    fn differences_name_the_file() {
        let base = manifest();
        assert_eq!(base.difference(&base), None);
        let mut changed = base.clone();
        let other = FileEntry { blake3: Digest::of(b"other"), ..base.train.files.at(1) };
        Arc::make_mut(&mut changed.train).files = [base.train.files.at(0), other].into_iter().collect();
        assert_eq!(base.difference(&changed).unwrap(), "training file b/1 has other bytes than when the run began");
        let gone = of(split(&FILES[..1], &[FIRST]));
        assert_eq!(base.difference(&gone).unwrap(), "training file b/1 is gone");
        assert_eq!(gone.difference(&base).unwrap(), "training file b/1 is new");
        let earlier = of(split(&FILES[1..], &[FIRST]));
        assert_eq!(base.difference(&earlier).unwrap(), "training file a/1 is gone");
        let relabelled = of(split(&FILES, &[FIRST, Sample { label: Label::Class(0), ..SECOND }]));
        let text = "training sample 1 (b/1) has another label or state than when the run began";
        assert_eq!(base.difference(&relabelled).unwrap(), text);
    }
}
