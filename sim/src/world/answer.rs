//! A worker's answer to a lease, and how much of it comes.

use convoy_scheduler::*;

use crate::oracle;

/// A worker's answer to a lease.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The lease that it answers.
    pub lease: Lease,
    /// The node's chunks.
    pub chunks: Vec<u64>,
    /// Those that go to the coordinator.
    pub to_coordinator: Vec<usize>,
    /// The owners that have the others.
    pub version: OwnersVersion,
    /// How much of them comes, and how.
    pub sent: Sent,
    /// Microseconds that one of its shards took on one thread.
    pub shard_micros: u64,
    /// Why the node could not be computed, if it could not.
    pub failure: Option<Failure>,
    /// Whether the numbers can be used.
    pub result: NodeResult,
}

/// How the chunks of an answer are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of them.
    Whole,
    /// The first chunk comes twice: this number before the other.
    Twice(u64),
    /// Only this chunk comes before the worker dies.
    Half(usize),
}

impl Answer {
    /// The chunks that are sent, by index, in their order. A push ends with a chunk that comes twice; unless that is
    /// `overlooked`.
    pub fn came(&self, overlooked: bool) -> Vec<(usize, u64)> {
        // The numbers of an evaluation come in one piece, at the end.
        let trains = self.lease.work == Work::Train;
        let all = || self.chunks.iter().copied().enumerate();
        let sent = match self.sent {
            Sent::Whole => all().collect(),
            Sent::Twice(before) if overlooked => std::iter::once((0, before)).chain(all().skip(1)).collect(),
            Sent::Twice(before) if trains => vec![(0, before)],
            Sent::Half(index) if trains => vec![(index, self.chunks[index])],
            Sent::Twice(_) | Sent::Half(_) => vec![],
        };
        if self.is_finite() { sent } else { vec![] }
    }

    /// Whether its numbers can be added.
    pub fn is_finite(&self) -> bool {
        self.failure.is_none() && self.result != NodeResult::NotFinite
    }

    /// All of its numbers in one.
    pub fn number(&self) -> u64 {
        oracle::whole(&self.chunks)
    }

    /// The digest of its numbers.
    pub fn digest(&self) -> [u8; 32] {
        oracle::digest(self.number())
    }

    /// As the coordinator hears it from `worker`.
    pub fn event(&self, worker: WorkerId) -> Event {
        let (at, shard_micros) = (self.lease.at, self.shard_micros);
        match self.failure {
            Some(failure) => Event::LeaseFailed { worker, at, failure },
            // Numbers that come twice are refused.
            None if matches!(self.sent, Sent::Twice(_)) => {
                Event::LeaseFailed { worker, at, failure: Failure::Internal }
            }
            None => {
                let (version, result) = (self.version, self.result);
                Event::NodeDone { worker, at, shard_micros, version, result, digest: None }
            }
        }
    }
}
