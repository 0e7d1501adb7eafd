//! Mean and deviation of what a regression predicts.

use serde::{Deserialize, Serialize};

use crate::manifest::{Label, LabelKind, Manifest};

/// Mean and standard deviation of each target over the usable training samples.
///
/// # Examples
/// ```
/// use convoy_common::plan::TargetStatistics;
///
/// let counts = TargetStatistics { mean: vec![100.0], std: vec![20.0] };
/// assert_eq!(counts.scaled(&[140.0, 100.0, 90.0]), [2.0, 0.0, -0.5]);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetStatistics {
    /// Mean of each target, in its own unit.
    pub mean: Vec<f32>,
    /// Population standard deviation of each target, in its own unit; 1 where all values are equal.
    pub std: Vec<f32>,
}

impl TargetStatistics {
    /// The statistics of `manifest`; none unless its labels are numbers of usable training samples. Sums are of f64, in
    /// the order of the samples: first the values, then the squares of their distances from the mean.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let usable = || manifest.train.samples.iter().filter(|sample| sample.broken.is_none());
        if manifest.labels != LabelKind::Values || usable().next().is_none() {
            return None;
        }
        let target = |target: usize| {
            let values = || {
                usable().filter_map(move |sample| match sample.label {
                    Label::Values(values) => values.get(target).copied().map(f64::from),
                    _ => None,
                })
            };
            mean_and_std(values)
        };
        let (mean, std) = (0..manifest.names.len()).map(target).unzip();
        Some(TargetStatistics { mean, std })
    }

    /// `(value - mean) / std` of rows of values, one of each target, computed in f64.
    pub fn scaled(&self, values: &[f32]) -> Vec<f32> {
        let targets = || self.mean.iter().zip(&self.std);
        let scale =
            |(value, (mean, std)): (&f32, (&f32, &f32))| (f64::from(*value) - f64::from(*mean)) / f64::from(*std);
        values.iter().zip(targets().cycle()).map(|pair| scale(pair) as f32).collect()
    }

    /// Whether there is a finite mean and a positive deviation for each of `targets` targets.
    pub(super) fn fits(&self, targets: usize) -> bool {
        self.mean.len() == targets
            && self.std.len() == targets
            && self.mean.iter().all(|mean| mean.is_finite())
            && self.std.iter().all(|std| std.is_normal() && *std > 0.0)
    }
}

fn mean_and_std<I: Iterator<Item = f64>>(values: impl Fn() -> I) -> (f32, f32) {
    let (count, sum) = values().fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    let mean = sum / f64::max(count, 1.0);
    let squares: f64 = values().map(|value| (value - mean) * (value - mean)).fold(0.0, |sum, square| sum + square);
    let std = (squares / f64::max(count, 1.0)).sqrt() as f32;
    let first = values().next();
    // Asked of the values, since a rounded mean of equal values may differ from them.
    let constant = values().all(|value| Some(value) == first);
    (mean as f32, if constant || !std.is_normal() { 1.0 } else { std })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest::{Sample, Split};

    fn statistics<'a>(rows: &[(&'a [f32], bool)]) -> Option<TargetStatistics> {
        let sample = |(values, usable): &(&'a [f32], bool)| Sample {
            file: 0,
            index: 0,
            label: Label::Values(values),
            broken: (!usable).then_some("cut"),
        };
        let train = Arc::new(Split { samples: rows.iter().map(sample).collect(), ..Split::default() });
        let width = rows.first().map_or(1, |(values, _)| values.len());
        let names = (0..width).map(|name| name.to_string()).collect();
        TargetStatistics::of(&Manifest { names, labels: LabelKind::Values, train, validation: Arc::default() })
    }

    #[test]
    fn each_target_has_its_own_and_broken_samples_count_for_nothing() {
        // numpy: mean 4, 100000; std 2.9439203, 81.64966
        let rows: [(&[f32], bool); 4] =
            [(&[1.0, 99_900.0], true), (&[3.0, 100_000.0], true), (&[900.0, 0.0], false), (&[8.0, 100_100.0], true)];
        let found = statistics(&rows).expect("there are numbers");
        assert_eq!((found.mean, found.std), (vec![4.0, 100_000.0], vec![2.943_920_4, 81.649_66]));
    }

    #[test]
    fn equal_values_have_a_deviation_of_one() {
        for value in [0.0, 0.1, -7.25e30, 5.0, f32::MAX, 1e-45] {
            let rows: Vec<(&[f32], bool)> = vec![(std::slice::from_ref(&value), true); 11];
            let found = statistics(&rows).expect("there are numbers");
            assert_eq!((found.mean.as_slice(), found.std.as_slice()), ([value].as_slice(), [1.0].as_slice()));
            assert_eq!(found.scaled(&[value]), [0.0]);
        }
    }

    #[test]
    fn the_widest_numbers_have_finite_statistics() {
        let found = statistics(&[(&[f32::MAX], true), (&[f32::MIN], true)]).expect("there are numbers");
        assert!(found.fits(1), "{found:?}");
        // What is smaller than normal numbers counts as equal.
        let tiny = statistics(&[(&[1e-44], true), (&[1e-45], true)]).expect("there are numbers");
        assert_eq!(tiny.std, [1.0]);
    }

    #[test]
    fn nothing_has_no_statistics() {
        assert_eq!(statistics(&[]), None);
        assert_eq!(statistics(&[(&[1.0], false)]), None);
    }
}
