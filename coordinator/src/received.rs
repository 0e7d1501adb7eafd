//! A node on its way in: which of its chunks have come, whether its numbers can be believed, and its digest.

use blake3::Hasher;
use convoy_model::digest_elements;

/// The exponent of an f32.
const EXPONENT: u32 = 0x7f80_0000;
/// A sum of gradients that reaches 2^64 is not believed before it has come out so twice.
const ABSURD: u32 = (127 + 64) << 23;

/// What the numbers of a chunk look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    Good,
    Absurd,
    NotFinite,
}

/// The chunks of a node, as they come.
#[derive(Debug)]
pub(crate) struct Received {
    arrived: Vec<bool>,
    /// Digest of each chunk, where they are wanted.
    digests: Option<Vec<[u8; 32]>>,
    worst: Look,
}

impl Received {
    /// Nothing of `chunks` chunks.
    pub(crate) fn new(chunks: usize, with_digest: bool) -> Self {
        let digests = with_digest.then(|| vec![[0; 32]; chunks]);
        Received { arrived: vec![false; chunks], digests, worst: Look::Good }
    }

    /// How many chunks there are in all.
    pub(crate) fn chunks(&self) -> usize {
        self.arrived.len()
    }

    /// Looks at chunk `index`. The answer is what is known of the node now.
    pub(crate) fn look(&mut self, index: usize, values: &[f32]) -> Look {
        self.arrived[index] = true;
        if let Some(digests) = &mut self.digests {
            digests[index] = digest_elements(values).0;
        }
        self.worst = self.worst.max(look(values));
        self.worst
    }

    /// Whether all chunks have come.
    pub(crate) fn is_whole(&self) -> bool {
        !self.arrived.contains(&false)
    }

    /// The worst that was seen.
    pub(crate) fn worst(&self) -> Look {
        self.worst
    }

    /// blake3 over the digests of the chunks, in order, and the node's sums, little-endian. `None` where it was not wanted.
    pub(crate) fn digest(&self, sums: &[f64]) -> Option<[u8; 32]> {
        let mut hasher = Hasher::new();
        self.digests.as_ref()?.iter().for_each(|digest| _ = hasher.update(digest));
        sums.iter().for_each(|sum| _ = hasher.update(&sum.to_le_bytes()));
        Some(*hasher.finalize().as_bytes())
    }
}

fn look(values: &[f32]) -> Look {
    let exponents = values.iter().map(|value| value.to_bits() & EXPONENT);
    match exponents.max().unwrap_or(0) {
        EXPONENT => Look::NotFinite,
        largest if largest >= ABSURD => Look::Absurd,
        _ => Look::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_good_absurd_or_not_finite() {
        let below = f32::from_bits(0x5f7f_ffff);
        for (value, expected) in [
            (0.0, Look::Good),
            (-below, Look::Good),
            (f32::from_bits(below.to_bits() + 1), Look::Absurd),
            (-f32::MAX, Look::Absurd),
            (f32::NAN, Look::NotFinite),
            (f32::NEG_INFINITY, Look::NotFinite),
        ] {
            assert_eq!(look(&[1.0, value, -2.0]), expected, "{value}");
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_arrival_but_on_every_number() {
        let digest = |chunks: &[(usize, f32)], sums: &[f64]| {
            let mut received = Received::new(2, true);
            for (index, value) in chunks {
                assert!(!received.is_whole());
                received.look(*index, &[*value]);
            }
            assert!(received.is_whole());
            received.digest(sums).unwrap()
        };
        let one = digest(&[(0, 1.0), (1, 2.0)], &[3.0]);
        assert_eq!(digest(&[(1, 2.0), (0, 1.0)], &[3.0]), one);
        assert_ne!(digest(&[(1, 1.0), (0, 2.0)], &[3.0]), one);
        assert_ne!(digest(&[(0, 1.0), (1, 2.0)], &[3.5]), one);
        assert_ne!(digest(&[(0, 1.0), (1, f32::from_bits(2f32.to_bits() + 1))], &[3.0]), one);
        assert_eq!(Received::new(1, false).digest(&[]), None);
    }
}
