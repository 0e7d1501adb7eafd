//! Digests of named tensors: the same for a step, a checkpoint and a model file.

use convoy_common::Digest;

use crate::Network;

/// What the digest begins with.
const DOMAIN: &[u8] = b"convoy.tensors.v1\n";

/// Elements whose bytes are put together at a time.
const BLOCK: usize = 8192;

/// A tensor by name, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorRef<'a, D = &'a [f32]> {
    /// Its name.
    pub name: &'a str,
    /// Its sides.
    pub shape: &'a [usize],
    /// Its elements, the last side running fastest.
    pub data: D,
}

/// Elements of a tensor, in one piece or several.
pub trait Elements: Clone {
    /// The pieces, in order.
    fn pieces(&self) -> impl Iterator<Item = &[f32]>;
}

impl Elements for &[f32] {
    fn pieces(&self) -> impl Iterator<Item = &[f32]> {
        std::iter::once(*self)
    }
}

impl Elements for Vec<&[f32]> {
    fn pieces(&self) -> impl Iterator<Item = &[f32]> {
        self.iter().copied()
    }
}

/// The digest of `tensors`, in whatever order they come. It is blake3 of:
///
/// 1. the 18 bytes `convoy.tensors.v1` and a line feed;
/// 2. the number of tensors;
/// 3. for each tensor, by the bytes of its name: the length of the name and the name; the length of the
///    type's name (3) and `F32`; the number of sides and each side; the 32 bytes of blake3 over the elements,
///    each as its four little-endian bytes.
///
/// All numbers are 64 bits, little-endian.
pub fn digest_tensors<'a, D: Elements>(tensors: impl IntoIterator<Item = TensorRef<'a, D>>) -> Digest {
    let mut tensors: Vec<TensorRef<D>> = tensors.into_iter().collect();
    tensors.sort_by_key(|tensor| tensor.name);
    let mut hasher = begin(tensors.len());
    for TensorRef { name, shape, data } in tensors {
        let mut elements = blake3::Hasher::new();
        data.pieces().for_each(|piece| update_elements(&mut elements, piece));
        update_tensor(&mut hasher, name, shape, &Digest(*elements.finalize().as_bytes()));
    }
    Digest(*hasher.finalize().as_bytes())
}

fn begin(tensors: usize) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    hasher.update(DOMAIN);
    hasher.update(&(tensors as u64).to_le_bytes());
    hasher
}

fn update_tensor(hasher: &mut blake3::Hasher, name: &str, shape: &[usize], elements: &Digest) {
    update_framed(hasher, name.as_bytes());
    update_framed(hasher, b"F32");
    hasher.update(&(shape.len() as u64).to_le_bytes());
    for side in shape {
        hasher.update(&(*side as u64).to_le_bytes());
    }
    hasher.update(&elements.0);
}

/// blake3 over the elements, each as its four little-endian bytes.
pub fn digest_elements(data: &[f32]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    update_elements(&mut hasher, data);
    Digest(*hasher.finalize().as_bytes())
}

/// Takes in the elements, each as its four little-endian bytes.
pub fn update_elements(hasher: &mut blake3::Hasher, data: &[f32]) {
    little_endian(data, |bytes| {
        hasher.update(bytes);
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap_or_else(|never| match never {});
}

/// Hands the little-endian bytes of `data` to `take`, in as many pieces as it takes.
pub(crate) fn little_endian<E>(data: &[f32], mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    if cfg!(target_endian = "little") {
        return take(bytemuck::cast_slice(data));
    }
    let mut bytes = vec![0u8; 4 * BLOCK.min(data.len())];
    for block in data.chunks(BLOCK) {
        let bytes = &mut bytes[..4 * block.len()];
        for (four, value) in bytes.chunks_exact_mut(4).zip(block) {
            four.copy_from_slice(&value.to_le_bytes());
        }
        take(bytes)?;
    }
    Ok(())
}

/// Takes in the number of bytes (64 bits, little-endian), then the bytes.
pub(crate) fn update_framed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

impl Network {
    /// The network's tensors in `flat`, in the order of [`Network::tensors`].
    ///
    /// # Panics
    /// When `flat` is not as long as the network.
    pub fn views<'a>(&'a self, flat: &'a [f32]) -> impl Iterator<Item = TensorRef<'a>> {
        assert_eq!(flat.len(), self.len(), "elements of the flat vector, and of the network");
        self.tensors.iter().map(|tensor| TensorRef {
            name: &tensor.name,
            shape: &tensor.shape,
            data: &flat[tensor.range()],
        })
    }

    /// The digest of all parameters and buffers, of those of the elements of each tensor ([`digest_elements`]) in the
    /// order of [`Network::tensors`].
    ///
    /// # Panics
    /// When there are fewer than tensors.
    pub fn digest_of(&self, elements: &[Digest]) -> Digest {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(|index| &self.tensors[*index].name);
        let mut hasher = begin(order.len());
        for index in order {
            let tensor = &self.tensors[index];
            update_tensor(&mut hasher, &tensor.name, &tensor.shape, &elements[index]);
        }
        Digest(*hasher.finalize().as_bytes())
    }

    /// The digest of all parameters and buffers: [`digest_tensors`] of [`Network::views`].
    ///
    /// # Panics
    /// When `flat` is not as long as the network.
    pub fn digest(&self, flat: &[f32]) -> Digest {
        digest_tensors(self.views(flat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The framing written out by hand, with the hash of the elements from another path.
    #[test]
    fn the_framing_is_the_documented_one() {
        let tensors = [
            TensorRef { name: "b", shape: &[2], data: &[1.0, -2.0][..] },
            TensorRef { name: "a.w", shape: &[1, 3], data: &[0.0, 0.5, f32::MIN_POSITIVE][..] },
        ];
        let mut bytes = b"convoy.tensors.v1\n".to_vec();
        let number = |bytes: &mut Vec<u8>, n: u64| bytes.extend(n.to_le_bytes());
        let elements = |data: &[f32]| {
            let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_bits().to_le_bytes()).collect();
            Digest::of(&bytes).0
        };
        number(&mut bytes, 2);
        for (name, shape, data) in [("a.w", &[1u64, 3][..], tensors[1].data), ("b", &[2], tensors[0].data)] {
            number(&mut bytes, name.len() as u64);
            bytes.extend(name.as_bytes());
            number(&mut bytes, 3);
            bytes.extend(b"F32");
            number(&mut bytes, shape.len() as u64);
            shape.iter().for_each(|side| number(&mut bytes, *side));
            bytes.extend(elements(data));
        }
        assert_eq!(digest_tensors(tensors), Digest::of(&bytes));
        assert_eq!(digest_tensors(tensors.into_iter().rev()), Digest::of(&bytes));
    }

    #[test]
    fn blocks_leave_no_trace() {
        let data: Vec<f32> = (0..2 * BLOCK + 3).map(|i| i as f32).collect();
        let bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(digest_elements(&data), Digest::of(&bytes));
    }

    #[test]
    fn names_shapes_and_values_count() {
        let base = TensorRef { name: "w", shape: &[2, 1], data: &[1.0, 2.0][..] };
        let digest = digest_tensors([base]);
        assert_ne!(digest, digest_tensors([TensorRef { name: "v", ..base }]));
        assert_ne!(digest, digest_tensors([TensorRef { shape: &[1, 2], ..base }]));
        assert_ne!(digest, digest_tensors([TensorRef { data: &[1.0, -2.0][..], ..base }]));
        assert_ne!(digest, digest_tensors([base, TensorRef { name: "x", shape: &[0], data: &[][..] }]));
    }
}
