//! Addressed randomness: a number is looked up by (seed, purpose, epoch, item, draw), never drawn from a
//! state that something else may have advanced. No worker or thread is part of any address.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
//! SC 2011, section 3.2), checked against the authors' published test vectors.

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Philox4x32 with 10 rounds: a bijection of `counter` for each `key`.
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key[0] = key[0].wrapping_add(WEYL[0]);
            key[1] = key[1].wrapping_add(WEYL[1]);
        }
        let low = u64::from(MULTIPLIER[0]) * u64::from(counter[0]);
        let high = u64::from(MULTIPLIER[1]) * u64::from(counter[2]);
        counter = [
            (high >> 32) as u32 ^ counter[1] ^ key[0],
            high as u32,
            (low >> 32) as u32 ^ counter[3] ^ key[1],
            low as u32,
        ];
    }
    counter
}

/// The purpose of random numbers. Its value is part of their address and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// The order of an epoch's samples.
    Order = 1,
    /// Initial parameters; the item is the parameter's index in plan order.
    Initialisation = 2,
    /// Augmentation of a sample.
    Augmentation = 3,
    /// Dropout; the item is the sample, and a stream is a layer.
    Dropout = 4,
    /// Splitting one folder into training and validation.
    Split = 5,
    /// Which samples are measured for statistics.
    Statistics = 6,
}

/// The address of a sequence of random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    seed: u64,
    /// Purpose in the low byte, stream above it.
    purpose: u32,
    epoch: u32,
    item: u32,
}

impl Address {
    /// The numbers for `purpose` in `epoch` that belong to `item` (a sample, say).
    pub fn new(seed: u64, purpose: Purpose, epoch: u32, item: u32) -> Self {
        Address { seed, purpose: purpose as u32, epoch, item }
    }

    /// An independent sequence with the same seed, purpose, epoch and item, for instance one for each layer.
    ///
    /// # Panics
    /// When `stream` is 2^24 or more.
    pub fn stream(self, stream: u32) -> Self {
        assert!(stream < 1 << 24, "stream {stream} is out of range");
        Address { purpose: (self.purpose & 0xFF) | (stream << 8), ..self }
    }

    /// Four random words: number `block` of the sequence.
    pub fn block(&self, block: u32) -> [u32; 4] {
        philox4x32_10([block, self.item, self.epoch, self.purpose], [self.seed as u32, (self.seed >> 32) as u32])
    }

    /// Word number `index` of the sequence.
    pub fn word(&self, index: u32) -> u32 {
        self.block(index / 4)[(index % 4) as usize]
    }

    /// Number `index`, uniform in [0, 1) with 24 bits.
    pub fn uniform(&self, index: u32) -> f32 {
        (self.word(index) >> 8) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// Number `index`, uniform in [0, 1) with 32 bits.
    pub fn uniform_f64(&self, index: u32) -> f64 {
        f64::from(self.word(index)) * (1.0 / (1u64 << 32) as f64)
    }

    /// Number `index`, uniform in `0..bound` (multiply-shift over 64 bits, so the bias is below 2^-32).
    /// Uses words `2 * index` and `2 * index + 1`.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn below(&self, index: u32, bound: u32) -> u32 {
        assert!(bound > 0, "nothing lies below zero");
        let wide = u64::from(self.word(2 * index)) << 32 | u64::from(self.word(2 * index + 1));
        ((u128::from(wide) * u128::from(bound)) >> 64) as u32
    }

    /// Number `index`, standard normal (Box and Muller, 1958, in f64 with the `libm` crate).
    /// Uses words `2 * index` and `2 * index + 1`.
    pub fn normal(&self, index: u32) -> f64 {
        let unit = 1.0 - self.uniform_f64(2 * index);
        let angle = std::f64::consts::TAU * self.uniform_f64(2 * index + 1);
        (-2.0 * libm::log(unit)).sqrt() * libm::cos(angle)
    }
}

/// A uniformly random permutation of `0..count` (Fisher and Yates, from the end), at addresses under
/// (`seed`, `purpose`, `epoch`, item).
pub fn permutation(seed: u64, purpose: Purpose, epoch: u32, count: u32) -> Vec<u32> {
    let mut items: Vec<u32> = (0..count).collect();
    for last in (1..count).rev() {
        let other = Address::new(seed, purpose, epoch, last).below(0, last + 1);
        items.swap(last as usize, other as usize);
    }
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The vectors of Random123's `kat_vectors` for philox4x32-10.
    #[test]
    fn published_vectors() {
        let check = |counter, key, expected: [u32; 4]| assert_eq!(philox4x32_10(counter, key), expected);
        check([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        check([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        check(
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        );
    }

    #[test]
    fn addresses_do_not_meet() {
        let base = Address::new(7, Purpose::Dropout, 3, 9);
        let others = [
            Address::new(8, Purpose::Dropout, 3, 9),
            Address::new(7, Purpose::Augmentation, 3, 9),
            Address::new(7, Purpose::Dropout, 4, 9),
            Address::new(7, Purpose::Dropout, 3, 10),
            base.stream(1),
        ];
        assert!(others.iter().all(|other| other.block(0) != base.block(0)));
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let address = Address::new(1, Purpose::Initialisation, 0, 0);
        let draws: Vec<f64> = (0..20_000).map(|i| address.normal(i)).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        let variance = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / draws.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }

    proptest! {
        #[test]
        fn permutations_hold_everything_once(seed: u64, epoch in 0u32..5, count in 0u32..300) {
            let mut items = permutation(seed, Purpose::Order, epoch, count);
            items.sort_unstable();
            prop_assert!(items.iter().copied().eq(0..count));
        }

        #[test]
        fn uniform_is_in_range(seed: u64, index in 0u32..1000, bound in 1u32..) {
            let address = Address::new(seed, Purpose::Order, 0, 0);
            prop_assert!((0.0..1.0).contains(&address.uniform(index)));
            prop_assert!(address.below(index, bound) < bound);
        }
    }
}
