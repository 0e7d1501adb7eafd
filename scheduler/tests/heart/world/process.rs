//! A worker process: it computes its leases one after the other, each on all its threads, with the parameters they name.

use convoy_scheduler::*;

use super::Dice;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Good,
    /// Its heart beats, but nothing comes.
    Hung,
    /// Nothing at all comes, though the connection is open.
    Silent,
}

#[derive(Clone, Debug)]
pub struct Process {
    /// Its connection, if it has one.
    pub worker: Option<WorkerId>,
    pub threads: u32,
    pub shard_micros: u64,
    pub health: Health,
    pub parameters: Option<(StepId, u64)>,
    pub queue: Vec<Lease>,
    /// The lease in work, and the parameters it began with.
    pub computing: Option<(LeaseRef, u64)>,
}

impl Process {
    pub fn new(dice: &mut Dice) -> Process {
        Process {
            worker: None,
            threads: 1 + dice.below(4) as u32,
            shard_micros: 10_000 << dice.below(5),
            health: Health::Good,
            parameters: None,
            queue: Vec::new(),
            computing: None,
        }
    }

    /// The lease to compute next and the time it takes, if nothing is being computed and the parameters are there.
    pub fn start(&mut self) -> Option<(LeaseRef, u64)> {
        let (step, parameters) = self.parameters?;
        self.queue.retain(|lease| lease.at.step >= step);
        if self.computing.is_some_and(|(at, _)| self.queue.iter().any(|lease| lease.at == at)) {
            return None;
        }
        let lease = self.queue.iter().find(|lease| lease.at.step == step)?;
        self.computing = Some((lease.at, parameters));
        Some((lease.at, (u64::from(lease.node.size()) * self.shard_micros).div_ceil(u64::from(self.threads))))
    }

    pub fn drop_lease(&mut self, at: LeaseRef) -> Option<Lease> {
        let i = self.queue.iter().position(|lease| lease.at == at)?;
        Some(self.queue.remove(i))
    }
}
