//! Dropout at addresses, as `torch.nn.Dropout` in training but with a mask that depends on the sample alone.

use convoy_common::random::{Address, Purpose};
use convoy_kernels::dropout;

use super::{Operation, Ports, Units, Wanted, compute, propagate};
use crate::flow::Flow;

/// Random zeros for a tensor whose first axis is the sample; what stays is divided by 1 - p.
pub(crate) struct Dropout {
    keep: Vec<bool>,
    scale: f32,
}

impl Dropout {
    /// The masks of `samples`, each of `len` numbers in memory order: number i of a sample stays if
    /// `uniform(i)` at the address (`seed`, dropout, `epoch`, sample, `stream`) is at least `p`, which is below 1.
    pub fn new(p: f32, seed: u64, epoch: u32, stream: u32, samples: &[u32], len: usize) -> Self {
        let mut keep = Vec::with_capacity(samples.len() * len);
        for &sample in samples {
            let address = Address::new(seed, Purpose::Dropout, epoch, sample).stream(stream);
            for block in 0..len.div_ceil(4) {
                let left = len - 4 * block;
                keep.extend(address.block(block as u32).iter().take(left).map(|&word| uniform(word) >= p));
            }
        }
        Dropout { keep, scale: 1.0 / (1.0 - p) }
    }

    /// None of `len` numbers becomes 0: dropout in use.
    pub fn off(len: usize) -> Self {
        Dropout { keep: vec![true; len], scale: 1.0 }
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

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn forward(&self, flow: &mut Flow, at: &Ports) {
        compute(flow, at, self.units(), |range, x, y| dropout::apply(x, &self.keep[range], self.scale, y));
    }

    fn backward(&self, flow: &mut Flow, at: &Ports, _wanted: Wanted) {
        propagate(flow, at, self.units(), |_, range, dy, dx| dropout::apply(dy, &self.keep[range], self.scale, dx));
    }
}

impl Dropout {
    fn units(&self) -> Units {
        Units { count: self.keep.len(), x: 1, y: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_the_addressed_uniforms() {
        let dropout = Dropout::new(0.3, 7, 2, 5, &[11, 4], 6);
        let expected: Vec<bool> = [11, 4]
            .iter()
            .flat_map(|&sample| {
                let address = Address::new(7, Purpose::Dropout, 2, sample).stream(5);
                (0..6).map(move |i| address.uniform(i) >= 0.3)
            })
            .collect();
        assert_eq!(dropout.keep, expected);
        assert!(expected.contains(&true) && expected.contains(&false));
    }

    #[test]
    fn the_mean_stays() {
        let dropout = Dropout::new(0.25, 1, 0, 0, &[0], 40_000);
        let sum: f32 = dropout.keep.iter().map(|&keep| if keep { dropout.scale } else { 0.0 }).sum();
        assert!((sum / 40_000.0 - 1.0).abs() < 0.01, "{sum}");
    }
}
