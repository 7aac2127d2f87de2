//! How messages are encoded: as prost does, in buffers of our size.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Bytes that a call sets aside for what it sends, and again for what it
/// receives. Both grow for a larger message.
///
/// tonic's 8 KiB are more than most messages here need, and no allocator has
/// blocks of that size at hand: smaller ones save a client up to a twelfth of
/// what a call costs, and two thirds of its memory. A method that streams much
/// would be better off with more: what is sent grows from here time and again.
const BUFFER_BYTES: usize = 512;
/// From how many bytes on a stream of messages is passed on as a frame; tonic's
/// own choice.
const YIELD_BYTES: usize = 32 * 1024;

/// The codec of all generated clients and servers.
pub(crate) struct OurCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for OurCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for OurCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(settings())
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(settings())
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}
