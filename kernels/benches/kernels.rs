//! How fast the kernels are on one core: `cargo bench -p convoy-kernels [-- FILTER]`.
//!
//! Prints the best of several repetitions, as GFLOP/s (a multiply-add counts as two) or as GB/s of slices read and
//! written, beside the multiply-add peak measured in the same process. `CONVOY_CPU` chooses the instructions.

use std::hint::black_box;
use std::time::{Duration, Instant};

use convoy_kernels::activation::Activation;
use convoy_kernels::conv::{self, ConvShape, Input, winograd};
use convoy_kernels::linear::{self, LinearShape};
use convoy_kernels::norm::{self, Affine, Grads, Stats};
use convoy_kernels::norm_block::{AffineGradients, NormBlock};
use convoy_kernels::pool::{self, PoolShape};
use convoy_kernels::{cpu, optimizer, peak_flops};

// As in the program: fresh pages cost more than the arithmetic.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of networks in use, and what is hard for the kernels.
const CONVOLUTIONS: [ConvShape; 36] = [
    square(32, 32, 3, 64, 3, 1),
    square(32, 32, 64, 64, 3, 1),
    square(32, 16, 128, 128, 3, 1),
    square(32, 8, 256, 256, 3, 1),
    square(32, 4, 512, 512, 3, 1),
    square(32, 32, 64, 128, 3, 2),
    square(32, 32, 64, 128, 1, 2),
    square(32, 16, 64, 256, 1, 1),
    square(32, 16, 256, 64, 1, 1),
    square(32, 28, 32, 32, 3, 1),
    square(32, 28, 1, 32, 3, 1),
    square(32, 28, 1, 6, 5, 1),
    square(2, 224, 64, 64, 3, 1),
    square(4, 224, 3, 64, 7, 2),
    grouped(32, square(8, 28, 256, 256, 3, 1)),
    grouped(192, square(8, 28, 192, 192, 3, 1)),
    // Of MobileNetV2 at 96x96.
    square(16, 96, 3, 32, 3, 2),
    grouped(32, square(16, 48, 32, 32, 3, 1)),
    grouped(96, square(16, 48, 96, 96, 3, 2)),
    grouped(144, square(16, 24, 144, 144, 3, 1)),
    grouped(384, square(16, 6, 384, 384, 3, 1)),
    square(16, 48, 32, 16, 1, 1),
    square(16, 48, 16, 96, 1, 1),
    square(16, 24, 24, 144, 1, 1),
    square(16, 24, 144, 24, 1, 1),
    square(16, 6, 64, 384, 1, 1),
    square(16, 6, 384, 64, 1, 1),
    square(16, 3, 960, 160, 1, 1),
    // Of ResNets.
    square(16, 5, 512, 512, 3, 1),
    square(16, 10, 256, 512, 3, 2),
    square(16, 14, 1024, 256, 1, 1),
    square(16, 14, 256, 1024, 1, 1),
    square(16, 7, 2048, 512, 1, 1),
    square(16, 7, 512, 2048, 1, 1),
    square(4, 56, 256, 64, 1, 1),
    square(4, 56, 64, 256, 1, 1),
];

/// Of networks in use, and where Winograd's algorithm hardly pays.
const WINOGRAD: [ConvShape; 19] = [
    square(32, 32, 64, 64, 3, 1),
    square(32, 16, 128, 128, 3, 1),
    square(32, 8, 256, 256, 3, 1),
    square(32, 4, 512, 512, 3, 1),
    square(16, 56, 64, 64, 3, 1),
    square(16, 28, 128, 128, 3, 1),
    square(16, 14, 256, 256, 3, 1),
    square(16, 7, 512, 512, 3, 1),
    square(16, 5, 512, 512, 3, 1),
    square(32, 5, 512, 512, 3, 1),
    square(16, 6, 512, 512, 3, 1),
    square(16, 3, 512, 512, 3, 1),
    square(16, 10, 256, 256, 3, 1),
    square(16, 5, 128, 128, 3, 1),
    square(32, 2, 512, 512, 3, 1),
    square(32, 32, 16, 16, 3, 1),
    square(32, 32, 32, 32, 3, 1),
    square(32, 28, 32, 64, 3, 1),
    square(32, 32, 3, 64, 3, 1),
];

