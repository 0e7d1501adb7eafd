//! Plans for data of which nothing exists but its facts.

use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Normalization};
use convoy_common::{Digest, Plan, spec};

/// Facts about images of `size` (height, width, channels) in `classes` classes: 100 images of each class to train on,
/// 40 in all to validate with, a mean of 0.5 and a standard deviation of 0.25 in every channel. A test that wants other
/// facts writes `DataFacts { train_samples: 8, ..facts(..) }`.
///
/// # Examples
/// ```
/// let facts = convoy_testing::facts([28, 28, 1], 3);
/// assert_eq!((facts.names.len(), facts.train_samples, facts.size), (3, 300, [28, 28]));
/// ```
pub fn facts(size: [u32; 3], classes: usize) -> DataFacts {
    let [height, width, channels] = size;
    let statistics = |value| vec![value; channels as usize];
    DataFacts {
        names: (0..classes).map(|class| format!("class{class}")).collect(),
        labels: LabelKind::Class,
        train_samples: 100 * classes as u32,
        validation_samples: 40,
        class_counts: vec![100; classes],
        size: [height, width],
        channels,
        targets: None,
        measured: Some(Normalization { mean: statistics(0.5), std: statistics(0.25) }),
        measured_global: None,
        manifest: Digest::default(),
        init: None,
    }
}

/// The plan of `toml`, a spec without its `[data]`, for data with these facts.
///
/// # Panics
/// When the spec is none, or does not fit the facts.
pub fn plan_of(toml: &str, facts: &DataFacts) -> Plan {
    let spec = spec::parse(&format!("{toml}\n[data]\ntrain = \"x\"\n"), &[]).expect("a spec");
    Plan::resolve(spec, facts).expect("the spec fits the data")
}

/// The plan of `toml`, a spec without its `[data]`, for [`facts`].
///
/// # Panics
/// As [`plan_of`].
pub fn plan(toml: &str, size: [u32; 3], classes: usize) -> Plan {
    plan_of(toml, &facts(size, classes))
}
