//! The class `cpu-bf16-v1` on the CPU's own AMX. Where there is none these are reported as ignored, with "AMX not run";
//! the same code runs with emulated instructions among the unit tests.

use std::process::ExitCode;

use convoy_kernels::bf16::{self, Bf16, PackedWeight};
use convoy_kernels::conv::ConvShape;
use convoy_kernels::cpu::{Level, detected, with_level};
use convoy_testing::{Check, run_checks};

fn main() -> ExitCode {
    let amx = || match detected() {
        Level::Amx => Ok(()),
        level => Err(format!("a CPU with AMX, and this one has {}: AMX not run", level.name())),
    };
    run_checks([
        Check::needs("a_shard_of_32_images", amx(), |()| compare(32, 12, 96, 64, 3, 1)),
        Check::needs("a_shard_of_20_images_and_odd_channels", amx(), |()| compare(20, 7, 45, 37, 3, 1)),
        Check::needs("a_shard_of_8_images", amx(), |()| compare(8, 9, 64, 64, 3, 2)),
        Check::needs("first_layer", amx(), |()| compare(16, 15, 3, 64, 3, 1)),
        Check::needs("one_picture", amx(), |()| compare(1, 33, 64, 160, 1, 1)),
    ])
}

/// Compares y, dx and dw of both levels, with values about 2^-56 and infinities among them.
fn compare(n: usize, side: usize, ci: usize, co: usize, kernel: usize, stride: usize) {
    let shape = ConvShape {
        n,
        h: side,
        w: side,
        ci,
        co,
        kh: kernel,
        kw: kernel,
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        dilation: [1; 2],
        groups: 1,
    };
    for hostile in [false, true] {
        let results = |level| with_level(level, || results(shape, hostile)).expect("the CPU has AMX");
        let (found, expected) = (results(Level::Amx), results(Level::Avx512));
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.len(), expected.len());
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(found.iter().zip(expected).all(same), "{shape:?}, hostile: {hostile}");
        }
    }
}

fn results(shape: ConvShape, hostile: bool) -> [Vec<f32>; 3] {
    let (x_shape, y_shape) = (shape.x_blocks(), shape.y_blocks());
    let w = values(2, shape.w_len(), hostile);
    let (mut x, mut dy) = (vec![Bf16::ZERO; x_shape.len()], vec![Bf16::ZERO; y_shape.len()]);
    x_shape.from_nhwc(&values(1, shape.x_len(), hostile), &mut x);
    y_shape.from_nhwc(&values(3, shape.y_len(), hostile), &mut dy);
    let (mut y_blocks, mut dx_blocks) = (dy.clone(), x.clone());
    let [mut y, mut dx, mut dw] = [shape.y_len(), shape.x_len(), shape.w_len()].map(|len| vec![0.0; len]);
    bf16::forward(shape, &x, &PackedWeight::forward(shape, &w), None, &mut y_blocks);
    bf16::backward_data(shape, &dy, &PackedWeight::input_gradient(shape, &w), &mut dx_blocks);
    bf16::backward_weight(shape, &x, &dy, &mut dw);
    y_shape.to_nhwc(&y_blocks, &mut y);
    x_shape.to_nhwc(&dx_blocks, &mut dx);
    [y, dx, dw]
}

fn values(seed: usize, len: usize, hostile: bool) -> Vec<f32> {
    let value = |i: usize| {
        let value = ((i * 7919 + seed * 104_729) % 1013) as f32 / 506.5 - 1.0;
        match i * 31 % 4001 {
            0 if hostile => f32::INFINITY,
            1..200 if hostile => value * 1.5e-17,
            _ => value,
        }
    };
    (0..len).map(value).collect()
}