/// A convolution of `n` square images with a square kernel, padded so that stride 1 keeps their size.
const fn square(n: usize, side: usize, ci: usize, co: usize, kernel: usize, stride: usize) -> ConvShape {
    ConvShape {
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
    }
}

const fn grouped(groups: usize, shape: ConvShape) -> ConvShape {
    ConvShape { groups, ..shape }
}

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let bench = Bench { filter };
    println!("instructions: {}", cpu::level().name());
    let peak = peak_flops::flops_per_second(Duration::from_millis(300));
    println!("{:<58} {:>12} {:>8.1} GFLOP/s", "multiply-add peak", "", peak / 1e9);
    CONVOLUTIONS.into_iter().for_each(|shape| bench.conv(shape));
    WINOGRAD.into_iter().for_each(|shape| bench.winograd(shape));
    bench.linear(LinearShape { samples: 32, inputs: 512, outputs: 10 });
    bench.linear(LinearShape { samples: 32, inputs: 3136, outputs: 256 });
    bench.linear(LinearShape { samples: 32, inputs: 25088, outputs: 512 });
    for channels in [16, 64, 256] {
        bench.norm(channels);
    }
    for (rows, channels) in [(64, 64), (16, 144), (1 << 15, 64)] {
        bench.block(rows, channels);
    }
    bench.pools();
    bench.elementwise();
}

struct Bench {
    filter: String,
}

impl Bench {
    /// Prints `amount` / seconds of the best repetition of `f`.
    fn measure(&self, name: &str, amount: f64, unit: &str, mut f: impl FnMut()) {
        if !name.contains(&self.filter) {
            return;
        }
        f();
        let start = Instant::now();
        let mut best = f64::INFINITY;
        while start.elapsed().as_secs_f64() < 0.3 {
            let now = Instant::now();
            f();
            best = best.min(now.elapsed().as_secs_f64());
        }
        println!("{name:<58} {:>9.3} ms {:>8.1} {unit}", best * 1e3, amount / best / 1e9);
    }

    fn conv(&self, s: ConvShape) {
        let (x, w, y) = (values(s.x_len()), values(s.w_len()), values(s.y_len()));
        let (mut dx, mut dw, mut out) = (x.clone(), w.clone(), y.clone());
        let flops = 2.0 * s.y_len() as f64 * (s.w_len() / s.co) as f64;
        let ConvShape { n, h, w: width, ci, co, kh, kw, stride, groups, .. } = s;
        let name = format!("conv {n}x{h}x{width} {ci}->{co} {kh}x{kw} /{} g{groups}", stride[0]);
        self.measure(&format!("{name} forward"), flops, "GFLOP/s", || conv::forward(s, &x, &w, None, &mut out));
        self.measure(&format!("{name} backward data"), flops, "GFLOP/s", || conv::backward_data(s, &y, &w, &mut dx));
        self.measure(&format!("{name} backward weight"), flops, "GFLOP/s", || {
            conv::backward_weight(s, &x, &y, &mut dw);
        });
        let channels = [values(ci), vec![1.0; ci], values(ci), values(ci)];
        let block = block(&x, &channels);
        self.measure(&format!("{name} forward behind a norm"), flops, "GFLOP/s", || {
            conv::forward(s, Input::Block(block), &w, None, &mut out);
        });
        self.measure(&format!("{name} backward weight behind a norm"), flops, "GFLOP/s", || {
            conv::backward_weight(s, Input::Block(block), &y, &mut dw);
        });
    }

