//! Checkpoints are written on a thread of their own; a step never waits for one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use convoy_common::Plan;
use convoy_model::Network;
use tokio::sync::mpsc::UnboundedSender;

use crate::checkpoint;
use crate::inputs::Input;
use crate::journal::JournalSync;
use crate::tracker::History;
use crate::update::Generation;

/// A checkpoint to be written.
#[derive(Debug)]
pub struct Job {
    /// Steps done.
    pub step: u64,
    /// Parameters that no audit can still find wrong.
    pub trusted: u64,
    /// Where the parameters come from.
    pub generation: Receiver<Arc<Generation>>,
    /// What is known of the run.
    pub history: History,
}

/// The thread that writes checkpoints.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. Each job ends in [`Input::CheckpointWritten`] or [`Input::CheckpointFailed`].
    pub fn start(
        folder: PathBuf,
        plan: Arc<Plan>,
        network: Arc<Network>,
        journal: JournalSync,
        inputs: UnboundedSender<Input>,
    ) -> Self {
        let (jobs, queue) = channel::<Job>();
        let thread = std::thread::spawn(move || {
            for job in queue {
                let step = job.step;
                let input = match write(&folder, &plan, &network, &journal, job) {
                    Ok(path) => Input::CheckpointWritten { step, path },
                    Err(reason) => Input::CheckpointFailed { step, reason },
                };
                if inputs.send(input).is_err() {
                    return;
                }
            }
        });
        Writer { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Queues a checkpoint.
    pub fn write(&self, job: Job) {
        // The thread ends before the writer only when nobody hears its answers any more.
        if let Some(jobs) = &self.jobs {
            _ = jobs.send(job);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn write(
    folder: &std::path::Path,
    plan: &Plan,
    network: &Network,
    journal: &JournalSync,
    job: Job,
) -> Result<PathBuf, String> {
    let generation = job.generation.recv().map_err(|_| "the run ended before its parameters came".to_owned())?;
    // A checkpoint may not hold steps that the journal could still lose.
    journal.sync().map_err(|error| error.to_string())?;
    let path =
        checkpoint::write(folder, plan, network, &generation, &job.history).map_err(|error| error.to_string())?;
    let best = job.history.best.map(|best| best.step);
    checkpoint::prune(folder, job.step, plan.spec.checkpoint.keep, best, job.trusted);
    Ok(path)
}
