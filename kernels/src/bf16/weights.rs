use std::ops::Range;

use super::Bf16;
#[cfg(target_arch = "x86_64")]
use super::PairedHalf;
use super::blocks::BLOCK;
use super::element::Element;
use super::images::TermBlocks;
use super::step::BLOCK_LEN;
use super::weight_steps::{PackedFor, WeightSteps, is_chain, pack_chains};
use crate::conv::ConvShape;
use crate::conv::geometry::{self, Correlation};
use crate::cpu::{self, Kernel, Level};
use crate::scratch::Aligned;
use crate::shape::expect_len;

/// The weights of a convolution, rounded, as the forward pass or the input gradient reads them. They are packed once a
/// step, for the instructions of the thread that packs them, and may be shared by threads.
pub struct PackedWeight {
    shape: ConvShape,
    pass: PackedFor,
    pub(super) of: Vec<Correlation>,
    /// What they are packed for.
    level: Level,
    pub(super) values: PackedValues,
    /// Whether all of them are finite, where somebody asks: only then may a product with a zero be made and not left
    /// out.
    pub(super) finite: bool,
    /// Whether no finite one is so large that a product with another could overflow.
    pub(super) small: bool,
}

/// Weights in memory.
pub(super) enum PackedValues {
    /// Blocks of 32 terms x 32 target channels.
    Blocks(Aligned<f32>),
    /// The same as pairs of terms.
    #[cfg(target_arch = "x86_64")]
    Pairs(Aligned<PairedHalf>),
    /// The same as tiles of AMX.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Tiles(Aligned<Bf16>),
    /// For sums without blocks: see [`pack_chains`].
    Chains(Vec<f32>),
}

impl PackedValues {
    /// No memory yet, for weights of this shape at a level.
    fn nothing(shape: &ConvShape, level: Level) -> PackedValues {
        match level {
            _ if is_chain(shape) => PackedValues::Chains(Vec::new()),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Level::Amx => PackedValues::Tiles(Aligned::default()),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => PackedValues::Pairs(Aligned::default()),
            _ => PackedValues::Blocks(Aligned::default()),
        }
    }
}

/// Finite values up to this have products that do not overflow.
const PRODUCTS_FIT: f32 = (1u64 << 63) as f32;

/// Whether the value is not finite, or so small that its products do not overflow.
pub(super) fn is_small(value: f32) -> bool {
    value.abs() < PRODUCTS_FIT || !value.is_finite()
}

impl PackedWeight {
    /// For [`super::forward`]. `shape.n` is of no account.
    ///
    /// # Panics
    /// If the shape makes no sense, or the length of the weight is not its.
    pub fn forward(shape: ConvShape, w_oihw: &[f32]) -> Self {
        PackedWeight::new(shape, PackedFor::Forward, w_oihw)
    }

    /// For [`super::backward_data`]. `shape.n` is of no account.
    ///
    /// # Panics
    /// As [`PackedWeight::forward`].
    pub fn input_gradient(shape: ConvShape, w_oihw: &[f32]) -> Self {
        PackedWeight::new(shape, PackedFor::InputGradient, w_oihw)
    }

    fn new(shape: ConvShape, pass: PackedFor, w_oihw: &[f32]) -> Self {
        let shape = ConvShape { n: 1, ..shape };
        shape.expect_checked();
        let of = match pass {
            PackedFor::Forward => vec![geometry::forward(&shape)],
            PackedFor::InputGradient => geometry::backward(&shape),
        };
        let level = cpu::level();
        let values = PackedValues::nothing(&shape, level);
        let mut packed = PackedWeight { shape, pass, of, level, values, finite: true, small: true };
        packed.repack(w_oihw);
        packed
    }

