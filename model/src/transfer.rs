//! Starting from the numbers of another network of the same shape.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use convoy_common::Plan;

use crate::file::{NamedTensor, ReadError, TensorFile};
use crate::{Network, Op, Role, Tensor, initial};

/// How many names an error shows.
const SHOWN: usize = 5;

/// Why a network cannot start from a file.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The file cannot be read.
    #[error("network.init: {0}")]
    Read(#[from] ReadError),
    /// It is of another network.
    #[error(
        "network.init: {} is not of this network; missing: {}; not known here: {}; of another shape: {}; choose the \
         network that the file was made with",
        path.display(), some(missing), some(unexpected), some(reshaped)
    )]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// Tensors that the file lacks.
        missing: Vec<String>,
        /// Tensors that the network lacks.
        unexpected: Vec<String>,
        /// Tensors with both shapes, where they differ.
        reshaped: Vec<String>,
    },
    /// The first convolution sees another number of channels.
    #[error(
        "network.init: {} is for images with {found} channels, but this network sees {wanted}; set prepare.channels = \
         {found}, or leave network.init out",
        path.display()
    )]
    Channels {
        /// The file.
        path: PathBuf,
        /// Channels there.
        found: usize,
        /// Channels here.
        wanted: usize,
    },
    /// A number is not finite.
    #[error("network.init: {}: tensor \"{tensor}\" holds a number that is not finite; use another file", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
}

fn some(names: &[String]) -> String {
    match names.len() {
        0 => "none".to_owned(),
        count if count > SHOWN => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
        _ => names.join(", "),
    }
}

/// What came from a file and what did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitReport {
    /// The file.
    pub path: PathBuf,
    /// Tensors taken from it.
    pub taken: usize,
    /// Tensors of the head that are new, with both shapes.
    pub replaced: Vec<String>,
}

impl fmt::Display for InitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors from {}", self.taken, self.path.display())?;
        if !self.replaced.is_empty() {
            write!(f, "; new head: {}", self.replaced.join(", "))?;
        }
        Ok(())
    }
}

/// The flat vector of `network` with the numbers of the torchvision or Convoy model file whose bytes these are; `path`
/// is for messages. If the
/// head's tensors there have other shapes, the whole head begins anew, as [`Network::initial`] of `seed`.
///
/// # Errors
/// When the file is damaged, is of another network or another number of input channels, or holds a number
/// that is not finite.
pub fn init_from(network: &Network, seed: u64, path: &Path, bytes: &[u8]) -> Result<(Vec<f32>, InitReport), InitError> {
    let file = TensorFile::parse_foreign(path, bytes)?;
    let found: BTreeMap<&str, &NamedTensor> = file.tensors.iter().map(|t| (t.name.as_str(), t)).collect();
    check(network, path, &found)?;

    let fits = |tensor: &Tensor| found.get(tensor.name.as_str()).is_some_and(|found| found.shape == tensor.shape);
    let new_head = !network.tensors.iter().filter(|tensor| tensor.head).all(fits);
    let mut flat = vec![0.0; network.len()];
    let mut report = InitReport { path: path.to_owned(), taken: 0, replaced: Vec::new() };
    for (index, tensor) in network.tensors.iter().enumerate() {
        let (values, source) = (&mut flat[tensor.range()], found[tensor.name.as_str()]);
        if tensor.head && new_head {
            initial::fill(tensor, seed, index as u32, values);
            report.replaced.push(both_shapes(tensor, source));
        } else {
            values.copy_from_slice(&source.data);
            report.taken += 1;
        }
    }
    Ok((flat, report))
}

/// The flat vector of `network` before the first step of `plan`: from the bytes of the model file that `network.init`
/// names, as [`init_from`], or [`Network::initial`] of the plan's seed where it names none. Where the plan scales
/// targets, a head that comes from the file is taken to be in their units.
///
/// # Errors
/// As [`init_from`].
pub fn initial_values(
    plan: &Plan,
    network: &Network,
    init: Option<&[u8]>,
) -> Result<(Vec<f32>, Option<InitReport>), InitError> {
    match (&plan.spec.network.init, init) {
        (Some(path), Some(bytes)) => {
            let (mut flat, report) = init_from(network, plan.spec.seed, Path::new(path), bytes)?;
            // A head that is new begins as training has it; one from a file is in the targets' units.
            if let (Some(scale), true) = (plan.target_scale(), report.replaced.is_empty()) {
                flat = network.out_of_units(&flat, scale);
            }
            Ok((flat, Some(report)))
        }
        _ => Ok((network.initial(plan.spec.seed), None)),
    }
}

/// Whether the file is of this network, but for the size of the head.
fn check(network: &Network, path: &Path, found: &BTreeMap<&str, &NamedTensor>) -> Result<(), InitError> {
    let path = path.to_owned();
    let missing: Vec<_> =
        network.tensors.iter().filter(|t| !found.contains_key(t.name.as_str())).map(|t| t.name.clone()).collect();
    let known = |name: &str| network.tensors.iter().any(|tensor| tensor.name == name);
    let unexpected: Vec<_> = found.keys().filter(|name| !known(name)).map(|name| (*name).to_owned()).collect();
    let mut reshaped = Vec::new();
    for tensor in network.tensors.iter().filter(|tensor| !tensor.head) {
        let Some(other) = found.get(tensor.name.as_str()) else { continue };
        if other.shape == tensor.shape {
            continue;
        }
        if let (Some((found, wanted)), true) = (other_channels(tensor, other), is_first(network, tensor)) {
            return Err(InitError::Channels { path, found, wanted });
        }
        reshaped.push(both_shapes(tensor, other));
    }
    if !(missing.is_empty() && unexpected.is_empty() && reshaped.is_empty()) {
        return Err(InitError::OtherNetwork { path, missing, unexpected, reshaped });
    }
    match found.values().find(|tensor| !tensor.data.iter().all(|value| value.is_finite())) {
        Some(tensor) => Err(InitError::NotFinite { path, tensor: tensor.name.clone() }),
        None => Ok(()),
    }
}

/// Whether `tensor` is the weight of a convolution that sees the images themselves.
fn is_first(network: &Network, tensor: &Tensor) -> bool {
    network.nodes.iter().any(|node| match node.op {
        Op::Conv { weight, .. } => {
            network.tensors[weight].name == tensor.name && matches!(network.nodes[node.inputs[0]].op, Op::Input)
        }
        _ => false,
    })
}

/// Input channels there and here, when nothing else differs.
fn other_channels(tensor: &Tensor, found: &NamedTensor) -> Option<(usize, usize)> {
    match (&tensor.shape[..], &found.shape[..]) {
        ([out, wanted, kernel @ ..], [other_out, found, other_kernel @ ..])
            if out == other_out && kernel == other_kernel && matches!(tensor.role, Role::Parameter { .. }) =>
        {
            Some((*found, *wanted))
        }
        _ => None,
    }
}

fn both_shapes(tensor: &Tensor, found: &NamedTensor) -> String {
    format!("{} ({:?} there, {:?} here)", tensor.name, found.shape, tensor.shape)
}
