//! What operands are multiplied as: halves in tiles where there is AMX, `f32` elsewhere.

use super::Bf16;
use super::block_memory::Operand;
use super::blocks::BLOCK;
use super::step::{self, Lies, Run, Slide, Sums};
use crate::scratch::Pooled;

/// A kind of number that operands are multiplied as. All kinds give the same bits.
pub(super) trait Element: Pooled {
    /// What must be there while blocks are multiplied; made once a call of a kernel.
    type Unit;

    /// Makes it.
    fn unit() -> Self::Unit;

    /// The same value.
    fn of(value: Bf16) -> Self;

    /// Where a term lies in a row of 32 of a block `[row][term]`.
    #[inline(always)]
    fn place(term: usize) -> usize {
        term
    }

    /// Copies rows of 32, of [`Lies`] so.
    #[inline(always)]
    fn copy(from: &[Bf16], to: &mut [Self], _: Lies) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = Self::of(*from));
    }

    /// The tensor itself, if its blocks can be multiplied as they lie.
    fn as_they_lie(tensor: &[Bf16]) -> Option<&[Self]>;

    /// Writes the sums of a step for each pair of blocks, of which those of `a` are `[row][term]`. `small`: see
    /// [`step::multiply`].
    fn multiply(unit: &Self::Unit, sums: &mut Sums, a: &[Self], b: &[Self], runs: &[Run], small: bool);

    /// Adds a step for each pair of blocks that [`Element::for_terms`] made.
    fn multiply_terms(unit: &Self::Unit, sums: &mut Sums, a: &[Self], b: &[Self], runs: &[Run], small: bool);

    /// The same for three taps side by side.
    fn multiply_neighbours(
        unit: &Self::Unit,
        sums: [&mut Sums; 3],
        a: &[Self],
        b: &[Self],
        rows: &[Slide],
        small: bool,
    ) {
        for (tap, sums) in sums.into_iter().enumerate() {
            let runs: Vec<Run> = rows.iter().map(|row| row.run(tap)).filter(|run| run.count > 0).collect();
            Self::multiply_terms(unit, sums, a, b, &runs, small);
        }
    }

    /// Makes blocks `[term][row]` and `[term][column]` what [`Element::multiply_terms`] takes for `a` and `b`. A block
    /// of `a` begins at each column that is a multiple of `every`.
    fn for_terms(a: &mut Operand<'_, Self>, every: usize, b: &mut Operand<'_, Self>);

    /// Writes a block of weights, `[term][column]`, as `b` of [`Element::multiply`].
    fn pack(block: &[[Bf16; BLOCK]; BLOCK], to: &mut [Self]);

    /// The same of a block `[column][term]`.
    fn pack_turned(block: &[[Bf16; BLOCK]; BLOCK], to: &mut [Self]) {
        let mut turned = [[Bf16::ZERO; BLOCK]; BLOCK];
        for (column, terms) in block.iter().enumerate() {
            for (turned, term) in turned.iter_mut().zip(terms) {
                turned[column] = *term;
            }
        }
        Self::pack(&turned, to);
    }
}

impl Element for f32 {
    type Unit = ();

    fn unit() {}

    #[inline(always)]
    fn of(value: Bf16) -> f32 {
        value.to_f32()
    }

    fn as_they_lie(_: &[Bf16]) -> Option<&[f32]> {
        None
    }

    fn multiply((): &(), sums: &mut Sums, a: &[f32], b: &[f32], runs: &[Run], small: bool) {
        *sums = [[0.0; BLOCK]; BLOCK];
        step::multiply(sums, a, Lies::Row, b, runs, small);
    }

    fn multiply_terms((): &(), sums: &mut Sums, a: &[f32], b: &[f32], runs: &[Run], small: bool) {
        step::multiply(sums, a, Lies::Term, b, runs, small);
    }

    fn for_terms(_: &mut Operand<'_, f32>, _: usize, _: &mut Operand<'_, f32>) {}

    fn pack(block: &[[Bf16; BLOCK]; BLOCK], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(block.as_flattened()) {
            *to = from.to_f32();
        }
    }
}
