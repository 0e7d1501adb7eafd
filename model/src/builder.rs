//! Puts a network together node by node, checking shapes and giving each tensor its name and beginning.

use std::collections::BTreeSet;

use convoy_common::plan::Input;
use convoy_common::spec::Pair;

use crate::error::{MAX_ELEMENTS, Problem};
use crate::{Activation, Init, Network, Node, Op, Role, Shape, Tensor};

/// A layer that could not be added, and why.
#[derive(Debug)]
pub(crate) struct Fault {
    pub layer: String,
    pub problem: Problem,
}

/// A node's index, or why there is none.
pub(crate) type Added = Result<usize, Fault>;

/// How convolutions and fully connected layers begin. Batch norm begins at scale 1, shift 0 in each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scheme {
    /// `torch.nn`'s defaults: weights and biases uniform in ±1/sqrt(fan_in).
    Torch,
    /// torchvision's ResNet: convolutions normal with variance 2 / fan_out (He et al. 2015, section 2.2), the
    /// rest as [`Scheme::Torch`].
    Resnet,
    /// torchvision's VGG: convolutions as [`Scheme::Resnet`], fully connected normal with deviation 0.01,
    /// biases zero.
    Vgg,
}

/// The settings of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv {
    pub out: u32,
    pub kernel: Pair,
    pub stride: Pair,
    pub padding: Pair,
    pub dilation: Pair,
    pub groups: u32,
    pub bias: bool,
}

impl Conv {
    /// A square kernel with stride 1 and a bias, padded so that height and width stay (odd kernels).
    pub fn same(out: u32, kernel: u32) -> Self {
        Conv {
            out,
            kernel: Pair::square(kernel),
            stride: Pair::square(1),
            padding: Pair::square(kernel / 2),
            dilation: Pair::square(1),
            groups: 1,
            bias: true,
        }
    }

    pub fn stride(self, stride: u32) -> Self {
        Conv { stride: Pair::square(stride), ..self }
    }

    pub fn padding(self, padding: u32) -> Self {
        Conv { padding: Pair::square(padding), ..self }
    }

    pub fn no_bias(self) -> Self {
        Conv { bias: false, ..self }
    }
}

/// The window of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub kernel: Pair,
    pub stride: Pair,
    pub padding: Pair,
}

impl Window {
    /// Side by side, without padding.
    pub fn tiles(side: u32) -> Self {
        Window { kernel: Pair::square(side), stride: Pair::square(side), padding: Pair::square(0) }
    }
}

/// A network under construction. Nodes and tensors appear in the order of the calls.
#[derive(Debug)]
pub(crate) struct Builder {
    input: Input,
    scheme: Scheme,
    nodes: Vec<Node>,
    tensors: Vec<Tensor>,
    names: BTreeSet<String>,
    elements: u64,
    dropouts: u32,
}

impl Builder {
    /// Begins with the input, node 0.
    pub fn new(input: Input, scheme: Scheme) -> Self {
        let output = Shape::Map { height: input.height, width: input.width, channels: input.channels };
        let nodes = vec![Node { name: "input".to_owned(), op: Op::Input, inputs: Vec::new(), output }];
        Builder { input, scheme, nodes, tensors: Vec::new(), names: BTreeSet::new(), elements: 0, dropouts: 0 }
    }

    pub fn shape(&self, node: usize) -> Shape {
        self.nodes[node].output
    }

    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The node that was added last.
    pub fn last(&self) -> usize {
        self.nodes.len() - 1
    }

    /// Whether any layer so far has weights.
    pub fn is_trainable(&self) -> bool {
        !self.tensors.is_empty()
    }

