//! A second world, of links alone: many workers in calm weather, each with a link of so many bytes a second, and the
//! scheduler of the coordinator. It tells how long a step takes, and who sends and takes in how much.
//!
//! Nothing fails here, all workers compute equally fast, and a byte costs nobody anything but the time of its links. So
//! what a step takes more than its computing is the exchange of gradients and parameters: [`StepFigures::exchange`].

mod bounds;
mod figures;
mod links;
mod routes;
mod units;
mod world;

use std::time::Duration;

use convoy_scheduler::{Limits, Micros, RunPlan, Timeouts};

use links::Wire;

pub use figures::{Rates, StepFigures};
pub use units::{UnitError, bytes, bytes_per_second, nanos};

/// The bytes of a chunk of a gradient.
pub const CHUNK: u64 = 256 * 1024;
/// Of a link's bits, so many in a hundred are numbers; the others are headers, and ends of packets.
const GOODPUT: u64 = 94;

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
    /// Steps of the run; those from the third on are alike.
    pub steps: u32,
    /// Whether the coordinator owns all chunks, since nobody says whom it reaches.
    pub star: bool,
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
        }
    }

    /// Chunks of a gradient.
    pub fn chunks(&self) -> u32 {
        u32::try_from(self.gradient.div_ceil(self.chunk)).unwrap_or(u32::MAX)
    }

    /// Bytes of this chunk.
    fn bytes_of(&self, chunk: u32) -> u64 {
        self.chunk.min(self.gradient - u64::from(chunk) * self.chunk)
    }

    fn wire(&self) -> Wire {
        Wire { rate: (self.rate * GOODPUT / 100).max(1), latency: self.latency }
    }

    /// The run as the scheduler sees it.
    fn run(&self) -> RunPlan {
        let shards = self.workers * self.threads;
        // Nobody is late here, however slow the links are and whatever computing takes.
        let long = Micros::seconds(24 * 3600);
        let timeouts = Timeouts {
            stall: long,
            spare_stall: long,
            send_floor: long,
            lease_unmeasured: long,
            spare_unmeasured: long,
            ..Timeouts::default()
        };
        let limits = Limits { workers: self.workers, ..Limits::default() };
        let chunks = self.chunks();
        RunPlan { chunks, timeouts, limits, ..RunPlan::new(1, u64::from(self.steps), shards, shards) }
    }
}

/// Plays a run. `clock` tells the processor's time; it is shown in [`StepFigures::heart`], and nothing goes by it.
///
/// # Errors
/// What the scheduler did that it should not do in calm weather.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use convoy_sim::rates::{RatesPlan, play};
///
/// let plan = RatesPlan { gradient: 2_000_000, ..RatesPlan::of_workers(4) };
/// let rates = play(&plan, || Duration::ZERO).expect("the weather is calm");
/// // Each worker sends three quarters of its gradient to others, and a quarter of the parameters to three of them.
/// let sent = rates.steady().worker_out_most;
/// assert!(sent > 3_000_000 && sent < 4_000_000);
/// ```
pub fn play(plan: &RatesPlan, clock: impl Fn() -> Duration) -> Result<Rates, String> {
    world::World::new(plan, clock).play()
}
