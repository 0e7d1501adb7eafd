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

    /// For both passes, in the memory of weights of the same shape where there are such. Weights that make blocks of
    /// one tap each in both are read once.
    ///
    /// # Panics
    /// As [`PackedWeight::forward`].
    pub fn both(spare: [Option<Self>; 2], shape: ConvShape, w_oihw: &[f32]) -> [Self; 2] {
        let [forward, input_gradient] = spare;
        let mut forward = forward.unwrap_or_else(|| PackedWeight::nothing(shape, PackedFor::Forward));
        let mut back = input_gradient.unwrap_or_else(|| PackedWeight::nothing(shape, PackedFor::InputGradient));
        repack(&mut [&mut forward, &mut back], w_oihw);
        [forward, back]
    }

    fn new(shape: ConvShape, pass: PackedFor, w_oihw: &[f32]) -> Self {
        let mut packed = PackedWeight::nothing(shape, pass);
        packed.repack(w_oihw);
        packed
    }

    fn nothing(shape: ConvShape, pass: PackedFor) -> Self {
        let shape = ConvShape { n: 1, ..shape };
        shape.expect_checked();
        let of = match pass {
            PackedFor::Forward => vec![geometry::forward(&shape)],
            PackedFor::InputGradient => geometry::backward(&shape),
        };
        let level = cpu::level();
        let values = PackedValues::nothing(&shape, level);
        PackedWeight { shape, pass, of, level, values, finite: true, small: true }
    }

    /// Packs other weights of the same shape into the same memory.
    ///
    /// # Panics
    /// If the length of the weight is not its shape's.
    pub fn repack(&mut self, w_oihw: &[f32]) {
        repack(&mut [self], w_oihw);
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

/// Packs weights for passes of one convolution.
fn repack(all: &mut [&mut PackedWeight], w_oihw: &[f32]) {
    let (shape, level) = (all[0].shape, cpu::level());
    expect_len("w_oihw", w_oihw.len(), shape.w_len());
    // Only code without an instruction for multiply-adds asks.
    let small = level != Level::Portable || w_oihw.iter().all(|w| is_small(*w));
    let mut blocks = Packing::default();
    #[cfg(target_arch = "x86_64")]
    let mut pairs = Packing::default();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    let mut tiles = Packing::default();
    for packed in all.iter_mut() {
        assert_eq!(packed.shape, shape, "weights of one convolution");
        if packed.level != level {
            (packed.level, packed.values) = (level, PackedValues::nothing(&shape, level));
        }
        let PackedWeight { of, pass, values, .. } = &mut **packed;
        match values {
            PackedValues::Blocks(values) => blocks.add(of, *pass, values),
            #[cfg(target_arch = "x86_64")]
            PackedValues::Pairs(values) => pairs.add(of, *pass, values),
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            PackedValues::Tiles(values) => tiles.add(of, *pass, values),
            PackedValues::Chains(values) => pack_chains(of, &shape, *pass, w_oihw, values),
        }
    }
    let mut finite = blocks.pack(&shape, w_oihw);
    #[cfg(target_arch = "x86_64")]
    {
        finite &= pairs.pack(&shape, w_oihw);
    }
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        finite &= tiles.pack(&shape, w_oihw);
    }
    all.iter_mut().for_each(|packed| (packed.finite, packed.small) = (finite, small));
}

/// Blocks of weights that one group of channels takes.
pub(super) fn blocks_of_group(of: &Correlation) -> usize {
    let blocks = TermBlocks::new(of);
    let taps = blocks.taps(of).map(<[_]>::len);
    (of.target_channels / of.groups).div_ceil(BLOCK) * taps[0] * taps[1] * blocks.count
}

/// Blocks that are to be written: those of all correlations of a pass one after the other, each
/// `[group][32 targets][tap][block]`.
struct Packing<'a, T> {
    parts: Vec<Part<'a, T>>,
}

impl<T> Default for Packing<'_, T> {
    fn default() -> Self {
        Packing { parts: Vec::new() }
    }
}

/// Those of one correlation.
struct Part<'a, T> {
    of: &'a Correlation,
    pass: PackedFor,
    /// Where its taps lie in the kernel.
    indices: Vec<usize>,
    values: &'a mut [T],
}

impl<'a, T: Element> Packing<'a, T> {
    fn add(&mut self, all: &'a [Correlation], pass: PackedFor, packed: &'a mut Aligned<T>) {
        let len = |of: &Correlation| of.groups * blocks_of_group(of) * BLOCK_LEN;
        packed.resize(all.iter().map(len).sum());
        let mut rest = &mut packed[..];
        for of in all {
            let (values, later) = rest.split_at_mut(len(of));
            rest = later;
            self.parts.push(Part { of, pass, indices: of.tap_indices().collect(), values });
        }
    }

    /// Writes all of them. Whether the weights of blocks of one tap each are finite.
    fn pack(self, shape: &ConvShape, w_oihw: &[f32]) -> bool {
        let (flattened, mut by_tap): (Vec<_>, Vec<_>) =
            self.parts.into_iter().partition(|part| TermBlocks::new(part.of).flattened);
        for Part { of, pass, indices, values } in flattened {
            let groups = values.chunks_exact_mut(blocks_of_group(of) * BLOCK_LEN);
            for (group, values) in groups.enumerate() {
                pack_flattened(of, &indices, &WeightSteps::new(shape, pass), group, w_oihw, values);
            }
        }
        if by_tap.is_empty() {
            return true;
        }
        let mut square = Square::new(shape);
        let (outputs, inputs) = (shape.co / shape.groups, shape.ci / shape.groups);
        for group in 0..shape.groups {
            for output in (0..outputs).step_by(BLOCK) {
                for input in (0..inputs).step_by(BLOCK) {
                    let of_outputs = output..outputs.min(output + BLOCK);
                    square.read(w_oihw, group * outputs, of_outputs, input..inputs.min(input + BLOCK));
                    by_tap.iter_mut().for_each(|part| part.put(&square, group, output / BLOCK, input / BLOCK));
                }
            }
        }
        square.finite
    }
}

impl<T: Element> Part<'_, T> {
    /// Writes the weights between 32 outputs and 32 inputs of a group.
    fn put(&mut self, square: &Square, group: usize, outputs: usize, inputs: usize) {
        let (panel, block) = match self.pass {
            PackedFor::Forward => (outputs, inputs),
            PackedFor::InputGradient => (inputs, outputs),
        };
        let count = TermBlocks::new(self.of).count;
        let panel_len = self.indices.len() * count * BLOCK_LEN;
        let first = group * blocks_of_group(self.of) * BLOCK_LEN + panel * panel_len;
        let blocks = self.values[first..][..panel_len].chunks_exact_mut(BLOCK_LEN).skip(block).step_by(count);
        for (index, to) in self.indices.iter().zip(blocks) {
            match self.pass {
                PackedFor::Forward => T::pack_turned(&square.taps[*index], to),
                PackedFor::InputGradient => T::pack(&square.taps[*index], to),
            }
        }
    }
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
