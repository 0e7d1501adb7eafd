//! Metrics from sums. A shard's [`MetricSums`] are f64 sums over its samples in order; shards' sums are added
//! over the reduce tree, so that metrics have the same bits for any number of workers.

use std::collections::BTreeMap;

use crate::spec::Task;

/// Metrics by name, for example `loss`, `top1`, `mae`.
pub type Metrics = BTreeMap<String, f64>;

/// Sums over samples, laid out by [`MetricLayout`].
pub type MetricSums = Vec<f64>;

/// Where each sum lies. All layouts begin with the count of samples, the sum of losses and the sum of the
/// losses' weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricLayout {
    /// The task; in a plan never [`Task::Auto`].
    pub task: Task,
    /// Classes, labels or targets.
    pub names: usize,
    /// Regression: whether the error of always predicting the targets' means is counted too.
    pub of_mean: bool,
}

/// Index of the count of samples.
pub const COUNT: usize = 0;
/// Index of the sum of losses.
pub const LOSS: usize = 1;
/// Index of the sum of the losses' weights: the count unless classes are weighted.
pub const WEIGHT: usize = 2;
const REST: usize = 3;
/// Ends the names of the errors of always predicting the mean of the training data: `mae_of_mean`, `mae_of_mean/rbc`.
pub const OF_MEAN: &str = "_of_mean";

impl MetricLayout {
    /// How many sums there are.
    pub fn len(&self) -> usize {
        REST + match self.task {
            Task::Multiclass | Task::Auto => 1 + self.names * self.names,
            Task::Binary => 4,
            Task::Multilabel => 1 + 4 * self.names,
            Task::Regression => self.target_sums() * self.names,
        }
    }

    /// Sums of each target: of absolute and squared errors, of values and their squares; then of absolute and squared
    /// distances from the mean.
    fn target_sums(&self) -> usize {
        if self.of_mean { 6 } else { 4 }
    }

    /// Whether there is nothing to sum; never.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Adds one classified sample: its true class and the network's `scores` (a larger score is more likely;
    /// among equal scores the lower class wins).
    ///
    /// # Panics
    /// When `sums` or `scores` have another length than the layout says.
    pub fn add_multiclass(&self, sums: &mut [f64], truth: usize, scores: &[f32]) {
        assert_eq!((sums.len(), scores.len()), (self.len(), self.names));
        let better = |class: usize| scores[class] > scores[truth] || (scores[class] == scores[truth] && class < truth);
        let above = (0..self.names).filter(|class| *class != truth && better(*class)).count();
        let predicted = argmax(scores);
        sums[REST] += f64::from(u8::from(above < 5));
        sums[REST + 1 + truth * self.names + predicted] += 1.0;
    }

    /// Adds one sample of a binary task: its true class, and the single output before the sigmoid.
    ///
    /// # Panics
    /// When `sums` is shorter than the layout says.
    pub fn add_binary(&self, sums: &mut [f64], truth: bool, score: f32) {
        sums[REST + cell(truth, score > 0.0)] += 1.0;
    }

    /// Adds one sample of a multilabel task: whether each label holds, and each output before the sigmoid.
    ///
    /// # Panics
    /// When `sums` is shorter than the layout says.
    pub fn add_multilabel(&self, sums: &mut [f64], truth: &[bool], scores: &[f32]) {
        let exact = truth.iter().zip(scores).all(|(truth, score)| *truth == (*score > 0.0));
        sums[REST] += f64::from(u8::from(exact));
        for (label, (truth, score)) in truth.iter().zip(scores).enumerate() {
            sums[REST + 1 + 4 * label + cell(*truth, *score > 0.0)] += 1.0;
        }
    }

    /// Adds one sample of a regression: true and predicted values, one of each for each target, and the `means` of the
    /// training data, unless the layout leaves them out.
    ///
    /// # Panics
    /// When `sums` or `means` are shorter than the layout says.
    pub fn add_regression(&self, sums: &mut [f64], truth: &[f32], predicted: &[f32], means: &[f32]) {
        for (target, (y, p)) in truth.iter().zip(predicted).enumerate() {
            let (y, error) = (f64::from(*y), f64::from(*p) - f64::from(*y));
            let at = REST + self.target_sums() * target;
            sums[at] += error.abs();
            sums[at + 1] += error * error;
            sums[at + 2] += y;
            sums[at + 3] += y * y;
            if self.of_mean {
                let distance = f64::from(means[target]) - y;
                sums[at + 4] += distance.abs();
                sums[at + 5] += distance * distance;
            }
        }
    }

