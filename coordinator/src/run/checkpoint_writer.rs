//! Checkpoints are written on a thread of their own; a step never waits for one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use convoy_common::Plan;
use convoy_model::Network;

use super::folder::checkpoint;
use super::folder::history::History;
use super::folder::journal::JournalSync;
use super::reduction::parameter_state::ParameterState;
use super::run_inputs::RunInput;
use crate::queue::QueueSender;

/// A checkpoint that is asked for.
#[derive(Debug)]
pub(crate) struct CheckpointToWrite {
    /// Steps done.
    pub(crate) step: u64,
    /// Parameters that no audit can still find wrong.
    pub(crate) trusted: u64,
    /// Where the parameters come from: the reducer sends them when it has come to the snapshot.
    pub(crate) state: Receiver<Arc<ParameterState>>,
    /// What is known of the run.
    pub(crate) history: History,
}

/// The thread that writes checkpoints.
///
/// Of the checkpoints by interval the run asks for the next once the one before is written. Those at the ends of epochs
/// it asks for without waiting: where epochs are shorter than writes, they queue, each with its parameters.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    queue: Option<Sender<CheckpointToWrite>>,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointWriter {
    /// Starts the thread. Each checkpoint ends in [`RunInput::CheckpointWritten`] or [`RunInput::CheckpointFailed`].
    pub(crate) fn start(
        folder: PathBuf,
        plan: Arc<Plan>,
        network: Arc<Network>,
        journal: JournalSync,
        inputs: QueueSender<RunInput>,
    ) -> Self {
        let (queue, queued) = channel::<CheckpointToWrite>();
        let thread = std::thread::spawn(move || {
            for checkpoint in queued {
                let step = checkpoint.step;
                let input = match write(&folder, &plan, &network, &journal, checkpoint) {
                    Ok(path) => RunInput::CheckpointWritten { step, path },
                    Err(reason) => RunInput::CheckpointFailed { step, reason },
                };
                if !inputs.send(input) {
                    return;
                }
            }
        });
        CheckpointWriter { queue: Some(queue), thread: Some(thread) }
    }

    /// Queues a checkpoint.
    pub(crate) fn write(&self, checkpoint: CheckpointToWrite) {
        // The thread ends before the writer only when nobody hears its answers any more.
        if let Some(queue) = &self.queue {
            _ = queue.send(checkpoint);
        }
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn write(
    folder: &Path,
    plan: &Plan,
    network: &Network,
    journal: &JournalSync,
    asked: CheckpointToWrite,
) -> Result<PathBuf, String> {
    let state = asked.state.recv().map_err(|_| "the run ended before its parameters came".to_owned())?;
    // A checkpoint may not hold steps that the journal could still lose.
    journal.sync().map_err(|error| error.to_string())?;
    let path = checkpoint::write(folder, plan, network, &state, &asked.history).map_err(|error| error.to_string())?;
    let best = asked.history.best.map(|best| best.step);
    checkpoint::prune(folder, asked.step, plan.spec.checkpoint.keep, best, asked.trusted);
    Ok(path)
}
