//! What a run leaves for use: the model of its last parameters, and that of its best epoch.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use convoy_common::Plan;
use convoy_common::durable::{WriteError, remove_folder};
use convoy_model::{Network, model_dir};
use serde::Serialize;

use super::folder::checkpoint;
use super::folder::earlier_plans::earlier_plans;
use super::folder::run_dir::write_metrics;
use super::report::RunReport;

/// The object that a run ends with.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    /// The run folder.
    pub run_dir: &'a Path,
    /// How it went.
    #[serde(flatten)]
    pub report: &'a RunReport,
    /// Where the model of the last parameters is.
    pub model: PathBuf,
    /// Where the best epoch's is, if that was not the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_model: Option<PathBuf>,
}

/// Writes `model/`, and `model-best/` where the best epoch was not the last, into the run folder `dir`; and
/// `metrics.csv`, which the disk may have had no room for at the end of some epoch.
///
/// # Errors
/// When a file cannot be written.
pub fn export<'a>(
    dir: &'a Path,
    plan: &Plan,
    network: &Network,
    report: &'a RunReport,
) -> Result<Summary<'a>, WriteError> {
    write_metrics(dir, &report.history.rows)?;
    let extra = serde_json::json!({ "step": report.steps, "validation": report.validation });
    let model = dir.join("model");
    model_dir::save(&model, plan, network, &report.flat.to_vec(), &extra)?;
    let mut best_model = None;
    let path = dir.join("model-best");
    // What an earlier stop of this run left there may have been bettered since.
    match remove_folder(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(WriteError { path, source }),
        _ => {}
    }
    if let Some(best) = report.best.filter(|best| best.step != report.steps) {
        let file = dir.join("checkpoints").join(checkpoint::file_name(best.step));
        let earlier = earlier_plans(dir, plan).unwrap_or_default();
        match checkpoint::read(&file, plan, &earlier, network) {
            Ok(checkpoint) => {
                let row = report.history.rows.iter().find(|row| row.step == best.step);
                let extra = serde_json::json!({ "step": best.step, "validation": row.map(|row| &row.validation) });
                model_dir::save(&path, plan, network, &checkpoint.state.flat.to_vec(), &extra)?;
                best_model = Some(path);
            }
            Err(error) => {
                tracing::warn!(%error, "the best epoch's checkpoint cannot be used; model-best is not written")
            }
        }
    }
    Ok(Summary { run_dir: dir, report, model, best_model })
}
