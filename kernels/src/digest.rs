//! The digest of a tensor's values.

/// blake3 of the values as little-endian bytes, in the order of the slice. Tells 0 from -0.
pub fn tensor_digest(values: &[f32]) -> [u8; 32] {
    const BLOCK: usize = 4096;
    let mut hasher = blake3::Hasher::new();
    let mut bytes = [0u8; 4 * BLOCK];
    for block in values.chunks(BLOCK) {
        for (to, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(block) {
            *to = value.to_le_bytes();
        }
        hasher.update(&bytes[..4 * block.len()]);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::tensor_digest;

    #[test]
    fn is_blake3_of_the_bytes() {
        for len in [0, 1, 4095, 4096, 4097, 10_000] {
            let values: Vec<f32> = (0..len).map(|i| i as f32 * 0.37 - 5.0).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            assert_eq!(tensor_digest(&values), *blake3::hash(&bytes).as_bytes());
        }
        assert_ne!(tensor_digest(&[0.0]), tensor_digest(&[-0.0]));
    }
}
