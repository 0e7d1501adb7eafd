//! What a network is, without computing it: its graph, its tensors and their names, how they begin, how they
//! lie in files, what they cost. The coordinator, which never runs a network, shares it with the workers.

mod network;

pub use convoy_common::spec::Pair;
pub use network::{Activation, Init, Network, Node, Op, Role, Shape, Tensor};
