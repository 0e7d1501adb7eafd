//! The step that all sums of the class are made of, and sums of such steps.

use super::blocks::BLOCK;
use crate::cpu::{self, Kernel, Level};

/// 32 x 32 sums.
pub(super) type Sums = [[f32; BLOCK]; BLOCK];

/// Values of a block: 32 x 32.
pub(super) const BLOCK_LEN: usize = BLOCK * BLOCK;

/// Blocks of both operands that are multiplied one after the other.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Run {
    /// Where the first block of `a` begins.
    pub a: usize,
    /// From one block of `a` to the next.
    pub a_step: usize,
    /// The first block of `b`; they lie side by side.
    pub b: usize,
    /// How many blocks.
    pub count: usize,
}

impl Run {
    /// Whether the other one's blocks come right after these.
    pub fn goes_on_in(&self, next: &Run) -> bool {
        let a = self.a + self.count * self.a_step;
        self.a_step == next.a_step && a == next.a && self.b + self.count == next.b
    }
}

/// Positions of dy side by side, each with the blocks of x before, at and after it, for the gradients of three taps; at
/// most the first lacks the one before and the last the one after.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Slide {
    /// Where the block of `a` at the first position begins.
    pub a: usize,
    /// From one block of `a` to the next.
    pub a_step: usize,
    /// The first block of `b`; they lie side by side.
    pub b: usize,
    /// How many positions have all three.
    pub whole: usize,
    /// 1 if before these there is one without a block before.
    pub starts: usize,
    /// 1 if after these there is one without a block after.
    pub ends: usize,
    /// 1 if instead of all these there is one with neither.
    pub lone: usize,
}

impl Slide {
    /// `count` positions, of which the first may have a block before and the last one after.
    pub fn new([a, a_step, b]: [usize; 3], count: usize, before: bool, after: bool) -> Slide {
        if count == 1 && !before && !after {
            return Slide { a, a_step, b, whole: 0, starts: 0, ends: 0, lone: 1 };
        }
        let (starts, ends) = (usize::from(!before), usize::from(!after));
        Slide { a, a_step, b, whole: count - starts - ends, starts, ends, lone: 0 }
    }

    /// Panics unless every block lies in its slice.
    pub fn expect_inside<T>(&self, a: &[T], b: &[T]) {
        let count = self.whole + self.starts + self.ends + self.lone;
        let before = if self.starts + self.lone == 0 { self.a_step } else { 0 };
        let steps = if self.ends + self.lone == 0 { count } else { count - 1 };
        let end = steps.checked_mul(self.a_step).and_then(|last| last.checked_add(self.a + BLOCK_LEN));
        assert!(before <= self.a && end.is_some_and(|end| end <= a.len()), "blocks of a lie in their slice");
        assert!(self.b + count <= b.len() / BLOCK_LEN, "blocks of b lie in their slice");
    }

    /// The blocks of one of the taps: 0 before, 1 at, 2 after.
    pub fn run(&self, tap: usize) -> Run {
        let count = self.whole + self.starts + self.ends + self.lone;
        let first = if tap == 0 { self.starts + self.lone } else { 0 };
        let last = if tap == 2 { self.ends + self.lone } else { 0 };
        let a = self.a + (first + tap) * self.a_step - self.a_step;
        Run { a, a_step: self.a_step, b: self.b + first, count: count - (first + last).min(count) }
    }
}

/// How the blocks of `a` lie: `a[row][term]` for sums `[row]`, or `a[term][row]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    Row,
    Term,
}

/// One step for all of a block's sums, `a[row]` and `b[term][column]`: terms 0, 2, 4.. of 32 make one chain of
/// multiply-adds that starts from +0.0, terms 1, 3, 5.. another, and the sum of the two is added to what is there. This
/// is the definition; [`multiply`] gives the same bits.
#[cfg(test)]
pub(super) fn step_of_one(sum: f32, a: &[f32; BLOCK], b: &[f32; BLOCK]) -> f32 {
    let (mut even, mut odd) = (0.0f32, 0.0f32);
    for i in 0..BLOCK / 2 {
        even = libm::fmaf(a[2 * i], b[2 * i], even);
        odd = libm::fmaf(a[2 * i + 1], b[2 * i + 1], odd);
    }
    sum + (even + odd)
}