    /// The metrics that follow from sums over all samples. Where there are several targets, each has metrics of its
    /// own, with its name appended (`mae/rbc`).
    pub fn finish(&self, sums: &[f64], names: &[String]) -> Metrics {
        let mut metrics = Metrics::new();
        let count = sums[COUNT].max(1.0);
        let mut put = |name: &str, value: f64| {
            metrics.insert(name.to_owned(), value);
        };
        put("loss", sums[LOSS] / if sums[WEIGHT] > 0.0 { sums[WEIGHT] } else { 1.0 });
        match self.task {
            Task::Multiclass | Task::Auto => {
                let hits: f64 = (0..self.names).map(|class| self.confusion(sums, class, class)).sum();
                put("top1", hits / count);
                put("top5", sums[REST] / count);
            }
            Task::Binary => {
                put("accuracy", (sums[REST] + sums[REST + 3]) / count);
                put_f1(&mut put, &sums[REST..REST + 4]);
            }
            Task::Multilabel => {
                put("exact", sums[REST] / count);
                let cells: Vec<f64> =
                    (0..4).map(|cell| (0..self.names).map(|label| sums[REST + 1 + 4 * label + cell]).sum()).collect();
                put("accuracy", (cells[0] + cells[3]) / (count * self.names as f64));
                put_f1(&mut put, &cells);
            }
            Task::Regression => self.finish_regression(sums, names, count, &mut put),
        }
        metrics
    }

    fn finish_regression(&self, sums: &[f64], names: &[String], count: f64, put: &mut impl FnMut(&str, f64)) {
        let mut totals = [0.0; 5];
        let mut put_all = |values: [f64; 5], end: &str| {
            put(&format!("mae{end}"), values[0]);
            put(&format!("rmse{end}"), values[1].sqrt());
            put(&format!("r2{end}"), values[2]);
            if self.of_mean {
                put(&format!("mae{OF_MEAN}{end}"), values[3]);
                put(&format!("rmse{OF_MEAN}{end}"), values[4].sqrt());
            }
        };
        for target in 0..self.names {
            let sums = &sums[REST + self.target_sums() * target..][..self.target_sums()];
            let [abs, square, y, y2] = [0, 1, 2, 3].map(|offset| sums[offset]);
            let [mean_abs, mean_square] = [4, 5].map(|offset| sums.get(offset).copied().unwrap_or_default());
            let spread = y2 - y * y / count;
            let r2 = if spread > 0.0 { 1.0 - square / spread } else { 0.0 };
            let values = [abs / count, square / count, r2, mean_abs / count, mean_square / count];
            totals.iter_mut().zip(values).for_each(|(total, value)| *total += value / self.names as f64);
            if self.names > 1 {
                let name = names.get(target).map_or("?", String::as_str);
                put_all(values, &format!("/{name}"));
            }
        }
        put_all(totals, "");
    }

    /// Samples of class `truth` that were taken for class `predicted` (multiclass).
    pub fn confusion(&self, sums: &[f64], truth: usize, predicted: usize) -> f64 {
        sums[REST + 1 + truth * self.names + predicted]
    }

    /// For each class or label: samples of it that were found, all samples of it, and samples taken for it. Nothing
    /// for regression.
    pub fn hits(&self, sums: &[f64]) -> Vec<[f64; 3]> {
        let classes = 0..self.names;
        let of_cells = |[hits, false_positive, missed]: [f64; 3]| [hits, hits + missed, hits + false_positive];
        match self.task {
            Task::Multiclass | Task::Auto => {
                let total = |f: &dyn Fn(usize) -> f64| classes.clone().map(f).sum::<f64>();
                let row = |class| {
                    let all = total(&|predicted| self.confusion(sums, class, predicted));
                    [self.confusion(sums, class, class), all, total(&|truth| self.confusion(sums, truth, class))]
                };
                classes.clone().map(row).collect()
            }
            Task::Binary => {
                let [tp, fp, missed, tn] = [0, 1, 2, 3].map(|cell| sums[REST + cell]);
                vec![of_cells([tn, missed, fp]), of_cells([tp, fp, missed])]
            }
            Task::Multilabel => {
                classes.map(|label| of_cells([0, 1, 2].map(|cell| sums[REST + 1 + 4 * label + cell]))).collect()
            }
            Task::Regression => Vec::new(),
        }
    }

    /// The metric by which the best checkpoint is chosen when the spec names none.
    pub fn default_best(&self) -> &'static str {
        match self.task {
            Task::Multiclass | Task::Auto => "top1",
            Task::Binary | Task::Multilabel => "accuracy",
            Task::Regression => "mae",
        }
    }

    /// Names of the metrics by which the best checkpoint may be chosen.
    pub fn choices(&self) -> &'static [&'static str] {
        match self.task {
            Task::Multiclass | Task::Auto => &["loss", "top1", "top5"],
            Task::Binary => &["loss", "accuracy", "precision", "recall", "f1"],
            Task::Multilabel => &["loss", "accuracy", "exact", "precision", "recall", "f1"],
            Task::Regression => &["loss", "mae", "rmse", "r2"],
        }
    }
}

/// The index of the largest score; the lowest among equals.
pub fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}

/// Whether a larger value of `metric` is better.
pub fn larger_is_better(metric: &str) -> bool {
    let kind = metric.split('/').next().unwrap_or(metric);
    !["loss", "mae", "rmse"].contains(&kind.strip_suffix(OF_MEAN).unwrap_or(kind))
}

