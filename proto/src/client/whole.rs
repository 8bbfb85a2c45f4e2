//! An uncompressed message as the body of a call, without the copy that tonic's encoder makes.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};

/// gRPC's prefix of a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// A message that takes the place of what tonic encoded. Travels in the request's extensions.
#[derive(Clone, Debug)]
pub(super) struct WholeMessage {
    prefix: Bytes,
    message: Bytes,
}

impl WholeMessage {
    /// `None` when the length does not fit gRPC's prefix.
    pub(super) fn new(message: Bytes) -> Option<Self> {
        let len = u32::try_from(message.len()).ok()?;
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES);
        prefix.put_u8(0);
        prefix.put_u32(len);
        Some(Self { prefix: prefix.freeze(), message })
    }
}

impl Body for WholeMessage {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let next = [&mut this.prefix, &mut this.message].into_iter().find(|part| !part.is_empty()).map(std::mem::take);
        Poll::Ready(next.map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_empty() && self.message.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.prefix.len() + self.message.len()) as u64)
    }
}
