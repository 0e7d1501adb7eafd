//! What a network is, without computing it: its graph, its tensors and their names, how they begin, how they
//! lie in files, what they cost. The coordinator, which never runs a network, shares it with the workers.
//!
//! # Examples
//!
//! ```
//! use convoy_common::spec::NetworkSpec;
//! use convoy_model::{Input, Network, describe};
//!
//! let spec = NetworkSpec { name: Some("resnet20".to_owned()), ..NetworkSpec::default() };
//! let network = Network::build(&spec, Input { height: 32, width: 32, channels: 3 }, 10)?;
//! assert_eq!(network.nodes[1].name, "conv1");
//! assert_eq!(network.tensors[0].shape, [16, 3, 3, 3]);
//!
//! // All numbers in one vector, the same for the same seed, and each tensor's part of it.
//! let flat = network.initial(7);
//! let first = network.views(&flat).next().expect("a network has tensors");
//! assert_eq!((first.name, first.data.len()), ("conv1.weight", 432));
//!
//! let costs = describe(&network);
//! assert_eq!((costs.parameters, costs.flops), (272_474, 81_626_368));
//! # Ok::<(), convoy_model::NetworkError>(())
//! ```

mod build;
mod builder;
mod convert;
mod describe;
mod digest;
mod error;
mod file;
mod initial;
mod layer_list;
mod memory;
pub mod model_dir;
mod network;
mod op;
mod parameter_format;
mod transfer;
mod units;
pub mod zoo;

pub use convoy_common::plan::Input;
pub use convoy_common::spec::Pair;
pub use describe::{Description, LayerRow, bytes, describe};
pub use digest::{Elements, TensorRef, digest_elements, digest_tensors, update_elements};
pub use error::{MAX_ELEMENTS, NetworkError, Problem};
pub use file::{NamedTensor, ReadError, TensorFile, write_atomic};
pub use memory::{MemoryEstimate, memory_estimate};
pub use model_dir::{LoadError, Model};
pub use network::{Init, Network, Node, Role, Shape, Tensor};
pub use op::{Activation, Op};
pub use parameter_format::ParameterFormat;
pub use transfer::{InitError, InitReport, init_from, initial_values};
