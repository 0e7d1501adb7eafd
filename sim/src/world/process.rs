//! A worker process: it computes its leases one after the other, each on all its threads, with the parameters that they
//! name.

use std::collections::VecDeque;

use convoy_scheduler::*;

use crate::dice::Dice;

/// A worker's answer to a lease, with the node's value.
#[derive(Clone, Debug)]
pub struct Answer {
    pub lease: Lease,
    pub value: u64,
    pub shard_micros: u64,
    pub failure: Option<Failure>,
    pub result: NodeResult,
}

impl Answer {
    /// As the coordinator hears it from `worker`.
    pub fn event(&self, worker: WorkerId) -> Event {
        let (at, shard_micros) = (self.lease.at, self.shard_micros);
        match self.failure {
            Some(failure) => Event::LeaseFailed { worker, at, failure },
            None => Event::NodeDone { worker, at, shard_micros, result: self.result, digest: None },
        }
    }
}

/// What travels on a connection.
#[derive(Clone, Debug)]
pub enum Message {
    /// Up: an event of the worker's own.
    Say(Event),
    /// Up.
    Answer(Answer),
    /// Down.
    Send(Lease),
    /// Down.
    Revoke(LeaseRef),
    /// Down.
    Evict(DisconnectReason),
    /// Down.
    Parameters(StepId, u64),
}

/// The streams of a connection. Each keeps its order; between them there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    UpControl,
    UpPush,
    DownControl,
    DownBulk,
}

impl Stream {
    pub const UP: [Stream; 2] = [Stream::UpControl, Stream::UpPush];
    const COUNT: usize = 4;
}

/// One connection, whatever number the coordinator gives the worker: each start counts workers from 1 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link(pub u64);

#[derive(Clone, Debug)]
pub struct Process {
    /// What the coordinator calls it, if it has a connection.
    pub worker: Option<WorkerId>,
    /// Its connection, or the last that it had.
    pub link: Link,
    pub threads: u32,
    shard_micros: u64,
    /// It computes wrongly.
    pub lies: bool,
    /// It may not come back.
    pub put_out: bool,
    /// It was put out once.
    pub lies_found: bool,
    /// Its heart beats, but nothing comes.
    pub hung: bool,
    /// It is stopped until then.
    pub paused_until: RunTime,
    /// It is ten times slower until then.
    pub slow_until: RunTime,
    /// It stays away until then.
    pub away_until: RunTime,
    /// Its connection carries nothing.
    pub clogged: bool,
    pub streams: [VecDeque<Message>; Stream::COUNT],
    /// When the last message of each stream arrives.
    pub arrivals: [RunTime; Stream::COUNT],
    pub parameters: Option<(StepId, u64)>,
    pub queue: Vec<Lease>,
    /// The lease in work, and the parameters it began with.
    pub computing: Option<(LeaseRef, u64)>,
}

impl Process {
    pub fn new(dice: &mut Dice) -> Process {
        Process {
            worker: None,
            link: Link(u64::MAX),
            threads: 1 + dice.below(4) as u32,
            shard_micros: 10_000 << dice.below(5),
            lies: false,
            put_out: false,
            lies_found: false,
            hung: false,
            paused_until: RunTime(0),
            slow_until: RunTime(0),
            away_until: RunTime(0),
            clogged: false,
            streams: Default::default(),
            arrivals: [RunTime(0); Stream::COUNT],
            parameters: None,
            queue: Vec::new(),
            computing: None,
        }
    }

    /// A new connection: nothing of the old one is left.
    pub fn connected(&mut self, worker: WorkerId, link: Link) {
        self.worker = Some(worker);
        self.link = link;
        self.hung = false;
        self.clogged = false;
        self.streams.iter_mut().for_each(VecDeque::clear);
        self.arrivals = [RunTime(0); Stream::COUNT];
        self.queue.clear();
        self.computing = None;
        self.parameters = None;
    }

    /// Its name, if this is still its connection.
    pub fn worker_on(&self, link: Link) -> Option<WorkerId> {
        self.worker.filter(|_| self.link == link)
    }

    /// What a shard takes it now.
    pub fn shard_micros(&self, now: RunTime) -> u64 {
        if self.slow_until > now { self.shard_micros * 10 } else { self.shard_micros }
    }

    /// The lease to compute next and the time it takes, if nothing is being computed and the parameters are there.
    pub fn start(&mut self, now: RunTime) -> Option<(LeaseRef, u64)> {
        let (step, parameters) = self.parameters?;
        self.queue.retain(|lease| lease.at.step >= step);
        if self.computing.is_some_and(|(at, _)| self.queue.iter().any(|lease| lease.at == at)) {
            return None;
        }
        let lease = self.queue.iter().find(|lease| lease.at.step == step)?;
        self.computing = Some((lease.at, parameters));
        let work = u64::from(lease.node.size()) * self.shard_micros(now);
        Some((lease.at, work.div_ceil(u64::from(self.threads))))
    }

    pub fn drop_lease(&mut self, at: LeaseRef) -> Option<Lease> {
        let i = self.queue.iter().position(|lease| lease.at == at)?;
        Some(self.queue.remove(i))
    }
}
