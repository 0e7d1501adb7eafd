//! Whole small runs on disks that fail, fill up, forget, are slow or were damaged.

mod damage;
mod points;
mod waiting;

use std::path::Path;
use std::sync::Arc;

use convoy_common::planner::Planned;
use convoy_common::{Digest, Plan};
use convoy_scheduler::JobId;
use tokio::sync::{mpsc, watch};

use super::carry::carry;
use super::config::{Carriage, Config};
use super::error::RunError;
use super::export::export;
use super::folder::events::RunEvent;
use super::folder::run_dir::RunDir;
use super::honest::HonestLinks;
use super::ready::Ready;
use super::report::RunReport;
use super::start::load;
use super::status::Status;
use crate::fixtures::{NoFiles, manifest_of, plan};

/// Two epochs of two steps and an evaluation, with a checkpoint after each.
const SPEC: &str = "[train]\nepochs = 2\nbatch = 8\nshard = 4\n[optimizer]\nkind = \"sgd\"\nmomentum = 0.9\n\
                    [checkpoint]\nkeep = 2\n\
                    [network]\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out = 2 }]";
const STEPS: u64 = 4;

/// A folder where syncs take no time, if there is one.
fn place() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The run in `folder`, which is made if it is not there, ready for one start.
fn ready(folder: &Path, spec: &str) -> Result<Ready, String> {
    let (dir, plan, manifest) = match folder.join("plan.json").exists() {
        true => RunDir::open(folder).map_err(|error| error.to_string())?,
        false => {
            let (plan, manifest) = (Plan::clone(&plan(spec, 16, 4)), manifest_of(16, 4));
            let dir = RunDir::create(folder, &plan, &manifest).map_err(|error| error.to_string())?;
            (dir, plan, Some(manifest))
        }
    };
    let manifest = manifest.unwrap_or_else(|| manifest_of(16, 4));
    Ok(Ready::new(dir, Planned { plan, manifest, init: None, taken: None }).expect("it was planned"))
}

/// Carries `ready` until its end, or until `stop`.
async fn carry_ready(
    ready: Ready,
    (status, tell): (watch::Sender<Status>, mpsc::UnboundedSender<RunEvent>),
    stop: impl Future<Output = ()>,
) -> Result<RunReport, RunError> {
    let config = Config { listener: Some(tell), ..ready.config(Arc::new(NoFiles), Carriage::default(), status) };
    carry(load(config)?, JobId(1), Arc::new(HonestLinks), stop).await
}

/// One start of the run in `folder`: the digest it ends with. What it tells goes to `tell`.
async fn start(folder: &Path, tell: mpsc::UnboundedSender<RunEvent>) -> Result<Digest, String> {
    let ready = ready(folder, SPEC)?;
    let (plan, network) = (ready.plan.clone(), ready.network.clone());
    let shown = (watch::channel(Status::default()).0, tell);
    let report = carry_ready(ready, shown, std::future::pending()).await.map_err(|error| error.to_string())?;
    export(folder, &plan, &network, &report).map_err(|error| error.to_string())?;
    Ok(report.parameters_digest)
}

/// The digest that the run ends with where nothing happens.
async fn undisturbed() -> Digest {
    let place = place();
    start(&place.path().join("run"), mpsc::unbounded_channel().0).await.unwrap()
}
