//! From the root of the reduce tree to the next parameters, one element range at a time.

use std::ops::Range;

use convoy_common::Plan;
use convoy_common::schedule::LearningRate;
use convoy_common::spec::{Optimizer, OptimizerKind};
use convoy_kernels::optimizer::{AdamStep, SgdStep, adam, adamw, bias_correction, sgd};
use convoy_model::{Network, Role};

use crate::frozen_chunks::frozen_steps;

/// What a step does to each element.
#[derive(Debug)]
pub struct Update {
    segments: Vec<Segment>,
    optimizer: Optimizer,
    rate: LearningRate,
    /// Steps in which only the head is trained.
    frozen_steps: u64,
}

#[derive(Debug)]
struct Segment {
    range: Range<usize>,
    head: bool,
    kind: SegmentKind,
}

#[derive(Debug)]
enum SegmentKind {
    Parameter { weight_decay: f32 },
    Buffer { momentum: f32 },
}

/// Elements of the flat vector whose step is made, in place.
#[derive(Debug)]
pub struct Elements<'a, 'm> {
    /// Index of the first of them.
    pub first: usize,
    /// Before the step; after it, what the step made of them.
    pub values: &'a mut [f32],
    /// The optimizer's state of those of them that are parameters, which come first: a slice for each of its names.
    pub moments: &'a mut [&'m mut [f32]],
    /// The root of the reduce tree over these elements; it is scaled in place.
    pub sum: &'a mut [f32],
}

/// The elements of a segment among those whose step is made. For a buffer there are no moments.
struct SegmentPart<'a> {
    values: &'a mut [f32],
    moments: Vec<&'a mut [f32]>,
    sum: &'a mut [f32],
}

/// How the root of a whole step is scaled.
#[derive(Debug, Clone, Copy)]
pub struct Scales {
    /// 1 / sum of the loss weights, times the factor of clipping: turns the root into the gradient.
    pub gradient: f32,
    /// 1 / samples: turns the root of batch-norm statistics into means.
    pub statistics: f32,
}

impl Scales {
    /// The scales for the root of a step of `count` samples whose loss weights add up to `weight`, and the norm of the
    /// gradient where `clip_norm` asks for it: clipping as `torch.nn.utils.clip_grad_norm_`. `squares` gives the sum of
    /// squares of the root's parameters.
    pub fn new(count: f64, weight: f64, clip_norm: Option<f64>, squares: impl FnOnce() -> f64) -> (Self, Option<f64>) {
        let mut scales = Scales { gradient: (1.0 / weight) as f32, statistics: (1.0 / count) as f32 };
        let norm = clip_norm.map(|limit| {
            let norm = squares().sqrt() / weight;
            let factor = limit / (norm + 1e-6);
            if factor < 1.0 {
                scales.gradient = (factor / weight) as f32;
            }
            norm
        });
        (scales, norm)
    }
}

impl Update {
    /// What `plan` asks for on `network`.
    pub fn new(plan: &Plan, network: &Network) -> Self {
        let optimizer = plan.spec.optimizer.clone();
        let mut segments: Vec<Segment> = network
            .tensors
            .iter()
            .map(|tensor| Segment {
                range: tensor.offset..tensor.offset + tensor.shape.iter().product::<usize>(),
                head: tensor.head,
                kind: match tensor.role {
                    Role::Parameter { decay } if decay || optimizer.decay_norms_and_biases => {
                        SegmentKind::Parameter { weight_decay: optimizer.weight_decay as f32 }
                    }
                    Role::Parameter { .. } => SegmentKind::Parameter { weight_decay: 0.0 },
                    Role::Buffer { momentum } => SegmentKind::Buffer { momentum },
                },
            })
            .collect();
        segments.sort_by_key(|segment| segment.range.start);
        Update { segments, optimizer, rate: plan.learning_rate(), frozen_steps: frozen_steps(plan) }
    }

    /// Makes step `step` of some elements. Elements stand alone, so ranges may come in any order.
    pub fn apply(&self, step: u64, scales: Scales, elements: Elements<'_, '_>) {
        let Elements { first, values, moments, sum } = elements;
        let range = first..first + values.len();
        let from = self.segments.partition_point(|segment| segment.range.end <= range.start);
        for segment in self.segments[from..].iter().take_while(|segment| segment.range.start < range.end) {
            let part = segment.range.start.max(range.start)..segment.range.end.min(range.end);
            let here = part.start - range.start..part.end - range.start;
            let moments: Vec<&mut [f32]> = match segment.kind {
                SegmentKind::Buffer { .. } => Vec::new(),
                SegmentKind::Parameter { .. } => moments.iter_mut().map(|moment| &mut moment[here.clone()]).collect(),
            };
            let part = SegmentPart { values: &mut values[here.clone()], moments, sum: &mut sum[here] };
            self.apply_segment(segment, step, scales, part);
        }
    }

    fn apply_segment(&self, segment: &Segment, step: u64, scales: Scales, part: SegmentPart<'_>) {
        let frozen = step < self.frozen_steps;
        match segment.kind {
            // The head has no buffers: frozen batch norms keep their statistics.
            SegmentKind::Buffer { .. } if frozen => {}
            SegmentKind::Buffer { momentum } => {
                for (running, sum) in part.values.iter_mut().zip(part.sum) {
                    *running = momentum.mul_add(*sum * scales.statistics - *running, *running);
                }
            }
            SegmentKind::Parameter { .. } if frozen && !segment.head => {}
            SegmentKind::Parameter { weight_decay } => {
                convoy_kernels::tree::scale(part.sum, scales.gradient);
                let begun = if segment.head { 0 } else { self.frozen_steps };
                self.optimize(weight_decay, step, step - begun + 1, part);
            }
        }
    }

    /// `times`: how often these elements are stepped, this time included. The part's sum is the gradient.
    fn optimize(&self, weight_decay: f32, step: u64, times: u64, part: SegmentPart<'_>) {
        let SegmentPart { values, mut moments, sum: gradient } = part;
        let lr = self.rate.at(step);
        let optimizer = &self.optimizer;
        if optimizer.kind == OptimizerKind::Sgd {
            let step = SgdStep {
                lr,
                momentum: optimizer.momentum.unwrap_or(0.0) as f32,
                nesterov: optimizer.nesterov.unwrap_or(false),
                weight_decay,
                first_step: times == 1,
            };
            let buffer = moments.first_mut().map_or(&mut [][..], |moment| moment);
            return sgd(values, gradient, buffer, &step);
        }
        let [beta1, beta2] = optimizer.betas.unwrap_or([0.9, 0.999]);
        let step = AdamStep {
            lr,
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            eps: optimizer.eps.unwrap_or(1e-8) as f32,
            weight_decay,
            correction1: bias_correction(beta1, times),
            correction2: bias_correction(beta2, times),
        };
        let [first, second] = &mut moments[..] else { unreachable!("Adam keeps two moments") };
        match optimizer.kind {
            OptimizerKind::Adamw => adamw(values, gradient, first, second, &step),
            _ => adam(values, gradient, first, second, &step),
        }
    }
}

#[cfg(test)]
mod tests;
