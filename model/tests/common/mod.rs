//! Plans for tests.

use convoy_common::plan::{DataFacts, Normalization, Plan};
use convoy_testing::facts;

/// The plan of `extra` (TOML) for 300 grey images of 16x12 in three classes.
pub fn plan(extra: &str) -> Plan {
    plan_of(extra, [16, 12], 1)
}

/// The plan of `extra` for images of this size and number of channels, whose statistics need all their digits.
pub fn plan_of(extra: &str, [height, width]: [u32; 2], channels: u32) -> Plan {
    let statistics = |value| vec![value; channels as usize];
    let facts = DataFacts {
        names: ["ant", "bee", "cow"].map(str::to_owned).to_vec(),
        measured: Some(Normalization { mean: statistics(0.1), std: statistics(0.3) }),
        ..facts([height, width, channels], 3)
    };
    convoy_testing::plan_of(extra, &facts)
}
