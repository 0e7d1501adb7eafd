//! From the root of the reduce tree to the next parameters, one element range at a time.

use std::ops::Range;
use std::sync::Arc;

use convoy_common::schedule::LearningRate;
use convoy_common::spec::{Optimizer, OptimizerKind};
use convoy_common::{Digest, Plan};
use convoy_kernels::optimizer::{AdamStep, SgdStep, adam, adamw, bias_correction, sgd};
use convoy_model::{DigestInOrder, Network, Role, TensorRef};
use convoy_proto::{CHUNK_ELEMENTS, chunk_count, chunk_range};

use crate::buffer::Buffer;

/// Parameters, buffers and optimizer state after some number of steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generation {
    /// Steps that made it.
    pub step: u64,
    /// Parameters, then buffers.
    pub flat: Flat,
    /// Optimizer state, each as long as the parameters: SGD's momentum, or Adam's first and second moment.
    pub moments: Vec<Vec<f32>>,
}

/// The flat vector of a [`Network`], chunk by chunk: each in the memory of the root that it was made of, and shared with the
/// workers that read it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flat(Vec<Arc<Buffer>>);

impl Flat {
    /// A copy of `values`.
    pub fn of(values: &[f32]) -> Self {
        let ranges = (0..chunk_count(values.len())).map(|index| chunk_range(values.len(), index));
        ranges.map(|range| Arc::new(Buffer::of(&values[range]))).collect()
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> &[Arc<Buffer>] {
        &self.0
    }

    /// What [`Network::digest`] makes of them.
    ///
    /// # Panics
    /// When the network has more elements.
    pub fn digest(&self, network: &Network) -> Digest {
        let mut digest = DigestInOrder::new(network);
        self.0.iter().for_each(|chunk| digest.add(network, chunk));
        digest.finish(network)
    }

    /// The tensors of `network` as they lie here, in the order of [`Network::tensors`].
    ///
    /// # Panics
    /// When the network has more elements.
    pub fn views<'a>(&'a self, network: &'a Network) -> impl Iterator<Item = TensorRef<'a, Vec<&'a [f32]>>> {
        network.tensors.iter().map(|tensor| TensorRef {
            name: &tensor.name,
            shape: &tensor.shape,
            data: self.pieces(tensor.range()),
        })
    }

    fn pieces(&self, range: Range<usize>) -> Vec<&[f32]> {
        let piece = |index: usize| {
            let first = index * CHUNK_ELEMENTS;
            let end = range.end.min(first + CHUNK_ELEMENTS);
            &self.0[index][range.start.max(first) - first..end - first]
        };
        (range.start / CHUNK_ELEMENTS..range.end.div_ceil(CHUNK_ELEMENTS)).map(piece).collect()
    }

    /// A copy in one piece.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.0.len() * CHUNK_ELEMENTS);
        self.0.iter().for_each(|chunk| values.extend_from_slice(chunk));
        values
    }
}

impl FromIterator<Arc<Buffer>> for Flat {
    /// All chunks of a vector, in order.
    fn from_iter<I: IntoIterator<Item = Arc<Buffer>>>(chunks: I) -> Self {
        Flat(chunks.into_iter().collect())
    }
}

/// Names of the optimizer's state, in the order of [`Generation::moments`].
pub fn moment_names(optimizer: &Optimizer) -> &'static [&'static str] {
    match optimizer.kind {
        OptimizerKind::Sgd if optimizer.momentum == Some(0.0) => &[],
        OptimizerKind::Sgd => &["momentum"],
        OptimizerKind::Adam | OptimizerKind::Adamw => &["first_moment", "second_moment"],
    }
}

/// What a step does to each element.
#[derive(Debug)]
pub struct Update {
    segments: Vec<Segment>,
    optimizer: Optimizer,
    rate: LearningRate,
    /// Steps in which only the head is trained.
    frozen_steps: u64,
    parameters: usize,
}

#[derive(Debug)]
struct Segment {
    range: Range<usize>,
    head: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Parameter { weight_decay: f32 },
    Buffer { momentum: f32 },
}

