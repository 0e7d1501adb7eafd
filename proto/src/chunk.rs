//! Chunks: the element ranges in which vectors travel and are reduced. They depend on the length alone.

use std::ops::Range;

use bytes::Bytes;

/// Elements of a chunk (256 KiB); a multiple of the block of the global norm.
pub const CHUNK_ELEMENTS: usize = 65_536;

/// How many chunks a vector of `len` elements has.
pub fn chunk_count(len: usize) -> usize {
    len.div_ceil(CHUNK_ELEMENTS)
}

/// The elements of chunk `index` of a vector of `len` elements.
pub fn chunk_range(len: usize, index: usize) -> Range<usize> {
    let start = (index * CHUNK_ELEMENTS).min(len);
    start..(start + CHUNK_ELEMENTS).min(len)
}

/// The little-endian bytes of `values`.
pub fn to_le_bytes(values: &[f32]) -> Bytes {
    let mut bytes = vec![0; values.len() * 4];
    for (quad, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *quad = value.to_le_bytes();
    }
    bytes.into()
}

/// Reads little-endian `bytes` into `values`; `false`, and nothing read, when the lengths do not fit.
pub fn from_le_bytes(bytes: &[u8], values: &mut [f32]) -> bool {
    let (quads, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || quads.len() != values.len() {
        return false;
    }
    for (value, quad) in values.iter_mut().zip(quads) {
        *value = f32::from_le_bytes(*quad);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_vector_once() {
        for len in [0, 1, CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 5 * CHUNK_ELEMENTS] {
            let ranges: Vec<_> = (0..chunk_count(len)).map(|index| chunk_range(len, index)).collect();
            assert!(ranges.iter().all(|range| !range.is_empty()));
            assert!(ranges.iter().cloned().flatten().eq(0..len));
        }
    }

    #[test]
    fn bytes_and_back() {
        let values = [1.5f32, -0.0, f32::MIN_POSITIVE];
        let mut back = [0.0; 3];
        assert!(from_le_bytes(&to_le_bytes(&values), &mut back));
        assert_eq!(values.map(f32::to_bits), back.map(f32::to_bits));
        assert!(!from_le_bytes(&[0; 11], &mut back));
        assert!(!from_le_bytes(&[0; 16], &mut back));
    }
}
