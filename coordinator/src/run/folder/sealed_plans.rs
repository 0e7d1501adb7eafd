//! Plans that a run had before, as they are written: sealed like the plan itself.

use convoy_common::Digest;
use serde::{Deserialize, Serialize};

/// A plan that a run had before its number of epochs was changed. All else of it is in the plan in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierPlan {
    /// Its epochs.
    pub epochs: u32,
    /// Its digest, which checkpoints of its time name.
    pub plan: Digest,
    /// Steps that were done when the next plan took its place.
    pub steps: u64,
}

/// What is written: the plans, and the digest of them as JSON on one line.
#[derive(Serialize, Deserialize)]
struct SealedPlans {
    seal: Digest,
    plans: Vec<EarlierPlan>,
}

/// The plans that [`to_sealed_json`] was given; what is wrong where a value is not what was written.
pub(super) fn unsealed(bytes: &[u8]) -> Result<Vec<EarlierPlan>, String> {
    let read: Result<SealedPlans, _> = serde_json::from_slice(bytes);
    let SealedPlans { seal, plans } = read.map_err(|error| format!("is not what Convoy wrote: {error}"))?;
    match seal == seal_of(&plans) {
        true => Ok(plans),
        false => Err("is not what Convoy wrote: its plans do not have the digest that `seal` names".to_owned()),
    }
}

/// As JSON, sealed.
pub(super) fn to_sealed_json(plans: &[EarlierPlan]) -> Vec<u8> {
    let sealed = SealedPlans { seal: seal_of(plans), plans: plans.to_owned() };
    serde_json::to_vec_pretty(&sealed).expect("it is plain data")
}

fn seal_of(plans: &[EarlierPlan]) -> Digest {
    Digest::of(&serde_json::to_vec(plans).expect("it is plain data"))
}