/// The index of a cell among four sums: true positive 0, false positive 1, false negative 2, true negative 3.
fn cell(truth: bool, predicted: bool) -> usize {
    match (truth, predicted) {
        (true, true) => 0,
        (false, true) => 1,
        (true, false) => 2,
        (false, false) => 3,
    }
}

fn put_f1(put: &mut impl FnMut(&str, f64), cells: &[f64]) {
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
    put("precision", share(cells[0], cells[0] + cells[1]));
    put("recall", share(cells[0], cells[0] + cells[2]));
    put("f1", share(2.0 * cells[0], 2.0 * cells[0] + cells[1] + cells[2]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiclass() {
        let layout = MetricLayout { task: Task::Multiclass, names: 7, of_mean: false };
        let mut sums = vec![0.0; layout.len()];
        layout.add_multiclass(&mut sums, 2, &[0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        layout.add_multiclass(&mut sums, 6, &[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]);
        layout.add_multiclass(&mut sums, 4, &[9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]);
        (sums[COUNT], sums[LOSS], sums[WEIGHT]) = (3.0, 6.0, 4.0);
        let metrics = layout.finish(&sums, &[]);
        assert_eq!(metrics["top1"], 1.0 / 3.0);
        assert_eq!(metrics["top5"], 2.0 / 3.0);
        assert_eq!(metrics["loss"], 1.5);
        assert_eq!(layout.confusion(&sums, 6, 0), 1.0);
        let hits = layout.hits(&sums);
        assert_eq!((hits[0], hits[2], hits[6]), ([0.0, 0.0, 2.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]));
    }

    #[test]
    fn binary_and_multilabel() {
        let layout = MetricLayout { task: Task::Binary, names: 2, of_mean: false };
        let mut sums = vec![0.0; layout.len()];
        for (truth, score) in [(true, 1.0), (true, -1.0), (false, 1.0), (false, -1.0)] {
            layout.add_binary(&mut sums, truth, score);
            sums[COUNT] += 1.0;
        }
        let metrics = layout.finish(&sums, &[]);
        assert_eq!((metrics["accuracy"], metrics["f1"]), (0.5, 0.5));
        layout.add_binary(&mut sums, true, 1.0);
        assert_eq!(layout.hits(&sums), [[1.0, 2.0, 2.0], [2.0, 3.0, 3.0]]);

        let layout = MetricLayout { task: Task::Multilabel, names: 2, of_mean: false };
        let mut sums = vec![0.0; layout.len()];
        layout.add_multilabel(&mut sums, &[true, false], &[1.0, -1.0]);
        layout.add_multilabel(&mut sums, &[true, false], &[1.0, 1.0]);
        sums[COUNT] = 2.0;
        let metrics = layout.finish(&sums, &[]);
        assert_eq!((metrics["exact"], metrics["accuracy"]), (0.5, 0.75));
        assert_eq!(layout.hits(&sums), [[2.0, 2.0, 2.0], [0.0, 0.0, 1.0]]);
    }

    #[test]
    fn regression() {
        let layout = MetricLayout { task: Task::Regression, names: 1, of_mean: true };
        let mut sums = vec![0.0; layout.len()];
        for (y, p) in [(1.0, 2.0), (3.0, 3.0), (5.0, 4.0)] {
            layout.add_regression(&mut sums, &[y], &[p], &[4.0]);
            sums[COUNT] += 1.0;
        }
        let metrics = layout.finish(&sums, &["y".into()]);
        assert!((metrics["mae"] - 2.0 / 3.0).abs() < 1e-12);
        assert!((metrics["r2"] - 0.75).abs() < 1e-12);
        assert!((metrics["mae_of_mean"] - 5.0 / 3.0).abs() < 1e-12);
        assert!((metrics["rmse_of_mean"] - (11.0f64 / 3.0).sqrt()).abs() < 1e-12);
        assert!(!larger_is_better("mae/rbc") && larger_is_better("top1"));
    }

    #[test]
    fn each_target_is_compared_with_its_own_mean() {
        let layout = MetricLayout { task: Task::Regression, names: 2, of_mean: true };
        let mut sums = vec![0.0; layout.len()];
        layout.add_regression(&mut sums, &[1.0, 900.0], &[1.5, 900.0], &[3.0, 1000.0]);
        sums[COUNT] = 1.0;
        let metrics = layout.finish(&sums, &["a".into(), "b, c".into()]);
        let found =
            ["mae/a", "mae/b, c", "mae_of_mean/a", "mae_of_mean/b, c", "mae", "mae_of_mean"].map(|n| metrics[n]);
        assert_eq!(found, [0.5, 0.0, 2.0, 100.0, 0.25, 51.0]);
        let bare = MetricLayout { of_mean: false, ..layout };
        let mut sums = vec![0.0; bare.len()];
        bare.add_regression(&mut sums, &[1.0, 900.0], &[1.5, 900.0], &[]);
        assert!(!bare.finish(&sums, &[]).contains_key("mae_of_mean"));
    }
}
