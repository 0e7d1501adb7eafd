//! How fast convolutions of the class `cpu-bf16-v1` are beside those of `cpu-f32-v1`, on one core:
//! `cargo bench -p convoy-kernels --bench bf16 [-- FILTER]`.
//!
//! Both in turns, the best of several repetitions, in GFLOP/s of the nominal products; the last column is how many
//! times as fast forward, input gradient and weight gradient together are in bf16. `CONVOY_CPU` chooses the
//! instructions. Weights are packed beforehand, as once a step, which takes the milliseconds at the end (forward, to
//! input); f32 takes Winograd's algorithm where a network does.

use std::time::{Duration, Instant};

use convoy_kernels::bf16::{self, Bf16, Blocks, PackedWeight};
use convoy_kernels::conv::{self, ConvShape, winograd};
use convoy_kernels::{cpu, peak_flops};

// As in the program: fresh pages cost more than the arithmetic.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of networks in use: images, side, channels in and out, kernel, stride, groups.
const CONVOLUTIONS: [[usize; 7]; 24] = [
    // A VGG-like net at 32x32.
    [32, 32, 3, 64, 3, 1, 1],
    [32, 32, 64, 64, 3, 1, 1],
    [32, 16, 64, 128, 3, 1, 1],
    [32, 16, 128, 128, 3, 1, 1],
    [32, 8, 128, 256, 3, 1, 1],
    [32, 8, 256, 256, 3, 1, 1],
    [32, 4, 512, 512, 3, 1, 1],
    // ResNets, the first at 160x160.
    [16, 160, 3, 64, 7, 2, 1],
    [32, 32, 64, 128, 3, 2, 1],
    [32, 32, 64, 128, 1, 2, 1],
    [16, 14, 1024, 256, 1, 1, 1],
    [16, 7, 512, 512, 3, 1, 1],
    [16, 5, 512, 512, 3, 1, 1],
    [16, 40, 64, 64, 3, 1, 1],
    [32, 56, 256, 64, 1, 1, 1],
    [32, 56, 64, 256, 1, 1, 1],
    [8, 14, 256, 256, 3, 1, 1],
    [8, 56, 64, 64, 3, 1, 1],
    // MobileNetV2 at 96x96.
    [16, 96, 3, 32, 3, 2, 1],
    [16, 48, 96, 96, 3, 2, 96],
    [16, 24, 24, 144, 1, 1, 1],
    [16, 24, 144, 24, 1, 1, 1],
    [32, 28, 16, 16, 3, 1, 1],
    // One picture.
    [1, 56, 64, 64, 3, 1, 1],
];

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let peak = peak_flops::flops_per_second(Duration::from_millis(300)) / 1e9;
    println!("instructions: {}, multiply-add peak {peak:.1} GFLOP/s", cpu::level().name());
    let columns = ["forward f32 bf16", "to input", "to weight"].map(|column| format!("{column:>17}")).join(" ");
    println!("{:<30} {columns} {:>6} {:>15}", "", "times", "packing, ms");
    for [n, side, ci, co, kernel, stride, groups] in CONVOLUTIONS {
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
            groups,
        };
        let name = format!("{n}x{side}x{side} {ci}->{co} {kernel}x{kernel} /{stride} g{groups}");
        if name.contains(&filter) {
            measure(&name, shape);
        }
    }
}

fn measure(name: &str, s: ConvShape) {
    let (x, w, y) = (values(s.x_len()), values(s.w_len()), values(s.y_len()));
    let mut dw_bf16 = w.clone();
    let (mut dx, mut dw, mut out) = (x.clone(), w.clone(), y.clone());
    let (x_blocks, y_blocks) = (blocked(s.x_blocks(), &x), blocked(s.y_blocks(), &y));
    let (mut dx_blocks, mut out_blocks) = (x_blocks.clone(), y_blocks.clone());
    let (forward, back) = (PackedWeight::forward(s, &w), PackedWeight::input_gradient(s, &w));
    let fast = winograd::pays(s);
    let best = [
        turns(
            || {
                if fast {
                    winograd::forward(s, &x, &w, None, &mut out)
                } else {
                    conv::forward(s, &x, &w, None, &mut out)
                }
            },
            || bf16::forward(s, &x_blocks, &forward, None, &mut out_blocks),
        ),
        turns(
            || if fast { winograd::backward_data(s, &y, &w, &mut dx) } else { conv::backward_data(s, &y, &w, &mut dx) },
            || bf16::backward_data(s, &y_blocks, &back, &mut dx_blocks),
        ),
        turns(
            || {
                if fast {
                    winograd::backward_weight(s, &x, &y, &mut dw)
                } else {
                    conv::backward_weight(s, &x, &y, &mut dw)
                }
            },
            || bf16::backward_weight(s, &x_blocks, &y_blocks, &mut dw_bf16),
        ),
    ];
    let flops = 2.0 * s.y_len() as f64 * (s.w_len() / s.co) as f64 / 1e9;
    let columns = best.map(|[f32, bf16]| format!("{:>9.1} {:>7.1}", flops / f32, flops / bf16));
    let [f32, bf16] = [0, 1].map(|class| best.iter().map(|times| times[class]).sum::<f64>());
    let (mut forward, mut back) = (forward, back);
    let pack = turns(|| forward.repack(&w), || back.repack(&w)).map(|seconds| format!("{:>7.3}", 1e3 * seconds));
    println!("{name:<30} {} {} {} {:>6.2} {}", columns[0], columns[1], columns[2], f32 / bf16, pack.join(" "));
}

/// Runs both in turns; the seconds of the best of each.
fn turns(mut a: impl FnMut(), mut b: impl FnMut()) -> [f64; 2] {
    let mut best = [f64::INFINITY; 2];
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed().as_secs_f64() < 0.5 || rounds < 4 {
        for (best, f) in best.iter_mut().zip([&mut a as &mut dyn FnMut(), &mut b]) {
            let now = Instant::now();
            f();
            *best = best.min(now.elapsed().as_secs_f64());
        }
        rounds += 1;
    }
    best
}

fn values(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919) % 1013) as f32 / 506.5 - 1.0).collect()
}

fn blocked(shape: Blocks, nhwc: &[f32]) -> Vec<Bf16> {
    let mut blocks = vec![Bf16::ZERO; shape.len()];
    shape.from_nhwc(nhwc, &mut blocks);
    blocks
}
