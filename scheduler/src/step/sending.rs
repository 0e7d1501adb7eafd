//! What workers of a step have computed and send.

use super::{Sending, Step};
use crate::ids::{LeaseId, Micros, RunTime, WorkerId};
use crate::membership::Sent;

impl Step {
    /// What a worker sends.
    pub fn sending(&self, worker: WorkerId) -> Option<Sending> {
        self.sending.get(&worker).copied()
    }

    /// Notes that the node of a lease has arrived. The answer is all that its worker sent beside it, if nothing of that
    /// is left. A node that came before it was said to be computed took no time, and of digests nothing is noted.
    pub fn arrived(&mut self, lease: LeaseId, now: RunTime) -> Option<Sent> {
        self.computed(lease, now);
        if self.leases[&lease].digests {
            return None;
        }
        let Sending { since, done, .. } = *self.sending.get(&self.leases[&lease].worker)?;
        let rest = self.stop_sending(lease);
        match rest {
            Some(rest) => {
                (rest.done, rest.arrived) = (rest.done + 1, now);
                None
            }
            None => Some(Sent { per_node: Micros(now.since(since).0 / (done + 1)), nodes: done + 1 }),
        }
    }

    /// Notes the time that nodes took to be sent. The answer is the median of those that came before, if there are any.
    pub fn sent(&mut self, per_node: Micros) -> Option<Micros> {
        self.sent.note(per_node)
    }

    /// Notes the time that a lease waited for its worker. The answer is the median of those that came before, if there
    /// are any.
    pub fn delayed(&mut self, waited: Micros) -> Option<Micros> {
        self.waited.note(waited)
    }

    /// Counts a lease out of what its worker sends. The answer is what it sends still.
    pub(super) fn stop_sending(&mut self, lease: LeaseId) -> Option<&mut Sending> {
        let state = self.leases.get_mut(&lease).expect("only a known lease is sent");
        let worker = state.worker;
        if std::mem::take(&mut state.sending) {
            let sending = self.sending.get_mut(&worker).expect("who sends is known");
            sending.left -= 1;
            if sending.left == 0 {
                self.sending.remove(&worker);
            }
        }
        self.sending.get_mut(&worker)
    }
}
