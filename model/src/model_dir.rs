//! The model folder: `model.safetensors` with torchvision's names, and `config.json` in timm's layout.
//!
//! The plan stands in both. The tensor file alone is enough to predict with, so that no crash between the two
//! files can leave them apart; `config.json` is for other tools and for people.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use convoy_common::durable::{WriteError, replace_file};
use convoy_common::plan::Plan;
use convoy_common::spec::{Filter, Resize};
use serde_json::{Value, json};

use crate::file::{ReadError, TensorFile, write_atomic};
use crate::{Network, NetworkError, Op, Shape, zoo};

/// The name of the file that holds the tensors and the plan.
pub const TENSORS: &str = "model.safetensors";
/// The name of the file that describes the model to other tools.
pub const CONFIG: &str = "config.json";
/// Metadata key of the plan.
const PLAN: &str = "convoy.plan";

/// A trained network, ready to use.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// What it was trained by: preparation, task, names.
    pub plan: Plan,
    /// What it is.
    pub network: Network,
    /// Its parameters and buffers, as [`Network`] lays them out; of a regression in the targets' units.
    pub flat: Vec<f32>,
}

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The tensors cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The folder holds no model.
    #[error("{} holds no {TENSORS}; name the `model` folder of a run, or a model file", path.display())]
    NoModel {
        /// The folder.
        path: PathBuf,
    },
    /// The file has no plan in it, or one that is not understood.
    #[error("{}: {problem}; use a model that this version of Convoy wrote", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The plan's network cannot be built.
    #[error("{}: {source}", path.display())]
    Network {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: NetworkError,
    },
    /// Tensors and plan are of different networks.
    #[error("{}: tensor {tensor} is not what its plan's network has there; use another copy of the file", path.display())]
    Tensors {
        /// The file.
        path: PathBuf,
        /// The first that differs.
        tensor: String,
    },
    /// The two files are not of one model.
    #[error("{} is not the description of {TENSORS} beside it; restore it, or remove it", path.display())]
    OtherConfig {
        /// The `config.json`.
        path: PathBuf,
    },
}

/// Writes the model folder `dir`, which is made if it is missing; `extra` (metrics, say) becomes
/// `convoy.extra` in `config.json`. Each file is replaced atomically. `flat` is what training came to; where the plan
/// scales targets, the tensors are of the network in the targets' units ([`Network::in_units`]), and
/// `convoy.parameters_digest` stays that of the training.
///
/// # Errors
/// When a file or the folder cannot be written.
///
/// # Panics
/// When `flat` is not as long as the network.
pub fn save(dir: &Path, plan: &Plan, network: &Network, flat: &[f32], extra: &Value) -> Result<(), WriteError> {
    std::fs::create_dir_all(dir).map_err(|source| WriteError { path: dir.to_owned(), source })?;
    let in_units = plan.target_scale().map(|scale| network.in_units(flat, scale));
    let views: Vec<_> = network.views(in_units.as_deref().unwrap_or(flat)).collect();
    let text = String::from_utf8(plan.to_json()).expect("JSON is text");
    write_atomic(&dir.join(TENSORS), &views, &BTreeMap::from([(PLAN.to_owned(), text)]))?;
    let mut config = config(plan, network);
    config["convoy"] = json!({
        "plan": plan,
        "plan_digest": plan.digest(),
        "parameters_digest": network.digest(flat),
        "extra": extra,
    });
    replace_file(&dir.join(CONFIG), |file| {
        serde_json::to_writer_pretty(&mut *file, &config).map_err(io::Error::from)?;
        file.write_all(b"\n")
    })
}

/// Reads a model: the folder that [`save`] wrote, or the tensor file alone.
///
/// # Errors
/// When a file is missing, damaged, or not a Convoy model, when its plan makes no sense ([`Plan::check`]), and when the folder's two files disagree.
pub fn load(path: &Path) -> Result<Model, LoadError> {
    let file_path = if path.is_dir() { path.join(TENSORS) } else { path.to_owned() };
    if path.is_dir() && !file_path.exists() {
        return Err(LoadError::NoModel { path: path.to_owned() });
    }
    let file = TensorFile::read(&file_path)?;
    let refuse = |problem: String| LoadError::Plan { path: file_path.clone(), problem };
    let text = file.metadata.get(PLAN).ok_or_else(|| refuse("it is not a model (it has no plan)".to_owned()))?;
    let understood = Plan::from_json(text.as_bytes());
    let plan = understood.map_err(|error| refuse(format!("its plan is not understood ({error})")))?;
    plan.check().map_err(|problem| refuse(format!("its plan makes no sense: {problem}")))?;
    if path.is_dir() {
        check_config(&path.join(CONFIG), &plan)?;
    }
    let network = Network::of(&plan).map_err(|source| LoadError::Network { path: file_path.clone(), source })?;
    let flat = network.gather(&file).map_err(|tensor| LoadError::Tensors { path: file_path.clone(), tensor })?;
    Ok(Model { plan, network, flat })
}

