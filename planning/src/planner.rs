//! Planning for a coordinator of this process.

use std::sync::Arc;

use convoy_common::file_tree::FileTree;
use convoy_common::manifest::Manifest;
use convoy_common::planner::{Planned, Planner, Refusal};
use convoy_common::{Plan, Spec};

use crate::job::plan;
use crate::look::{Looking, look};
use crate::spec_file::SpecFile;
use crate::unchanged::unchanged;

/// Looks at the data where the coordinator keeps it.
#[derive(Debug)]
pub struct LocalPlanner {
    /// How it looks.
    pub looking: Looking,
}

impl Planner for LocalPlanner {
    fn plan(&self, data: &Arc<dyn FileTree>, spec: Spec, text: &str) -> Result<Planned, Refusal> {
        let scanned = look(data.as_ref(), &spec, &self.looking)?;
        let file = SpecFile { spec, path: None, text: text.to_owned() };
        let (plan, init) = plan(data, file, &scanned, &self.looking)?;
        Ok(Planned { plan, init, taken: Some(scanned.taken.to_string()), manifest: scanned.manifest })
    }

    fn unchanged(&self, data: &Arc<dyn FileTree>, plan: Plan, manifest: Option<Manifest>) -> Result<Planned, Refusal> {
        Ok(unchanged(data.as_ref(), plan, manifest, &self.looking)?)
    }
}
