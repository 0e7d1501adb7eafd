//! Memory for chunks, used again: fresh memory costs more than what is done with it.

use std::ops::{Deref, DerefMut};

use std::sync::Arc;

use convoy_common::counted_sum::{Fingerprint, Summand};
use convoy_common::spec::Compression;
use convoy_kernels::compression::{add_into_rounded, round};
use convoy_kernels::tree::add_into;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, Values, WireError, chunk_count, chunk_range};
use parking_lot::Mutex;

/// Buffers that are kept for later beyond as many as are in use, 16 MiB of them.
const KEPT: usize = 64;

static POOL: Mutex<Pool> = Mutex::new(Pool { used: 0, spare: Vec::new() });

/// How much is in use, and what is not.
struct Pool {
    used: usize,
    spare: Vec<Vec<f32>>,
}

impl Pool {
    fn take(&mut self) -> Vec<f32> {
        self.used += 1;
        self.spare.pop().unwrap_or_default()
    }

    fn give(&mut self, values: Vec<f32>) {
        self.used -= 1;
        if self.spare.len() < self.used + KEPT {
            self.spare.push(values);
        }
    }
}

/// The elements of a chunk. Its memory is used for later chunks when it is dropped.
#[derive(Debug, PartialEq)]
pub struct ChunkBuffer {
    values: Vec<f32>,
    /// Where it is bf16, so are all of the elements, and sums that are made here; and as that they travel.
    compression: Compression,
}

impl ChunkBuffer {
    /// Room for `len` elements, which hold anything.
    pub fn new(len: usize) -> Self {
        let mut values = POOL.lock().take();
        values.resize(len, 0.0);
        ChunkBuffer { values, compression: Compression::None }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = ChunkBuffer::new(len);
        buffer.fill(0.0);
        buffer
    }