    /// Packs other weights of the same shape into the same memory.
    ///
    /// # Panics
    /// If the length of the weight is not its shape's.
    pub fn repack(&mut self, w_oihw: &[f32]) {
        expect_len("w_oihw", w_oihw.len(), self.shape.w_len());
        if self.level != cpu::level() {
            self.level = cpu::level();
            self.values = PackedValues::nothing(&self.shape, self.level);
        }
        // Only code without an instruction for multiply-adds asks.
        self.small = self.level != Level::Portable || w_oihw.iter().all(|w| is_small(*w));
        self.finite = match &mut self.values {
            PackedValues::Blocks(values) => pack(&self.of, &self.shape, self.pass, w_oihw, values),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            PackedValues::Tiles(values) => pack(&self.of, &self.shape, self.pass, w_oihw, values),
            #[cfg(target_arch = "x86_64")]
            PackedValues::Pairs(values) => pack(&self.of, &self.shape, self.pass, w_oihw, values),
            PackedValues::Chains(values) => {
                pack_chains(&self.of, &self.shape, self.pass, w_oihw, values);
                false
            }
        };
    }

    /// Panics unless these are the weights of this pass of a convolution of this shape.
    #[track_caller]
    pub(super) fn expect(&self, shape: ConvShape, pass: PackedFor) {
        let shape = ConvShape { n: 1, ..shape };
        assert!(
            self.shape == shape && self.pass == pass,
            "weights packed for {:?} of {:?} are not those for {pass:?} of {shape:?}",
            self.pass,
            self.shape
        );
    }
}

/// Blocks of weights that one group of channels takes.
pub(super) fn blocks_of_group(of: &Correlation) -> usize {
    let blocks = TermBlocks::new(of);
    let taps = blocks.taps(of).map(<[_]>::len);
    (of.target_channels / of.groups).div_ceil(BLOCK) * taps[0] * taps[1] * blocks.count
}

/// Packs the weights of all correlations, one after the other: `[group][32 targets][tap][block]`. Whether those of
/// blocks of one tap each are finite.
fn pack<T: Element>(
    all: &[Correlation],
    shape: &ConvShape,
    pass: PackedFor,
    w_oihw: &[f32],
    packed: &mut Aligned<T>,
) -> bool {
    let count: usize = all.iter().map(|of| of.groups * blocks_of_group(of)).sum();
    packed.resize(count * BLOCK_LEN);
    let mut square = Square::new(shape);
    let mut rest = &mut packed[..];
    for of in all {
        let blocks = TermBlocks::new(of);
        let indices: Vec<usize> = of.tap_indices().collect();
        for group in 0..of.groups {
            let (now, later) = rest.split_at_mut(blocks_of_group(of) * BLOCK_LEN);
            rest = later;
            match blocks.flattened {
                true => pack_flattened(of, &indices, &WeightSteps::new(shape, pass), group, w_oihw, now),
                false => pack_by_tap(of, &indices, pass, group, w_oihw, &mut square, now),
            }
        }
    }
    square.finite
}

/// Of a group whose blocks take their terms from several taps: few weights.
fn pack_flattened<T: Element>(
    of: &Correlation,
    indices: &[usize],
    steps: &WeightSteps,
    group: usize,
    w_oihw: &[f32],
    packed: &mut [T],
) {
    let (width, count) = (of.target_channels / of.groups, TermBlocks::new(of).count);
    let mut to = packed.chunks_exact_mut(BLOCK_LEN);
    for first in (0..width).step_by(BLOCK) {
        let lanes = (width - first).min(BLOCK);
        let origin = &w_oihw[group * steps.group + first * steps.lane..];
        for block in 0..count {
            let mut values = [[Bf16::ZERO; BLOCK]; BLOCK];
            for (values, term) in values.iter_mut().zip(block * BLOCK..of.terms()) {
                let (tap, term) = (term / of.depth(), term % of.depth());
                let from = origin[term * steps.depth + indices[tap]..].iter().step_by(steps.lane);
                for (to, from) in values[..lanes].iter_mut().zip(from) {
                    *to = Bf16::from_f32(*from);
                }
            }
            T::pack(&values, to.next().expect("there is a block for each"));
        }
    }
}

