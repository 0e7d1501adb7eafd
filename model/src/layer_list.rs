//! Networks from `network.layers`.

use convoy_common::spec::{Layer, LayerKind, Pair, Shortcut};

use crate::builder::{Added, Builder, Conv, Fault, Window};
use crate::error::Problem;
use crate::{Activation, NetworkError, Shape};

/// Residual blocks may contain residual blocks, this deep.
const MAX_DEPTH: usize = 8;

/// A run of layers: those of the network, or those of a residual block.
struct Level {
    /// What names and indices of its layers begin with.
    name: String,
    index: String,
    depth: usize,
}

/// Adds `layers` one after the other and returns the last node.
pub(crate) fn build(builder: &mut Builder, layers: &[Layer]) -> Result<usize, NetworkError> {
    let mut shrinking = None;
    chain(builder, layers, 0, &Level { name: String::new(), index: String::new(), depth: 0 }, &mut shrinking)
}

fn chain(
    builder: &mut Builder,
    layers: &[Layer],
    from: usize,
    level: &Level,
    shrinking: &mut Option<String>,
) -> Result<usize, NetworkError> {
    let mut at = from;
    for (position, layer) in layers.iter().enumerate() {
        let own = layer.name.clone().unwrap_or_else(|| format!("layer{position}"));
        let (name, index) = (format!("{}{own}", level.name), format!("{}{position}", level.index));
        let locate = |fault: Fault, shrinking: &Option<String>| NetworkError::Layer {
            remedy: fault.problem.remedy(shrinking.as_deref()),
            index: index.clone(),
            name: name.clone(),
            problem: fault.problem,
        };
        at = match &layer.kind {
            LayerKind::Residual { layers, shortcut } => {
                let refuse = |problem| Err(locate(Fault { layer: name.clone(), problem }, &None));
                if layers.is_empty() {
                    return refuse(Problem::EmptyResidual);
                }
                if level.depth == MAX_DEPTH {
                    return refuse(Problem::TooDeep { limit: MAX_DEPTH });
                }
                let inner = Level { name: format!("{name}."), index: format!("{index}."), depth: level.depth + 1 };
                let long = chain(builder, layers, at, &inner, shrinking)?;
                let sum =
                    short_way(builder, &name, at, long, *shortcut).and_then(|short| builder.sum(&name, long, short));
                sum.map_err(|fault| locate(fault, &None))?
            }
            kind => add(builder, &name, at, kind).map_err(|fault| locate(fault, shrinking))?,
        };
        if shrinks(&layer.kind) {
            *shrinking = Some(format!("layer {index}"));
        }
    }
    Ok(at)
}

/// Adds a layer that has no layers of its own.
fn add(builder: &mut Builder, name: &str, from: usize, kind: &LayerKind) -> Added {
    match *kind {
        LayerKind::Conv { out, kernel, stride, padding, dilation, groups, bias } => {
            builder.conv(name, from, Conv { out, kernel, stride, padding, dilation, groups, bias })
        }
        LayerKind::MaxPool { kernel, stride, padding } => {
            builder.max_pool(name, from, Window { kernel, stride: stride.unwrap_or(kernel), padding })
        }
        LayerKind::AvgPool { kernel, stride, padding } => {
            builder.avg_pool(name, from, Window { kernel, stride: stride.unwrap_or(kernel), padding })
        }
        LayerKind::GlobalAvgPool => builder.global_avg_pool(name, from),
        LayerKind::BatchNorm { eps, momentum } => builder.batch_norm(name, from, eps, momentum),
        LayerKind::Flatten => builder.flatten(name, from),
        LayerKind::Linear { out, bias } => {
            let from = flat(builder, name, from)?;
            builder.linear(name, from, out, bias)
        }
        LayerKind::Dropout { p } => builder.dropout(name, from, p),
        LayerKind::Residual { .. } => unreachable!("residual blocks are added by `chain`"),
        LayerKind::Relu => builder.relu(name, from),
        LayerKind::Relu6 => builder.activation(name, from, Activation::Relu6),
        LayerKind::LeakyRelu { slope } => builder.activation(name, from, Activation::LeakyRelu(slope as f32)),
        LayerKind::Sigmoid => builder.activation(name, from, Activation::Sigmoid),
        LayerKind::Tanh => builder.activation(name, from, Activation::Tanh),
        LayerKind::Silu => builder.activation(name, from, Activation::Silu),
        LayerKind::Gelu => builder.activation(name, from, Activation::Gelu),
        LayerKind::HardSwish => builder.activation(name, from, Activation::HardSwish),
        LayerKind::HardSigmoid => builder.activation(name, from, Activation::HardSigmoid),
        LayerKind::Elu { alpha } => builder.activation(name, from, Activation::Elu(alpha as f32)),
        LayerKind::Softmax => {
            let from = flat(builder, name, from)?;
            builder.softmax(name, from)
        }
    }
}

/// A map of one pixel has one order only, so it may serve as features without a flatten layer.
pub(crate) fn flat(builder: &mut Builder, name: &str, from: usize) -> Added {
    match builder.shape(from) {
        Shape::Map { height: 1, width: 1, .. } => builder.flatten(&format!("{name}.flatten"), from),
        _ => Ok(from),
    }
}

/// The way around a residual block's layers, ending in the shape of `long`.
fn short_way(builder: &mut Builder, name: &str, from: usize, long: usize, shortcut: Shortcut) -> Added {
    let (input, output) = (builder.shape(from), builder.shape(long));
    if shortcut == Shortcut::Identity || (shortcut == Shortcut::Auto && input == output) {
        return Ok(from);
    }
    let cannot = || Fault { layer: name.to_owned(), problem: Problem::Residual { input, long: output } };
    let (Shape::Map { height, width, .. }, Shape::Map { height: to_height, width: to_width, channels }) =
        (input, output)
    else {
        return Err(cannot());
    };
    // A 1x1 convolution of stride s makes ceil(side / s) of side.
    let stride = Pair { height: height.div_ceil(to_height), width: width.div_ceil(to_width) };
    if height.div_ceil(stride.height) != to_height || width.div_ceil(stride.width) != to_width {
        return Err(cannot());
    }
    let conv =
        builder.conv(&format!("{name}.shortcut.0"), from, Conv { stride, ..Conv::same(channels, 1).no_bias() })?;
    builder.batch_norm(&format!("{name}.shortcut.1"), conv, 1e-5, 0.1)
}

fn shrinks(kind: &LayerKind) -> bool {
    let above_one = |pair: &Pair| pair.height > 1 || pair.width > 1;
    match kind {
        LayerKind::Conv { stride, .. } => above_one(stride),
        LayerKind::MaxPool { kernel, stride, .. } | LayerKind::AvgPool { kernel, stride, .. } => {
            above_one(stride.as_ref().unwrap_or(kernel))
        }
        _ => false,
    }
}