/// What holds for a whole step.
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
                        Kind::Parameter { weight_decay: optimizer.weight_decay as f32 }
                    }
                    Role::Parameter { .. } => Kind::Parameter { weight_decay: 0.0 },
                    Role::Buffer { momentum } => Kind::Buffer { momentum },
                },
            })
            .collect();
        segments.sort_by_key(|segment| segment.range.start);
        Update {
            segments,
            optimizer,
            rate: plan.learning_rate(),
            frozen_steps: u64::from(plan.spec.network.freeze_epochs) * plan.train_cut().steps(),
            parameters: network.parameters,
        }
    }

    /// Copies the optimizer's state of the elements `range` from `now` to `next`. Buffers have none.
    pub fn carry(&self, range: &Range<usize>, now: &[Vec<f32>], next: &mut [Vec<f32>]) {
        let range = range.start.min(self.parameters)..range.end.min(self.parameters);
        for (next, now) in next.iter_mut().zip(now) {
            next[range.clone()].copy_from_slice(&now[range.clone()]);
        }
    }

    /// Makes step `step` of the elements `range`: `values` holds them, `moments` is the whole of the optimizer's state, and
    /// both are written over; `sum` is the root over this range, which is scaled in place. Elements stand alone, so ranges
    /// may come in any order.
    pub fn apply(
        &self,
        step: u64,
        range: Range<usize>,
        values: &mut [f32],
        moments: &mut [Vec<f32>],
        sum: &mut [f32],
        scales: Scales,
    ) {
        let first = self.segments.partition_point(|segment| segment.range.end <= range.start);
        for segment in self.segments[first..].iter().take_while(|segment| segment.range.start < range.end) {
            let part = segment.range.start.max(range.start)..segment.range.end.min(range.end);
            let here = part.start - range.start..part.end - range.start;
            let mut moments: Vec<&mut [f32]> = match segment.kind {
                Kind::Buffer { .. } => Vec::new(),
                Kind::Parameter { .. } => moments.iter_mut().map(|moment| &mut moment[part.clone()]).collect(),
            };
            self.apply_segment(segment, step, &mut values[here.clone()], &mut moments, &mut sum[here], scales);
        }
    }

    fn apply_segment(
        &self,
        segment: &Segment,
        step: u64,
        values: &mut [f32],
        moments: &mut [&mut [f32]],
        sum: &mut [f32],
        scales: Scales,
    ) {
        let frozen = step < self.frozen_steps;
        match segment.kind {
            // The head has no buffers: frozen batch norms keep their statistics.
            Kind::Buffer { .. } if frozen => {}
            Kind::Buffer { momentum } => {
                for (running, sum) in values.iter_mut().zip(sum) {
                    *running = momentum.mul_add(*sum * scales.statistics - *running, *running);
                }
            }
            Kind::Parameter { .. } if frozen && !segment.head => {}
            Kind::Parameter { weight_decay } => {
                convoy_kernels::tree::scale(sum, scales.gradient);
                let begun = if segment.head { 0 } else { self.frozen_steps };
                self.optimize(weight_decay, step, step - begun + 1, values, moments, sum);
            }
        }
    }

    /// `times`: how often this element is stepped, this time included.
    fn optimize(
        &self,
        weight_decay: f32,
        step: u64,
        times: u64,
        params: &mut [f32],
        moments: &mut [&mut [f32]],
        grad: &[f32],
    ) {
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
            return sgd(params, grad, buffer, &step);
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
        let [first, second] = moments else { unreachable!("Adam keeps two moments") };
        match optimizer.kind {
            OptimizerKind::Adamw => adamw(params, grad, first, second, &step),
            _ => adam(params, grad, first, second, &step),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_vector_in_chunks_is_cut_where_it_is_wanted() {
        let len = 3 * CHUNK_ELEMENTS + 7;
        let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
        let flat = Flat::of(&values);
        assert_eq!(flat.to_vec(), values);
        let c = CHUNK_ELEMENTS;
        for range in [0..0, 0..len, 5..6, c - 1..c + 1, c..2 * c, 1..3 * c, 3 * c..len, len - 1..len, len..len] {
            let pieces = flat.pieces(range.clone());
            assert_eq!(pieces.concat(), values[range.clone()], "{range:?}");
            let chunks = range.clone().map(|i| i / c).collect::<std::collections::BTreeSet<_>>();
            assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).count(), chunks.len(), "{range:?}");
        }
    }
}
