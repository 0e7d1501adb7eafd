//! Activation functions, element by element. NaN stays NaN.

use crate::cpu::simd;
use crate::math::{erf, exp, exp_m1, sigmoid, tanh};
use crate::scratch::scratch;
use crate::shape::expect_len;

/// An activation function, as the module of the same name in `torch.nn`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// max(0, x)
    Relu,
    /// min(max(0, x), 6)
    Relu6,
    /// x above 0, else slope x
    LeakyRelu(f32),
    /// 1 / (1 + e^-x)
    Sigmoid,
    /// Hyperbolic tangent
    Tanh,
    /// x sigmoid(x)
    Silu,
    /// x times the normal distribution function of x, by the error function (`approximate='none'`)
    Gelu,
    /// x relu6(x + 3) / 6
    HardSwish,
    /// relu6(x + 3) / 6
    HardSigmoid,
    /// x above 0, else alpha (e^x - 1)
    Elu(f32),
}

impl Activation {
    /// `y = f(x)`, element by element.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn forward(self, x: &[f32], y: &mut [f32]) {
        expect_len("y", y.len(), x.len());
        forward(self, x, y);
    }

    /// `x = f(x)`, element by element, in place.
    pub fn apply(self, x: &mut [f32]) {
        // From a copy: in place, a value that stays as it is becomes a masked store, which is slow.
        let mut copy = scratch(BLOCK.min(x.len()));
        for x in x.chunks_mut(BLOCK) {
            let copy = &mut copy[..x.len()];
            copy.copy_from_slice(x);
            forward(self, copy, x);
        }
    }

    /// `dx = dy f'(x)`, from the input `x` and the output `y`. Where f has a kink the derivative is PyTorch's: of
    /// relu, relu6, hard swish and hard sigmoid that of the flat side; of leaky relu the slope's.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn backward(self, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        expect_len("y", y.len(), x.len());
        expect_len("dx", dx.len(), x.len());
        expect_len("dy", dy.len(), x.len());
        backward(self, x, y, dy, dx);
    }

    /// `d = d f'(x)`, in place: [`Activation::backward`] of `dy = d`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn apply_slope(self, x: &[f32], y: &[f32], d: &mut [f32]) {
        expect_len("y", y.len(), x.len());
        expect_len("d", d.len(), x.len());
        let mut copy = scratch(BLOCK.min(x.len()));
        for ((x, y), d) in x.chunks(BLOCK).zip(y.chunks(BLOCK)).zip(d.chunks_mut(BLOCK)) {
            let copy = &mut copy[..d.len()];
            copy.copy_from_slice(d);
            backward(self, x, y, copy, d);
        }
    }

    /// Whether the derivative is computed from the output, too; else any `y` will do.
    pub fn slope_reads_output(self) -> bool {
        matches!(self, Activation::Sigmoid | Activation::Tanh | Activation::Silu | Activation::Elu(_))
    }

    /// Whether the output may stand for the input, `f'(x) = f'(f(x))` for every x.
    pub fn slope_of_output(self) -> bool {
        matches!(self, Activation::Relu | Activation::Relu6)
    }
}

/// Values at a time, so that they stay in the first-level cache.
const BLOCK: usize = 2048;

/// An activation so cheap that it is computed again wherever it is needed, and whose slope its output tells.
pub(crate) trait Curve: Copy {
    /// f(x)
    fn value(self, x: f32) -> f32;
    /// dy f'(x)
    fn slope(self, x: f32, dy: f32) -> f32;
}

/// None at all.
#[derive(Clone, Copy)]
pub(crate) struct Identity;
/// [`Activation::Relu`].
#[derive(Clone, Copy)]
pub(crate) struct Relu;
/// [`Activation::Relu6`].
#[derive(Clone, Copy)]
pub(crate) struct Relu6;

impl Curve for Identity {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn slope(self, _: f32, dy: f32) -> f32 {
        dy
    }
}

impl Curve for Relu {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        if x <= 0.0 { 0.0 } else { x }
    }
    #[inline(always)]
    fn slope(self, x: f32, dy: f32) -> f32 {
        if x <= 0.0 { 0.0 } else { dy }
    }
}

impl Curve for Relu6 {
    #[inline(always)]
    fn value(self, x: f32) -> f32 {
        relu6(x)
    }
    #[inline(always)]
    fn slope(self, x: f32, dy: f32) -> f32 {
        if (x <= 0.0) | (x >= 6.0) { 0.0 } else { dy }
    }
}

simd! {
    fn forward(activation: Activation, x: &[f32], y: &mut [f32]) {
        write_values(activation, x, y);
    }
}

simd! {
    fn backward(activation: Activation, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
        write_slopes(activation, x, y, dy, dx);
    }
}

/// [`Activation::forward`], to be compiled for the level of whoever calls it.
#[inline(always)]
pub(crate) fn write_values(activation: Activation, x: &[f32], y: &mut [f32]) {
    // A macro, for its body is certain to be compiled for the kernel's level; a closure's is not.
    macro_rules! map {
        (|$x:ident| $f:expr) => {
            for (y, &$x) in y.iter_mut().zip(x) {
                *y = $f;
            }
        };
    }
    match activation {
        Activation::Relu => map!(|x| Relu.value(x)),
        Activation::Relu6 => map!(|x| relu6(x)),
        Activation::LeakyRelu(slope) => map!(|x| if x > 0.0 { x } else { slope * x }),
        Activation::Sigmoid => map!(|x| sigmoid(x)),
        Activation::Tanh => map!(|x| tanh(x)),
        Activation::Silu => map!(|x| x * sigmoid(x)),
        Activation::Gelu => map!(|x| x * normal_cdf(x)),
        Activation::HardSwish => map!(|x| x * relu6(x + 3.0) / 6.0),
        Activation::HardSigmoid => map!(|x| relu6(x + 3.0) / 6.0),
        Activation::Elu(alpha) => map!(|x| if x > 0.0 { x } else { alpha * exp_m1(x) }),
    }
}

