//! Manifests as bytes: for disks and the wire, where a million files take about fifty bytes each, of which their
//! digests are thirty-two.
//!
//! Numbers are LEB128. A path is how many bytes it shares with the path before, and the rest; a sample is how far its
//! file, position and label are from those of the sample before, zigzag.

use std::io::ErrorKind;
use std::sync::Arc;

use super::{FileEntry, FileList, Label, LabelKind, Manifest, Sample, SampleList, Split};
use crate::{Digest, leb128};

/// What a manifest begins with.
const MAGIC: &[u8] = b"convoy manifest 1\n";

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// They begin otherwise.
    #[error("it is no manifest, or one of another version of Convoy")]
    Other,
    /// They end early.
    #[error("it ends in the middle")]
    Short,
    /// They make no sense.
    #[error("{0}")]
    Wrong(&'static str),
}

use ManifestError::{Short, Wrong};

impl Manifest {
    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.push(self.labels as u8);
        put(&mut out, self.names.len() as u64);
        self.names.iter().for_each(|name| put_text(&mut out, name));
        put_split(&mut out, &self.train);
        put_split(&mut out, &self.validation);
        out
    }

    /// What [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// When the bytes are of something else, end early, or make no sense: a sample of a file or class that is not
    /// there.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut rest = Reader(bytes.strip_prefix(MAGIC).ok_or(ManifestError::Other)?);
        let labels = match rest.byte()? {
            0 => LabelKind::Class,
            1 => LabelKind::Set,
            2 => LabelKind::Values,
            _ => return Err(Wrong("its labels are of an unknown kind")),
        };
        let names = (0..rest.count(1)?).map(|_| rest.text()).collect::<Result<Vec<_>, _>>()?;
        let train = Arc::new(rest.split(labels, names.len())?);
        let validation = Arc::new(rest.split(labels, names.len())?);
        match rest.0.is_empty() {
            true => Ok(Manifest { names, labels, train, validation }),
            false => Err(Wrong("there is more behind its end")),
        }
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    leb128::write(out, number).expect("memory takes every byte");
}

