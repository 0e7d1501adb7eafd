//! Between the wire's messages and the scheduler's words.

use convoy_scheduler::{Failure, Lease, LeaseId, LeaseRef, Node, RunGeneration, StepId, Work};

use crate::v1;

/// A message that breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("the message has no `{field}`; both ends must run the same version of Convoy")]
    Missing {
        /// Name of the field.
        field: &'static str,
    },
    /// A field whose value makes no sense.
    #[error("`{field}` makes no sense: {value}; both ends must run the same version of Convoy")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        tonic::Status::invalid_argument(error.to_string())
    }
}

impl From<Node> for v1::Node {
    fn from(node: Node) -> Self {
        v1::Node { first: node.first, last: node.last }
    }
}

impl TryFrom<v1::Node> for Node {
    type Error = WireError;

    fn try_from(node: v1::Node) -> Result<Self, WireError> {
        if node.first >= node.last {
            return Err(WireError::Invalid { field: "node", value: format!("[{}, {})", node.first, node.last) });
        }
        Ok(Node { first: node.first, last: node.last })
    }
}

impl From<Work> for v1::Work {
    fn from(work: Work) -> Self {
        match work {
            Work::Train => v1::Work::Train,
            Work::Evaluate => v1::Work::Evaluate,
        }
    }
}

impl TryFrom<v1::Work> for Work {
    type Error = WireError;

    fn try_from(work: v1::Work) -> Result<Self, WireError> {
        match work {
            v1::Work::Train => Ok(Work::Train),
            v1::Work::Evaluate => Ok(Work::Evaluate),
            v1::Work::Unspecified => Err(WireError::Missing { field: "work" }),
        }
    }
}

impl From<LeaseRef> for v1::LeaseRef {
    fn from(at: LeaseRef) -> Self {
        v1::LeaseRef { generation: at.generation.0, step: at.step.0, lease: at.lease.0, epoch: at.epoch }
    }
}

impl From<v1::LeaseRef> for LeaseRef {
    fn from(at: v1::LeaseRef) -> Self {
        LeaseRef {
            generation: RunGeneration(at.generation),
            step: StepId(at.step),
            lease: LeaseId(at.lease),
            epoch: at.epoch,
        }
    }
}

impl From<Lease> for v1::Lease {
    fn from(lease: Lease) -> Self {
        v1::Lease { at: Some(lease.at.into()), work: v1::Work::from(lease.work).into(), node: Some(lease.node.into()) }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = WireError;

    fn try_from(lease: v1::Lease) -> Result<Self, WireError> {
        Ok(Lease {
            work: lease.work().try_into()?,
            at: lease.at.ok_or(WireError::Missing { field: "at" })?.into(),
            node: lease.node.ok_or(WireError::Missing { field: "node" })?.try_into()?,
        })
    }
}

impl From<Failure> for v1::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::DataUnreadable => v1::Failure::DataUnreadable,
            Failure::Internal => v1::Failure::Internal,
        }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = WireError;

    fn try_from(failure: v1::Failure) -> Result<Self, WireError> {
        match failure {
            v1::Failure::DataUnreadable => Ok(Failure::DataUnreadable),
            v1::Failure::Internal => Ok(Failure::Internal),
            v1::Failure::Unspecified => Err(WireError::Missing { field: "failure" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_survives_the_wire() {
        let lease = Lease {
            at: LeaseRef { generation: RunGeneration(3), step: StepId(17), lease: LeaseId(5), epoch: 1 },
            work: Work::Evaluate,
            node: Node { first: 4, last: 8 },
        };
        assert_eq!(Lease::try_from(v1::Lease::from(lease)), Ok(lease));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Lease::try_from(v1::Lease::default()).is_err());
        assert!(Node::try_from(v1::Node { first: 3, last: 3 }).is_err());
        assert!(Work::try_from(v1::Work::Unspecified).is_err());
        assert!(Failure::try_from(v1::Failure::Unspecified).is_err());
    }
}
