//! One shard's samples as tensors, on their way from images to the network.

use crate::manifest::Label;

/// Prepared samples with their labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Normalised pixels, NHWC: `samples * height * width * channels` numbers.
    pub x_nhwc: Vec<f32>,
    /// Index of each sample in its split of the manifest: its address in everything random.
    pub samples: Vec<u32>,
    /// The samples' labels.
    pub targets: Targets,
}

/// The labels of samples, in the form that a loss takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// One class a sample.
    Classes(Vec<u32>),
    /// `width` numbers a sample: the values of a regression, or for each label of a set 0 or 1.
    Values {
        /// Numbers of one sample.
        width: usize,
        /// `samples * width` numbers, sample after sample.
        values: Vec<f32>,
    },
}

impl Default for Targets {
    fn default() -> Self {
        Targets::Classes(Vec::new())
    }
}

impl Targets {
    /// The targets of `labels`, all of one kind; a set becomes `names` numbers of 0 and 1.
    ///
    /// # Panics
    /// When classes are mixed with other labels, or a set has a label beyond `names`.
    pub fn of<'a>(labels: impl Iterator<Item = Label<'a>>, names: usize) -> Self {
        let (mut classes, mut values) = (Vec::new(), Vec::new());
        for label in labels {
            match label {
                Label::Class(class) => classes.push(class),
                Label::Values(row) => values.extend_from_slice(row),
                Label::Set(set) => {
                    let start = values.len();
                    values.resize(start + names, 0.0);
                    set.iter().for_each(|label| values[start + *label as usize] = 1.0);
                }
            }
        }
        assert!(classes.is_empty() || values.is_empty(), "a manifest holds one kind of label");
        if values.is_empty() { Targets::Classes(classes) } else { Targets::Values { width: names, values } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_become_targets() {
        assert_eq!(Targets::of([Label::Class(2)].into_iter(), 3), Targets::Classes(vec![2]));
        let sets = [Label::Set(&[0, 2]), Label::Set(&[])];
        let expected = Targets::Values { width: 3, values: vec![1.0, 0.0, 1.0, 0.0, 0.0, 0.0] };
        assert_eq!(Targets::of(sets.into_iter(), 3), expected);
    }
}
