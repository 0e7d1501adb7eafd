//! How tensors begin.

use std::f64::consts::TAU;

use convoy_common::random::{Address, Purpose};
use parking_lot::Mutex;

use crate::{Init, Network, Tensor};

/// Elements that a thread fills at a time, a multiple of what a block of random words is for.
const PIECE: usize = 1 << 16;

impl Network {
    /// The flat vector before the first step, on all cores. Element i of tensor t is number i at the address (`seed`,
    /// initialisation, epoch 0, item t), so no tensor's numbers depend on another's shape.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut flat = vec![0.0; self.len()];
        let mut rest = &mut flat[..];
        let mut pieces = Vec::new();
        let mut tensors: Vec<(u32, &Tensor)> = (0..).zip(&self.tensors).collect();
        tensors.sort_by_key(|(_, tensor)| tensor.offset);
        for (index, tensor) in tensors {
            let (values, after) = rest.split_at_mut(tensor.range().len());
            rest = after;
            pieces.extend(values.chunks_mut(PIECE).zip((0..).step_by(PIECE)).map(|piece| (tensor, index, piece)));
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(pieces.len().max(1));
        let pieces = Mutex::new(pieces.into_iter());
        let work = || {
            loop {
                let next = pieces.lock().next();
                let Some((tensor, index, (values, first))) = next else { return };
                fill_piece(tensor, seed, index, first, values);
            }
        };
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| _ = scope.spawn(work));
            work();
        });
        flat
    }
}

/// Fills `values`, the elements of `tensor`, which is number `index` of its network.
pub(crate) fn fill(tensor: &Tensor, seed: u64, index: u32, values: &mut [f32]) {
    fill_piece(tensor, seed, index, 0, values);
}

/// Fills the elements of a tensor from `first` on, a multiple of 4.
fn fill_piece(tensor: &Tensor, seed: u64, index: u32, first: u32, values: &mut [f32]) {
    let address = Address::new(seed, Purpose::Initialisation, 0, index);
    match tensor.init {
        Init::Zeros => values.fill(0.0),
        Init::Ones => values.fill(1.0),
        Init::Uniform { bound } => fill_uniform(&address, bound, first, values),
        Init::Normal { std } => fill_normal(&address, f64::from(std), first, values),
    }
}

/// `bound * (2 * address.uniform(i) - 1)` from i = `first` on, a block of random words for four elements.
fn fill_uniform(address: &Address, bound: f32, first: u32, values: &mut [f32]) {
    let unit = |word: u32| (word >> 8) as f32 * (1.0 / (1u32 << 24) as f32);
    // A network has at most 2^31 elements, so that numbers of blocks fit, here and below.
    for (four, block) in values.chunks_mut(4).zip(first / 4..) {
        let words = address.block(block);
        four.iter_mut().zip(words).for_each(|(value, word)| *value = bound * (2.0 * unit(word) - 1.0));
    }
}

/// `std * address.normal(i)` from i = `first` on, a block of random words for two elements.
fn fill_normal(address: &Address, std: f64, first: u32, values: &mut [f32]) {
    let unit = |word: u32| f64::from(word) * (1.0 / (1u64 << 32) as f64);
    for (two, block) in values.chunks_mut(2).zip(first / 2..) {
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
        fill_uniform(&address, 0.3, 8, &mut uniform);
        fill_normal(&address, 0.7, 8, &mut normal);
        for i in 0..23 {
            assert_eq!(uniform[i], 0.3 * (2.0 * address.uniform(8 + i as u32) - 1.0));
            assert_eq!(normal[i], (0.7 * address.normal(8 + i as u32)) as f32);
        }
    }
}
