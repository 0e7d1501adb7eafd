//! Kernels that round blocks of 32 values, as the CPU does it fastest.
#![allow(unsafe_code)]

use super::Bf16;
use super::blocks::BLOCK;
#[cfg(target_arch = "x86_64")]
use super::value::{NAN, SMALLEST};
use crate::cpu::{self, Kernel, Level};

/// A way to round values, all of which give the bits of [`Bf16::from_f32`].
pub(super) trait Rounding: Copy {
    /// Rounds a block.
    fn round(self, from: &[f32; BLOCK], to: &mut [Bf16; BLOCK]);
}

/// On every CPU.
#[derive(Clone, Copy)]
struct ByArithmetic;

impl Rounding for ByArithmetic {
    #[inline(always)]
    fn round(self, from: &[f32; BLOCK], to: &mut [Bf16; BLOCK]) {
        for c in 0..BLOCK {
            to[c] = Bf16::from_f32(from[c]);
        }
    }
}

/// By the instruction for it; made where it is there.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct ByConversion(());

#[cfg(target_arch = "x86_64")]
impl Rounding for ByConversion {
    #[inline(always)]
    fn round(self, from: &[f32; BLOCK], to: &mut [Bf16; BLOCK]) {
        // SAFETY: there is a `ByConversion` only where the instructions are.
        unsafe { round_by_conversion(from, to) }
    }
}

/// [`Bf16::from_f32`] by the instruction for it, which takes denormals for zeros and leaves NaNs as they are.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn round_by_conversion(from: &[f32; BLOCK], to: &mut [Bf16; BLOCK]) {
    use std::arch::x86_64::*;
    // SAFETY: 32 values are twice 64 bytes, 32 halves are 64, of which every pattern of bits that is stored is a
    // value; none of these asks for an alignment.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(from.as_ptr()), _mm512_loadu_ps(from.as_ptr().add(16)));
        let rounded: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
        let magnitude = _mm512_and_si512(rounded, _mm512_set1_epi16(0x7fff));
        let kept = _mm512_cmpge_epu16_mask(magnitude, _mm512_set1_epi16(SMALLEST as i16));
        let nan = _mm512_cmpgt_epu16_mask(magnitude, _mm512_set1_epi16(0x7f80));
        let values = _mm512_maskz_mov_epi16(kept, rounded);
        let values = _mm512_mask_mov_epi16(values, nan, _mm512_set1_epi16(NAN as i16));
        _mm512_storeu_si512(to.as_mut_ptr().cast(), values);
    }
}

/// A [`Kernel`] that rounds blocks. As there, whatever `run` calls must be `#[inline(always)]`.
pub(super) trait RoundingKernel {
    /// Runs it.
    fn run<R: Rounding>(self, rounding: R);
}

/// Runs the kernel at this thread's level.
pub(super) fn dispatch<K: RoundingKernel>(kernel: K) {
    #[cfg(target_arch = "x86_64")]
    if cpu::level() >= Level::Avx512Bf16 {
        // SAFETY: the level says that the instructions are there.
        return unsafe { converting(kernel) };
    }
    cpu::dispatch(Arithmetic(kernel));
}

struct Arithmetic<K>(K);

impl<K: RoundingKernel> Kernel for Arithmetic<K> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        self.0.run(ByArithmetic);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
fn converting<K: RoundingKernel>(kernel: K) {
    kernel.run(ByConversion(()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::noise;

    struct All<'a>(&'a [f32], &'a mut [Bf16]);

    impl RoundingKernel for All<'_> {
        #[inline(always)]
        fn run<R: Rounding>(self, rounding: R) {
            for (from, to) in self.0.as_chunks::<BLOCK>().0.iter().zip(self.1.as_chunks_mut::<BLOCK>().0) {
                rounding.round(from, to);
            }
        }
    }

    /// Bits of all kinds, and all that are halfway between two values or beside that.
    #[test]
    fn every_level_rounds_as_the_definition_does() {
        let halfway =
            (0..=u16::MAX).flat_map(|high| [0x7fff, 0x8000, 0x8001, 0, 1].map(|low| u32::from(high) << 16 | low));
        let any = noise(1, 1 << 14).into_iter().map(|value| value.to_bits().wrapping_mul(0x9e37_79b9));
        let mut values: Vec<f32> = halfway.chain(any).map(f32::from_bits).collect();
        values.resize(values.len().next_multiple_of(BLOCK), 0.0);
        let expected: Vec<Bf16> = values.iter().map(|value| Bf16::from_f32(*value)).collect();
        for level in Level::ALL {
            let mut found = vec![Bf16::ZERO; values.len()];
            cpu::with_level(level, || dispatch(All(&values, &mut found)));
            assert!(level > cpu::detected() || found == expected, "{level:?}");
        }
    }
}
