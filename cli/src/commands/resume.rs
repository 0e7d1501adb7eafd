//! `convoy resume`: a run goes on from its newest good checkpoint; a job of a coordinator goes on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use convoy_common::Digest;
use convoy_common::file_tree::FileTree;
use convoy_common::manifest::Manifest;
use convoy_coordinator::{Ready, RunDir};
use convoy_model::Network;

use super::cluster::change::{self, Change};
use crate::cluster::Where;
use crate::error::CliError;
use crate::job;
use crate::runner::{self, Carry};

/// Go on with a run that was stopped or killed, or with a paused job; it ends in the very digest of the uninterrupted
/// run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  convoy resume runs/fashion-mnist-1\n  convoy resume fashion-mnist-3")]
pub struct Args {
    /// The run folder; or a job of a coordinator, by name, number, or `last`.
    run: PathBuf,
    #[command(flatten)]
    carry: Carry,
    /// End with one JSON object on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: Where,
}

pub fn run(args: Args) -> Result<ExitCode, CliError> {
    let text = args.run.to_string_lossy();
    if !args.run.exists() && !text.contains(std::path::MAIN_SEPARATOR) {
        let job = change::Args { job: text.into_owned(), json: args.json, at: args.at };
        match change::run(job, Change::Resume) {
            // Then a run folder was meant, and it is not there.
            Err(CliError::Unreachable { .. }) => {}
            done => return done,
        }
    }
    let ready = ready(&job::disk(), &args.run)?;
    args.carry.device.fits(&ready.plan)?;
    runner::train(ready, &args.carry, args.json)
}

/// The run in `folder`, after its data in `tree` was compared with the manifest.
///
/// # Errors
/// When it is no run, or the data has changed.
pub fn ready(tree: &Arc<dyn FileTree>, folder: &Path) -> Result<Ready, CliError> {
    let (dir, plan, mut manifest) = RunDir::open(folder)?;
    let mut data = plan.spec.data.clone();
    // What is broken now but was not before is a change, and named as one.
    data.bad_images = convoy_common::spec::BadImage::Quarantine;
    let spec = convoy_common::Spec { data, ..plan.spec.clone() };
    if manifest.digest() != plan.manifest || !is_known(tree.as_ref(), &manifest) {
        let now = job::look(tree.as_ref(), &spec)?.manifest;
        if now.digest() != plan.manifest {
            let difference = manifest.difference(&now).unwrap_or_else(|| "its manifest differs".to_owned());
            return Err(CliError::DataChanged { difference });
        }
        manifest = now;
    }
    let network = Network::of(&plan)?;
    let init = job::init_file(tree.as_ref(), &plan.spec)?;
    if init.as_deref().map(Digest::of) != plan.init {
        let difference = "the file that network.init names has other bytes".to_owned();
        return Err(CliError::DataChanged { difference });
    }
    let (initial, _) = job::initial(&plan, &network, init.as_deref())?;
    Ok(Ready { dir, plan: Arc::new(plan), network: Arc::new(network), manifest, initial })
}

/// Whether all files of `manifest` are what they were, as `tree` knows without reading them.
fn is_known(tree: &dyn FileTree, manifest: &Manifest) -> bool {
    let splits = [&manifest.train, &manifest.validation];
    splits.into_iter().all(|split| {
        split.files.iter().all(|file| {
            let known = tree.known(&Path::new(&split.root).join(&file.path));
            matches!(known, Ok(Some(known)) if known == (file.size, file.blake3))
        })
    })
}
