//! Where weights lie, for who packs them.

use super::Bf16;
use super::blocks::BLOCK;
use crate::conv::ConvShape;
use crate::conv::geometry::Correlation;

/// What weights are packed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PackedFor {
    Forward,
    InputGradient,
}

/// How an OIHW weight lies in memory, seen from the target of a pass.
pub(super) struct WeightSteps {
    /// From one target channel of a group to the next.
    pub lane: usize,
    /// From one source channel of a group to the next.
    pub depth: usize,
    /// From one group to the next.
    pub group: usize,
}

impl WeightSteps {
    /// Those of a convolution's weight.
    pub fn new(shape: &ConvShape, pass: PackedFor) -> WeightSteps {
        let (taps, inputs) = (shape.kh * shape.kw, shape.ci / shape.groups);
        let group = shape.co / shape.groups * inputs * taps;
        match pass {
            PackedFor::Forward => WeightSteps { lane: inputs * taps, depth: taps, group },
            PackedFor::InputGradient => WeightSteps { lane: taps, depth: inputs * taps, group },
        }
    }
}

/// Whether sums take no blocks: several groups, and fewer than 16 inputs or outputs in each.
pub(super) fn is_chain(shape: &ConvShape) -> bool {
    shape.groups > 1 && (shape.ci / shape.groups).min(shape.co / shape.groups) < 16
}

/// Packs the weights of all correlations, one after the other: `[block of target channels][tap][term][32]`.
pub(super) fn pack_chains(
    all: &[Correlation],
    shape: &ConvShape,
    pass: PackedFor,
    w_oihw: &[f32],
    packed: &mut Vec<f32>,
) {
    let steps = WeightSteps::new(shape, pass);
    packed.clear();
    for of in all {
        let width = of.target_channels / of.groups;
        for first in (0..of.target_channels).step_by(BLOCK) {
            for tap in of.tap_indices() {
                for term in 0..of.depth() {
                    packed.extend((first..first + BLOCK).map(|channel| match channel < of.target_channels {
                        false => 0.0,
                        true => {
                            let lane = channel % width * steps.lane;
                            let w = w_oihw[channel / width * steps.group + lane + term * steps.depth + tap];
                            Bf16::from_f32(w).to_f32()
                        }
                    }));
                }
            }
        }
    }
}
