//! Memory for chunks, used again: fresh memory costs more than what is done with it.

use std::ops::{Deref, DerefMut};

use convoy_common::counted_sum::{Fingerprint, Summand};
use convoy_kernels::tree::add_into;
use convoy_proto::{CHUNK_ELEMENTS, Chunk, WireError, chunk_count, chunk_range};
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
pub struct ChunkBuffer(Vec<f32>);

impl ChunkBuffer {
    /// Room for `len` elements, which hold anything.
    pub fn new(len: usize) -> Self {
        let mut values = POOL.lock().take();
        values.resize(len, 0.0);
        ChunkBuffer(values)
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

    /// Which chunk of a vector of `elements` elements came, and its elements.
    ///
    /// # Errors
    /// When it is none of the vector's.
    pub fn received(chunk: &Chunk, elements: usize) -> Result<(usize, Self), WireError> {
        let index = usize::try_from(chunk.offset).unwrap_or(usize::MAX) / CHUNK_ELEMENTS;
        if index < chunk_count(elements) && (index * CHUNK_ELEMENTS) as u64 == chunk.offset {
            let mut values = ChunkBuffer::new(chunk_range(elements, index).len());
            if chunk.data.copy_to(&mut values) {
                return Ok((index, values));
            }
        }
        let value = format!("{} bytes at element {}", chunk.data.wire_len(), chunk.offset);
        Err(WireError::Invalid { field: "chunk", value })
    }

    /// Adds `right`, element by element.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add_slice(&mut self, right: &[f32]) {
        add_into(self, right);
    }
}

impl Summand for ChunkBuffer {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_bytes(bytemuck::cast_slice(self))
    }

    fn add(&mut self, right: &Self) {
        add_into(self, right);
    }
}

impl Drop for ChunkBuffer {
    fn drop(&mut self) {
        POOL.lock().give(std::mem::take(&mut self.0));
    }
}

impl Deref for ChunkBuffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for ChunkBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl AsRef<[f32]> for ChunkBuffer {
    fn as_ref(&self) -> &[f32] {
        &self.0
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
            ChunkBuffer::received(&Chunk { offset, data }, CHUNK_ELEMENTS + 3)
        };
        let last = CHUNK_ELEMENTS as u64;
        assert_eq!(chunk(last, 3), Ok((1, ChunkBuffer::of(&[2.0; 3]))));
        assert_eq!(chunk(0, CHUNK_ELEMENTS).map(|(index, _)| index), Ok(0));
        for (offset, len) in [(last, 2), (last, 4), (1, 3), (last + 1, 3), (2 * last, 3), (u64::MAX, 3), (0, 0)] {
            assert!(chunk(offset, len).is_err(), "{len} elements at {offset}");
        }
        assert!(ChunkBuffer::received(&Chunk::default(), 0).is_err(), "a vector without elements has no chunks");
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
