//! Whether this machine gives the bits of the class.

use super::{Bf16, Blocks, PackedWeight, backward_data, backward_weight, forward};
use crate::conv::ConvShape;
use crate::cpu::{self, Level, with_level};

/// 20 images, which are 32 lanes, of 40 channels, which are two blocks, at an edge on each side.
const SHAPE: ConvShape = ConvShape {
    n: 20,
    h: 5,
    w: 3,
    ci: 40,
    co: 33,
    kh: 3,
    kw: 3,
    stride: [1, 1],
    padding: [1, 1],
    dilation: [1, 1],
    groups: 1,
};

/// Whether the kernels give the bits of portable code at this thread's level, in a convolution of 20 images and both of
/// its gradients: among the values are some about 2^-56, where operands become zero, denormals, -0.0, and in a second
/// look infinities and NaN. Takes some hundredths of a second.
pub fn gives_the_bits() -> bool {
    let looks = [false, true];
    cpu::level() == Level::Portable
        || looks.into_iter().all(|infinite| {
            with_level(Level::Portable, || results(infinite)).is_some_and(|wanted| wanted == results(infinite))
        })
}

/// All bits of a convolution and its gradients.
fn results(infinite: bool) -> Vec<u32> {
    let (x_blocks, y_blocks) = (SHAPE.x_blocks(), SHAPE.y_blocks());
    // Weights are larger, or all that is rounded would be zero.
    let (x, dy) = (values(1, SHAPE.x_len(), -62, infinite), values(3, SHAPE.y_len(), -62, infinite));
    let w = values(2, SHAPE.w_len(), 0, false);
    let (x, dy) = (blocked(x_blocks, &x), blocked(y_blocks, &dy));
    let (mut y, mut dx) = (vec![Bf16::ZERO; y_blocks.len()], vec![Bf16::ZERO; x_blocks.len()]);
    let mut dw = vec![0.0; SHAPE.w_len()];
    forward(SHAPE, &x, &PackedWeight::forward(SHAPE, &w), None, &mut y);
    backward_data(SHAPE, &dy, &PackedWeight::input_gradient(SHAPE, &w), &mut dx);
    backward_weight(SHAPE, &x, &dy, &mut dw);
    let all = [plain(y_blocks, &y), plain(x_blocks, &dx), dw].concat();
    // A NaN is a NaN.
    all.into_iter().map(|value| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() }).collect()
}

fn plain(shape: Blocks, blocks: &[Bf16]) -> Vec<f32> {
    let mut nhwc = vec![0.0; shape.n * shape.h * shape.w * shape.c];
    shape.to_nhwc(blocks, &mut nhwc);
    nhwc
}

fn blocked(shape: Blocks, nhwc: &[f32]) -> Vec<Bf16> {
    let mut blocks = vec![Bf16::ZERO; shape.len()];
    shape.from_nhwc(nhwc, &mut blocks);
    blocks
}

/// Values from a generator of Numerical Recipes (section 7.1): of each eight one is -0.0, a denormal, 2^-56 or just
/// below, and the others are spread over the 24 binades from `2^least` on; one in 2048 is infinite or NaN if there are
/// such.
fn values(seed: u32, len: usize, least: i32, infinite: bool) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let edge = f32::from_bits((127 - 56) << 23);
    let mut value = || {
        let (kind, mantissa, sign) = (next() >> 4, next() & 0x7f_ffff, (next() & 1) << 31);
        let with_exponent = |exponent: u32| f32::from_bits(sign | exponent << 23 | mantissa);
        match (infinite, kind % 4096, kind % 8) {
            (true, 0, _) => f32::from_bits(sign | 0x7f80_0000),
            (true, 1, _) => f32::NAN,
            (_, _, 0) => -0.0,
            (_, _, 1) => with_exponent(0),
            (_, _, 2) => edge,
            (_, _, 3) => f32::from_bits(edge.to_bits() - 1),
            _ => with_exponent(127u32.wrapping_add_signed(least) + kind / 8 % 24),
        }
    };
    (0..len).map(|_| value()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_this_machine_gives_the_bits() {
        for level in Level::ALL {
            assert!(with_level(level, gives_the_bits).is_none_or(|gives| gives), "{level:?}");
        }
    }

    #[test]
    fn what_is_compared_has_all_kinds_of_values() {
        let plain = values(1, SHAPE.x_len(), -62, false);
        assert!(plain.iter().all(|value| value.is_finite()));
        let tiny = |value: &&f32| Bf16::from_f32(**value) == Bf16::ZERO;
        let zeros = plain.iter().filter(tiny).count();
        assert!(zeros > plain.len() / 4 && zeros < plain.len() / 2, "{zeros} of {}", plain.len());
        let infinite = values(1, SHAPE.x_len(), -62, true);
        assert!(infinite.iter().any(|value| value.is_nan()) && infinite.iter().any(|value| value.is_infinite()));
        // Neither all zeros nor all NaN.
        for infinite in [false, true] {
            let results = results(infinite);
            let nan = results.iter().filter(|bits| **bits == f32::NAN.to_bits()).count();
            let zero = results.iter().filter(|bits| **bits == 0).count();
            assert!(
                nan < results.len() / 2 && zero < results.len() / 2,
                "{nan} NaN, {zero} zeros of {}",
                results.len()
            );
            assert_eq!(nan > 0, infinite);
        }
    }
}