    /// Direct and Winograd convolution in turns, GFLOP/s of the direct one's operations, and how many times as fast
    /// Winograd is.
    fn winograd(&self, s: ConvShape) {
        let (x, w, y) = (values(s.x_len()), values(s.w_len()), values(s.y_len()));
        let (mut dx, mut dw, mut out) = (x.clone(), w.clone(), y.clone());
        let ConvShape { n, h, w: width, ci, co, .. } = s;
        let flops = 2.0 * s.y_len() as f64 * (9 * ci) as f64;
        let name = format!("winograd {n}x{h}x{width} {ci}->{co}");
        self.compare(&format!("{name} forward"), flops, |fast| match fast {
            false => conv::forward(s, &x, &w, None, &mut out),
            true => winograd::forward(s, &x, &w, None, &mut out),
        });
        self.compare(&format!("{name} backward data"), flops, |fast| match fast {
            false => conv::backward_data(s, &y, &w, &mut dx),
            true => winograd::backward_data(s, &y, &w, &mut dx),
        });
        self.compare(&format!("{name} backward weight"), flops, |fast| match fast {
            false => conv::backward_weight(s, &x, &y, &mut dw),
            true => winograd::backward_weight(s, &x, &y, &mut dw),
        });
    }

    /// Runs `f(false)` and `f(true)` in turns and prints the best of each and their ratio.
    fn compare(&self, name: &str, flops: f64, mut f: impl FnMut(bool)) {
        if !name.contains(&self.filter) {
            return;
        }
        let mut best = [f64::INFINITY; 2];
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < 1.0 {
            for (fast, best) in [false, true].into_iter().zip(&mut best) {
                let now = Instant::now();
                f(fast);
                *best = best.min(now.elapsed().as_secs_f64());
            }
        }
        let [direct, fast] = best.map(|seconds| flops / seconds / 1e9);
        println!("{name:<48} direct {direct:>6.1}, winograd {fast:>6.1} GFLOP/s, ratio {:.2}", fast / direct);
    }

    fn linear(&self, s: LinearShape) {
        let LinearShape { samples, inputs, outputs } = s;
        let (x, w, y) = (values(samples * inputs), values(inputs * outputs), values(samples * outputs));
        let (mut dx, mut dw, mut out) = (x.clone(), w.clone(), y.clone());
        let flops = 2.0 * (samples * inputs * outputs) as f64;
        let name = format!("linear {samples} {inputs}->{outputs}");
        self.measure(&format!("{name} forward"), flops, "GFLOP/s", || linear::forward(s, &x, &w, None, &mut out));
        self.measure(&format!("{name} backward data"), flops, "GFLOP/s", || linear::backward_data(s, &y, &w, &mut dx));
        self.measure(&format!("{name} backward weight"), flops, "GFLOP/s", || {
            linear::backward_weight(s, &x, &y, &mut dw);
        });
    }