/// The description may be absent; if it is there, its plan must be the same.
fn check_config(path: &Path, plan: &Plan) -> Result<(), LoadError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ReadError::Io { path: path.to_owned(), source }.into()),
    };
    let other = || LoadError::OtherConfig { path: path.to_owned() };
    let mut config: Value = serde_json::from_slice(&bytes).map_err(|_| other())?;
    let found = config.pointer_mut("/convoy/plan").map(Value::take).ok_or_else(other)?;
    match Plan::from_json(found.to_string().as_bytes()) {
        Ok(found) if found == *plan => Ok(()),
        _ => Err(other()),
    }
}

impl Network {
    /// The flat vector that `file` holds: exactly the network's tensors, by name.
    ///
    /// # Errors
    /// The name of the first tensor that is missing, too many, or of another shape.
    pub fn gather(&self, file: &TensorFile) -> Result<Vec<f32>, String> {
        let by_name: BTreeMap<&str, _> = file.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut flat = vec![0.0; self.len()];
        for tensor in &self.tensors {
            match by_name.get(tensor.name.as_str()) {
                Some(found) if found.shape == tensor.shape => flat[tensor.range()].copy_from_slice(&found.data),
                _ => return Err(tensor.name.clone()),
            }
        }
        let known = |name: &str| self.tensors.iter().any(|tensor| tensor.name == name);
        match by_name.keys().find(|name| !known(name)) {
            Some(name) => Err((*name).to_owned()),
            None => Ok(flat),
        }
    }
}

/// What timm's hub reads, as far as it applies.
fn config(plan: &Plan, network: &Network) -> Value {
    let input = network.input;
    let prepare = &plan.spec.prepare;
    let interpolation = match prepare.filter {
        Filter::Bilinear => "bilinear",
        Filter::Bicubic => "bicubic",
        Filter::Lanczos => "lanczos",
    };
    let mut pretrained = json!({
        "input_size": [input.channels, input.height, input.width],
        "mean": plan.normalization.mean,
        "std": plan.normalization.std,
        "interpolation": interpolation,
        "num_classes": network.outputs,
        "first_conv": first_conv(network),
        "classifier": head(network),
    });
    let crop = match prepare.resize {
        Resize::Crop => Some((prepare.crop_fraction, "center")),
        Resize::Letterbox => Some((1.0, "border")),
        Resize::Stretch => Some((1.0, "squash")),
        // timm has no word for "as it is".
        Resize::None => None,
    };
    if let Some((fraction, mode)) = crop {
        pretrained["crop_pct"] = json!(fraction);
        pretrained["crop_mode"] = json!(mode);
    }
    if let Some((height, width)) = pooled(network) {
        pretrained["pool_size"] = json!([height, width]);
    }
    let mut config = json!({
        "architecture": architecture(plan),
        "num_classes": network.outputs,
        "label_names": plan.names,
        "pretrained_cfg": pretrained,
    });
    if input.channels != 3 {
        config["model_args"] = json!({ "in_chans": input.channels });
    }
    config
}

/// torchvision's and timm's name where it is their network, a name of our own elsewhere.
fn architecture(plan: &Plan) -> String {
    let spec = &plan.spec.network;
    match spec.zoo_name() {
        _ if !spec.layers.is_empty() => "convoy/layers".to_owned(),
        name if zoo::is_torchvision(name) => name.to_owned(),
        name => format!("convoy/{name}"),
    }
}

fn first_conv(network: &Network) -> Option<&str> {
    network.nodes.iter().find(|node| matches!(node.op, Op::Conv { .. })).map(|node| node.name.as_str())
}

fn head(network: &Network) -> Option<&str> {
    let is_head = |index: usize| network.tensors[index].head;
    network.nodes.iter().find(|node| node.op.tensors().into_iter().any(is_head)).map(|node| node.name.as_str())
}

/// Height and width of the map that is pooled globally or flattened.
fn pooled(network: &Network) -> Option<(u32, u32)> {
    let node = network.nodes.iter().find(|node| matches!(node.op, Op::GlobalAvgPool | Op::Flatten))?;
    match network.nodes[node.inputs[0]].output {
        Shape::Map { height, width, .. } => Some((height, width)),
        Shape::Features(_) => None,
    }
}
