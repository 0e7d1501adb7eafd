//! Chunks: the element ranges in which vectors travel and are reduced. They depend on the length alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use ::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, bytes, encode_key, encode_varint, encoded_len_varint, key_len};
use prost::encoding::{skip_field, uint64};
use prost::{DecodeError, Message};

/// Elements of a chunk (256 KiB); a multiple of the block of the global norm.
pub const CHUNK_ELEMENTS: usize = 65_536;

const OFFSET: u32 = 1;
const PADDING: u32 = 2;
const DATA: u32 = 3;
/// Between the beginning of a message and its numbers, so that copies of either begin 32 bytes or more behind their
/// source, counted from the beginning of a page. glibc before 2.39 copies more than 4 KiB with an instruction that Zen
/// 3 and Zen 4 carry out at a tenth of their speed where it is 1 to 31 bytes.
const ZEROS: Bytes = Bytes::from_static(&[0; 40]);

/// How many chunks a vector of `len` elements has.
pub fn chunk_count(len: usize) -> usize {
    len.div_ceil(CHUNK_ELEMENTS)
}

/// The elements of chunk `index` of a vector of `len` elements.
pub fn chunk_range(len: usize, index: usize) -> Range<usize> {
    let start = (index * CHUNK_ELEMENTS).min(len);
    start..(start + CHUNK_ELEMENTS).min(len)
}

/// `NodeChunk` and `ParametersChunk` of `convoy.proto`, which are the same on the wire: part of a flat vector of f32.
///
/// It is written by hand, so that each number is copied once on either side. The sender copies from the vector, which
/// it shares, into the stream's buffer; the receiver copies from the bytes that came to the place where the numbers are
/// wanted. What prost generates would copy into the message first.
///
/// On the wire: field 1, the offset, left out when it is 0; field 2, 40 zero bytes, which the receiver skips (they keep
/// copies of the message away from positions that some processors are slow at); field 3, the elements as little-endian
/// f32, left out when there are none. Unknown fields are skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Position of the first element in the vector, counted in elements.
    pub offset: u64,
    /// The elements.
    pub data: Values,
}

/// The elements of a chunk: part of a vector that the sender shares, or the bytes that the receiver got. Two are equal
/// when their bytes are: a NaN is equal to itself, 0.0 is not equal to -0.0.
#[derive(Clone)]
pub struct Values(Inner);

#[derive(Clone)]
enum Inner {
    Shared(Arc<dyn AsRef<[f32]> + Send + Sync>, Range<usize>),
    /// The same, all of whose elements are bf16 and travel as such.
    Halves(Arc<dyn AsRef<[f32]> + Send + Sync>, Range<usize>),
    /// Little-endian.
    Raw(Bytes),
}

impl Values {
    /// The elements `range` of `vector`, without a copy. The vector lives until the last chunk of it is sent.
    ///
    /// # Panics
    /// When the vector is shorter.
    pub fn shared(vector: Arc<dyn AsRef<[f32]> + Send + Sync>, range: Range<usize>) -> Self {
        check_part(&*vector, &range);
        Values(Inner::Shared(vector, range))
    }

    /// The elements `range` of `vector`, without a copy, which travel as the upper halves of their bits: bf16, which
    /// loses nothing where the lower halves are 0.
    ///
    /// # Panics
    /// When the vector is shorter.
    pub fn halves(vector: Arc<dyn AsRef<[f32]> + Send + Sync>, range: Range<usize>) -> Self {
        check_part(&*vector, &range);
        Values(Inner::Halves(vector, range))
    }

    /// How many bytes the elements take on the wire. Not a multiple of 4 when somebody sent something else than f32.
    pub fn wire_len(&self) -> usize {
        match &self.0 {
            Inner::Shared(_, range) => range.len() * 4,
            Inner::Halves(_, range) => range.len() * 2,
            Inner::Raw(bytes) => bytes.len(),
        }
    }

