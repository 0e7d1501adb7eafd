//! A node on its way in: which of its chunks have come, whether its numbers can be believed, and its digest.

use blake3::Hasher;
use convoy_kernels::finite_check::{EXPONENT_BITS, largest_exponent};
use convoy_model::digest_elements;

/// A sum of gradients that reaches 2^64 is not believed before it has come out so twice.
const ABSURD: u32 = (127 + 64) << 23;

/// How large the numbers of a chunk are, from what is usual to what is worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Magnitude {
    /// They can be believed.
    Good,
    /// They are not believed before they have come out so twice.
    Absurd,
    /// A NaN or an infinity is among them.
    NotFinite,
}

impl Magnitude {
    /// The worst of `values`, which is seen in the largest exponent.
    pub fn of(values: &[f32]) -> Magnitude {
        match largest_exponent(values) {
            EXPONENT_BITS => Magnitude::NotFinite,
            largest if largest >= ABSURD => Magnitude::Absurd,
            _ => Magnitude::Good,
        }
    }
}

/// The chunks of a node, as they come, each of them once.
#[derive(Debug)]
pub struct ReceivedChunks {
    chunks: Vec<Expected>,
    with_digest: bool,
    worst: Magnitude,
}

/// What is known of a chunk.
#[derive(Debug, Clone, Copy)]
enum Expected {
    Missing,
    /// It has come; its digest, where it is wanted.
    Seen(Option<[u8; 32]>),
    /// Its layers are frozen, and nobody sends it.
    Frozen,
}

/// Why a chunk is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwantedChunk {
    /// It has come before in the same node.
    #[error("chunk {0} of the node came twice; a node has each of its chunks once")]
    Twice(usize),
    /// Nobody sends it in this step.
    #[error("chunk {0} of the node came, of which all layers are frozen in this step")]
    Frozen(usize),
}

impl ReceivedChunks {
    /// Nothing of `chunks` chunks.
    pub fn new(chunks: usize, with_digest: bool) -> Self {
        ReceivedChunks { chunks: vec![Expected::Missing; chunks], with_digest, worst: Magnitude::Good }
    }

    /// Without the chunks that are `frozen`: these do not come.
    #[must_use]
    pub fn without(mut self, frozen: impl Iterator<Item = usize>) -> Self {
        frozen.for_each(|index| self.chunks[index] = Expected::Frozen);
        self
    }

    /// How many chunks there are in all.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Chunk `index` has come. The answer is the worst that is known of the node now.
    ///
    /// # Errors
    /// When it came before, whatever was in it, or is not to come.
    pub fn add(&mut self, index: usize, values: &[f32]) -> Result<Magnitude, UnwantedChunk> {
        match self.chunks[index] {
            Expected::Missing => {}
            Expected::Seen(_) => return Err(UnwantedChunk::Twice(index)),
            Expected::Frozen => return Err(UnwantedChunk::Frozen(index)),
        }
        self.chunks[index] = Expected::Seen(self.with_digest.then(|| digest_elements(values).0));
        self.worst = self.worst.max(Magnitude::of(values));
        Ok(self.worst)
    }

    /// Whether all chunks have come that are to come.
    pub fn is_whole(&self) -> bool {
        !self.chunks.iter().any(|chunk| matches!(chunk, Expected::Missing))
    }

    /// The worst that was seen.
    pub fn worst(&self) -> Magnitude {
        self.worst
    }

    /// blake3 over the digests of the chunks, in order, and the node's sums, little-endian. `None` where it was not
    /// wanted, or not all chunks have come.
    pub fn digest(&self, sums: &[f64]) -> Option<[u8; 32]> {
        let mut hasher = Hasher::new();
        if !self.with_digest {
            return None;
        }
        for chunk in &self.chunks {
            match chunk {
                Expected::Missing => return None,
                Expected::Seen(digest) => _ = hasher.update(&(*digest)?),
                Expected::Frozen => {}
            }
        }
        sums.iter().for_each(|sum| _ = hasher.update(&sum.to_le_bytes()));
        Some(*hasher.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_good_absurd_or_not_finite() {
        let below = f32::from_bits(0x5f7f_ffff);
        for (value, expected) in [
            (0.0, Magnitude::Good),
            (-below, Magnitude::Good),
            (f32::from_bits(below.to_bits() + 1), Magnitude::Absurd),
            (-f32::MAX, Magnitude::Absurd),
            (f32::NAN, Magnitude::NotFinite),
            (f32::NEG_INFINITY, Magnitude::NotFinite),
        ] {
            assert_eq!(Magnitude::of(&[1.0, value, -2.0]), expected, "{value}");
        }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_arrival_but_on_every_number() {
        let digest = |chunks: &[(usize, f32)], sums: &[f64]| {
            let mut received = ReceivedChunks::new(2, true);
            for (index, value) in chunks {
                assert!(!received.is_whole());
                received.add(*index, &[*value]).unwrap();
            }
            assert!(received.is_whole());
            received.digest(sums).unwrap()
        };
        let one = digest(&[(0, 1.0), (1, 2.0)], &[3.0]);
        assert_eq!(digest(&[(1, 2.0), (0, 1.0)], &[3.0]), one);
        assert_ne!(digest(&[(1, 1.0), (0, 2.0)], &[3.0]), one);
        assert_ne!(digest(&[(0, 1.0), (1, 2.0)], &[3.5]), one);
        assert_ne!(digest(&[(0, 1.0), (1, f32::from_bits(2f32.to_bits() + 1))], &[3.0]), one);
        assert_eq!(ReceivedChunks::new(1, false).digest(&[]), None);
    }

    #[test]
    fn a_node_is_whole_once_each_chunk_has_come() {
        let mut received = ReceivedChunks::new(3, false);
        for index in [2, 0] {
            received.add(index, &[1.0]).unwrap();
            assert!(!received.is_whole());
        }
        received.add(1, &[1.0]).unwrap();
        assert!(received.is_whole());
        assert!(ReceivedChunks::new(0, true).is_whole(), "an evaluation has no chunks");
    }

    #[test]
    fn a_chunk_comes_once_and_the_first_one_stays() {
        let mut received = ReceivedChunks::new(1, true);
        received.add(0, &[1.0]).unwrap();
        let digest = received.digest(&[]);
        for again in [2.0, 1.0] {
            assert_eq!(received.add(0, &[again]), Err(UnwantedChunk::Twice(0)));
        }
        assert_eq!(received.digest(&[]), digest, "what was counted is what the digest is of");
    }

    #[test]
    fn a_frozen_chunk_is_not_waited_for_and_not_taken() {
        let mut received = ReceivedChunks::new(3, true).without([0, 2].into_iter());
        assert!(!received.is_whole());
        assert_eq!(received.add(2, &[0.0]), Err(UnwantedChunk::Frozen(2)));
        received.add(1, &[1.0]).unwrap();
        assert!(received.is_whole() && received.digest(&[]).is_some());
    }

    #[test]
    fn a_node_is_as_bad_as_its_worst_chunk() {
        let mut received = ReceivedChunks::new(3, false);
        assert_eq!(received.add(0, &[f32::MAX]), Ok(Magnitude::Absurd));
        assert_eq!(received.add(1, &[1.0]), Ok(Magnitude::Absurd), "nothing makes up for it");
        assert_eq!(received.add(2, &[f32::INFINITY]), Ok(Magnitude::NotFinite));
        assert_eq!(received.worst(), Magnitude::NotFinite);
    }

    #[test]
    fn a_chunk_without_elements_is_good() {
        assert_eq!(Magnitude::of(&[]), Magnitude::Good);
    }
}
