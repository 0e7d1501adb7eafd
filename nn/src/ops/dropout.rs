//! Dropout at addresses, as `torch.nn.Dropout` in training but with a mask that depends on the sample alone.

use std::fmt;

use convoy_common::random::{Address, Purpose};
use convoy_kernels::dropout;

use super::operation::{Layer, Operation, Ports, Wanted};
use super::units::{Units, compute, propagate};
use crate::mode::ShardAddress;
use crate::pass_buffers::PassBuffers;

/// Random zeros for a tensor whose first axis is the sample; what stays is divided by 1 - p. In use, nothing changes.
pub(super) struct Dropout {
    /// Probability of a zero, below 1.
    pub p: f32,
    /// Which dropout of the network, from 0.
    pub stream: u32,
    /// Samples.
    pub samples: usize,
    /// Numbers of a sample.
    pub len: usize,
    /// Whether masks are drawn: in training.
    pub draws: bool,
}

impl Dropout {
    /// For the layer's input.
    pub fn resolve(layer: &Layer<'_>, p: f32, stream: u32) -> Self {
        Dropout { p, stream, samples: layer.images, len: layer.input().len(), draws: layer.mode.draws_masks() }
    }

    fn units(&self) -> Units {
        Units::elements(self.samples * self.len)
    }

    fn scale(&self) -> f32 {
        1.0 / (1.0 - self.p)
    }
}

impl fmt::Display for Dropout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.draws {
            true => write!(f, "dropout {}, stream {}", self.p, self.stream),
            false => f.write_str("dropout in use: a copy"),
        }
    }
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&self, buffers: &mut PassBuffers, ports: &Ports) {
        if !self.draws {
            return compute(buffers, ports, self.units(), |_, x, y| y.copy_from_slice(x));
        }
        let DropoutMask { keep, scale } = DropoutMask::draw(self.p, &buffers.address, self.stream, self.len);
        compute(buffers, ports, self.units(), |range, x, y| dropout::apply(x, &keep[range], scale, y));
        buffers.set_mask(ports.output, keep);
    }

    fn backward(&self, buffers: &mut PassBuffers, ports: &Ports, _wanted: Wanted) {
        let (keep, scale) = (buffers.take_mask(ports.output), self.scale());
        propagate(buffers, ports, self.units(), |_, range, dy, dx| dropout::apply(dy, &keep[range], scale, dx));
    }
}

/// Which numbers of a shard stay, and what they are multiplied by.
pub(crate) struct DropoutMask {
    /// By samples, each in memory order.
    pub keep: Vec<bool>,
    /// Of what stays.
    pub scale: f32,
}

impl DropoutMask {
    /// The masks of a shard's samples, each of `len` numbers in memory order: number i of a sample stays if
    /// `uniform(i)` at the address (seed, dropout, epoch, sample, `stream`) is at least `p`, which is below 1.
    pub fn draw(p: f32, shard: &ShardAddress, stream: u32, len: usize) -> Self {
        let mut keep = Vec::with_capacity(shard.samples.len() * len);
        for &sample in &shard.samples {
            let address = Address::new(shard.seed, Purpose::Dropout, shard.epoch, sample).stream(stream);
            for block in 0..len.div_ceil(4) {
                let left = len - 4 * block;
                keep.extend(address.block(block as u32).iter().take(left).map(|&word| uniform(word) >= p));
            }
        }
        DropoutMask { keep, scale: 1.0 / (1.0 - p) }
    }

    /// What each number is multiplied by.
    pub fn factors(&self) -> Vec<f32> {
        self.keep.iter().map(|&keep| if keep { self.scale } else { 0.0 }).collect()
    }
}

/// As [`Address::uniform`].
fn uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(seed: u64, epoch: u32, samples: &[u32]) -> ShardAddress {
        ShardAddress { seed, epoch, samples: samples.to_vec() }
    }

    #[test]
    fn masks_are_the_addressed_uniforms() {
        let mask = DropoutMask::draw(0.3, &shard(7, 2, &[11, 4]), 5, 6);
        let expected: Vec<bool> = [11, 4]
            .iter()
            .flat_map(|&sample| {
                let address = Address::new(7, Purpose::Dropout, 2, sample).stream(5);
                (0..6).map(move |i| address.uniform(i) >= 0.3)
            })
            .collect();
        assert_eq!(mask.keep, expected);
        assert!(expected.contains(&true) && expected.contains(&false));
    }

    #[test]
    fn the_mean_stays() {
        let sum: f32 = DropoutMask::draw(0.25, &shard(1, 0, &[0]), 0, 40_000).factors().iter().sum();
        assert!((sum / 40_000.0 - 1.0).abs() < 0.01, "{sum}");
    }
}
