//! Checkpoints are written on a thread of their own; a step never waits for one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;

use convoy_common::durable::{full_disk, is_full};
use convoy_common::{Plan, panic_text};
use convoy_model::Network;
use convoy_reduce::ParameterState;

use super::folder::checkpoint;
use super::folder::history::History;
use super::folder::journal::JournalSync;
use super::patience::{PAUSES, TRY_EVERY};
use super::run_inputs::RunInput;
use crate::queue::QueueSender;

/// Tries of a checkpoint that a full disk is not the reason of, and of any once somebody waits for the end.
const TRIES: u32 = 10;

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
///
/// One that cannot be written is tried again, until a newer one is asked for: as long as the disk is full, or
/// [`TRIES`] times where there is another reason.
#[derive(Debug)]
pub(crate) struct CheckpointWriter {
    queue: Option<Sender<CheckpointToWrite>>,
    /// Whether somebody waits for the end of the run.
    hurry: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl CheckpointWriter {
    /// Starts the thread. Each checkpoint ends in [`RunInput::CheckpointWritten`] or [`RunInput::CheckpointFailed`];
    /// before that there may be a [`RunInput::CheckpointWaits`].
    pub(crate) fn start(
        folder: PathBuf,
        plan: Arc<Plan>,
        network: Arc<Network>,
        journal: JournalSync,
        inputs: QueueSender<RunInput>,
    ) -> Self {
        let (queue, queued) = channel::<CheckpointToWrite>();
        let hurry = Arc::new(AtomicBool::new(false));
        let desk = Desk { folder, plan, network, journal, inputs, hurry: hurry.clone() };
        let thread = std::thread::spawn(move || desk.work(&queued));
        CheckpointWriter { queue: Some(queue), hurry, thread: Some(thread) }
    }

    /// Queues a checkpoint.
    pub(crate) fn write(&self, checkpoint: CheckpointToWrite) {
        // The thread ends before the writer only when nobody hears its answers any more.
        if let Some(queue) = &self.queue {
            _ = queue.send(checkpoint);
        }
    }

    /// Somebody waits for the end of the run: no checkpoint is tried for long any more.
    pub(crate) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
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

/// Why a checkpoint is not on disk.
enum Problem {
    /// The disk is full.
    Full(String),
    /// Another one, which may pass.
    Other(String),
    /// One that does not pass.
    Final(String),
}

/// What the thread works with.
struct Desk {
    folder: PathBuf,
    plan: Arc<Plan>,
    network: Arc<Network>,
    journal: JournalSync,
    inputs: QueueSender<RunInput>,
    hurry: Arc<AtomicBool>,
}

impl Desk {
    fn work(&self, queued: &Receiver<CheckpointToWrite>) {
        let mut next = queued.recv().ok();
        while let Some(checkpoint) = next.take() {
            let step = checkpoint.step;
            let told = match self.write_patiently(checkpoint, queued, &mut next) {
                Ok(path) => RunInput::CheckpointWritten { step, path },
                Err(reason) => RunInput::CheckpointFailed { step, reason },
            };
            if !self.inputs.send(told) {
                return;
            }
            next = next.or_else(|| queued.recv().ok());
        }
    }

    /// Writes a checkpoint, or gives it up for the `next` one in the queue.
    fn write_patiently(
        &self,
        asked: CheckpointToWrite,
        queued: &Receiver<CheckpointToWrite>,
        next: &mut Option<CheckpointToWrite>,
    ) -> Result<PathBuf, String> {
        let CheckpointToWrite { step, trusted, state, history } = asked;
        let state = state.recv().map_err(|_| "the run ended before its parameters came".to_owned())?;
        let (mut tries, mut told) = (0, false);
        loop {
            // What panics is told as well: the run waits for an answer.
            let write = AssertUnwindSafe(|| self.write(&state, &history));
            let written = catch_unwind(write).unwrap_or_else(|panic| {
                Err(Problem::Final(format!("writing it crashed: {}", panic_text(panic.as_ref()))))
            });
            let (reason, full) = match written {
                Ok(path) => {
                    let best = history.best.map(|best| best.step);
                    checkpoint::prune(&self.folder, step, self.plan.spec.checkpoint.keep, best, trusted);
                    return Ok(path);
                }
                Err(Problem::Final(reason)) => return Err(reason),
                Err(Problem::Full(reason)) => (reason, true),
                Err(Problem::Other(reason)) => (reason, false),
            };
            if !std::mem::replace(&mut told, true) {
                self.inputs.send(RunInput::CheckpointWaits { step, reason: reason.clone() });
            }
            tries += u32::from(!full || self.hurry.load(Ordering::Relaxed));
            if tries >= TRIES {
                return Err(reason);
            }
            match queued.recv_timeout(if full { TRY_EVERY } else { PAUSES.longest(tries - 1) }) {
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(reason),
                Ok(newer) => {
                    *next = Some(newer);
                    return Err(reason);
                }
            }
        }
    }

    fn write(&self, state: &ParameterState, history: &History) -> Result<PathBuf, Problem> {
        // A checkpoint may not hold steps that the journal could still lose. A failed sync stays failed.
        self.journal.sync().map_err(|error| Problem::Final(error.to_string()))?;
        checkpoint::write(&self.folder, &self.plan, &self.network, state, history).map_err(|error| {
            match is_full(&error.source) {
                true => Problem::Full(full_disk(Path::new(&error.path))),
                false => Problem::Other(error.to_string()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
