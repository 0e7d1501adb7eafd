//! From a spec or a plan to a network.

use convoy_common::plan::{Input, Plan};
use convoy_common::spec::{NetworkSpec, Task};

use crate::builder::{Builder, Scheme};
use crate::error::{MAX_ELEMENTS, Problem};
use crate::{Activation, Network, NetworkError, Op, Shape, layer_list, zoo};

impl Network {
    /// The network that `spec` describes, for inputs of shape `input` and with `outputs` logits or values.
    ///
    /// # Errors
    /// The first layer that does not fit, with shapes and a remedy; an unknown name; a last layer of another size,
    /// or one that the loss contains (softmax, sigmoid).
    pub fn build(spec: &NetworkSpec, input: Input, outputs: u32) -> Result<Network, NetworkError> {
        build(spec, input, outputs, None)
    }

    /// The network of `plan`. For regression the last layer may be a sigmoid or softmax.
    ///
    /// # Errors
    /// As [`Network::build`] and [`Network::check_shards`], and when the plan scales targets but the network ends in a
    /// layer that cannot take the scale up.
    pub fn of(plan: &Plan) -> Result<Network, NetworkError> {
        let network = build(&plan.spec.network, plan.input, plan.outputs, Some(plan))?;
        network.check_shards(plan)?;
        if plan.target_scale().is_some() {
            network.scalable_head()?;
        }
        Ok(network)
    }

    /// Checks that batch norm sees at least two values per channel in the smallest training shard.
    ///
    /// # Errors
    /// The batch norm that does not, and what to change.
    pub fn check_shards(&self, plan: &Plan) -> Result<(), NetworkError> {
        let smallest = plan.train_cut().smallest_shard();
        for node in &self.nodes {
            let Op::BatchNorm { .. } = node.op else { continue };
            let places = node.output.len() as u64 / u64::from(node.output.channels());
            let values = places * u64::from(smallest);
            if values < 2 {
                let remedy = if plan.spec.train.shard < 2 {
                    "set train.shard to 2 or more".to_owned()
                } else {
                    format!(
                        "set train.last = \"drop\", or another train.batch (now {}) or train.shard (now {}) that leaves \
                         no single sample of {}",
                        plan.spec.train.batch, plan.spec.train.shard, plan.train_samples
                    )
                };
                return Err(NetworkError::Shards { name: node.name.clone(), values, smallest, remedy });
            }
        }
        Ok(())
    }
}

fn build(spec: &NetworkSpec, input: Input, outputs: u32, plan: Option<&Plan>) -> Result<Network, NetworkError> {
    check_input(spec, input)?;
    let mut builder = if spec.layers.is_empty() {
        zoo::build(spec.zoo_name(), input, outputs)?
    } else {
        let mut builder = Builder::new(input, Scheme::Torch);
        let last = layer_list::build(&mut builder, &spec.layers)?;
        if !builder.is_trainable() {
            return Err(NetworkError::NothingToTrain);
        }
        check_last(&builder, last, plan)?;
        builder
    };
    finish(&mut builder, outputs, plan)?;
    Ok(builder.finish())
}

/// Specs have sides and channels above zero; a caller that does not come from one is told as well.
fn check_input(spec: &NetworkSpec, input: Input) -> Result<(), NetworkError> {
    let count = u128::from(input.height) * u128::from(input.width) * u128::from(input.channels);
    let problem = match count {
        0 => Problem::Zero { key: "prepare.size" },
        count if count > u128::from(MAX_ELEMENTS) => Problem::TooLarge { what: "a sample" },
        _ => return Ok(()),
    };
    Err(NetworkError::Zoo {
        network: spec.zoo_name().to_owned(),
        input: Shape::Map { height: input.height, width: input.width, channels: input.channels },
        layer: "input".to_owned(),
        remedy: "set prepare.size to the size of the images".to_owned(),
        problem,
    })
}

/// Refuses a last layer that the loss applies by itself.
fn check_last(builder: &Builder, last: usize, plan: Option<&Plan>) -> Result<(), NetworkError> {
    let function = match builder.node(last).op {
        Op::Softmax => "softmax",
        Op::Activation(Activation::Sigmoid) => "sigmoid",
        _ => return Ok(()),
    };
    if plan.is_some_and(|plan| plan.spec.task == Task::Regression) {
        return Ok(());
    }
    Err(NetworkError::FinalActivation { name: builder.node(last).name.clone(), function })
}

/// Makes the last node put out features, and checks how many.
fn finish(builder: &mut Builder, outputs: u32, plan: Option<&Plan>) -> Result<(), NetworkError> {
    let last = builder.last();
    let name = builder.node(last).name.clone();
    let found = builder.shape(last);
    let refuse = |remedy: String| {
        let reason = plan.map(reason).unwrap_or_default();
        Err(NetworkError::Outputs { name: name.clone(), found, outputs, reason, remedy })
    };
    match found {
        Shape::Features(count) | Shape::Map { height: 1, width: 1, channels: count } if count != outputs => {
            refuse(format!("set `out` of the last conv or linear layer to {outputs}"))
        }
        Shape::Features(_) => Ok(()),
        Shape::Map { height: 1, width: 1, .. } => match layer_list::flat(builder, &name, last) {
            Ok(_) => Ok(()),
            Err(_) => refuse(format!("rename the layer called \"{name}.flatten\"")),
        },
        Shape::Map { .. } => {
            refuse(format!("end with global_avg_pool (or flatten) and a linear layer whose `out` is {outputs}"))
        }
    }
}

fn reason(plan: &Plan) -> String {
    match plan.spec.task {
        Task::Auto | Task::Multiclass => " (one for each class)".to_owned(),
        Task::Binary => " (binary)".to_owned(),
        Task::Multilabel => " (one for each label)".to_owned(),
        Task::Regression => " (one for each target)".to_owned(),
    }
}
