//! What a network is, without computing it: its graph, its tensors and their names, how they begin, how they
//! lie in files, what they cost. The coordinator, which never runs a network, shares it with the workers.

mod build;
mod builder;
mod error;
mod layers;
mod network;
pub mod zoo;

pub use convoy_common::plan::Input;
pub use convoy_common::spec::Pair;
pub use error::{MAX_ELEMENTS, NetworkError, Problem};
pub use network::{Activation, Init, Network, Node, Op, Role, Shape, Tensor};