    fn norm(&self, channels: usize) {
        let len = 1 << 21;
        let (x, dy, mut y) = (values(len), values(len), values(len));
        let (gamma, beta) = (values(channels), values(channels));
        let (mut mean, mut var) = (vec![0.0; channels], vec![1.0; channels]);
        let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; channels]);
        let bytes = 4.0 * len as f64;
        let affine = Affine { gamma: &gamma, beta: &beta };
        self.measure(&format!("batch norm {channels} forward"), 3.0 * bytes, "GB/s", || {
            norm::forward_train(&x, affine, 1e-5, &mut y, &mut mean, &mut var);
        });
        self.measure(&format!("batch norm {channels} backward"), 5.0 * bytes, "GB/s", || {
            let grads = Grads { dx: &mut y, dgamma: &mut dgamma, dbeta: &mut dbeta };
            norm::backward_train(&x, &dy, Stats { mean: &mean, var: &var }, &gamma, 1e-5, grads);
        });
    }

    /// In the first-level cache, or far beyond the second.
    fn block(&self, rows: usize, channels: usize) {
        let len = rows * channels;
        let (x, dy, mut y) = (values(len), values(len), values(len));
        let channels_of = [values(channels), vec![1.0; channels], values(channels), values(channels)];
        let block = block(&x, &channels_of);
        let amount = len as f64;
        let [mut m, mut v] = [0, 1].map(|_| vec![0.0; channels]);
        self.measure(&format!("block {rows}x{channels} statistics"), amount, "G values/s", || {
            norm::batch_stats(black_box(&x), &mut m, &mut v);
        });
        self.measure(&format!("block {rows}x{channels} forward"), amount, "G values/s", || block.forward(None, &mut y));
        let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; channels]);
        self.measure(&format!("block {rows}x{channels} sums"), amount, "G values/s", || {
            let to = AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: true };
            black_box(&block.backward(black_box(&dy), to));
        });
        let to = AffineGradients { dgamma: &mut dgamma, dbeta: &mut dbeta, training: true };
        let rest = block.backward(&dy, to);
        self.measure(&format!("block {rows}x{channels} gradient"), amount, "G values/s", || rest.apply(&mut y));
        self.measure(&format!("block {rows}x{channels} copy"), amount, "G values/s", || {
            y.copy_from_slice(black_box(&x))
        });
    }

    fn pools(&self) {
        for (kernel, stride, padding) in [(2, 2, 0), (3, 2, 1)] {
            let s = PoolShape {
                n: 32,
                h: 32,
                w: 32,
                c: 64,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [padding; 2],
            };
            let (x, y) = (values(s.x_len()), values(s.y_len()));
            let (mut dx, mut out) = (x.clone(), y.clone());
            let bytes = 4.0 * (x.len() + y.len()) as f64;
            let name = format!("pool 32x32x32x64 {kernel}x{kernel} /{stride}");
            self.measure(&format!("max {name} forward"), bytes, "GB/s", || pool::max_forward(s, &x, &mut out));
            self.measure(&format!("max {name} backward"), bytes, "GB/s", || pool::max_backward(s, &x, &y, &mut dx));
            self.measure(&format!("avg {name} forward"), bytes, "GB/s", || pool::avg_forward(s, &x, &mut out));
            self.measure(&format!("avg {name} backward"), bytes, "GB/s", || pool::avg_backward(s, &y, &mut dx));
        }
    }

    fn elementwise(&self) {
        let len = 1 << 20;
        let (x, dy, mut y, mut dx) = (values(len), values(len), values(len), values(len));
        let bytes = 4.0 * len as f64;
        for activation in [
            Activation::Relu,
            Activation::Sigmoid,
            Activation::Silu,
            Activation::Gelu,
            Activation::Tanh,
            Activation::HardSwish,
        ] {
            self.measure(&format!("{activation:?} forward"), 2.0 * bytes, "GB/s", || activation.forward(&x, &mut y));
            self.measure(&format!("{activation:?} backward"), 4.0 * bytes, "GB/s", || {
                activation.backward(&x, &y, &dy, &mut dx);
            });
        }
        let sgd = optimizer::SgdStep { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 1e-4, first_step: false };
        self.measure("sgd", 5.0 * bytes, "GB/s", || optimizer::sgd(&mut y, &x, &mut dx, &sgd));
        self.measure("norm squared", bytes, "GB/s", || {
            black_box(optimizer::global_norm_sq(black_box(&x)));
        });
    }
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1013) as f32 / 506.5 - 1.0).collect()
}

/// A norm of `x` with this mean, variance, scale and shift, and relu.
fn block<'a>(x: &'a [f32], [mean, var, gamma, beta]: &'a [Vec<f32>; 4]) -> NormBlock<'a> {
    let (stats, affine) = (Stats { mean, var }, Affine { gamma, beta });
    NormBlock { x, stats, affine, eps: 1e-5, activation: Some(Activation::Relu) }
}
