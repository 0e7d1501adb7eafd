//! A worker process: it computes its leases one after the other, each on all its threads, with the parameters that they
//! name.

use std::collections::VecDeque;

use convoy_scheduler::*;

use crate::dice::Dice;
use crate::oracle;

/// Chunks of a node.
pub const CHUNKS: usize = 2;

/// One number for the chunks of a node or of a step's sum. Honest workers get the same in each.
pub fn number_of(chunks: [u64; CHUNKS]) -> u64 {
    let [first, second] = chunks;
    if first == second { first } else { oracle::mix(first, second) }
}

/// A worker's answer to a lease.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The lease that it answers.
    pub lease: Lease,
    /// The node's chunks.
    pub chunks: [u64; CHUNKS],
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
    /// The chunks that are taken in, by index. A push ends with a chunk that comes twice; unless that is `overlooked`.
    pub fn came(&self, overlooked: bool) -> Vec<(usize, u64)> {
        let [first, second] = self.chunks;
        // The numbers of an evaluation come in one piece, at the end.
        let trains = self.lease.work == Work::Train;
        let sent = match self.sent {
            Sent::Whole => vec![(0, first), (1, second)],
            Sent::Twice(before) if overlooked => vec![(0, before), (1, second)],
            Sent::Twice(before) if trains => vec![(0, before)],
            Sent::Half(index) if trains => vec![(index, self.chunks[index])],
            Sent::Twice(_) | Sent::Half(_) => vec![],
        };
        let finite = self.failure.is_none() && self.result != NodeResult::NotFinite;
        if finite { sent } else { vec![] }
    }

    /// All of its numbers in one.
    pub fn number(&self) -> u64 {
        number_of(self.chunks)
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
                let (version, result) = (OwnersVersion(0), self.result);
                Event::NodeDone { worker, at, shard_micros, version, result, digest: None }
            }
        }
    }
}

/// A message on a connection.
#[derive(Clone, Debug)]
pub enum Message {
    /// Up: an event of the worker's own.
    Say(Event),
    /// Up: its process is alive.
    Beat,
    /// Up: an answer to a lease.
    Answer(Answer),
    /// Down: a lease.
    Send(Lease),
    /// Down: a lease is to be dropped.
    Revoke(LeaseRef),
    /// Down: the connection is about to close.
    Disconnect(DisconnectReason),
    /// Down: the parameters after so many steps.
    Parameters(StepId, u64),
}

/// The streams of a connection. Each keeps its order; between them there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Events of the worker.
    UpControl,
    /// Answers of the worker.
    UpPush,
    /// Leases, and their ends.
    DownControl,
    /// Parameters.
    DownBulk,
}

/// The directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the coordinator.
    Up,
    /// To the worker.
    Down,
}

impl Stream {
    /// Its direction.
    pub fn way(self) -> Way {
        match self {
            Stream::UpControl | Stream::UpPush => Way::Up,
            Stream::DownControl | Stream::DownBulk => Way::Down,
        }
    }

    /// The streams from a worker to the coordinator.
    pub const UP: [Stream; 2] = [Stream::UpControl, Stream::UpPush];
    const COUNT: usize = 4;
}

/// One connection, whatever number the coordinator gives the worker: each start counts workers from 1 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub u64);

/// A worker process.
#[derive(Clone, Debug)]
pub struct Process {
    /// The machine that it runs on.
    pub machine: usize,
    /// Shards that it computes at a time.
    pub threads: u32,
    /// Microseconds that a shard takes it on one thread, while it is not slow.
    shard_micros: u64,
    /// Its connection, or the last that it had.
    pub connection: Connection,
    /// The faults that have struck it.
    pub trouble: Trouble,
    /// Whether it computes wrongly.
    pub honesty: Honesty,
    /// The newest parameters that it holds, with their step.
    pub parameters: Option<(StepId, u64)>,
    /// Leases that it has received and not answered.
    pub queue: Vec<Lease>,
    /// The lease in work, and the parameters it began with.
    pub computing: Option<(LeaseRef, u64)>,
    /// When it began with that.
    pub begun: RunTime,
}

