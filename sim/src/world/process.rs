//! A worker process: it computes its leases one after the other, each on all its threads, with the parameters that they
//! name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use convoy_scheduler::*;

use super::answer::Answer;
use super::peer::{Made, Peer, RootSum, Told};
use crate::dice::Dice;
use crate::facts::Fence;
use crate::oracle;

/// A message on a connection.
#[derive(Clone, Debug)]
pub enum Message {
    /// Up: an event of the worker's own.
    Say(Event),
    /// Up: its process is alive.
    Beat,
    /// Up: an answer to a lease.
    Answer(Answer),
    /// Up: something is wrong with a node that an owner has.
    Contradicted(Opening, Event),
    /// Up: the sum of a chunk.
    Root(Fence, RootSum),
    /// Up: an owner took bytes.
    Taken,
    /// Up: the committed parameters are wanted.
    Want,
    /// Up: the optimizer's state of these chunks before this step is wanted.
    WantState(StepId, Vec<usize>),
    /// Down: a lease, and whether only its digest is asked for.
    Send(Lease, bool),
    /// Down: what is open, and who owns which chunk.
    Open(Told),
    /// Down: the parameters after so many steps are final. With their digest, and the chunks that the coordinator has
    /// made.
    Committed(StepId, [u8; 32], Vec<(usize, u64)>),
    /// Down: chunks of the parameters and the optimizer's state of them, before this step.
    State(StepId, Vec<(usize, Made)>),
    /// Down: a lease is to be dropped.
    Revoke(LeaseRef),
    /// Down: the connection is about to close.
    Disconnect(DisconnectReason),
    /// Down: the parameters after so many steps.
    Parameters(StepId, Vec<u64>),
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

/// A worker process. Many fields: it is all that the real one has.
pub struct Process {
    /// The machine that it runs on.
    pub machine: usize,
    /// Shards that it computes at a time; 0 where it only owns chunks.
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
    pub parameters: Option<(StepId, Vec<u64>)>,
    /// Leases that it has received and not answered.
    pub queue: Vec<Lease>,
    /// Those of them of which only a digest is asked for.
    pub audits: BTreeSet<LeaseRef>,
    /// Its part in the exchange of chunks.
    pub peer: Peer,
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

/// Faults that have struck a process and are not over. Many fields: each fault has one.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// Its heartbeats go on, but it computes nothing, and makes no parameters.
    pub hung: bool,
    /// While it hangs it hears nothing of others, either.
    pub deaf: bool,
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
    /// What it exchanges with other processes takes long until then.
    pub slow_peer_until: RunTime,
    /// It takes chunks of others at a trickle until then.
    pub trickles_until: RunTime,
    /// When it took one of each other worker last.
    pub trickled: BTreeMap<WorkerId, RunTime>,
    /// It stays away until then.
    pub away_until: RunTime,
}

/// Whether a process computes wrongly, and whether it was evicted.
#[derive(Clone, Debug, Default)]
pub struct Honesty {
    /// It computes wrongly, or lies otherwise.
    pub lies: bool,
    /// What it computes is right all the same.
    pub computes_rightly: bool,
    /// It computes rightly what is only compared, where it can tell.
    pub careful: bool,
    /// It adds chunks wrongly that it owns.
    pub adds_wrongly: bool,
    /// It was evicted once.
    pub evicted: bool,
    /// It was refused when it came back after that, and comes no more.
    pub stays_away: bool,
}

impl Process {
    /// A process on `machine`, of random size and speed, that is not connected.
    pub fn new(machine: usize, dice: &mut Dice) -> Process {
        let threads = 1 + dice.below(4) as u32;
        Process::of(machine, threads, 10_000 << dice.below(5))
    }

    /// A process on `machine` that computes nothing, and is not connected.
    pub fn adder(machine: usize) -> Process {
        Process::of(machine, 0, 1)
    }

    /// Whether it computes.
    pub fn computes(&self) -> bool {
        self.threads > 0
    }

    fn of(machine: usize, threads: u32, shard_micros: u64) -> Process {
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
            audits: BTreeSet::new(),
            peer: Peer::default(),
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
        self.audits.clear();
        self.peer = Peer::default();
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
        let (step, parameters) = self.parameters.as_ref().map(|(step, values)| (*step, oracle::whole(values)))?;
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