/// [`Activation::backward`], to be compiled for the level of whoever calls it.
#[inline(always)]
pub(crate) fn write_slopes(activation: Activation, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    macro_rules! grad {
        (|$x:pat_param, $y:pat_param, $dy:ident| $f:expr) => {
            for (((dx, &$x), &$y), &$dy) in dx.iter_mut().zip(x).zip(y).zip(dy) {
                *dx = $f;
            }
        };
    }
    match activation {
        Activation::Relu => grad!(|x, _, dy| Relu.slope(x, dy)),
        Activation::Relu6 => grad!(|x, _, dy| Relu6.slope(x, dy)),
        Activation::LeakyRelu(slope) => grad!(|x, _, dy| if x > 0.0 { dy } else { slope * dy }),
        Activation::Sigmoid => grad!(|_, y, dy| dy * (y * (1.0 - y))),
        Activation::Tanh => grad!(|_, y, dy| dy * (-y).mul_add(y, 1.0)),
        Activation::Silu => grad!(|x, y, dy| dy * silu_slope(sigmoid(x), y)),
        Activation::Gelu => grad!(|x, _, dy| dy * x.mul_add(normal_density(x), normal_cdf(x))),
        Activation::HardSwish => grad!(|x, _, dy| if x <= -3.0 { 0.0 } else { dy * hard_swish_slope(x) }),
        Activation::HardSigmoid => grad!(|x, _, dy| if (x <= -3.0) | (x >= 3.0) { 0.0 } else { dy / 6.0 }),
        Activation::Elu(alpha) => grad!(|x, y, dy| if x > 0.0 { dy } else { dy * (y + alpha) }),
    }
}

#[inline(always)]
fn silu_slope(sigmoid: f32, y: f32) -> f32 {
    y.mul_add(1.0 - sigmoid, sigmoid)
}

/// Above -3.
#[inline(always)]
fn hard_swish_slope(x: f32) -> f32 {
    if x >= 3.0 { 1.0 } else { x / 3.0 + 0.5 }
}

#[inline(always)]
fn relu6(x: f32) -> f32 {
    let x = if x <= 0.0 { 0.0 } else { x };
    if x >= 6.0 { 6.0 } else { x }
}

#[inline(always)]
fn normal_cdf(x: f32) -> f32 {
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn normal_density(x: f32) -> f32 {
    const INVERSE_ROOT_2_PI: f32 = 0.398_942_3;
    INVERSE_ROOT_2_PI * exp(-0.5 * (x * x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{assert_gradient, noise, on_every_level};

    const ALL: [Activation; 10] = [
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu(0.1),
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::Silu,
        Activation::Gelu,
        Activation::HardSwish,
        Activation::HardSigmoid,
        Activation::Elu(1.3),
    ];

    /// The functions by their definitions.
    fn naive(activation: Activation, x: f64) -> f64 {
        let sigmoid = 1.0 / (1.0 + libm::exp(-x));
        match activation {
            Activation::Relu => x.max(0.0),
            Activation::Relu6 => x.clamp(0.0, 6.0),
            Activation::LeakyRelu(slope) => x.max(0.0) + f64::from(slope) * x.min(0.0),
            Activation::Sigmoid => sigmoid,
            Activation::Tanh => libm::tanh(x),
            Activation::Silu => x * sigmoid,
            Activation::Gelu => 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
            Activation::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Activation::HardSigmoid => (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Activation::Elu(alpha) => x.max(0.0) + f64::from(alpha) * libm::expm1(x.min(0.0)),
        }
    }

    #[test]
    fn values_and_gradients_agree_with_the_definitions() {
        let x: Vec<f32> = noise(1, 500).into_iter().map(|v| 8.0 * v).collect();
        let dy = noise(2, x.len());
        for activation in ALL {
            let y = on_every_level(x.len(), |y| activation.forward(&x, y));
            for (&x, &y) in x.iter().zip(&y) {
                let expected = naive(activation, f64::from(x));
                let error = (f64::from(y) - expected).abs();
                assert!(error <= 1e-6 * (1.0 + expected.abs()), "{activation:?} of {x} is {y}, not {expected}");
            }
            let dx = on_every_level(x.len(), |dx| activation.backward(&x, &y, &dy, dx));
            for i in 0..x.len() {
                let f = |x: &[f64]| naive(activation, x[0]) * f64::from(dy[i]);
                assert_gradient(&format!("{activation:?} at {}", x[i]), f, &x[i..=i], &dx[i..=i]);
            }
        }
    }

    #[test]
    fn nan_and_infinity_are_not_hidden() {
        for activation in ALL {
            let mut y = [0.0; 1];
            activation.forward(&[f32::NAN], &mut y);
            assert!(y[0].is_nan(), "{activation:?}");
            let mut dx = [0.0; 1];
            activation.backward(&[1.5], &[1.5], &[f32::NAN], &mut dx);
            assert!(dx[0].is_nan(), "{activation:?}");
        }
    }
}
