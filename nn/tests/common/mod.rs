//! Plans and batches for tests.

#![allow(dead_code, reason = "each test binary uses some of these")]

use convoy_common::Digest;
use convoy_common::batch::Targets;
use convoy_common::manifest::LabelKind;
use convoy_common::plan::DataFacts;
use convoy_common::plan::Normalization;
use convoy_common::spec::Task;

/// Facts about data of `names` classes, labels or targets.
pub fn facts(size: [u32; 3], labels: LabelKind, names: usize) -> DataFacts {
    let [height, width, channels] = size;
    let statistics = |value| vec![value; channels as usize];
    DataFacts {
        names: (0..names).map(|index| format!("name{index}")).collect(),
        labels,
        train_samples: 320,
        validation_samples: 64,
        class_counts: vec![10; if labels == LabelKind::Class { names } else { 0 }],
        size: [height, width],
        channels,
        measured: Some(Normalization { mean: statistics(0.5), std: statistics(0.25) }),
        measured_global: None,
        manifest: Digest::default(),
        init: None,
    }
}

/// Targets of `task` from numbers, row after row.
pub fn targets(task: Task, numbers: &[f32], names: usize) -> Targets {
    match task {
        Task::Auto | Task::Multiclass | Task::Binary => {
            Targets::Classes(numbers.iter().map(|&class| class as u32).collect())
        }
        Task::Multilabel | Task::Regression => Targets::Values { width: names, values: numbers.to_vec() },
    }
}