/// The connection of a process, or the last that it had.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The number that the coordinator gave the process, as long as it is connected.
    pub worker: Option<WorkerId>,
    /// Tells it from other connections.
    pub link: Link,
    /// The messages on their way, by stream.
    pub streams: [VecDeque<Message>; Stream::COUNT],
    /// When the last message of each stream arrives.
    pub arrivals: [RunTime; Stream::COUNT],
    /// By direction, whether it carries nothing at the moment.
    pub clogged: [bool; 2],
}

/// Faults that have struck a process and are not over.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Its heartbeats go on, but it computes nothing.
    pub hung: bool,
    /// It is stopped until then.
    pub paused_until: RunTime,
    /// It sleeps most of the time until then.
    pub pulses_until: RunTime,
    /// It is ten times slower until then.
    pub slow_until: RunTime,
    /// Its link carries little until then.
    pub slow_link_until: RunTime,
    /// Until then it takes [`Trouble::dawdle`] to send a node.
    pub dawdles_until: RunTime,
    /// How long it takes to send a node while it dawdles.
    pub dawdle: Micros,
    /// It stays away until then.
    pub away_until: RunTime,
}

/// Whether a process computes wrongly, and whether it was evicted.
#[derive(Clone, Debug, Default)]
pub struct Honesty {
    /// It computes wrongly.
    pub lies: bool,
    /// It was evicted once.
    pub evicted: bool,
    /// It was refused when it came back after that, and comes no more.
    pub stays_away: bool,
}

impl Process {
    /// A process on `machine`, of random size and speed, that is not connected.
    pub fn new(machine: usize, dice: &mut Dice) -> Process {
        let threads = 1 + dice.below(4) as u32;
        let shard_micros = 10_000 << dice.below(5);
        let connection = Connection {
            worker: None,
            link: Link(u64::MAX),
            streams: Default::default(),
            arrivals: Default::default(),
            clogged: [false; 2],
        };
        Process {
            machine,
            threads,
            shard_micros,
            connection,
            trouble: Trouble::default(),
            honesty: Honesty::default(),
            parameters: None,
            queue: Vec::new(),
            computing: None,
            begun: RunTime(0),
        }
    }

    /// Begins a new connection: nothing of the old one is left.
    pub fn connected(&mut self, worker: WorkerId, link: Link) {
        let (streams, arrivals) = Default::default();
        self.connection = Connection { worker: Some(worker), link, streams, arrivals, clogged: [false; 2] };
        self.trouble.hung = false;
        self.queue.clear();
        self.computing = None;
        self.parameters = None;
    }

    /// Its number, if `link` is still its connection.
    pub fn worker_on(&self, link: Link) -> Option<WorkerId> {
        self.connection.worker.filter(|_| self.connection.link == link)
    }

    /// Notes that it was evicted. The first time it does not know yet that it may not come back, and tries.
    pub fn evicted(&mut self) {
        self.honesty.stays_away = self.honesty.evicted;
        self.honesty.evicted = true;
    }

    /// Microseconds that a shard takes it on one thread now.
    pub fn shard_micros(&self, now: RunTime) -> u64 {
        if self.trouble.slow_until > now { self.shard_micros * 10 } else { self.shard_micros }
    }

    /// Microseconds that a shard of `lease` took it on one thread, as it finds at `now` when it is done.
    pub fn measured(&self, lease: &Lease, now: RunTime) -> u64 {
        let took = now.since(self.begun).0 * u64::from(self.threads) / u64::from(lease.node.size().max(1));
        took.max(self.shard_micros(now))
    }

    /// The lease to compute next and the time it takes, if nothing is being computed and the parameters are there; or
    /// `any` parameters.
    pub fn start(&mut self, now: RunTime, any: bool) -> Option<(LeaseRef, u64)> {
        let (step, parameters) = self.parameters?;
        self.queue.retain(|lease| lease.at.step >= step);
        if self.computing.is_some_and(|(at, _)| self.queue.iter().any(|lease| lease.at == at)) {
            return None;
        }
        let lease = self.queue.iter().find(|lease| any || lease.at.step == step)?;
        self.computing = Some((lease.at, parameters));
        self.begun = now;
        let work = u64::from(lease.node.size()) * self.shard_micros(now);
        Some((lease.at, work.div_ceil(u64::from(self.threads))))
    }

    /// Takes a lease out of the queue, if it is there.
    pub fn drop_lease(&mut self, at: LeaseRef) -> Option<Lease> {
        let i = self.queue.iter().position(|lease| lease.at == at)?;
        Some(self.queue.remove(i))
    }
}