    /// The finished network, whose output is the last node: tensors get their places, the last layer with
    /// weights becomes the head.
    pub fn finish(mut self) -> Network {
        let heads = self.nodes.iter().rev().find_map(|node| match node.op {
            Op::Conv { weight, bias, .. } | Op::Linear { weight, bias, .. } => Some([Some(weight), bias]),
            _ => None,
        });
        for index in heads.into_iter().flatten().flatten() {
            self.tensors[index].head = true;
        }
        let mut end = 0;
        let mut place = |tensors: &mut [Tensor], wanted: fn(&Role) -> bool| {
            for tensor in tensors.iter_mut().filter(|tensor| wanted(&tensor.role)) {
                tensor.offset = end;
                end += tensor.len();
            }
            end
        };
        let parameters = place(&mut self.tensors, |role| matches!(role, Role::Parameter { .. }));
        let all = place(&mut self.tensors, |role| matches!(role, Role::Buffer { .. }));
        let outputs = self.nodes.last().map_or(0, |node| node.output.channels());
        let (input, nodes, tensors) = (self.input, self.nodes, self.tensors);
        Network { input, nodes, tensors, parameters, buffers: all - parameters, outputs }
    }

    pub fn conv(&mut self, name: &str, from: usize, conv: Conv) -> Added {
        let (kernel, stride, padding, dilation, groups) =
            (conv.kernel, conv.stride, conv.padding, conv.dilation, conv.groups);
        let (height, width, channels) = self.map(name, from)?;
        let zeros = [("out", conv.out), ("groups", groups), ("dilation", dilation.height.min(dilation.width))];
        check(name, zeros.into_iter().find(|zero| zero.1 == 0).map(|zero| Problem::Zero { key: zero.0 }))?;
        let divides = channels.is_multiple_of(groups) && conv.out.is_multiple_of(groups);
        let uneven = Problem::Groups { groups, input: channels, out: conv.out };
        check(name, (!divides).then_some(uneven))?;
        let (height, width) = windows(name, (height, width), Window { kernel, stride, padding }, dilation)?;
        let output = sized(name, height, width, conv.out)?;

        let input = channels / groups;
        let taps = u64::from(kernel.height).saturating_mul(kernel.width.into());
        let fan_in = taps.saturating_mul(input.into());
        let fan_out = taps.saturating_mul(conv.out.into());
        let weight_init = match self.scheme {
            Scheme::Torch => uniform(fan_in),
            Scheme::Resnet | Scheme::Vgg => Init::Normal { std: (2.0 / fan_out as f64).sqrt() as f32 },
        };
        let bias_init = if self.scheme == Scheme::Vgg { Init::Zeros } else { uniform(fan_in) };
        let weight = self.parameter(name, "weight", &[conv.out, input, kernel.height, kernel.width], weight_init)?;
        let bias = self.bias(name, conv.bias, conv.out, bias_init)?;
        self.add(name, Op::Conv { kernel, stride, padding, dilation, groups, weight, bias }, vec![from], output)
    }

    pub fn max_pool(&mut self, name: &str, from: usize, window: Window) -> Added {
        let output = self.pooled(name, from, window)?;
        let Window { kernel, stride, padding } = window;
        self.add(name, Op::MaxPool { kernel, stride, padding }, vec![from], output)
    }

    pub fn avg_pool(&mut self, name: &str, from: usize, window: Window) -> Added {
        let output = self.pooled(name, from, window)?;
        let Window { kernel, stride, padding } = window;
        self.add(name, Op::AvgPool { kernel, stride, padding }, vec![from], output)
    }

    pub fn global_avg_pool(&mut self, name: &str, from: usize) -> Added {
        let (_, _, channels) = self.map(name, from)?;
        self.add(name, Op::GlobalAvgPool, vec![from], Shape::Map { height: 1, width: 1, channels })
    }

    pub fn batch_norm(&mut self, name: &str, from: usize, eps: f64, momentum: f64) -> Added {
        check_range(name, "eps", eps, eps > 0.0 && eps <= 1.0, "above 0 and at most 1")?;
        check_range(name, "momentum", momentum, (0.0..=1.0).contains(&momentum), "from 0 to 1")?;
        let (eps, momentum) = (eps as f32, momentum as f32);
        let output = self.shape(from);
        let shape = [output.channels()];
        let weight = self.tensor(name, "weight", &shape, Role::Parameter { decay: false }, Init::Ones)?;
        let bias = self.tensor(name, "bias", &shape, Role::Parameter { decay: false }, Init::Zeros)?;
        let running_mean = self.tensor(name, "running_mean", &shape, Role::Buffer { momentum }, Init::Zeros)?;
        let running_var = self.tensor(name, "running_var", &shape, Role::Buffer { momentum }, Init::Ones)?;
        let op = Op::BatchNorm { eps, momentum, weight, bias, running_mean, running_var };
        self.add(name, op, vec![from], output)
    }