    /// A copy of `values`.
    pub fn of(values: &[f32]) -> Self {
        let mut buffer = ChunkBuffer::new(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// A copy of `values`, rounded as `compression` says.
    pub fn rounded(values: &[f32], compression: Compression) -> Self {
        let mut buffer = ChunkBuffer::of(values).which_is(compression);
        if compression == Compression::Bf16 {
            round(&mut buffer);
        }
        buffer
    }

    /// A copy of `other`.
    pub fn copy_of(other: &ChunkBuffer) -> Self {
        ChunkBuffer::of(other).which_is(other.compression)
    }

    /// The same memory, whose elements are about to become others than bf16.
    pub(crate) fn made_whole(self) -> Self {
        self.which_is(Compression::None)
    }

    fn which_is(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// As what it travels.
    pub fn on_the_wire(self: Arc<Self>) -> Values {
        let (len, compression) = (self.len(), self.compression);
        match compression {
            Compression::None => Values::shared(self, 0..len),
            Compression::Bf16 => Values::halves(self, 0..len),
        }
    }

    /// Which chunk of a vector of `elements` elements came, and its elements, which travel as `compression` says.
    ///
    /// # Errors
    /// When it is none of the vector's.
    pub fn received(chunk: &Chunk, elements: usize, compression: Compression) -> Result<(usize, Self), WireError> {
        let index = usize::try_from(chunk.offset).unwrap_or(usize::MAX) / CHUNK_ELEMENTS;
        if index < chunk_count(elements) && (index * CHUNK_ELEMENTS) as u64 == chunk.offset {
            let mut values = ChunkBuffer::new(chunk_range(elements, index).len()).which_is(compression);
            let fits = match compression {
                Compression::None => chunk.data.copy_to(&mut values),
                Compression::Bf16 => chunk.data.copy_halves_to(&mut values),
            };
            if fits {
                return Ok((index, values));
            }
        }
        let value = format!("{} bytes at element {}", chunk.data.wire_len(), chunk.offset);
        Err(WireError::Invalid { field: "chunk", value })
    }

    /// Adds `right`, element by element; rounds the sum where it rounds.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add_slice(&mut self, right: &[f32]) {
        match self.compression {
            Compression::None => add_into(self, right),
            Compression::Bf16 => add_into_rounded(self, right),
        }
    }
}

impl Summand for ChunkBuffer {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_bytes(bytemuck::cast_slice(self))
    }

    fn add(&mut self, right: &Self) {
        self.add_slice(right);
    }
}

impl Drop for ChunkBuffer {
    fn drop(&mut self) {
        POOL.lock().give(std::mem::take(&mut self.values));
    }
}

impl Deref for ChunkBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl DerefMut for ChunkBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

impl AsRef<[f32]> for ChunkBuffer {
    fn as_ref(&self) -> &[f32] {
        &self.values
    }
}

/// Gives the memory back that no chunk uses, when a run is over.
pub fn forget_spare() {
    POOL.lock().spare = Vec::new();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bits_have_one_fingerprint_and_others_another() {
        let print = |values: &[f32]| ChunkBuffer::of(values).fingerprint();
        assert_eq!(print(&[1.0; 1000]), print(&[1.0; 1000]));
        assert_ne!(print(&[1.0, 2.0]), print(&[2.0, 1.0]));
        assert_ne!(print(&[0.0]), print(&[-0.0]), "bits, not numbers");
    }

    #[test]
    fn a_chunk_that_came_is_one_of_its_vector_or_an_error() {
        let chunk = |offset, len| {
            let data = convoy_proto::Values::shared(std::sync::Arc::new(vec![2.0; len]), 0..len);
            ChunkBuffer::received(&Chunk { offset, data }, CHUNK_ELEMENTS + 3, Compression::None)
        };
        let last = CHUNK_ELEMENTS as u64;
        assert_eq!(chunk(last, 3), Ok((1, ChunkBuffer::of(&[2.0; 3]))));
        assert_eq!(chunk(0, CHUNK_ELEMENTS).map(|(index, _)| index), Ok(0));
        for (offset, len) in [(last, 2), (last, 4), (1, 3), (last + 1, 3), (2 * last, 3), (u64::MAX, 3), (0, 0)] {
            assert!(chunk(offset, len).is_err(), "{len} elements at {offset}");
        }
        let nothing = ChunkBuffer::received(&Chunk::default(), 0, Compression::None);
        assert!(nothing.is_err(), "a vector without elements has no chunks");
    }

    #[test]
    fn bf16_travels_as_such_and_sums_of_it_are_bf16() {
        let (one, ulp) = (1.0, 1.0 / 128.0);
        let mut left = ChunkBuffer::rounded(&[one + ulp / 4.0, 3.0, -0.0], Compression::Bf16);
        assert_eq!(left[..2], [one, 3.0]);
        left.add(&ChunkBuffer::rounded(&[ulp / 2.0, 2.0 * ulp, 0.0], Compression::Bf16));
        assert_eq!(left[..], [one, 3.0 + 2.0 * ulp, 0.0], "halfway goes to the even one");
        let chunk = Chunk { offset: 0, data: Arc::new(ChunkBuffer::copy_of(&left)).on_the_wire() };
        assert_eq!(chunk.data.wire_len(), 6);
        let came = Chunk { offset: 0, data: Values::from(chunk.data.to_bytes()) };
        for chunk in [&chunk, &came] {
            let (_, came) = ChunkBuffer::received(chunk, 3, Compression::Bf16).unwrap();
            assert_eq!(came, left);
            assert!(ChunkBuffer::received(chunk, 3, Compression::None).is_err(), "nobody mixes them");
        }
        let whole = Chunk { offset: 0, data: Arc::new(ChunkBuffer::of(&[1.0; 3])).on_the_wire() };
        assert!(ChunkBuffer::received(&whole, 3, Compression::Bf16).is_err());
    }

    #[test]
    fn memory_is_kept_for_as_many_as_are_in_use_and_some() {
        let mut pool = Pool { used: 0, spare: Vec::new() };
        let mut taken: Vec<_> = (0..4 * KEPT).map(|_| pool.take()).collect();
        taken.drain(2 * KEPT..).for_each(|values| pool.give(values));
        assert_eq!((pool.used, pool.spare.len()), (2 * KEPT, 2 * KEPT), "another state finds its memory");
        taken.drain(..).for_each(|values| pool.give(values));
        assert_eq!((pool.used, pool.spare.len()), (0, 2 * KEPT + KEPT / 2), "what is in use becomes less");
    }
}
