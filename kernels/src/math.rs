//! Elementary functions with the same bits on every machine.
//!
//! `exp` is ours, free of branches so that loops over it become vectors; the others are the `libm` crate's.

/// e^x, within 1 unit in the last place; subnormal results included, +inf above 88.72, 0 below -104, NaN for NaN.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r is a polynomial whose coefficients are a minimax fit, rounded one by one.
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
    let p = 0.001_382_144_6_f32;
    let p = p.mul_add(r, 0.008_368_662);
    let p = p.mul_add(r, 0.041_668_255);
    let p = p.mul_add(r, 0.166_665_21);
    let p = p.mul_add(r, 0.499_999_94);
    let p = (p * r).mul_add(r, r) + 1.0;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1; // two factors, for 2^n alone may be subnormal or infinite
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

/// 1 / (1 + e^-x), within 3 units in the last place where it is a normal number.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Natural logarithm, within 1 unit in the last place.
pub fn log(x: f32) -> f32 {
    libm::logf(x)
}

/// Hyperbolic tangent, within 2 units in the last place.
pub fn tanh(x: f32) -> f32 {
    libm::tanhf(x)
}

/// The error function, within 1 unit in the last place.
pub fn erf(x: f32) -> f32 {
    libm::erff(x)
}

/// e^x - 1, accurate near 0, within 1 unit in the last place.
pub fn exp_m1(x: f32) -> f32 {
    libm::expm1f(x)
}