    pub fn activation(&mut self, name: &str, from: usize, activation: Activation) -> Added {
        let parameter = match activation {
            Activation::LeakyRelu(slope) => Some(("slope", slope)),
            Activation::Elu(alpha) => Some(("alpha", alpha)),
            _ => None,
        };
        if let Some((key, value)) = parameter {
            check_range(name, key, value.into(), value.is_finite(), "a number")?;
        }
        self.add(name, Op::Activation(activation), vec![from], self.shape(from))
    }

    pub fn relu(&mut self, name: &str, from: usize) -> Added {
        self.activation(name, from, Activation::Relu)
    }

    pub fn softmax(&mut self, name: &str, from: usize) -> Added {
        let features = self.features(name, from)?;
        self.add(name, Op::Softmax, vec![from], Shape::Features(features))
    }

    pub fn flatten(&mut self, name: &str, from: usize) -> Added {
        match self.shape(from) {
            // At most MAX_ELEMENTS, as every map.
            map @ Shape::Map { .. } => self.add(name, Op::Flatten, vec![from], Shape::Features(map.len() as u32)),
            Shape::Features(input) => fault(name, Problem::NeedsMap { input }),
        }
    }

    pub fn linear(&mut self, name: &str, from: usize, out: u32, bias: bool) -> Added {
        let input = self.features(name, from)?;
        check(name, (out == 0).then_some(Problem::Zero { key: "out" }))?;
        let (weight_init, bias_init) = match self.scheme {
            Scheme::Torch | Scheme::Resnet => (uniform(input.into()), uniform(input.into())),
            Scheme::Vgg => (Init::Normal { std: 0.01 }, Init::Zeros),
        };
        let weight = self.parameter(name, "weight", &[out, input], weight_init)?;
        let bias = self.bias(name, bias, out, bias_init)?;
        let node = &self.nodes[from];
        let flattened = match (&node.op, node.inputs.first().map(|before| self.shape(*before))) {
            (Op::Flatten, Some(Shape::Map { height, width, channels })) => Some((height, width, channels)),
            _ => None,
        };
        self.add(name, Op::Linear { weight, bias, flattened }, vec![from], Shape::Features(out))
    }

    pub fn dropout(&mut self, name: &str, from: usize, p: f64) -> Added {
        // As f32, so that what rounds to 1 is refused too.
        let rounded = p as f32;
        check_range(name, "p", p, (0.0..1.0).contains(&rounded), "from 0 to below 1")?;
        let stream = self.dropouts;
        self.dropouts += 1;
        self.add(name, Op::Dropout { p: rounded, stream }, vec![from], self.shape(from))
    }

    /// `long + short`.
    pub fn sum(&mut self, name: &str, long: usize, short: usize) -> Added {
        let problem = Problem::Residual { input: self.shape(short), long: self.shape(long) };
        check(name, (self.shape(long) != self.shape(short)).then_some(problem))?;
        self.add(name, Op::Add, vec![long, short], self.shape(long))
    }

    fn add(&mut self, name: &str, op: Op, inputs: Vec<usize>, output: Shape) -> Added {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        check(name, (name.is_empty() || !name.chars().all(allowed)).then_some(Problem::BadName))?;
        check(name, (!self.names.insert(name.to_owned())).then_some(Problem::SameName))?;
        self.nodes.push(Node { name: name.to_owned(), op, inputs, output });
        Ok(self.nodes.len() - 1)
    }

    fn parameter(&mut self, layer: &str, kind: &str, shape: &[u32], init: Init) -> Added {
        self.tensor(layer, kind, shape, Role::Parameter { decay: true }, init)
    }

    fn bias(&mut self, layer: &str, wanted: bool, out: u32, init: Init) -> Result<Option<usize>, Fault> {
        if !wanted {
            return Ok(None);
        }
        self.tensor(layer, "bias", &[out], Role::Parameter { decay: false }, init).map(Some)
    }

