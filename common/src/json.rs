//! Plans as JSON. Reading and writing them is compiled here, once, for all who do.

use serde::Deserialize;

use crate::Digest;
use crate::plan::Plan;

/// The key of a sealed plan that names the digest of all others.
#[derive(Deserialize)]
struct Seal {
    seal: Digest,
}

impl Plan {
    /// As JSON on one line; floats come back as they were.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it is plain data")
    }

    /// As JSON with a line for each value, of which the first, `seal`, is the digest of [`to_json`](Self::to_json).
    pub fn to_sealed_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("it is plain data");
        let inside = json.strip_prefix('{').expect("a plan is an object");
        format!("{{\n  \"seal\": \"{}\",{inside}\n", Digest::of(&self.to_json()))
    }

    /// What [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// When it is not JSON, or JSON of something else.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// What [`to_sealed_json`](Self::to_sealed_json) wrote, after [its checks](Self::check).
    ///
    /// # Errors
    /// What is wrong, when a value is not what was written.
    pub fn from_sealed_json(json: &[u8]) -> Result<Self, String> {
        let foreign = |error: serde_json::Error| format!("is not what Convoy wrote: {error}");
        let plan = Plan::from_json(json).map_err(foreign)?;
        let Seal { seal } = serde_json::from_slice(json).map_err(foreign)?;
        if Digest::of(&plan.to_json()) != seal {
            return Err("is not what Convoy wrote: its values do not have the digest that `seal` names".to_owned());
        }
        plan.check()?;
        Ok(plan)
    }
}
