//! How tensors begin.

use std::f64::consts::TAU;

use convoy_common::random::{Address, Purpose};

use crate::{Init, Network, Tensor};

impl Network {
    /// The flat vector before the first step. Element i of tensor t is number i at the address (`seed`,
    /// initialisation, epoch 0, item t), so no tensor's numbers depend on another's shape.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut flat = vec![0.0; self.len()];
        for (index, tensor) in self.tensors.iter().enumerate() {
            fill(tensor, seed, index as u32, &mut flat[tensor.range()]);
        }
        flat
    }
}

/// Fills `values`, the elements of `tensor`, which is number `index` of its network.
pub(crate) fn fill(tensor: &Tensor, seed: u64, index: u32, values: &mut [f32]) {
    let address = Address::new(seed, Purpose::Initialisation, 0, index);
    match tensor.init {
        Init::Zeros => values.fill(0.0),
        Init::Ones => values.fill(1.0),
        Init::Uniform { bound } => fill_uniform(&address, bound, values),
        Init::Normal { std } => fill_normal(&address, f64::from(std), values),
    }
}

/// `bound * (2 * address.uniform(i) - 1)`, a block of random words for four elements.
fn fill_uniform(address: &Address, bound: f32, values: &mut [f32]) {
    let unit = |word: u32| (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32);
    // A network has at most 2^31 elements, so that numbers of blocks fit, here and below.
    for (four, block) in values.chunks_mut(4).zip(0u32..) {
        let words = address.block(block);
        four.iter_mut().zip(words).for_each(|(value, word)| *value = bound * (2.0 * unit(word) - 1.0));
    }
}

/// `std * address.normal(i)`, a block of random words for two elements.
fn fill_normal(address: &Address, std: f64, values: &mut [f32]) {
    let unit = |word: u32| f64::from(word) * (1.0 / (1u64 << 32) as f64);
    for (two, block) in values.chunks_mut(2).zip(0u32..) {
        let words = address.block(block);
        for (value, [radius, angle]) in two.iter_mut().zip([[words[0], words[1]], [words[2], words[3]]]) {
            let normal = (-2.0 * libm::log(1.0 - unit(radius))).sqrt() * libm::cos(TAU * unit(angle));
            *value = (std * normal) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_give_the_numbers_at_their_addresses() {
        let address = Address::new(11, Purpose::Initialisation, 0, 4);
        let (mut uniform, mut normal) = ([0.0; 23], [0.0; 23]);
        fill_uniform(&address, 0.3, &mut uniform);
        fill_normal(&address, 0.7, &mut normal);
        for i in 0..23 {
            assert_eq!(uniform[i], 0.3 * (2.0 * address.uniform(i as u32) - 1.0));
            assert_eq!(normal[i], (0.7 * address.normal(i as u32)) as f32);
        }
    }
}
