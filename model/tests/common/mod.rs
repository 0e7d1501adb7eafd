//! Plans for tests.

use convoy_common::manifest::LabelKind;
use convoy_common::plan::{DataFacts, Normalization, Plan};
use convoy_common::{Digest, spec};

/// The plan of `extra` (TOML) for 300 grey images of 16x12 in three classes.
pub fn plan(extra: &str) -> Plan {
    plan_of(extra, [16, 12], 1)
}

/// The plan of `extra` for images of this size and number of channels.
pub fn plan_of(extra: &str, size: [u32; 2], channels: u32) -> Plan {
    let facts = DataFacts {
        names: ["ant", "bee", "cow"].map(str::to_owned).to_vec(),
        labels: LabelKind::Class,
        train_samples: 300,
        validation_samples: 40,
        class_counts: vec![100, 150, 50],
        size,
        channels,
        measured: Some(Normalization { mean: vec![0.1; channels as usize], std: vec![0.3; channels as usize] }),
        measured_global: None,
        manifest: Digest::of(b"manifest"),
        init: None,
    };
    Plan::resolve(spec::parse(&format!("{extra}\n[data]\ntrain = \"x\"\n"), &[]).unwrap(), &facts).unwrap()
}
