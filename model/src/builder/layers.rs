//! What each layer refuses, what it puts out, and how its tensors begin.

use convoy_common::spec::Pair;

use super::{Added, Builder, Fault, Scheme, check, fault};
use crate::error::{MAX_ELEMENTS, Problem};
use crate::{Activation, Init, Op, Role, Shape};

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

    /// The same with another stride, in both directions.
    pub fn stride(self, stride: u32) -> Self {
        Conv { stride: Pair::square(stride), ..self }
    }

    /// The same with another padding, in both directions.
    pub fn padding(self, padding: u32) -> Self {
        Conv { padding: Pair::square(padding), ..self }
    }

    /// The same without a bias.
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

impl Builder {
    /// `torch.nn.Conv2d` of a map.
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

    /// `torch.nn.MaxPool2d` of a map.
    pub fn max_pool(&mut self, name: &str, from: usize, window: Window) -> Added {
        let output = self.pooled(name, from, window)?;
        let Window { kernel, stride, padding } = window;
        self.add(name, Op::MaxPool { kernel, stride, padding }, vec![from], output)
    }

    /// `torch.nn.AvgPool2d` of a map.
    pub fn avg_pool(&mut self, name: &str, from: usize, window: Window) -> Added {
        let output = self.pooled(name, from, window)?;
        let Window { kernel, stride, padding } = window;
        self.add(name, Op::AvgPool { kernel, stride, padding }, vec![from], output)
    }

    /// `torch.nn.AdaptiveAvgPool2d(1)` of a map.
    pub fn global_avg_pool(&mut self, name: &str, from: usize) -> Added {
        let (_, _, channels) = self.map(name, from)?;
        self.add(name, Op::GlobalAvgPool, vec![from], Shape::Map { height: 1, width: 1, channels })
    }

    /// Batch norm of a map or of features. `momentum` is the share of the new value.
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

    /// An activation, whose slope or alpha must be a number.
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

    /// The most common activation.
    pub fn relu(&mut self, name: &str, from: usize) -> Added {
        self.activation(name, from, Activation::Relu)
    }

    /// Softmax of features.
    pub fn softmax(&mut self, name: &str, from: usize) -> Added {
        let features = self.features(name, from)?;
        self.add(name, Op::Softmax, vec![from], Shape::Features(features))
    }

    /// Features from a map.
    pub fn flatten(&mut self, name: &str, from: usize) -> Added {
        match self.shape(from) {
            // At most MAX_ELEMENTS, as every map.
            map @ Shape::Map { .. } => self.add(name, Op::Flatten, vec![from], Shape::Features(map.len() as u32)),
            Shape::Features(input) => fault(name, Problem::NeedsMap { input }),
        }
    }

    /// `torch.nn.Linear` of features.
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

    /// Dropout with a stream of random numbers of its own.
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

    /// What a pool of `from` puts out.
    fn pooled(&self, name: &str, from: usize, window: Window) -> Result<Shape, Fault> {
        let (height, width, channels) = self.map(name, from)?;
        let Window { kernel, padding, .. } = window;
        let wide = padding.height > kernel.height / 2 || padding.width > kernel.width / 2;
        check(name, wide.then_some(Problem::PoolPadding { padding, kernel }))?;
        let (height, width) = windows(name, (height, width), window, Pair::square(1))?;
        sized(name, height, width, channels)
    }
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
