//! How fast one thread multiplies and adds at most: what the kernels are measured against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::bf16;
use crate::cpu::{Kernel, dispatch};

/// Panels of sums that stand for themselves: 12 vectors, as in the tiles of the convolutions, which is more than the
/// latency of a multiply-add times the number of units that do them.
const PANELS: usize = 6;

/// Multiply-adds of each sum between two looks at the clock.
const ROUNDS: usize = 1 << 14;

/// Multiply-adds on registers; the number of floating-point operations that were done.
struct MultiplyAdds {
    factor: f32,
    summand: f32,
}

impl Kernel for MultiplyAdds {
    type Output = f64;

    #[inline(always)]
    fn run<const PANEL: usize>(self) -> f64 {
        let mut sums = [[1.0f32; PANEL]; PANELS];
        for _ in 0..ROUNDS {
            for panel in &mut sums {
                for sum in panel {
                    *sum = sum.mul_add(self.factor, self.summand);
                }
            }
        }
        black_box(sums);
        2.0 * (ROUNDS * PANELS * PANEL) as f64
    }
}

/// Floating-point operations per second (a multiply-add is two) of the calling thread at its level, with nothing read
/// from memory: the best of the stretches that fit into `time`, at least one. No kernel of f32 is faster.
pub fn flops_per_second(time: Duration) -> f64 {
    // Sums that stay what they are, of which the compiler does not know it.
    best_stretch(time, || dispatch(MultiplyAdds { factor: black_box(0.5), summand: black_box(0.5) }))
}

/// The same of [`crate::bf16`]: of its tiles where there is AMX, else [`flops_per_second`]. With AVX512_BF16 kernels
/// may be faster than that.
pub fn bf16_flops_per_second(time: Duration) -> f64 {
    match bf16::multiply_registers() {
        None => flops_per_second(time),
        Some(_) => best_stretch(time, || bf16::multiply_registers().expect("the level is the same")),
    }
}

/// The best of the stretches that fit into `time`, by what each says it has done.
fn best_stretch(time: Duration, stretch: impl Fn() -> f64) -> f64 {
    let begun = Instant::now();
    let mut best = 0.0f64;
    loop {
        let start = Instant::now();
        let flops = stretch();
        best = best.max(flops / start.elapsed().as_secs_f64());
        if begun.elapsed() >= time {
            return best;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Level, with_level};

    #[test]
    fn every_level_has_a_peak() {
        for level in Level::ALL {
            for peak in [flops_per_second, bf16_flops_per_second] {
                let peak = with_level(level, || peak(Duration::ZERO));
                assert!(peak.is_none_or(|peak| peak.is_finite() && peak > 0.0), "{level:?}: {peak:?}");
            }
        }
    }

    #[test]
    fn the_operations_of_a_stretch_are_counted() {
        let panel = |level| with_level(level, || dispatch(MultiplyAdds { factor: 0.5, summand: 0.5 }));
        assert_eq!(panel(Level::Portable), Some(2.0 * 16_384.0 * 96.0));
    }
}