    /// Their bytes on the wire; of those that came, without a copy.
    pub fn to_bytes(&self) -> Bytes {
        match &self.0 {
            Inner::Raw(bytes) => bytes.clone(),
            Inner::Shared(..) | Inner::Halves(..) => {
                let mut bytes = Vec::with_capacity(self.wire_len());
                self.put(&mut bytes);
                bytes.into()
            }
        }
    }

    /// Copies the elements to `values`. False, and nothing is copied, when the numbers of elements differ.
    pub fn copy_to(&self, values: &mut [f32]) -> bool {
        if self.wire_len() != values.len() * 4 {
            return false;
        }
        match &self.0 {
            Inner::Shared(vector, range) => values.copy_from_slice(&(**vector).as_ref()[range.clone()]),
            Inner::Halves(..) => return false,
            Inner::Raw(bytes) => {
                for (value, quad) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*quad);
                }
            }
        }
        true
    }

    /// Copies elements that travel as bf16 to `values`. False, and nothing is copied, when the numbers of elements
    /// differ.
    pub fn copy_halves_to(&self, values: &mut [f32]) -> bool {
        if self.wire_len() != values.len() * 2 {
            return false;
        }
        match &self.0 {
            Inner::Halves(vector, range) => values.copy_from_slice(&(**vector).as_ref()[range.clone()]),
            Inner::Shared(..) => return false,
            Inner::Raw(bytes) => {
                for (value, half) in values.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*half)) << 16);
                }
            }
        }
        true
    }

    fn put(&self, buf: &mut impl BufMut) {
        match &self.0 {
            Inner::Halves(vector, range) => put_halves(&(**vector).as_ref()[range.clone()], buf),
            Inner::Shared(vector, range) => put_le(&(**vector).as_ref()[range.clone()], buf),
            Inner::Raw(bytes) => buf.put_slice(bytes),
        }
    }
}

fn check_part(vector: &dyn AsRef<[f32]>, range: &Range<usize>) {
    assert!(range.start <= range.end && range.end <= vector.as_ref().len(), "the range is part of the vector");
}

/// Appends the little-endian bytes of `values`.
fn put_le(values: &[f32], buf: &mut impl BufMut) {
    if cfg!(target_endian = "little") {
        buf.put_slice(bytemuck::cast_slice(values));
    } else {
        values.iter().for_each(|value| buf.put_f32_le(*value));
    }
}

/// Appends the upper halves of the bits of `values`, the lower byte first.
fn put_halves(values: &[f32], buf: &mut impl BufMut) {
    let mut bytes = [[0; 2]; 1024];
    for block in values.chunks(bytes.len()) {
        let bytes = &mut bytes[..block.len()];
        for (bytes, value) in bytes.iter_mut().zip(block) {
            *bytes = ((value.to_bits() >> 16) as u16).to_le_bytes();
        }
        buf.put_slice(bytes.as_flattened());
    }
}

impl Default for Values {
    fn default() -> Self {
        Values(Inner::Raw(Bytes::new()))
    }
}

impl From<Bytes> for Values {
    /// Little-endian f32, or whatever sender and receiver agree on.
    fn from(bytes: Bytes) -> Self {
        Values(Inner::Raw(bytes))
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.wire_len())
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for Values {}

impl Hash for Values {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.to_bytes().hash(state);
    }
}

