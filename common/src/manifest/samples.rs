//! The samples of a split in columns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

/// Samples by number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SampleList {
    files: Vec<u32>,
    indices: Vec<u32>,
    labels: Labels,
    broken: BTreeMap<u32, String>,
}

/// One image with its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// Index into the split's files.
    pub file: u32,
    /// Which image of the file: the position in an IDX file, 0 in others.
    pub index: u32,
    /// Its label.
    pub label: Label<'a>,
    /// Why it does not decode; a function of the bytes alone. Such a sample is never trained on.
    pub broken: Option<&'a str>,
}

/// The label of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label<'a> {
    /// Index into the class names.
    Class(u32),
    /// Indices into the label names, ascending.
    Set(&'a [u32]),
    /// One number per target.
    Values(&'a [f32]),
}

/// Labels by the numbers of their samples, all of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Labels {
    /// A class each.
    Classes(Vec<u32>),
    /// All labels of all samples, one after the other, and where those of each sample end.
    Sets(Vec<u32>, Vec<usize>),
    /// All numbers of all samples, one after the other, and where those of each sample end.
    Values(Vec<f32>, Vec<usize>),
}

impl Default for Labels {
    fn default() -> Self {
        Labels::of(LabelKind::Class)
    }
}

impl Labels {
    /// No labels, of a kind.
    pub fn of(kind: LabelKind) -> Self {
        match kind {
            LabelKind::Class => Labels::Classes(Vec::new()),
            LabelKind::Set => Labels::Sets(Vec::new(), Vec::new()),
            LabelKind::Values => Labels::Values(Vec::new(), Vec::new()),
        }
    }

    /// Number of samples that have one.
    pub fn len(&self) -> usize {
        match self {
            Labels::Classes(classes) => classes.len(),
            Labels::Sets(_, ends) | Labels::Values(_, ends) => ends.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label of sample `number`.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, number: usize) -> Label<'_> {
        let start = |ends: &[usize]| if number == 0 { 0 } else { ends[number - 1] };
        match self {
            Labels::Classes(classes) => Label::Class(classes[number]),
            Labels::Sets(all, ends) => Label::Set(&all[start(ends)..ends[number]]),
            Labels::Values(all, ends) => Label::Values(&all[start(ends)..ends[number]]),
        }
    }

    /// Adds the label of one more sample. The first decides of what kind all are.
    ///
    /// # Panics
    /// When it is of another kind than those before.
    pub fn push(&mut self, label: Label<'_>) {
        if self.is_empty() {
            *self = Labels::of(label.kind());
        }
        match (self, label) {
            (Labels::Classes(classes), Label::Class(class)) => classes.push(class),
            (Labels::Sets(all, ends), Label::Set(labels)) => {
                all.extend_from_slice(labels);
                ends.push(all.len());
            }
            (Labels::Values(all, ends), Label::Values(values)) => {
                all.extend_from_slice(values);
                ends.push(all.len());
            }
            _ => panic!("labels of two kinds"),
        }
    }
}

impl Label<'_> {
    /// Its kind.
    pub fn kind(&self) -> LabelKind {
        match self {
            Label::Class(_) => LabelKind::Class,
            Label::Set(_) => LabelKind::Set,
            Label::Values(_) => LabelKind::Values,
        }
    }

    pub(super) fn hash_into(&self, hasher: &mut blake3::Hasher) {
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

impl SampleList {
    /// Number of samples, broken ones included.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Sample `number`, if there is one.
    pub fn get(&self, number: usize) -> Option<Sample<'_>> {
        (number < self.len()).then(|| self.at(number))
    }

    /// Sample `number`.
    ///
    /// # Panics
    /// When there is none.
    pub fn at(&self, number: usize) -> Sample<'_> {
        Sample {
            file: self.files[number],
            index: self.indices[number],
            label: self.labels.at(number),
            broken: self.broken.get(&(number as u32)).map(String::as_str),
        }
    }

    /// All samples, in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Sample<'_>> + Clone {
        (0..self.len()).map(|number| self.at(number))
    }

    /// Number of samples that do not decode.
    pub fn broken(&self) -> usize {
        self.broken.len()
    }

    /// Adds a sample behind the others.
    ///
    /// # Panics
    /// When its label is of another kind than those before.
    pub fn push(&mut self, sample: Sample<'_>) {
        if let Some(reason) = sample.broken {
            self.broken.insert(self.len() as u32, reason.to_owned());
        }
        self.files.push(sample.file);
        self.indices.push(sample.index);
        self.labels.push(sample.label);
    }

    /// Notes why sample `number` does not decode. False where there is no such sample.
    pub(super) fn set_broken(&mut self, number: u32, reason: String) -> bool {
        let known = (number as usize) < self.len();
        if known {
            self.broken.insert(number, reason);
        }
        known
    }

    /// Gives back memory that was taken for more samples.
    pub fn shrink(&mut self) {
        self.files.shrink_to_fit();
        self.indices.shrink_to_fit();
        match &mut self.labels {
            Labels::Classes(classes) => classes.shrink_to_fit(),
            Labels::Sets(all, ends) => {
                all.shrink_to_fit();
                ends.shrink_to_fit();
            }
            Labels::Values(all, ends) => {
                all.shrink_to_fit();
                ends.shrink_to_fit();
            }
        }
    }
}

impl<'a> FromIterator<Sample<'a>> for SampleList {
    fn from_iter<I: IntoIterator<Item = Sample<'a>>>(samples: I) -> Self {
        let mut list = SampleList::default();
        samples.into_iter().for_each(|sample| list.push(sample));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_each_kind_come_back_as_they_were() {
        let kinds: [[Label<'static>; 3]; 3] = [
            [Label::Class(4), Label::Class(0), Label::Class(4)],
            [Label::Set(&[]), Label::Set(&[1, 5]), Label::Set(&[2])],
            [Label::Values(&[1.0, 2.0]), Label::Values(&[-0.5, 0.0]), Label::Values(&[3.0, 3.0])],
        ];
        for labels in kinds {
            let sample = |(number, label): (u32, Label<'static>)| Sample {
                file: 2 * number,
                index: 7 - number,
                label,
                broken: (number == 1).then_some("cut off"),
            };
            let samples: Vec<_> = (0u32..).zip(labels).map(sample).collect();
            let list: SampleList = samples.iter().copied().collect();
            assert_eq!(list.iter().collect::<Vec<_>>(), samples);
            assert_eq!((list.len(), list.broken(), list.get(3), list.get(1)), (3, 1, None, Some(samples[1])));
        }
    }

    #[test]
    #[should_panic(expected = "labels of two kinds")]
    fn labels_of_two_kinds_are_a_mistake_of_ours() {
        let mut labels = Labels::default();
        labels.push(Label::Class(1));
        labels.push(Label::Set(&[1]));
    }
}
