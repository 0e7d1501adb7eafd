//! Operations of a network as compositions of candle's, which has the gradients. Images are NHWC, features `(n, f)`.
//!
//! Of candle's CUDA kernels only those are used whose sums have one order (`docs/decisions.md`): none that adds
//! atomically, and neither convolution nor pooling, whose gradients are missing or wrong in candle 0.11.1.

use candle_core::{D, Result, Tensor};
use convoy_model::Activation;

use super::window::Window;

/// x `(n, h, w, ci)`, weight `(co, ci / groups, kh, kw)` and perhaps bias `(co)`, to `(n, oh, ow, co)`: what the taps
/// of the window see stands side by side and is multiplied by the weight; of depthwise convolutions, tap by tap.
pub(crate) fn conv(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
    groups: usize,
) -> Result<Tensor> {
    let taps = window.taps(x, 0.0)?;
    let (n, oh, ow, ci) = taps[0].dims4()?;
    let (co, each, kh, kw) = weight.dims4()?;
    let y = if each == 1 && co == ci {
        let weight = weight.reshape((co, kh * kw))?.t()?;
        let mut products = taps.iter().enumerate().map(|(tap, seen)| seen.broadcast_mul(&weight.get(tap)?));
        let first = products.next().expect("a window has taps")?;
        products.try_fold(first, |sum, product| sum + product?)?
    } else {
        let rows = n * oh * ow;
        let apart = taps.iter().map(|seen| seen.reshape((rows, groups, each))).collect::<Result<Vec<_>>>()?;
        let columns = Tensor::cat(&apart, 2)?.transpose(0, 1)?.contiguous()?;
        let weight = weight.reshape((groups, co / groups, each, kh * kw))?.permute((0, 3, 2, 1))?;
        let weight = weight.reshape((groups, kh * kw * each, co / groups))?.contiguous()?;
        columns.matmul(&weight)?.transpose(0, 1)?.reshape((n, oh, ow, co))?
    };
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// x `(n, inputs)`, weight `(outputs, inputs)` and perhaps bias `(outputs)`, to `(n, outputs)`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.matmul(&weight.t()?)?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// Maximum over windows: of equal numbers the first has the gradient, a NaN is always the largest.
pub(crate) fn max_pool(x: &Tensor, window: &Window) -> Result<Tensor> {
    let taps = window.taps(x, f32::NEG_INFINITY)?;
    let (first, others) = taps.split_first().expect("a window has taps");
    others.iter().try_fold(first.clone(), |largest, seen| {
        let (larger, nan) = (seen.gt(&largest)?, seen.ne(seen)?);
        (larger + nan)?.where_cond(seen, &largest)
    })
}

/// Mean over windows, the border counted as zeros.
pub(crate) fn avg_pool(x: &Tensor, window: &Window) -> Result<Tensor> {
    let taps = window.taps(x, 0.0)?;
    let (first, others) = taps.split_first().expect("a window has taps");
    let sum = others.iter().try_fold(first.clone(), |sum, seen| sum + seen)?;
    sum / taps.len() as f64
}

/// Mean over all pixels: `(n, h, w, c)` to `(n, 1, 1, c)`.
pub(crate) fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    x.reshape((n, h * w, c))?.mean(1)?.reshape((n, 1, 1, c))
}

/// `(n, h, w, c)` to `(n, c * h * w)`, in PyTorch's order (channel, row, column).
pub(crate) fn flatten(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 3, 1, 2))?.flatten_from(1)
}

/// Mean and biased variance of each channel, the last axis.
pub(crate) fn statistics(x: &Tensor) -> Result<[Tensor; 2]> {
    let rows = x.flatten_to(D::Minus2)?;
    let mean = rows.mean(0)?;
    let variance = rows.broadcast_sub(&mean)?.sqr()?.mean(0)?;
    Ok([mean, variance])
}

/// `(x - mean) * (gamma / sqrt(variance + eps)) + beta`; all but x of one number for each channel.
pub(crate) fn norm(x: &Tensor, [mean, variance]: &[Tensor; 2], affine: &[Tensor; 2], eps: f32) -> Result<Tensor> {
    let [gamma, beta] = affine;
    let scale = (gamma / (variance + f64::from(eps))?.sqrt()?)?;
    x.broadcast_sub(mean)?.broadcast_mul(&scale)?.broadcast_add(beta)
}

/// Softmax over the last axis.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    // The shift changes nothing, so it needs no gradient.
    let powers = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

/// An activation, element by element, with the slopes of the kernels at kinks.
pub(crate) fn activate(function: Activation, x: &Tensor) -> Result<Tensor> {
    match function {
        Activation::Relu => relu(x),
        Activation::Relu6 => relu6(x),
        Activation::LeakyRelu(slope) => x.gt(0.0)?.where_cond(x, &(x * f64::from(slope))?),
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Silu => x * sigmoid(x)?,
        Activation::Gelu => x * normal_cdf(x)?,
        Activation::HardSwish => x * (relu6(&(x + 3.0)?)? / 6.0)?,
        Activation::HardSigmoid => relu6(&(x + 3.0)?)? / 6.0,
        Activation::Elu(alpha) => x.elu(f64::from(alpha)),
    }
}

/// 0 up to 0; a NaN stays.
fn relu(x: &Tensor) -> Result<Tensor> {
    x.le(0.0)?.where_cond(&x.zeros_like()?, x)
}

fn relu6(x: &Tensor) -> Result<Tensor> {
    let x = relu(x)?;
    x.ge(6.0)?.where_cond(&Tensor::full(6f32, x.shape(), x.device())?, &x)
}

/// By the hyperbolic tangent: the gradient of `1 / (1 + exp(-x))` is infinity times 0 far below 0.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    ((x * 0.5)?.tanh()? + 1.0)? * 0.5
}

fn normal_cdf(x: &Tensor) -> Result<Tensor> {
    ((x * std::f64::consts::FRAC_1_SQRT_2)?.erf()? + 1.0)? * 0.5
}