/// How far `number` is from `before`, wrapping.
fn put_distance(out: &mut Vec<u8>, before: u32, number: u32) {
    let distance = i64::from(number) - i64::from(before);
    put(out, ((distance << 1) ^ (distance >> 63)) as u64);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_split(out: &mut Vec<u8>, split: &Split) {
    put_text(out, &split.root);
    put(out, split.files.len() as u64);
    let mut before = "";
    for FileEntry { path, size, blake3 } in split.files.iter() {
        let shared = before.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
        put(out, shared as u64);
        put(out, (path.len() - shared) as u64);
        out.extend_from_slice(&path.as_bytes()[shared..]);
        put(out, size);
        out.extend_from_slice(&blake3.0);
        before = path;
    }
    put(out, split.samples.len() as u64);
    let (mut next, mut position, mut class) = (0, 0, 0);
    for Sample { file, index, label, .. } in split.samples.iter() {
        put_distance(out, next, file);
        put_distance(out, position, index);
        (next, position) = (file.wrapping_add(1), index);
        match label {
            Label::Class(number) => {
                put_distance(out, class, number);
                class = number;
            }
            Label::Set(labels) => {
                put(out, labels.len() as u64);
                labels.iter().for_each(|label| put(out, u64::from(*label)));
            }
            Label::Values(values) => {
                put(out, values.len() as u64);
                values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            }
        }
    }
    put(out, split.samples.broken() as u64);
    for (number, sample) in split.samples.iter().enumerate() {
        if let Some(reason) = sample.broken {
            put(out, number as u64);
            put_text(out, reason);
        }
    }
}

/// Bytes that are read from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ManifestError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ManifestError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, ManifestError> {
        leb128::read(&mut self.0).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => Short,
            _ => Wrong("a number has more than 64 bits"),
        })
    }

    fn small(&mut self) -> Result<u32, ManifestError> {
        u32::try_from(self.number()?).map_err(|_| Wrong("a number is too large"))
    }

    /// The number of things that take at least `least` bytes each, which must be there.
    fn count(&mut self, least: usize) -> Result<usize, ManifestError> {
        let count = self.number()?;
        if count > (self.0.len() / least) as u64 {
            return Err(Short);
        }
        Ok(count as usize)
    }

    fn distance(&mut self, before: u32) -> Result<u32, ManifestError> {
        let zigzag = self.number()?;
        let distance = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let number = i64::from(before).checked_add(distance).and_then(|number| u32::try_from(number).ok());
        number.ok_or(Wrong("a number is out of its range"))
    }

    fn text(&mut self) -> Result<String, ManifestError> {
        let length = self.count(1)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Wrong("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn split(&mut self, labels: LabelKind, names: usize) -> Result<Split, ManifestError> {
        let root = self.text()?;
        let files = self.files()?;
        let samples = self.samples(labels, names, files.len())?;
        Ok(Split { root, files, samples })
    }

    fn files(&mut self) -> Result<FileList, ManifestError> {
        let mut files = FileList::default();
        let mut path: Vec<u8> = Vec::new();
        for _ in 0..self.count(35)? {
            let shared = self.number()?;
            if shared > path.len() as u64 {
                return Err(Wrong("a path shares more than there is"));
            }
            path.truncate(shared as usize);
            let rest = self.count(1)?;
            path.extend_from_slice(self.take(rest)?);
            let size = self.number()?;
            let digest = self.take(32)?.try_into().map_err(|_| Short)?;
            let path = std::str::from_utf8(&path).map_err(|_| Wrong("a path is not UTF-8"))?;
            files.push(FileEntry { path, size, blake3: Digest(digest) });
        }
        files.shrink();
        Ok(files)
    }

    fn samples(&mut self, labels: LabelKind, names: usize, files: usize) -> Result<SampleList, ManifestError> {
        let mut samples = SampleList::default();
        let (mut next, mut position, mut class) = (0, 0, 0);
        let (mut set, mut values) = (Vec::new(), Vec::new());
        for _ in 0..self.count(3)? {
            let file = self.distance(next)?;
            let index = self.distance(position)?;
            (next, position) = (file.wrapping_add(1), index);
            if file as usize >= files {
                return Err(Wrong("a sample is of a file that is not there"));
            }
            let label = match labels {
                LabelKind::Class => {
                    class = self.distance(class)?;
                    Label::Class(class)
                }
                LabelKind::Set => {
                    let count = self.count(1)?;
                    set.clear();
                    for _ in 0..count {
                        set.push(self.small()?);
                    }
                    Label::Set(&set)
                }
                LabelKind::Values => {
                    let count = self.count(4)?;
                    values.clear();
                    let bytes = self.take(4 * count)?.as_chunks::<4>().0;
                    values.extend(bytes.iter().map(|value| f32::from_le_bytes(*value)));
                    Label::Values(&values)
                }
            };
            let known = match label {
                Label::Class(class) => (class as usize) < names,
                Label::Set(labels) => labels.iter().all(|label| (*label as usize) < names),
                Label::Values(values) => values.len() == names,
            };
            if !known {
                return Err(Wrong("a label is none of its names"));
            }
            samples.push(Sample { file, index, label, broken: None });
        }
        for _ in 0..self.count(2)? {
            let number = self.small()?;
            let reason = self.text()?;
            if !samples.set_broken(number, reason) {
                return Err(Wrong("a broken sample is not there"));
            }
        }
        samples.shrink();
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(labels: LabelKind, names: u32, seed: &[(u8, u8)]) -> Split {
        let mut split = Split { root: "dataset:r".to_owned(), ..Split::default() };
        for (number, (text, other)) in seed.iter().enumerate() {
            let path = format!("{}/{text:03}/\u{fc}{number}.png", other % 3);
            let size = u64::from(*text) << (other % 40);
            split.files.push(FileEntry { path: &path, size, blake3: Digest::of(path.as_bytes()) });
        }
        for (number, (text, other)) in seed.iter().enumerate() {
            let set: Vec<u32> = (0..names).filter(|name| text >> name & 1 == 1).collect();
            let values: Vec<f32> = (0..names).map(|name| f32::from(*other) - name as f32 / 3.0).collect();
            let label = match labels {
                LabelKind::Class => Label::Class(u32::from(*text) % names),
                LabelKind::Set => Label::Set(&set),
                LabelKind::Values => Label::Values(&values),
            };
            let file = (usize::from(*other) * (number + 1) % seed.len()) as u32;
            let broken = (other % 5 == 0).then_some("is cut off");
            split.samples.push(Sample { file, index: u32::from(*text) << (other % 20), label, broken });
        }
        split
    }

    fn manifest(labels: u8, train: &[(u8, u8)], validation: &[(u8, u8)]) -> Manifest {
        let labels = [LabelKind::Class, LabelKind::Set, LabelKind::Values][usize::from(labels) % 3];
        let names = vec!["a".to_owned(), "b, c".to_owned(), "\u{df}".to_owned()];
        let [train, validation] = [train, validation].map(|seed| Arc::new(split(labels, 3, seed)));
        Manifest { names, labels, train, validation }
    }

    proptest! {
        #[test]
        fn manifests_come_back_as_they_were(
            labels in 0u8..3,
            train in prop::collection::vec(any::<(u8, u8)>(), 0..40),
            validation in prop::collection::vec(any::<(u8, u8)>(), 0..20),
        ) {
            let manifest = manifest(labels, &train, &validation);
            let again = Manifest::from_bytes(&manifest.to_bytes()).unwrap();
            prop_assert_eq!(again.digest(), manifest.digest());
            prop_assert_eq!(again, manifest);
        }

        #[test]
        fn damaged_manifests_are_refused_or_make_sense(
            labels in 0u8..3,
            train in prop::collection::vec(any::<(u8, u8)>(), 1..20),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = manifest(labels, &train, &[]).to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
            if let Ok(manifest) = Manifest::from_bytes(&bytes) {
                manifest.class_counts();
                for number in 0..manifest.train.samples.len() {
                    manifest.train.file_of(number);
                }
            }
        }
    }

    #[test]
    fn what_is_cut_or_longer_or_something_else_is_refused() {
        let bytes = manifest(0, &[(1, 2), (3, 4)], &[(5, 6)]).to_bytes();
        for length in 0..bytes.len() {
            assert!(Manifest::from_bytes(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Manifest::from_bytes(&longer), Err(Wrong("there is more behind its end")));
        assert_eq!(Manifest::from_bytes(b"{\"names\":[]}"), Err(ManifestError::Other));
    }

    #[test]
    fn counts_take_no_memory_on_their_word() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0, 0, 0]);
        put(&mut bytes, 1 << 60);
        assert_eq!(Manifest::from_bytes(&bytes), Err(Short));
    }

    #[test]
    fn a_file_in_class_folders_takes_fifty_bytes() {
        let mut split = Split::default();
        for number in 0..10_000u32 {
            let path = format!("n{:08}/n{:08}_{number}.JPEG", number / 100, number / 100);
            split.files.push(FileEntry { path: &path, size: 110_000, blake3: Digest::of(path.as_bytes()) });
            split.samples.push(Sample { file: number, index: 0, label: Label::Class(number / 100), broken: None });
        }
        let names = (0..100).map(|name| name.to_string()).collect();
        let train = Arc::new(split);
        let manifest = Manifest { names, labels: LabelKind::Class, train, validation: Arc::default() };
        let bytes = manifest.to_bytes().len() / 10_000;
        assert!((44..=54).contains(&bytes), "{bytes} bytes a file");
    }
}
