//! Which leases are out, so that the service can turn away what nobody asked for before its bytes are queued.

use std::collections::BTreeMap;
use std::sync::Arc;

use convoy_scheduler::{Check, Lease, LeaseRef, Node, Opening, Work, WorkerId};
use parking_lot::Mutex;

/// Leases of the open step by name.
#[derive(Debug, Default)]
pub struct Leases {
    lent: Mutex<Lent>,
}

#[derive(Debug, Default)]
struct Lent {
    opening: Opening,
    out: BTreeMap<LeaseRef, LeaseOut>,
}

#[derive(Debug)]
struct LeaseOut {
    worker: WorkerId,
    lease: Lease,
    check: Check,
    /// Whether its node is on its way in.
    answered: bool,
}

/// A lease whose node is on its way in: nobody else may send one for it until this is dropped.
#[derive(Debug)]
pub struct Admitted {
    /// What the node is for.
    pub opening: Opening,
    /// What is done with it.
    pub check: Check,
    at: LeaseRef,
    leases: Arc<Leases>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(out) = self.leases.lent.lock().out.get_mut(&self.at) {
            out.answered = false;
        }
    }
}

impl Leases {
    /// `lease` is lent to `worker` from now on; its answer will be treated as `check` says.
    pub fn add(&self, worker: WorkerId, lease: Lease, check: Check) {
        self.lent.lock().out.insert(lease.at, LeaseOut { worker, lease, check, answered: false });
    }

    /// A step opened: what was out before is stale.
    pub fn open(&self, opening: Opening) {
        *self.lent.lock() = Lent { opening, out: BTreeMap::new() };
    }

    /// A step was given up: nothing is out.
    pub fn clear(&self) {
        self.lent.lock().out.clear();
    }

    /// Whether `node` was lent to `worker` in the open step.
    pub fn was_lent(&self, worker: WorkerId, node: Node) -> bool {
        self.lent.lock().out.values().any(|out| out.worker == worker && out.lease.node == node)
    }

    /// Whether the lease `at` is out.
    pub fn is_out(&self, at: LeaseRef) -> bool {
        self.lent.lock().out.contains_key(&at)
    }

    /// Lets `worker` send a node, which is one at a time for each lease: two would be counted in parts of either.
    ///
    /// # Errors
    /// Why it may not send `node` for the lease `at`.
    pub fn admit(self: &Arc<Self>, worker: WorkerId, at: LeaseRef, work: Work, node: Node) -> Result<Admitted, String> {
        let mut lent = self.lent.lock();
        let opening = lent.opening;
        let out = lent.out.get_mut(&at).ok_or_else(|| format!("{at} is not out"))?;
        if out.worker != worker {
            return Err(format!("{at} was given to {}, not {worker}", out.worker));
        }
        if (out.lease.work, out.lease.node) != (work, node) {
            return Err(format!("{at} is for the {} of {}, not the {work} of {node}", out.lease.work, out.lease.node));
        }
        if std::mem::replace(&mut out.answered, true) {
            return Err(format!("a node for {at} is on its way already"));
        }
        Ok(Admitted { opening, check: out.check, at, leases: self.clone() })
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
        let leases = Arc::new(Leases::default());
        leases.open(Opening(3));
        leases.add(WorkerId(1), Lease { at, work: Work::Train, node }, Check::CountAndDigest);
        let admitted = leases.admit(WorkerId(1), at, Work::Train, node).unwrap();
        assert_eq!((admitted.opening, admitted.check), (Opening(3), Check::CountAndDigest));
        assert!(leases.admit(WorkerId(1), at, Work::Train, node).unwrap_err().contains("already"), "one at a time");
        drop(admitted);
        assert!(leases.admit(WorkerId(1), at, Work::Train, node).is_ok());
        assert!(leases.was_lent(WorkerId(1), node) && !leases.was_lent(WorkerId(2), node));
        assert!(leases.admit(WorkerId(2), at, Work::Train, node).is_err());
        assert!(leases.admit(WorkerId(1), at, Work::Evaluate, node).is_err());
        assert!(leases.admit(WorkerId(1), at, Work::Train, Node { first: 0, last: 1 }).is_err());
        assert!(leases.admit(WorkerId(1), LeaseRef { epoch: 1, ..at }, Work::Train, node).is_err());
        assert!(leases.is_out(at) && !leases.is_out(LeaseRef { epoch: 1, ..at }));
        leases.open(Opening(4));
        assert!(!leases.is_out(at) && leases.admit(WorkerId(1), at, Work::Train, node).is_err());
    }
}
