//! Chunks that move to other owners while a step is in work.

use super::audit::Audit;
use super::{LeaseState, Sending, Step};
use crate::ids::{LeaseId, RunTime, WorkerId};

impl Step {
    /// Chunks have other owners from now on. No node is done before these have it: nodes of workers that are still here
    /// are sent again under the leases that they were computed for, and all others are homeless. Audits of them begin
    /// anew with what is sent then. The answer holds the leases of auditors, which end.
    pub fn send_again(&mut self, now: RunTime, is_here: impl Fn(WorkerId) -> bool) -> Vec<LeaseState> {
        let (mut auditors, mut again) = (Vec::new(), Vec::new());
        for state in self.nodes.values_mut() {
            let Some(done) = state.done.take() else { continue };
            auditors.append(&mut state.running);
            if state.audit != Audit::No {
                state.audit = Audit::Wanted;
            }
            if is_here(done.worker) {
                state.running.push(done.lease);
                again.push(done.lease);
            }
        }
        let mut ended = Vec::new();
        for lease in auditors {
            self.stop_sending(lease);
            let state = self.leases.get_mut(&lease).expect("a running lease is known");
            state.over = true;
            ended.push(state.clone());
        }
        for lease in again {
            let state = self.leases.get_mut(&lease).expect("a node is done by a known lease");
            (state.over, state.overdue, state.sending, state.again) = (false, false, true, true);
            let first = Sending { since: now, arrived: now, left: 0, done: 0 };
            self.sending.entry(state.worker).or_insert(first).left += 1;
        }
        // Whoever sends has more to send than it had.
        self.sending.values_mut().for_each(|sending| sending.arrived = now);
        self.leases.values_mut().filter(|lease| lease.sending).for_each(|lease| lease.slow = None);
        (self.covered, self.nothing_to_lend) = (None, false);
        ended
    }

    /// Whether the node of a lease is sent again.
    pub fn is_sent_again(&self, lease: LeaseId) -> bool {
        self.leases.get(&lease).is_some_and(|state| state.again)
    }

    /// Whether a worker has a lease.
    pub fn has_lease(&self, worker: WorkerId) -> bool {
        self.running().any(|lease| lease.worker == worker)
    }
}
