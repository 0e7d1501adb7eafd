//! What a run is like.

use convoy_scheduler::{Limits, Micros, RunPlan, Timeouts};

use super::network::Cable;

/// The bytes of a chunk of a gradient.
pub const CHUNK: u64 = 256 * 1024;
/// Of a link's bits, so many in a hundred are numbers; the others are headers, and ends of packets.
const GOODPUT: u64 = 94;

/// Bytes that a machine sends another one before that must have taken some of them.
const WINDOW: u64 = 1024 * 1024;

/// Workers, what they compute, and their links. Times are in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatesPlan {
    /// Workers.
    pub workers: u32,
    /// Threads of each worker. A step has a shard for each.
    pub threads: u32,
    /// What a shard takes to be computed.
    pub compute: u64,
    /// Bytes of a gradient, and of the parameters.
    pub gradient: u64,
    /// Bytes of each chunk of them but the last.
    pub chunk: u64,
    /// Bytes a second that a link carries each way, headers and all.
    pub rate: u64,
    /// What a byte takes from one machine to another on an idle link.
    pub latency: u64,
    /// Steps that are played; those from the third on are alike.
    pub steps: u32,
    /// Whether the coordinator owns all chunks, since nobody says whom it reaches.
    pub star: bool,
    /// Whether nodes and sums may take any time to be sent. With the usual timeouts, a worker that is found late is an
    /// error.
    pub patient: bool,
}

impl RatesPlan {
    /// So many workers with links of 10 Gbit/s and a gradient of 45 MB.
    pub fn of_workers(workers: u32) -> RatesPlan {
        RatesPlan {
            workers,
            threads: 1,
            compute: 200_000_000,
            gradient: 45_000_000,
            chunk: CHUNK,
            rate: 1_250_000_000,
            latency: 100_000,
            steps: 3,
            star: false,
            patient: true,
        }
    }

    /// Chunks of a gradient.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.gradient.div_ceil(self.chunk)).unwrap_or(u32::MAX)
    }

    /// Bytes of this chunk.
    pub(super) fn bytes_of(&self, chunk: u32) -> u64 {
        self.chunk.min(self.gradient - u64::from(chunk) * self.chunk)
    }

    pub(super) fn cable(&self) -> Cable {
        let rate = (self.rate * GOODPUT / 100).max(1);
        Cable { rate, latency: self.latency, window: WINDOW }
    }

    /// The run as the scheduler sees it.
    pub(super) fn run(&self) -> RunPlan {
        let shards = self.workers * self.threads;
        // What was never measured cannot be late.
        let long = Micros::seconds(24 * 3600);
        let usual = Timeouts { lease_unmeasured: long, spare_unmeasured: long, ..Timeouts::default() };
        let timeouts =
            if self.patient { Timeouts { stall: long, spare_stall: long, send_floor: long, ..usual } } else { usual };
        let limits = Limits { workers: self.workers, ..Limits::default() };
        let chunks = self.chunks();
        // All steps that are played open another one when they end.
        RunPlan { chunks, timeouts, limits, ..RunPlan::new(1, u64::from(self.steps) + 1, shards, shards) }
    }
}