    fn tensor(&mut self, layer: &str, kind: &str, shape: &[u32], role: Role, init: Init) -> Added {
        let count = shape.iter().try_fold(1u64, |count, side| count.checked_mul((*side).into()));
        let total = count.and_then(|count| count.checked_add(self.elements)).filter(|total| *total <= MAX_ELEMENTS);
        let Some(total) = total else {
            return fault(layer, Problem::TooLarge { what: "the network" });
        };
        self.elements = total;
        let shape = shape.iter().map(|side| *side as usize).collect();
        self.tensors.push(Tensor { name: format!("{layer}.{kind}"), shape, role, offset: 0, head: false, init });
        Ok(self.tensors.len() - 1)
    }

    fn map(&self, name: &str, node: usize) -> Result<(u32, u32, u32), Fault> {
        match self.shape(node) {
            Shape::Map { height, width, channels } => Ok((height, width, channels)),
            Shape::Features(input) => fault(name, Problem::NeedsMap { input }),
        }
    }

    fn features(&self, name: &str, node: usize) -> Result<u32, Fault> {
        match self.shape(node) {
            Shape::Features(features) => Ok(features),
            input @ Shape::Map { .. } => fault(name, Problem::NeedsFeatures { input }),
        }
    }

    fn pooled(&self, name: &str, from: usize, window: Window) -> Result<Shape, Fault> {
        let (height, width, channels) = self.map(name, from)?;
        let Window { kernel, padding, .. } = window;
        let wide = padding.height > kernel.height / 2 || padding.width > kernel.width / 2;
        check(name, wide.then_some(Problem::PoolPadding { padding, kernel }))?;
        let (height, width) = windows(name, (height, width), window, Pair::square(1))?;
        sized(name, height, width, channels)
    }
}

fn fault<T>(layer: &str, problem: Problem) -> Result<T, Fault> {
    Err(Fault { layer: layer.to_owned(), problem })
}

fn check(layer: &str, problem: Option<Problem>) -> Result<(), Fault> {
    problem.map_or(Ok(()), |problem| fault(layer, problem))
}

fn check_range(layer: &str, key: &'static str, value: f64, fits: bool, allowed: &'static str) -> Result<(), Fault> {
    check(layer, (!fits).then(|| Problem::Range { key, value: value.to_string(), allowed }))
}

/// Uniform in ±1/sqrt(fan_in), which is what `kaiming_uniform_` with `a = sqrt(5)` comes to.
fn uniform(fan_in: u64) -> Init {
    Init::Uniform { bound: (1.0 / (fan_in as f64).sqrt()) as f32 }
}

/// How many windows fit: `(side + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1`, floored.
fn windows(name: &str, input: (u32, u32), window: Window, dilation: Pair) -> Result<(u64, u64), Fault> {
    let Window { kernel, stride, padding } = window;
    let zeros = [("kernel", kernel), ("stride", stride)];
    let zero = zeros.into_iter().find(|(_, pair)| pair.height == 0 || pair.width == 0);
    check(name, zero.map(|(key, _)| Problem::Zero { key }))?;
    let spread = |kernel: u32, dilation: u32| u64::from(dilation) * u64::from(kernel - 1) + 1;
    let padded = |side: u32, padding: u32| u64::from(side) + 2 * u64::from(padding);
    let (tall, wide) = (spread(kernel.height, dilation.height), spread(kernel.width, dilation.width));
    let (height, width) = (padded(input.0, padding.height), padded(input.1, padding.width));
    if tall > height || wide > width {
        let clamp = |side: u64| u32::try_from(side).unwrap_or(u32::MAX);
        let kernel = Pair { height: clamp(tall), width: clamp(wide) };
        return fault(name, Problem::KernelTooLarge { kernel, input: (height, width) });
    }
    Ok(((height - tall) / u64::from(stride.height) + 1, (width - wide) / u64::from(stride.width) + 1))
}

/// A map, unless it is too large.
fn sized(name: &str, height: u64, width: u64, channels: u32) -> Result<Shape, Fault> {
    let count = height.checked_mul(width).and_then(|area| area.checked_mul(channels.into()));
    match (count, u32::try_from(height), u32::try_from(width)) {
        (Some(count), Ok(height), Ok(width)) if count <= MAX_ELEMENTS => Ok(Shape::Map { height, width, channels }),
        _ => fault(name, Problem::TooLarge { what: "a sample's output" }),
    }
}
