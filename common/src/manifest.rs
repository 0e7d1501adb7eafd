//! The manifest: which samples a run has, made before its first step and equal on every machine that sees the
//! same bytes.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// All samples of a job, in byte order of their paths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Class names in byte order, label names, or names of regression targets.
    pub names: Vec<String>,
    /// The kind of its labels.
    pub labels: LabelKind,
    /// Training data.
    pub train: Split,
    /// Validation data; may be empty.
    pub validation: Split,
}

/// The kind of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// One class a sample.
    Class,
    /// Any number of labels a sample.
    Set,
    /// Real numbers.
    Values,
}

/// Samples of one purpose.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Split {
    /// Folder that the files' paths start from, as this machine sees it. Not part of the digest.
    pub root: String,
    /// Every file, in byte order of the paths. For IDX: the images' file, then the labels' file.
    pub files: Vec<FileEntry>,
    /// Every sample, broken ones included.
    pub samples: Vec<Sample>,
}

/// A file as it was when the manifest was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative path with `/` between its parts.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// blake3 of the bytes.
    pub blake3: Digest,
}

/// One image with its label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Index into the split's files.
    pub file: u32,
    /// Which image of the file: the position in an IDX file, 0 in others.
    pub index: u32,
    /// Its label.
    pub label: Label,
    /// Why it does not decode; a function of the bytes alone. Such a sample is never trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

/// The label of a sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Label {
    /// Index into the class names.
    Class(u32),
    /// Indices into the label names, ascending.
    Set(Vec<u32>),
    /// One number per target.
    Values(Vec<f32>),
}

impl Split {
    /// Indices of the samples that decode. The order of an epoch is a permutation of them.
    pub fn usable(&self) -> Vec<u32> {
        (0..self.samples.len() as u32).filter(|index| self.samples[*index as usize].broken.is_none()).collect()
    }

    fn hash_into(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&(self.files.len() as u64).to_le_bytes());
        for file in &self.files {
            hash_text(hasher, &file.path);
            hasher.update(&file.size.to_le_bytes());
            hasher.update(&file.blake3.0);
        }
        hasher.update(&(self.samples.len() as u64).to_le_bytes());
        for sample in &self.samples {
            hasher.update(&sample.file.to_le_bytes());
            hasher.update(&sample.index.to_le_bytes());
            hasher.update(&[u8::from(sample.broken.is_some())]);
            sample.label.hash_into(hasher);
        }
    }
}

impl Label {
    fn hash_into(&self, hasher: &mut blake3::Hasher) {
        match self {
            Label::Class(class) => {
                hasher.update(&[0]).update(&class.to_le_bytes());
            }
            Label::Set(labels) => {
                hasher.update(&[1]).update(&(labels.len() as u64).to_le_bytes());
                labels.iter().for_each(|label| {
                    hasher.update(&label.to_le_bytes());
                });
            }
            Label::Values(values) => {
                hasher.update(&[2]).update(&(values.len() as u64).to_le_bytes());
                values.iter().for_each(|value| {
                    hasher.update(&value.to_le_bytes());
                });
            }
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
    for (a, b) in then.files.iter().zip(&now.files) {
        if a.path != b.path {
            let (gone, name) = if a.path < b.path { ("is gone", &a.path) } else { ("is new", &b.path) };
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
    let index = then.samples.iter().zip(&now.samples).position(|(a, b)| {
        (a.file, a.index, &a.label, a.broken.is_some()) != (b.file, b.index, &b.label, b.broken.is_some())
    })?;
    let path = then.files.get(then.samples[index].file as usize).map_or("?", |file| file.path.as_str());
    Some(format!("{what} sample {index} ({path}) has another label or state than when the run began"))
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let file = |path: &str| FileEntry { path: path.into(), size: 3, blake3: Digest::of(path.as_bytes()) };
        let sample = |file, class| Sample { file, index: 0, label: Label::Class(class), broken: None };
        Manifest {
            names: vec!["a".into(), "b".into()],
            labels: LabelKind::Class,
            train: Split {
                root: "x".into(),
                files: vec![file("a/1"), file("b/1")],
                samples: vec![sample(0, 0), sample(1, 1)],
            },
            validation: Split::default(),
        }
    }

    #[test]
    fn the_digest_sees_labels_and_state_but_not_the_root() {
        let base = manifest();
        let mut moved = base.clone();
        moved.train.root = "y".into();
        assert_eq!(base.digest(), moved.digest());
        let mut relabelled = base.clone();
        relabelled.train.samples[0].label = Label::Class(1);
        assert_ne!(base.digest(), relabelled.digest());
        let mut broken = base.clone();
        broken.train.samples[0].broken = Some("truncated".into());
        assert_ne!(base.digest(), broken.digest());
    }

    #[test]
    fn differences_name_the_file() {
        let base = manifest();
        assert_eq!(base.difference(&base), None);
        let mut changed = base.clone();
        changed.train.files[1].blake3 = Digest::of(b"other");
        assert_eq!(base.difference(&changed).unwrap(), "training file b/1 has other bytes than when the run began");
        let mut gone = base.clone();
        gone.train.files.pop();
        assert_eq!(base.difference(&gone).unwrap(), "training file b/1 is gone");
        assert_eq!(gone.difference(&base).unwrap(), "training file b/1 is new");
        let mut earlier = base.clone();
        earlier.train.files.remove(0);
        assert_eq!(base.difference(&earlier).unwrap(), "training file a/1 is gone");
    }
}
