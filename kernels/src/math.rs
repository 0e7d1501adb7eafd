//! Elementary functions with the same bits on every machine.
//!
//! `exp`, `sigmoid`, `tanh` and `erf` are ours, free of branches so that loops over them become vectors: polynomials
//! whose coefficients are a minimax fit, rounded to f32 one by one. The others are the `libm` crate's.

/// e^x, within 1 unit in the last place; subnormal results included, +inf above 88.72, 0 below -104, NaN for NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r is a polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding it rounds to the nearest integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    const LN2_HIGH: f32 = std::f32::consts::LN_2;
    const LN2_LOW: f32 = -1.904_654_2e-9;
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let p = polynomial(r, [0.499_999_94, 0.166_665_21, 0.041_668_255, 0.008_368_662, 0.001_382_144_6]);
    let p = (p * r).mul_add(r, r) + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1; // two factors, for 2^n alone may be subnormal or infinite
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// 1 / (1 + e^-x), within 3 units in the last place.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let large = 1.0 / (1.0 + e);
    if x < 0.0 { e * large } else { large }
}

/// Hyperbolic tangent, within 2 units in the last place: x + x³ p(x²) below 0.625, else 1 - 2 / (e^2x + 1).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let t = x.abs();
    let square = t * t;
    let p = polynomial(square, [-0.333_332_7, 0.133_310_72, -0.053_707_987, 0.020_533_433, -0.005_585_081_4]);
    let small = (p * square).mul_add(t, t);
    let large = 1.0 - 2.0 / (exp(t + t) + 1.0);
    if t < 0.625 { small.copysign(x) } else { large.copysign(x) }
}

/// The error function, within 2 units in the last place: x + x p(x²) below 1, else 1 - e^q(x - 1).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let t = x.abs();
    let p = [0.128_379_17, -0.376_126_26, 0.112_835_79, -0.026_853_347, 0.005_187_162, -7.997_853e-4, 7.806_903e-5];
    let small = polynomial(t * t, p).mul_add(t, t);
    let q = [-1.849_605_6, -2.638_962_7, -0.843_173_6, -0.041_251_97, 0.009_426_983, -0.001_456_523_1, 8.235_605e-5];
    let beyond = if t > 4.0 { 3.0 } else { t - 1.0 };
    let large = 1.0 - exp(polynomial(beyond, q));
    if t < 1.0 { small.copysign(x) } else { large.copysign(x) }
}

/// c0 + c1 x + c2 x² + ... by Horner's rule.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum.mul_add(x, coefficients[i]);
    }
    sum
}

/// Natural logarithm, within 1 unit in the last place.
pub fn log(x: f32) -> f32 {
    libm::logf(x)
}

/// e^x - 1, accurate near 0, within 1 unit in the last place.
pub fn exp_m1(x: f32) -> f32 {
    libm::expm1f(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::simd;
    use crate::test_support::on_every_level;

    simd! {
        /// The four functions of a value, side by side.
        fn all(x: &[f32], y: &mut [f32]) {
            for (y, &x) in y.as_chunks_mut().0.iter_mut().zip(x) {
                *y = [exp(x), sigmoid(x), tanh(x), erf(x)];
            }
        }
    }

    /// Every 4001st f32, with special values.
    fn inputs() -> Vec<f32> {
        let special =
            [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 88.72, 88.73, -87.4, -103.9, -104.1, 1e-42];
        special.into_iter().chain((0..=u32::MAX).step_by(4001).map(f32::from_bits)).collect()
    }

    /// Distance between a result and the exact value in units of the last place, for results of normal size.
    fn ulps(actual: f32, exact: f64) -> f64 {
        let rounded = exact as f32;
        if actual == rounded || actual.is_nan() && exact.is_nan() {
            return 0.0;
        }
        let exponent = (rounded.abs().to_bits() >> 23).max(1) as i32 - 127;
        (f64::from(actual) - exact).abs() / libm::ldexp(1.0, exponent - 23)
    }

    #[test]
    fn functions_are_accurate_and_alike_on_every_level() {
        let x = inputs();
        let y = on_every_level(4 * x.len(), |y| all(&x, y));
        let mut worst = [0.0f64; 4];
        for (&x, actual) in x.iter().zip(y.as_chunks::<4>().0) {
            let wide = f64::from(x);
            let exact = [libm::exp(wide), 1.0 / (1.0 + libm::exp(-wide)), libm::tanh(wide), libm::erf(wide)];
            for i in 0..4 {
                worst[i] = worst[i].max(ulps(actual[i], exact[i]));
            }
        }
        assert!(worst[0] <= 1.0 && worst[1] <= 3.0 && worst[2] <= 2.0 && worst[3] <= 2.0, "{worst:?}");
    }

    #[test]
    fn library_functions_are_accurate() {
        for x in inputs() {
            assert!(ulps(log(x), libm::log(f64::from(x))) <= 1.0, "log {x:e}");
            assert!(ulps(exp_m1(x), libm::expm1(f64::from(x))) <= 1.0, "exp_m1 {x:e}");
        }
    }

    #[test]
    fn special_values() {
        assert_eq!([exp(0.0), exp(f32::INFINITY), exp(f32::NEG_INFINITY)], [1.0, f32::INFINITY, 0.0]);
        assert_eq!([sigmoid(f32::NEG_INFINITY), sigmoid(0.0), sigmoid(f32::INFINITY)], [0.0, 0.5, 1.0]);
        assert_eq!([tanh(f32::NEG_INFINITY), erf(f32::INFINITY)], [-1.0, 1.0]);
        assert_eq!([tanh(-0.0).to_bits(), erf(-0.0).to_bits()], [(-0.0f32).to_bits(); 2]);
        assert!([exp(f32::NAN), sigmoid(f32::NAN), tanh(f32::NAN), erf(f32::NAN)].iter().all(|y| y.is_nan()));
    }
}