impl Message for Chunk {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        if self.offset != 0 {
            uint64::encode(OFFSET, &self.offset, buf);
        }
        bytes::encode(PADDING, &ZEROS, buf);
        if self.data.wire_len() > 0 {
            encode_key(DATA, WireType::LengthDelimited, buf);
            encode_varint(self.data.wire_len() as u64, buf);
            self.data.put(buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            OFFSET => uint64::merge(wire_type, &mut self.offset, buf, ctx),
            DATA => {
                let mut data = Bytes::new();
                bytes::merge(wire_type, &mut data, buf, ctx)?;
                self.data = data.into();
                Ok(())
            }
            _ => skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        let offset = if self.offset == 0 { 0 } else { uint64::encoded_len(OFFSET, &self.offset) };
        let before = offset + bytes::encoded_len(PADDING, &ZEROS);
        match self.data.wire_len() {
            0 => before,
            length => before + key_len(DATA) + encoded_len_varint(length as u64) + length,
        }
    }

    fn clear(&mut self) {
        *self = Chunk::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chunks_cover_a_vector_once() {
        for len in [0, 1, CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 5 * CHUNK_ELEMENTS] {
            let ranges: Vec<_> = (0..chunk_count(len)).map(|index| chunk_range(len, index)).collect();
            assert!(ranges.iter().all(|range| !range.is_empty()));
            assert!(ranges.iter().cloned().flatten().eq(0..len));
        }
    }

    /// What prost makes of the message in `convoy.proto`.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Derived {
        #[prost(uint64, tag = "1")]
        offset: u64,
        #[prost(bytes = "bytes", tag = "2")]
        padding: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        data: Bytes,
    }

    #[test]
    fn the_wire_is_that_of_the_proto_file() {
        let vector: Arc<Vec<f32>> = Arc::new(vec![9.0, 1.5, -0.0, f32::MIN_POSITIVE, 9.0]);
        for (offset, range) in [(0, 0..0), (0, 1..4), (7 << 40, 1..4), (300, 2..2)] {
            let chunk = Chunk { offset, data: Values::shared(vector.clone(), range.clone()) };
            let data: Vec<u8> = vector[range.clone()].iter().flat_map(|value| value.to_le_bytes()).collect();
            let derived = Derived { offset, padding: ZEROS, data: data.into() };
            let bytes = chunk.encode_to_vec();
            assert_eq!(bytes, derived.encode_to_vec());
            assert_eq!(chunk.encoded_len(), bytes.len());
            // A field of a later version is skipped.
            let later = [&bytes[..], &[0x20, 0x05]].concat();
            let back = Chunk::decode(&later[..]).unwrap();
            assert_eq!(back, chunk);
            let mut values = vec![0.0; range.len()];
            assert!(back.data.copy_to(&mut values));
            assert!(values.iter().map(|value| value.to_bits()).eq(vector[range].iter().map(|value| value.to_bits())));
        }
    }

    #[test]
    fn bytes_that_are_no_such_numbers_are_not_copied() {
        let mut values = [1.0; 3];
        for length in [0, 11, 13, 16] {
            assert!(!Values::from(Bytes::from(vec![0; length])).copy_to(&mut values));
        }
        assert_eq!(values, [1.0; 3]);
        assert!(Values::from(Bytes::from(vec![0; 12])).copy_to(&mut values));
        assert_eq!(values, [0.0; 3]);
    }

    #[test]
    fn a_field_of_another_type_is_refused() {
        // Field 1, and field 3, as fixed 32-bit numbers.
        for key in [0x0d, 0x1d] {
            assert!(Chunk::decode(&[key, 0, 0, 0, 0][..]).is_err());
        }
    }

    #[test]
    #[should_panic(expected = "the range is part of the vector")]
    fn a_range_beyond_the_vector_is_a_mistake() {
        Values::shared(Arc::new(vec![0.0; 3]), 2..4);
    }

    proptest! {
        #[test]
        fn any_chunk_survives_the_wire(offset: u64, bits: Vec<u32>) {
            let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let chunk = Chunk { offset, data: Values::shared(Arc::new(values), 0..bits.len()) };
            let back = Chunk::decode(&chunk.encode_to_vec()[..]).unwrap();
            let mut values = vec![0.0; bits.len()];
            prop_assert!(back.data.copy_to(&mut values));
            let came: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            prop_assert_eq!((back.offset, came), (offset, bits), "NaNs keep their bits, too");
        }

        #[test]
        fn bytes_that_are_cut_off_are_refused_or_shorter(length in 1..200usize, values in 1..20usize) {
            let data = Values::shared(Arc::new(vec![1.0; values]), 0..values);
            let bytes = Chunk { offset: 1 << 20, data }.encode_to_vec();
            let cut = &bytes[..length.min(bytes.len() - 1)];
            let whole = Chunk::decode(cut).is_ok_and(|chunk| chunk.data.wire_len() == 4 * values);
            prop_assert!(!whole, "not all numbers came");
        }
    }
}