/// The steps of all runs, in order. Blocks of `b` are `[term][column]`. `small` says that no finite value of one
/// operand times one of the other overflows.
pub(super) fn multiply(sums: &mut Sums, a: &[f32], lies: Lies, b: &[f32], runs: &[Run], small: bool) {
    // Without an instruction for it a multiply-add is a function call. The products are exact unless they overflow, so
    // that a multiplication and an addition give the same.
    let fused = !small || cpu::level() != Level::Portable || cfg!(any(target_feature = "fma", target_arch = "aarch64"));
    match (lies, fused) {
        (Lies::Row, true) => cpu::dispatch(MultiplyBlocks::<false, true> { sums, a, b, runs }),
        (Lies::Row, false) => cpu::dispatch(MultiplyBlocks::<false, false> { sums, a, b, runs }),
        (Lies::Term, true) => cpu::dispatch(MultiplyBlocks::<true, true> { sums, a, b, runs }),
        (Lies::Term, false) => cpu::dispatch(MultiplyBlocks::<true, false> { sums, a, b, runs }),
    }
}

struct MultiplyBlocks<'a, const BY_TERM: bool, const FUSED: bool> {
    sums: &'a mut Sums,
    a: &'a [f32],
    b: &'a [f32],
    runs: &'a [Run],
}

impl<const BY_TERM: bool, const FUSED: bool> Kernel for MultiplyBlocks<'_, BY_TERM, FUSED> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let b = self.b.as_chunks::<BLOCK>().0.as_chunks::<BLOCK>().0;
        for run in self.runs {
            for (i, b) in b[run.b..][..run.count].iter().enumerate() {
                let a: &[f32; BLOCK_LEN] =
                    self.a[run.a + i * run.a_step..].first_chunk().expect("a block lies in its slice");
                // As many sums as there are registers for.
                match PANEL {
                    BLOCK => step::<4, BLOCK, BY_TERM, FUSED>(self.sums, a, b),
                    _ => step::<2, 16, BY_TERM, FUSED>(self.sums, a, b),
                }
            }
        }
    }
}

/// One step for `R` rows at a time and `W` columns at a time.
#[inline(always)]
fn step<const R: usize, const W: usize, const BY_TERM: bool, const FUSED: bool>(
    sums: &mut Sums,
    a: &[f32; BLOCK_LEN],
    b: &Sums,
) {
    for row in (0..BLOCK).step_by(R) {
        for column in (0..BLOCK).step_by(W) {
            let (mut even, mut odd) = ([[0.0f32; W]; R], [[0.0f32; W]; R]);
            for i in 0..BLOCK / 2 {
                add_products::<R, W, BY_TERM, FUSED>(&mut even, a, row, 2 * i, &b[2 * i], column);
                add_products::<R, W, BY_TERM, FUSED>(&mut odd, a, row, 2 * i + 1, &b[2 * i + 1], column);
            }
            for r in 0..R {
                for lane in 0..W {
                    sums[row + r][column + lane] += even[r][lane] + odd[r][lane];
                }
            }
        }
    }
}

/// `sums[r] += a[row + r][term] * b[column ..]`, unrolled by hand, or the sums are not kept in registers.
#[inline(always)]
fn add_products<const R: usize, const W: usize, const BY_TERM: bool, const FUSED: bool>(
    sums: &mut [[f32; W]; R],
    a: &[f32; BLOCK_LEN],
    row: usize,
    term: usize,
    b: &[f32; BLOCK],
    column: usize,
) {
    const { assert!(R == 2 || R == 4) };
    let b: &[f32; W] = b[column..].first_chunk().expect("columns lie in a block");
    let x = |r: usize| if BY_TERM { a[term * BLOCK + row + r] } else { a[(row + r) * BLOCK + term] };
    add_row::<W, FUSED>(&mut sums[0], x(0), b);
    add_row::<W, FUSED>(&mut sums[1], x(1), b);
    if R == 4 {
        add_row::<W, FUSED>(&mut sums[2], x(2), b);
        add_row::<W, FUSED>(&mut sums[3], x(3), b);
    }
}

#[inline(always)]
fn add_row<const W: usize, const FUSED: bool>(sums: &mut [f32; W], x: f32, b: &[f32; W]) {
    for lane in 0..W {
        sums[lane] = if FUSED { x.mul_add(b[lane], sums[lane]) } else { sums[lane] + x * b[lane] };
    }
}
