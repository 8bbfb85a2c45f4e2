//! A tonic codec whose messages are bytes: what arrived is handed on, what was encoded is sent.
//!
//! Both directions are generic over the other side's message, since the answers are small and built with prost.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// tonic's unit of growth and of flushing for a message of bytes that is already whole.
const BUFFER_BYTES: usize = 256 * 1024;

/// Client side: sends [`Bytes`] as they are, decodes an answer of type `Answer`.
#[derive(Debug)]
pub struct SendBytes<Answer>(PhantomData<Answer>);

/// Server side: receives [`Bytes`] as they are, encodes an answer of type `Answer`.
#[derive(Debug)]
pub struct ReceiveBytes<Answer>(PhantomData<Answer>);

impl<Answer> Default for SendBytes<Answer> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Answer> Default for ReceiveBytes<Answer> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Answer: Message + Default + Send + 'static> Codec for SendBytes<Answer> {
    type Encode = Bytes;
    type Decode = Answer;
    type Encoder = WriteBytes;
    type Decoder = ReadMessage<Answer>;

    fn encoder(&mut self) -> WriteBytes {
        WriteBytes
    }

    fn decoder(&mut self) -> ReadMessage<Answer> {
        ReadMessage(PhantomData)
    }
}

impl<Answer: Message + 'static> Codec for ReceiveBytes<Answer> {
    type Encode = Answer;
    type Decode = Bytes;
    type Encoder = WriteMessage<Answer>;
    type Decoder = ReadBytes;

    fn encoder(&mut self) -> WriteMessage<Answer> {
        WriteMessage(PhantomData)
    }

    fn decoder(&mut self) -> ReadBytes {
        ReadBytes
    }
}

/// Copies bytes into the frame tonic sends.
#[derive(Debug)]
pub struct WriteBytes;

impl Encoder for WriteBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.len());
        dst.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

/// Takes the bytes of one message out of tonic's buffer without copying them.
#[derive(Debug)]
pub struct ReadBytes;

impl Decoder for ReadBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
    }
}

/// Encodes a prost message.
#[derive(Debug)]
pub struct WriteMessage<M>(PhantomData<M>);

impl<M: Message> Encoder for WriteMessage<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, item: M, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(dst).map_err(|error| Status::internal(format!("the answer does not fit its buffer: {error}")))
    }
}

/// Decodes a prost message.
#[derive(Debug)]
pub struct ReadMessage<M>(PhantomData<M>);

impl<M: Message + Default> Decoder for ReadMessage<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        M::decode(src).map(Some).map_err(|error| Status::internal(format!("the answer is not the message expected: {error}")))
    }
}
