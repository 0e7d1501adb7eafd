//! Plans the jobs that are submitted to a coordinator of this process.

use std::path::Path;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::file_tree::FileTree;
use convoy_common::manifest::Manifest;
use convoy_common::spec;
use convoy_coordinator::{JobLimits, Planner, Ready, Refusal};

use crate::commands::resume;
use crate::error::CliError;
use crate::job;

/// Looks at the data where the coordinator keeps it.
#[derive(Debug)]
pub struct LocalPlanner;

impl Planner for LocalPlanner {
    fn plan(&self, data: &Arc<dyn FileTree>, text: &str, limits: &JobLimits) -> Result<(Plan, Manifest), Refusal> {
        let spec = spec::parse(text, &[]).map_err(|error| refusal(CliError::Spec { file: None, error }))?;
        limits.check_spec(&spec)?;
        let scanned = job::look(data.as_ref(), &spec).map_err(refusal)?;
        let (plan, network, init) = job::plan(data, spec, &scanned, None, text).map_err(refusal)?;
        limits.check_plan(&plan, &network)?;
        if init.is_some() {
            // Whether it fits; random values always do.
            job::initial(&plan, &network, init.as_deref()).map_err(refusal)?;
        }
        Ok((plan, scanned.manifest))
    }

    fn open(&self, data: &Arc<dyn FileTree>, folder: &Path) -> Result<Ready, Refusal> {
        resume::ready(data, folder).map_err(refusal)
    }
}

fn refusal(error: CliError) -> Refusal {
    Refusal { message: error.to_string(), code: error.exit_code() }
}
