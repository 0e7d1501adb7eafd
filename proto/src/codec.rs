//! Protobuf with small buffers: an idle connection keeps one for each direction of its open stream.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstDecoder, ProstEncoder};

/// Bytes of a buffer at its start. Most control messages fit; a chunk makes it grow to its own size at once.
const BUFFER: usize = 512;
/// Encoded bytes after which a stream hands on what it has.
const YIELD: usize = 32 << 10;

/// tonic's protobuf codec with smaller buffers. tonic's own begin with 8 KiB for each direction of each open stream,
/// which a coordinator with thousands of idle workers would pay for nothing.
#[derive(Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        SmallBuffers(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::new(BufferSettings::new(BUFFER, YIELD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER, YIELD))
    }
}

#[cfg(test)]
mod tests {
    use tonic::codec::{Decoder, Encoder};

    use super::*;
    use crate::v1;

    #[test]
    fn buffers_of_both_directions_begin_small() {
        let mut codec = SmallBuffers::<v1::Committed, v1::Committed>::default();
        for settings in [codec.encoder().buffer_settings(), codec.decoder().buffer_settings()] {
            assert_eq!(format!("{settings:?}"), format!("{:?}", BufferSettings::new(BUFFER, YIELD)));
        }
    }
}
