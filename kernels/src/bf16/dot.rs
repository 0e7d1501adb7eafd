//! Blocks of 32 x 32 by VDPBF16PS of AVX512_BF16, which adds two products to each sum, one after the other: that of the
//! operands' odd halves, then that of the even ones, each by a fused multiply-add. With terms 0 and 2 as the halves, 1
//! and 3, 4 and 6.., these are two terms of one of the step's two chains.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::thread::LocalKey;

use super::Bf16;
use super::block_memory::Operand;
use super::blocks::BLOCK;
use super::element::Element;
use super::step::{BLOCK_LEN, Lies, Run, Sums};
use crate::cpu::{self, Level};
use crate::scratch::{Free, Pooled};

/// A value among those that it is multiplied with at once. Blocks `[row][term]` have terms 2, 0, 3, 1 of each four;
/// others have `[four terms][which two of them][column][the later, the earlier]`.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub(super) struct PairedHalf(Bf16);

thread_local! {
    static FREE: Free<PairedHalf> = const { RefCell::new(Vec::new()) };
}

impl Pooled for PairedHalf {
    fn free() -> &'static LocalKey<Free<PairedHalf>> {
        &FREE
    }

    fn unwritten() -> PairedHalf {
        PairedHalf(Bf16::from_f32(f32::NAN))
    }
}

impl Element for PairedHalf {
    type Unit = ();

    fn unit() {
        assert!(cpu::level() >= Level::Avx512Bf16, "weights packed for AVX512_BF16 are multiplied without it");
    }

    #[inline(always)]
    fn of(value: Bf16) -> PairedHalf {
        PairedHalf(value)
    }

    #[inline(always)]
    fn place(term: usize) -> usize {
        term / 4 * 4 + [1, 3, 0, 2][term % 4]
    }

    #[inline(always)]
    fn copy(from: &[Bf16], to: &mut [PairedHalf], lies: Lies) {
        assert!(cpu::level() >= Level::Avx512Bf16);
        for (to, from) in to.as_chunks_mut::<BLOCK>().0.iter_mut().zip(from.as_chunks::<BLOCK>().0) {
            match lies {
                // SAFETY: the level says that the instructions are there.
                Lies::Row => unsafe { pair_row(from, to) },
                Lies::Term => *to = from.map(PairedHalf),
            }
        }
    }

    fn as_they_lie(_: &[Bf16]) -> Option<&[PairedHalf]> {
        None
    }

    fn multiply((): &(), sums: &mut Sums, a: &[PairedHalf], b: &[PairedHalf], runs: &[Run], _: bool) {
        assert!(cpu::level() >= Level::Avx512Bf16);
        *sums = [[0.0; BLOCK]; BLOCK];
        // SAFETY: the level says that the instructions are there.
        unsafe { multiply::<false>(sums, a, b, runs) }
    }

    fn multiply_terms((): &(), sums: &mut Sums, a: &[PairedHalf], b: &[PairedHalf], runs: &[Run], _: bool) {
        assert!(cpu::level() >= Level::Avx512Bf16);
        // SAFETY: as above.
        unsafe { multiply::<true>(sums, a, b, runs) }
    }

    fn for_terms(a: &mut Operand<'_, PairedHalf>, every: usize, b: &mut Operand<'_, PairedHalf>) {
        assert!(cpu::level() >= Level::Avx512Bf16);
        // SAFETY: the level says that there is AVX-512, too.
        a.turn_blocks(every, |from, to| unsafe { pair_terms(from, to) });
        // SAFETY: as above.
        b.turn_blocks(b.positions, |from, to| unsafe { pair_terms(from, to) });
    }

    fn pack(block: &[[Bf16; BLOCK]; BLOCK], to: &mut [PairedHalf]) {
        for (term, values) in block.iter().enumerate() {
            let (four, parity, earlier) = (term / 4, term % 2, usize::from(term % 4 < 2));
            for (column, value) in values.iter().enumerate() {
                to[((four * 2 + parity) * BLOCK + column) * 2 + earlier] = PairedHalf(*value);
            }
        }
    }
}

