//! Plans as JSON. Reading and writing them is compiled here, once, for all who do.

use crate::plan::Plan;

impl Plan {
    /// As JSON on one line; floats come back as they were.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it is plain data")
    }

    /// As JSON with a line for each value.
    pub fn to_json_pretty(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("it is plain data")
    }

    /// What [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// When it is not JSON, or JSON of something else.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}
