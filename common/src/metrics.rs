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
}

/// Index of the count of samples.
pub const COUNT: usize = 0;
/// Index of the sum of losses.
pub const LOSS: usize = 1;
/// Index of the sum of the losses' weights: the count unless classes are weighted.
pub const WEIGHT: usize = 2;
const REST: usize = 3;

impl MetricLayout {
    /// How many sums there are.
    pub fn len(&self) -> usize {
        REST + match self.task {
            Task::Multiclass | Task::Auto => 1 + self.names * self.names,
            Task::Binary => 4,
            Task::Multilabel => 1 + 4 * self.names,
            Task::Regression => 4 * self.names,
        }
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

    /// Adds one sample of a regression: true and predicted values, one of each for each target.
    ///
    /// # Panics
    /// When `sums` is shorter than the layout says.
    pub fn add_regression(&self, sums: &mut [f64], truth: &[f32], predicted: &[f32]) {
        for (target, (y, p)) in truth.iter().zip(predicted).enumerate() {
            let (y, error) = (f64::from(*y), f64::from(*p) - f64::from(*y));
            let at = REST + 4 * target;
            sums[at] += error.abs();
            sums[at + 1] += error * error;
            sums[at + 2] += y;
            sums[at + 3] += y * y;
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
        let mut totals = [0.0; 3];
        for target in 0..self.names {
            let [abs, square, y, y2] = [0, 1, 2, 3].map(|offset| sums[REST + 4 * target + offset]);
            let spread = y2 - y * y / count;
            let values = [abs / count, square / count, if spread > 0.0 { 1.0 - square / spread } else { 0.0 }];
            totals.iter_mut().zip(values).for_each(|(total, value)| *total += value / self.names as f64);
            if self.names > 1 {
                let name = names.get(target).map_or("?", String::as_str);
                put(&format!("mae/{name}"), values[0]);
                put(&format!("rmse/{name}"), values[1].sqrt());
                put(&format!("r2/{name}"), values[2]);
            }
        }
        put("mae", totals[0]);
        put("rmse", totals[1].sqrt());
        put("r2", totals[2]);
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
    !["loss", "mae", "rmse"].contains(&metric.split('/').next().unwrap_or(metric))
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
        let layout = MetricLayout { task: Task::Multiclass, names: 7 };
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
        let layout = MetricLayout { task: Task::Binary, names: 2 };
        let mut sums = vec![0.0; layout.len()];
        for (truth, score) in [(true, 1.0), (true, -1.0), (false, 1.0), (false, -1.0)] {
            layout.add_binary(&mut sums, truth, score);
            sums[COUNT] += 1.0;
        }
        let metrics = layout.finish(&sums, &[]);
        assert_eq!((metrics["accuracy"], metrics["f1"]), (0.5, 0.5));
        layout.add_binary(&mut sums, true, 1.0);
        assert_eq!(layout.hits(&sums), [[1.0, 2.0, 2.0], [2.0, 3.0, 3.0]]);

        let layout = MetricLayout { task: Task::Multilabel, names: 2 };
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
        let layout = MetricLayout { task: Task::Regression, names: 1 };
        let mut sums = vec![0.0; layout.len()];
        for (y, p) in [(1.0, 2.0), (3.0, 3.0), (5.0, 4.0)] {
            layout.add_regression(&mut sums, &[y], &[p]);
            sums[COUNT] += 1.0;
        }
        let metrics = layout.finish(&sums, &["y".into()]);
        assert!((metrics["mae"] - 2.0 / 3.0).abs() < 1e-12);
        assert!((metrics["r2"] - 0.75).abs() < 1e-12);
        assert!(!larger_is_better("mae/rbc") && larger_is_better("top1"));
    }
}
