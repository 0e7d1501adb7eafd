//! Plans the jobs that are submitted to a coordinator of this process.

use std::path::Path;
use std::sync::Arc;

use convoy_common::Plan;
use convoy_common::files::Tree;
use convoy_common::manifest::Manifest;
use convoy_common::spec;
use convoy_coordinator::{Planner, Ready, Refusal};

use crate::commands::resume;
use crate::error::CliError;
use crate::job::{self, Job};

/// Looks at the data where the coordinator keeps it.
#[derive(Debug)]
pub struct LocalPlanner;

impl Planner for LocalPlanner {
    fn plan(&self, data: &Arc<dyn Tree>, text: &str) -> Result<(Plan, Manifest), Refusal> {
        let spec = spec::parse(text, &[]).map_err(|error| refusal(CliError::Spec { file: None, error }))?;
        let job = job::look(data.as_ref(), &spec)
            .and_then(|scanned| Job::new(data, spec, scanned, None, text))
            .map_err(refusal)?;
        Ok(((*job.plan).clone(), job.scanned.manifest))
    }

    fn open(&self, data: &Arc<dyn Tree>, folder: &Path) -> Result<Ready, Refusal> {
        resume::ready(data, folder).map_err(refusal)
    }
}

fn refusal(error: CliError) -> Refusal {
    Refusal { message: error.to_string(), code: error.exit_code() }
}