/// Of a group whose blocks are of one tap each.
fn pack_by_tap<T: Element>(
    of: &Correlation,
    indices: &[usize],
    pass: PackedFor,
    group: usize,
    w_oihw: &[f32],
    square: &mut Square,
    packed: &mut [T],
) {
    let (width, depth, count) = (of.target_channels / of.groups, of.depth(), TermBlocks::new(of).count);
    let panels = packed.chunks_exact_mut((indices.len() * count * BLOCK_LEN).max(1));
    for (to, first) in panels.zip((0..width).step_by(BLOCK)) {
        for block in 0..count {
            let targets = first..width.min(first + BLOCK);
            let terms = block * BLOCK..depth.min((block + 1) * BLOCK);
            match pass {
                PackedFor::Forward => square.read(w_oihw, group * width, targets, terms),
                PackedFor::InputGradient => square.read(w_oihw, group * depth, terms, targets),
            }
            for (index, to) in indices.iter().zip(to.chunks_exact_mut(BLOCK_LEN).skip(block).step_by(count)) {
                match pass {
                    PackedFor::Forward => T::pack_turned(&square.taps[*index], to),
                    PackedFor::InputGradient => T::pack(&square.taps[*index], to),
                }
            }
        }
    }
}

/// The weights between 32 outputs and 32 inputs of a group, rounded: `[tap][output][input]`, +0.0 where there are none.
struct Square {
    taps: Vec<[[Bf16; BLOCK]; BLOCK]>,
    inputs: usize,
    /// An output's weights of 32 inputs, as they lie.
    line: Vec<Bf16>,
    /// Whether all that were read are finite when they are rounded.
    finite: bool,
}

impl Square {
    fn new(shape: &ConvShape) -> Square {
        let taps = shape.kh * shape.kw;
        Square {
            taps: vec![[[Bf16::ZERO; BLOCK]; BLOCK]; taps],
            inputs: shape.ci / shape.groups,
            line: vec![Bf16::ZERO; BLOCK * taps],
            finite: true,
        }
    }

    /// Reads the weights of some outputs, counted from `first`, and some inputs.
    fn read(&mut self, w_oihw: &[f32], first: usize, outputs: Range<usize>, inputs: Range<usize>) {
        if outputs.len() < BLOCK || inputs.len() < BLOCK {
            self.taps.fill([[Bf16::ZERO; BLOCK]; BLOCK]);
        }
        cpu::dispatch(ReadSquare { square: self, w_oihw, first, outputs, inputs });
    }
}

struct ReadSquare<'a> {
    square: &'a mut Square,
    w_oihw: &'a [f32],
    first: usize,
    outputs: Range<usize>,
    inputs: Range<usize>,
}

impl Kernel for ReadSquare<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const PANEL: usize>(self) {
        let Square { taps, inputs, line, finite } = self.square;
        let count = taps.len();
        for (row, output) in self.outputs.enumerate() {
            let first = ((self.first + output) * *inputs + self.inputs.start) * count;
            let line = &mut line[..self.inputs.len() * count];
            for (to, from) in line.iter_mut().zip(&self.w_oihw[first..]) {
                *to = Bf16::from_f32(*from);
            }
            *finite &= line.iter().fold(true, |all, value| all & value.is_finite());
            match count {
                1 => spread::<1>(line, row, taps),
                9 => spread::<9>(line, row, taps),
                _ => {
                    for (input, line) in line.chunks_exact(count).enumerate() {
                        taps.iter_mut().zip(line).for_each(|(tap, value)| tap[row][input] = *value);
                    }
                }
            }
        }
    }
}

/// An output's weights, `[input][tap]`, to its row of each tap.
#[inline(always)]
fn spread<const TAPS: usize>(line: &[Bf16], row: usize, taps: &mut [[[Bf16; BLOCK]; BLOCK]]) {
    let taps: &mut [_; TAPS] = taps.first_chunk_mut().expect("there are so many taps");
    for (input, values) in line.as_chunks::<TAPS>().0.iter().take(BLOCK).enumerate() {
        for tap in 0..TAPS {
            taps[tap][row % BLOCK][input] = values[tap];
        }
    }
}
