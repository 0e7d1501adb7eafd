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
        let work = v1::Work::from(lease.work).into();
        v1::Lease { at: Some(lease.at.into()), work, node: Some(lease.node.into()), digests: false }
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
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    /// The field that an error names.
    fn field<T>(converted: Result<T, WireError>) -> Option<&'static str> {
        match converted {
            Ok(_) => None,
            Err(WireError::Missing { field } | WireError::Invalid { field, .. }) => Some(field),
        }
    }

    fn lease() -> v1::Lease {
        let at = v1::LeaseRef { generation: 3, step: 17, lease: 5, epoch: 1 };
        v1::Lease {
            at: Some(at),
            work: v1::Work::Evaluate.into(),
            node: Some(v1::Node { first: 4, last: 8 }),
            digests: false,
        }
    }

    #[test]
    fn each_bad_value_of_a_lease_is_refused_with_its_field() {
        assert_eq!(field(Lease::try_from(lease())), None);
        let bad = [
            (v1::Lease { at: None, ..lease() }, "at"),
            (v1::Lease { node: None, ..lease() }, "node"),
            (v1::Lease { node: Some(v1::Node { first: 4, last: 4 }), ..lease() }, "node"),
            (v1::Lease { node: Some(v1::Node { first: 5, last: 4 }), ..lease() }, "node"),
            (v1::Lease { work: v1::Work::Unspecified.into(), ..lease() }, "work"),
            (v1::Lease { work: 77, ..lease() }, "work"),
            (v1::Lease::default(), "work"),
        ];
        for (message, expected) in bad {
            assert_eq!(field(Lease::try_from(message)), Some(expected), "{message:?}");
        }
    }

    #[test]
    fn what_is_left_open_is_refused() {
        assert_eq!(field(Work::try_from(v1::Work::Unspecified)), Some("work"));
        assert_eq!(field(Failure::try_from(v1::Failure::Unspecified)), Some("failure"));
        assert_eq!(field(Node::try_from(v1::Node::default())), Some("node"));
    }

    #[test]
    fn errors_name_the_field_and_say_what_to_do() {
        let missing = Lease::try_from(v1::Lease { at: None, ..lease() }).unwrap_err();
        assert_eq!(missing.to_string(), "the message has no `at`; both ends must run the same version of Convoy");
        let invalid = Node::try_from(v1::Node { first: 9, last: 4 }).unwrap_err();
        assert_eq!(invalid.to_string(), "`node` makes no sense: [9, 4); both ends must run the same version of Convoy");
        let status = tonic::Status::from(invalid.clone());
        assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, &invalid.to_string()[..]));
    }

    #[test]
    fn words_survive_the_wire() {
        for work in [Work::Train, Work::Evaluate] {
            assert_eq!(Work::try_from(v1::Work::from(work)), Ok(work));
        }
        for failure in [Failure::DataUnreadable, Failure::Internal] {
            assert_eq!(Failure::try_from(v1::Failure::from(failure)), Ok(failure));
        }
    }

    prop_compose! {
        fn any_lease()(
            (generation, step, lease, epoch) in any::<(u64, u64, u64, u32)>(),
            train: bool,
            first in 0..u32::MAX,
            size in 1..1000u32,
        ) -> Lease {
            Lease {
                at: LeaseRef {
                    generation: RunGeneration(generation),
                    step: StepId(step),
                    lease: LeaseId(lease),
                    epoch,
                },
                work: if train { Work::Train } else { Work::Evaluate },
                node: Node { first, last: first.saturating_add(size) },
            }
        }
    }

    proptest! {
        #[test]
        fn a_lease_survives_the_wire(lease in any_lease()) {
            let bytes = v1::Lease::from(lease).encode_to_vec();
            prop_assert_eq!(Lease::try_from(v1::Lease::decode(&bytes[..]).unwrap()), Ok(lease));
        }

        #[test]
        fn a_node_has_a_shard_or_is_refused(first: u32, last: u32) {
            let node = Node::try_from(v1::Node { first, last });
            prop_assert_eq!(node.is_ok(), first < last);
            if let Ok(node) = node {
                prop_assert_eq!(node, Node { first, last });
            }
        }

        #[test]
        fn bytes_of_a_stranger_never_panic(bytes: Vec<u8>) {
            if let Ok(message) = v1::Lease::decode(&bytes[..]) {
                _ = Lease::try_from(message);
            }
        }
    }
}
