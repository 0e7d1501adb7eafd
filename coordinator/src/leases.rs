//! Which leases are out, so that the service can turn away what nobody asked for before its bytes are queued.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use convoy_scheduler::{Lease, LeaseRef, Node, Work, WorkerId};

/// Leases of the open step by name.
#[derive(Debug, Default)]
pub struct Leases {
    open: Mutex<BTreeMap<LeaseRef, (WorkerId, Work, Node)>>,
}

impl Leases {
    /// A lease went out.
    pub fn add(&self, worker: WorkerId, lease: Lease) {
        self.lock().insert(lease.at, (worker, lease.work, lease.node));
    }

    /// A step opened or was given up: what was out before is stale.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Why `worker` may not send `node` for the lease `at`; `None` when it may.
    pub fn refusal(&self, worker: WorkerId, at: LeaseRef, work: Work, node: Node) -> Option<String> {
        match self.lock().get(&at) {
            None => Some(format!("{at} is not out")),
            Some((holder, ..)) if *holder != worker => Some(format!("{at} was given to {holder}, not {worker}")),
            Some((_, leased, lent)) if (*leased, *lent) != (work, node) => {
                Some(format!("{at} is for the {leased} of {lent}, not the {work} of {node}"))
            }
            Some(_) => None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<LeaseRef, (WorkerId, Work, Node)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use convoy_scheduler::{LeaseId, RunGeneration, StepId};

    use super::*;

    #[test]
    fn only_what_was_lent_may_come() {
        let at = LeaseRef { generation: RunGeneration(1), step: StepId(2), lease: LeaseId(3), epoch: 0 };
        let node = Node { first: 0, last: 2 };
        let leases = Leases::default();
        leases.add(WorkerId(1), Lease { at, work: Work::Train, node });
        assert_eq!(leases.refusal(WorkerId(1), at, Work::Train, node), None);
        assert!(leases.refusal(WorkerId(2), at, Work::Train, node).is_some());
        assert!(leases.refusal(WorkerId(1), at, Work::Evaluate, node).is_some());
        assert!(leases.refusal(WorkerId(1), at, Work::Train, Node { first: 0, last: 1 }).is_some());
        assert!(leases.refusal(WorkerId(1), LeaseRef { epoch: 1, ..at }, Work::Train, node).is_some());
        leases.clear();
        assert!(leases.refusal(WorkerId(1), at, Work::Train, node).is_some());
    }
}