/// Terms 2, 0, 3, 1 of each four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pair_row(from: &[Bf16; BLOCK], to: &mut [PairedHalf; BLOCK]) {
    let bytes = _mm512_set4_epi32(0x0b0a_0f0e, 0x0908_0d0c, 0x0302_0706, 0x0100_0504);
    // SAFETY: `from` is 64 bytes, and the load asks for no alignment.
    let from = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
    store(_mm512_shuffle_epi8(from, bytes), to);
}

/// A block `[term][column]` as `[four terms][which two of them][column][the later, the earlier]`.
#[target_feature(enable = "avx512f,avx512bw")]
fn pair_terms(from: &[PairedHalf; BLOCK_LEN], to: &mut [PairedHalf; BLOCK_LEN]) {
    let (from, to) = (from.as_chunks::<16>().0, to.as_chunks_mut::<BLOCK>().0);
    for pair in 0..16 {
        let earlier = pair / 2 * 4 + pair % 2;
        for half in 0..2 {
            store(pairs(&from[2 * (earlier + 2) + half], &from[2 * earlier + half]), &mut to[2 * pair + half]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
fn multiply<const BY_TERM: bool>(sums: &mut Sums, a: &[PairedHalf], b: &[PairedHalf], runs: &[Run]) {
    let b = b.as_chunks::<BLOCK_LEN>().0;
    for run in runs {
        for (i, b) in b[run.b..][..run.count].iter().enumerate() {
            let a = a[run.a + i * run.a_step..].first_chunk().expect("a block lies in its slice");
            step::<BY_TERM>(sums, a, b);
        }
    }
}

/// The step, four rows at a time: 16 sums and 4 vectors of b in registers.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,avx2,fma")]
fn step<const BY_TERM: bool>(sums: &mut Sums, a: &[PairedHalf; BLOCK_LEN], b: &[PairedHalf; BLOCK_LEN]) {
    let (a, b) = (a.as_chunks::<2>().0, b.as_chunks::<BLOCK>().0);
    for (rows, sums) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let mut chains = [[[_mm512_setzero_ps(); 2]; 2]; 4];
        for four in 0..8 {
            for parity in 0..2 {
                let pair = 2 * four + parity;
                let (low, high) = (load(&b[2 * pair]), load(&b[2 * pair + 1]));
                for (r, chains) in chains.iter_mut().enumerate() {
                    let row = 4 * rows + r;
                    let x = broadcast(&a[if BY_TERM { pair * BLOCK + row } else { row * BLOCK / 2 + pair }]);
                    let [one, other] = &mut chains[parity];
                    *one = _mm512_dpbf16_ps(*one, x, low);
                    *other = _mm512_dpbf16_ps(*other, x, high);
                }
            }
        }
        for (sums, [even, odd]) in sums.iter_mut().zip(chains) {
            for (half, sums) in sums.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                // SAFETY: 16 sums are 64 bytes, and neither asks for an alignment.
                unsafe {
                    let before = _mm512_loadu_ps(sums.as_ptr());
                    let after = _mm512_add_ps(before, _mm512_add_ps(even[half], odd[half]));
                    _mm512_storeu_ps(sums.as_mut_ptr(), after);
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn load(values: &[PairedHalf; BLOCK]) -> __m512bh {
    // SAFETY: both are 64 bytes, of which every pattern of bits is a value.
    unsafe { std::mem::transmute(_mm512_loadu_si512(values.as_ptr().cast())) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn broadcast(pair: &[PairedHalf; 2]) -> __m512bh {
    let [low, high] = pair.map(|half| u32::from(half.0.to_bits()));
    // SAFETY: both are 64 bytes, of which every pattern of bits is a value.
    unsafe { std::mem::transmute(_mm512_set1_epi32((high << 16 | low) as i32)) }
}

/// Each value of `even` below the one of `odd`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pairs<T: Element>(even: &[T; 16], odd: &[T; 16]) -> __m512i {
    const { assert!(size_of::<T>() == 2) };
    // SAFETY: both are 32 bytes, and the loads ask for no alignment.
    let (even, odd) = unsafe { (_mm256_loadu_si256(even.as_ptr().cast()), _mm256_loadu_si256(odd.as_ptr().cast())) };
    _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(odd)))
}

/// Writes values that come from others of the type.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store<T: Element>(values: __m512i, to: &mut [T; BLOCK]) {
    const { assert!(size_of::<T>() == 2) };
    // SAFETY: `to` is 64 bytes, and every pattern of bits that comes from the type is a value of it.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), values) };
}
