//! Which leases are out, so that the service can turn away what nobody asked for before its bytes are queued.

use std::collections::BTreeMap;

use convoy_scheduler::{Check, Lease, LeaseRef, Node, Work, WorkerId};
use parking_lot::Mutex;

use super::reduction::opening::Opening;

/// Leases of the open step by name.
#[derive(Debug, Default)]
pub struct Leases {
    lent: Mutex<Lent>,
}

#[derive(Debug, Default)]
struct Lent {
    opening: Opening,
    out: BTreeMap<LeaseRef, (WorkerId, Lease, Check)>,
}

impl Leases {
    /// `lease` is lent to `worker` from now on; its answer will be treated as `check` says.
    pub fn add(&self, worker: WorkerId, lease: Lease, check: Check) {
        self.lent.lock().out.insert(lease.at, (worker, lease, check));
    }

    /// A step opened or was given up: what was out before is stale. The answer is the number of what comes.
    pub fn clear(&self) -> Opening {
        let mut lent = self.lent.lock();
        lent.out.clear();
        lent.opening = lent.opening.next();
        lent.opening
    }

    /// What is done with the answer of `worker`, and for which opening it is.
    ///
    /// # Errors
    /// Why it may not send `node` for the lease `at`.
    pub fn admit(&self, worker: WorkerId, at: LeaseRef, work: Work, node: Node) -> Result<(Opening, Check), String> {
        let leases = self.lent.lock();
        match leases.out.get(&at) {
            None => Err(format!("{at} is not out")),
            Some((holder, ..)) if *holder != worker => Err(format!("{at} was given to {holder}, not {worker}")),
            Some((_, lent, _)) if (lent.work, lent.node) != (work, node) => {
                Err(format!("{at} is for the {} of {}, not the {work} of {node}", lent.work, lent.node))
            }
            Some((_, _, check)) => Ok((leases.opening, *check)),
        }
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
        let opening = leases.clear();
        leases.add(WorkerId(1), Lease { at, work: Work::Train, node }, Check::CountAndDigest);
        assert_eq!(leases.admit(WorkerId(1), at, Work::Train, node), Ok((opening, Check::CountAndDigest)));
        assert!(leases.admit(WorkerId(2), at, Work::Train, node).is_err());
        assert!(leases.admit(WorkerId(1), at, Work::Evaluate, node).is_err());
        assert!(leases.admit(WorkerId(1), at, Work::Train, Node { first: 0, last: 1 }).is_err());
        assert!(leases.admit(WorkerId(1), LeaseRef { epoch: 1, ..at }, Work::Train, node).is_err());
        assert!(leases.clear() > opening);
        assert!(leases.admit(WorkerId(1), at, Work::Train, node).is_err());
    }
}
