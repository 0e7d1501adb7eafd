//! What happens in a run, for people and scripts: `events.jsonl`, the log, and whoever listens.

use std::fs;
use std::path::Path;

use convoy_common::Digest;
use convoy_common::durable::DurableFile;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::history::EpochRow;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The coordinator started.
    Started {
        /// How often it has been started for this run.
        generation: u64,
        /// The parameters it goes on from.
        step: u64,
        /// Steps of the run.
        steps: u64,
    },
    /// A worker joined.
    WorkerJoined {
        /// Its number.
        worker: u32,
        /// Its name.
        name: String,
        /// Shards it computes at a time.
        threads: u32,
    },
    /// A worker is gone.
    WorkerLeft {
        /// Its number.
        worker: u32,
        /// How.
        reason: String,
    },
    /// A lease takes too long; another worker computes it as well.
    Overdue {
        /// Who is late.
        worker: u32,
        /// Which shards.
        node: String,
        /// Seconds since it began.
        seconds: f64,
    },
    /// A node came with a NaN, an infinity or absurdly large; it is computed again before that is believed.
    Doubted {
        /// Who computed it.
        worker: u32,
        /// Which shards.
        node: String,
    },
    /// Workers computed the same shards and did not come out the same; another one judges.
    Disputed {
        /// The step.
        step: u64,
        /// Which shards.
        node: String,
        /// Who computed them, by name.
        workers: Vec<String>,
    },
    /// Workers brought the same shards with other numbers: the step begins anew, and the shards are audited.
    Contradicted {
        /// The step.
        step: u64,
        /// Which shards.
        node: String,
        /// Who brought them, by name or number.
        workers: Vec<String>,
    },
    /// A worker was proven to compute wrongly, and evicted.
    Distrusted {
        /// Its number.
        worker: u32,
        /// Its name.
        name: String,
        /// The step in which it was found out.
        step: u64,
        /// What proves it, in words.
        proof: String,
        /// Who say otherwise, by name; nobody where the coordinator found it out.
        judges: Vec<String>,
        /// What it had a part in from this step on is computed again.
        since: u64,
    },
    /// Two workers say different things of what one has brought the other: one of them is wrong, and neither adds
    /// chunks any more.
    Disagreed {
        /// The step.
        step: u64,
        /// Which two, by name.
        workers: [String; 2],
        /// What they had a part in from this step on is computed again.
        since: u64,
    },
    /// A worker could not do a lease.
    LeaseFailed {
        /// Which worker.
        worker: u32,
        /// What it said.
        reason: String,
    },
    /// An epoch was trained and evaluated.
    Epoch(EpochRow),
    /// A checkpoint is safe on disk.
    Checkpoint {
        /// Its parameters.
        step: u64,
        /// Its file, relative to the run folder.
        file: String,
    },
    /// A checkpoint could not be written; training goes on and the last good one is kept.
    CheckpointFailed {
        /// Its parameters.
        step: u64,
        /// Why.
        reason: String,
    },
    /// The file of events was full; these are not in it.
    LeftOut {
        /// How many events.
        events: u64,
    },
    /// The run ended.
    Finished {
        /// How.
        outcome: String,
        /// Its last parameters.
        step: u64,
        /// Their digest.
        parameters_digest: Digest,
    },
}

/// Bytes of `events.jsonl`, but for the end of the run; what comes after is left out and counted.
const KEPT: u64 = 256 << 20;

/// Writes events and hands them on.
#[derive(Debug)]
pub struct Events {
    file: Option<DurableFile>,
    /// Bytes in the file.
    written: u64,
    left_out: u64,
    /// Whether the last event could not be written.
    failing: bool,
    listener: Option<mpsc::UnboundedSender<RunEvent>>,
}

#[derive(Serialize)]
struct Stamped<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a RunEvent,
}

impl Events {
    /// Appends to the file at `path` and tells `listener`. Events are news, not state: those that cannot be written are
    /// left out and counted, and do not stop the run.
    pub fn open(path: &Path, listener: Option<mpsc::UnboundedSender<RunEvent>>) -> Self {
        let file = DurableFile::append(path);
        if let Err(error) = &file {
            tracing::warn!(path = %path.display(), %error, "events are not written to disk");
        }
        let written = fs::metadata(path).map_or(0, |facts| facts.len());
        Events { file: file.ok(), written, left_out: 0, failing: false, listener }
    }

    /// Tells that `event` happened now.
    pub fn tell(&mut self, event: RunEvent) {
        let is_end = matches!(event, RunEvent::Finished { .. });
        if is_end && self.left_out > 0 {
            let events = std::mem::take(&mut self.left_out);
            self.write(&RunEvent::LeftOut { events });
        }
        match is_end || self.written < KEPT {
            true => self.write(&event),
            false => self.left_out += 1,
        }
        if let Some(listener) = &self.listener {
            _ = listener.send(event);
        }
    }

    fn write(&mut self, event: &RunEvent) {
        let Some(file) = &self.file else { return };
        let stamped = Stamped { time: jiff::Timestamp::now().to_string(), event };
        let line = serde_json::to_string(&stamped).expect("an event is plain data") + "\n";
        let Err(error) = file.add(line.as_bytes()) else {
            self.written += line.len() as u64;
            self.failing = false;
            return;
        };
        // A part of the line would spoil the next one.
        _ = file.cut(self.written);
        self.left_out += 1;
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(%error, "events.jsonl cannot be written; events are left out");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom};

    use convoy_common::durable::faults::{Fault, FaultPlan, Faults};

    use super::*;

    #[test]
    fn events_without_room_are_left_out_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let mut events = Events::open(&path, None);
        let failed = |worker| RunEvent::LeaseFailed { worker, reason: "x".to_owned() };
        events.tell(failed(1));
        let plan = FaultPlan { point: 1, fault: Fault::Short, lasting: true };
        let faults = Faults::in_folder(folder.path(), Some(plan));
        (2..5).for_each(|worker| events.tell(failed(worker)));
        faults.heal();
        events.tell(failed(5));
        let parameters_digest = Digest::default();
        events.tell(RunEvent::Finished { outcome: "completed".to_owned(), step: 9, parameters_digest });
        let text = fs::read_to_string(&path).unwrap();
        let told: Vec<RunEvent> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [RunEvent::LeaseFailed { worker: 1, .. }, RunEvent::LeaseFailed { worker: 5, .. }, rest @ ..] = &told[..]
        else {
            panic!("{text}")
        };
        assert!(matches!(rest, [RunEvent::LeftOut { events: 3 }, RunEvent::Finished { .. }]), "{text}");
    }

    #[test]
    fn a_full_file_says_how_much_was_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        File::create(&path).unwrap().set_len(KEPT).unwrap();
        let mut events = Events::open(&path, None);
        for worker in 0..3 {
            events.tell(RunEvent::LeaseFailed { worker, reason: "x".repeat(4096) });
        }
        let parameters_digest = Digest::default();
        events.tell(RunEvent::Finished { outcome: "completed".to_owned(), step: 9, parameters_digest });
        let (mut file, mut text) = (File::open(&path).unwrap(), String::new());
        file.seek(SeekFrom::Start(KEPT)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let told: Vec<RunEvent> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(matches!(told[..], [RunEvent::LeftOut { events: 3 }, RunEvent::Finished { .. }]), "{text}");
    }
}
