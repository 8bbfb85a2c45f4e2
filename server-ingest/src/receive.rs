//! The body of a request, taken in under every limit: its size before and after inflating, the time it may take, the silence it
//! may keep, and the memory all requests share. Both kinds of doors take bodies this way and no other.

use std::{
    io::Read,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{
    admission::{Admission, Room, Share},
    error::IngestError,
};

/// gRPC's frame head: whether the message is compressed, and its length.
const GRPC_HEAD_BYTES: usize = 5;
/// Inflating begins with this much and doubles.
const INFLATE_STEP_BYTES: usize = 64 * 1024;
/// zstd makes so many bytes within half a millisecond.
const INFLATED_IN_PASSING_BYTES: usize = 512 * 1024;
/// For how long, and how much of, a refused HTTP/1 body is read, so that its sender gets to read the refusal.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024 * 1024;

/// Turns of work that may keep a CPU for longer than half a millisecond, and then leaves the reactor's time slice. There are as
/// many as CPUs: more threads would be no faster, and each keeps memory of its own. Who waits for a turn holds what was counted.
#[derive(Clone)]
pub struct Turns(Arc<Semaphore>, Inflaters);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))), Inflaters::default())
    }
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turns").field(&self.0).finish_non_exhaustive()
    }
}

/// What inflates zstd in one step, kept for the next who needs it: each takes 160 KiB, which zstd would ask of the system's own
/// allocator for each request, in whatever thread it runs.
#[derive(Clone, Default)]
struct Inflaters(Arc<Mutex<Vec<zstd::bulk::Decompressor<'static>>>>);

impl Inflaters {
    fn lock(&self) -> MutexGuard<'_, Vec<zstd::bulk::Decompressor<'static>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content of `body` if it is exactly one frame that says it has `bytes`.
    fn inflate(&self, body: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let kept = self.lock().pop();
        let mut inflater = kept.or_else(|| zstd::bulk::Decompressor::new().ok())?;
        let inflated = inflater.decompress(body, bytes);
        self.lock().push(inflater);
        inflated.ok().filter(|inflated| inflated.len() == bytes)
    }
}

impl Turns {
    /// Bytes of compressed data or of JSON that take less than half a millisecond.
    pub const FEW_BYTES: usize = 16 * 1024;

    /// A turn for work on so many bytes, until what is returned is dropped; for few bytes it needs none.
    pub async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        if bytes <= Self::FEW_BYTES { None } else { self.0.acquire().await.ok() }
    }
}

/// What a request may be, and how long it may take.
#[derive(Debug, Clone)]
pub struct Intake {
    /// The budget all requests share.
    pub admission: Admission,
    /// For work on large bodies.
    pub turns: Turns,
    /// Largest body, before and after inflating.
    pub max_request_bytes: usize,
    /// Longest silence within a body.
    pub body_silence: Duration,
    /// Longest time for a whole body.
    pub body_timeout: Duration,
}

/// A request's bytes and the room they take.
#[derive(Debug)]
pub struct Received {
    /// The bytes.
    pub payload: Bytes,
    /// Given back when the request is done.
    pub room: Room,
}

impl Received {
    /// With these bytes, whose room is taken already, in place of those that came.
    fn replaced_by(mut self, inflated: Vec<u8>) -> Self {
        self.room.shrink(self.payload.len());
        Self { payload: Bytes::from(inflated), room: self.room }
    }
}

/// How a payload was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// What gRPC and HTTP say of encodings that are read.
    pub const ACCEPTED: &'static str = "gzip,zstd,identity";

    /// The compression of that name; `None` for none.
    ///
    /// # Errors
    /// A name that is not known.
    pub fn named(name: &str) -> Result<Option<Self>, IngestError> {
        match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "zstd" => Ok(Some(Self::Zstd)),
            other => Err(IngestError::UnknownEncoding { name: other.chars().take(64).collect() }),
        }
    }
}

impl Compression {
    /// How many bytes a body seems to unfold into. It may lie: what is inflated is counted all the same.
    fn inflated_bytes(self, body: &[u8]) -> usize {
        let said = match self {
            // The last four bytes of RFC 1952.
            Self::Gzip => body.last_chunk().map(|bytes| u32::from_le_bytes(*bytes).into()),
            Self::Zstd => zstd::zstd_safe::get_frame_content_size(body).ok().flatten(),
        };
        let usual = at_work(body.len(), true);
        said.and_then(|said| usize::try_from(said).ok()).map_or(usual, |said| said.min(body.len().saturating_mul(1100)))
    }
}

/// What a body of so many bytes seems to take while it is worked on: spans shrink to about a quarter.
fn at_work(bytes: usize, is_compressed: bool) -> usize {
    const USUAL_RATIO: usize = 4;
    if is_compressed { bytes.saturating_mul(USUAL_RATIO) } else { bytes }
}

impl Intake {
    /// Takes in a whole body from the connection `share`, to be inflated after that if it is compressed. `announced` is its length
    /// where the client says one.
    ///
    /// # Errors
    /// It is too large, too slow, broken off, or there is no room.
    pub async fn whole<B>(
        &self,
        share: &Arc<Share>,
        body: B,
        announced: Option<usize>,
        compression: Option<Compression>,
    ) -> Result<Received, IngestError>
    where
        B: Body<Data = Bytes>,
    {
        let announced = announced.unwrap_or(0);
        if announced > self.max_request_bytes {
            return Err(self.too_large());
        }
        let mut room = self.admission.begin(share, announced)?;
        room.take_permit(at_work(announced, compression.is_some())).await?;
        let mut gathered = Gathered::expecting(announced);
        let mut body = pin!(body);
        let mut clock = Clock::new(self);
        while let Some(data) = clock.next(&mut body, &mut room).await? {
            if gathered.len() + data.len() > self.max_request_bytes {
                return Err(self.too_large());
            }
            gathered.push(data, &mut room)?;
        }
        room.complete();
        Ok(Received { payload: gathered.into_bytes(&mut room), room })
    }

    /// Takes in the one message of a unary gRPC call; also says whether its frame is marked as compressed.
    ///
    /// # Errors
    /// As [`Intake::whole`], and when the body is not one frame.
    pub async fn grpc_message<B>(&self, share: &Arc<Share>, body: B) -> Result<(Received, bool), IngestError>
    where
        B: Body<Data = Bytes>,
    {
        let mut room = self.admission.begin(share, 0)?;
        let mut body = pin!(body);
        let mut clock = Clock::new(self);
        let mut head = Gathered::expecting(0);
        while head.len() < GRPC_HEAD_BYTES {
            let data = clock.next(&mut body, &mut room).await?.ok_or(IngestError::Contradictory("the call has no message"))?;
            head.push(data, &mut room)?;
        }
        let mut first = head.into_bytes(&mut room);
        let prefix = first.split_to(GRPC_HEAD_BYTES);
        let is_compressed = match prefix[0] {
            0 => false,
            1 => true,
            _ => return Err(IngestError::Contradictory("the first byte of the message's frame is neither 0 nor 1")),
        };
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if length > self.max_request_bytes {
            return Err(self.too_large());
        }
        room.expect(length.saturating_sub(first.len()))?;
        room.take_permit(at_work(length, is_compressed)).await?;
        let mut gathered = Gathered { counted: first.len(), first, ..Gathered::expecting(length) };
        while let Some(data) = clock.next(&mut body, &mut room).await? {
            gathered.push(data, &mut room)?;
            if gathered.len() > length {
                break;
            }
        }
        match gathered.len().cmp(&length) {
            std::cmp::Ordering::Equal => {
                room.complete();
                Ok((Received { payload: gathered.into_bytes(&mut room), room }, is_compressed))
            }
            std::cmp::Ordering::Less => Err(IngestError::BrokenOff),
            std::cmp::Ordering::Greater => Err(IngestError::Contradictory("a call carries one message, and more came")),
        }
    }

    /// The bytes as they were before they were compressed. Room for as many as there seem to be is taken first: who gets none
    /// costs no inflating.
    ///
    /// # Errors
    /// They are not what `compression` makes, are too large, or there is no room.
    pub async fn inflate(&self, compression: Compression, mut received: Received) -> Result<Received, IngestError> {
        let expected = compression.inflated_bytes(&received.payload).min(self.max_request_bytes);
        received.room.grow(expected)?;
        // A thread that leaves the reactor has a stack and a heap of its own, so what is done soon is done here.
        if expected <= INFLATED_IN_PASSING_BYTES
            && let Some(inflated) = self.inflate_frame(compression, &received.payload, expected)
        {
            return Ok(received.replaced_by(inflated));
        }
        match self.turns.take(received.payload.len()).await {
            None => self.inflate_now(compression, received, expected),
            Some(_turn) => tokio::task::block_in_place(|| self.inflate_now(compression, received, expected)),
        }
    }

    fn inflate_now(&self, compression: Compression, received: Received, expected: usize) -> Result<Received, IngestError> {
        if let Some(inflated) = self.inflate_frame(compression, &received.payload, expected) {
            return Ok(received.replaced_by(inflated));
        }
        let Received { payload, mut room } = received;
        let inflated = match compression {
            Compression::Gzip => self.inflate_from(flate2::read::MultiGzDecoder::new(&payload[..]), &mut room, expected)?,
            Compression::Zstd => {
                let decoder = zstd::stream::read::Decoder::with_buffer(&payload[..])
                    .map_err(|_| IngestError::Contradictory("the decoder for zstd cannot be made"))?;
                self.inflate_from(decoder, &mut room, expected)?
            }
        };
        Ok(Received { payload, room }.replaced_by(inflated))
    }

    /// What is one frame of zstd that says it has `bytes`, in one step.
    fn inflate_frame(&self, compression: Compression, payload: &[u8], bytes: usize) -> Option<Vec<u8>> {
        let said = zstd::zstd_safe::get_frame_content_size(payload).ok().flatten();
        if compression == Compression::Zstd && said == Some(bytes as u64) { self.turns.1.inflate(payload, bytes) } else { None }
    }

    /// Reads at most one byte more than the limit, so that a small body cannot unfold into a large one. `room` has `expected`
    /// bytes already.
    fn inflate_from(&self, mut reader: impl Read, room: &mut Room, expected: usize) -> Result<Vec<u8>, IngestError> {
        let mut inflated = Vec::new();
        let mut counted = expected;
        loop {
            // The end is seen only by asking for one byte more.
            let wanted = if inflated.is_empty() { expected + 1 } else { inflated.capacity() };
            let step = wanted.max(INFLATE_STEP_BYTES).min(self.max_request_bytes + 1 - inflated.len());
            let needed = inflated.len() + step;
            room.grow(needed.saturating_sub(counted))?;
            counted = counted.max(needed);
            inflated.reserve_exact(step);
            let read = reader.by_ref().take(step as u64).read_to_end(&mut inflated);
            let read = read.map_err(|_| IngestError::Contradictory("the body is not what its content encoding says"))?;
            if inflated.len() > self.max_request_bytes {
                return Err(self.too_large());
            }
            if read < step {
                room.shrink(counted - inflated.len());
                inflated.shrink_to_fit();
                return Ok(inflated);
            }
        }
    }

    /// Reads on for a moment and forgets what comes: the sender of an HTTP/1 body looks for an answer when it has sent it, and a
    /// connection that is closed before looks to it like a failure to be tried again.
    pub async fn linger<B>(body: B)
    where
        B: Body<Data = Bytes>,
    {
        let mut body = pin!(body);
        let discard = async {
            let mut left = LINGER_BYTES;
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    break;
                }
            }
        };
        // Whether it ended or not, the answer goes out now.
        let _ = tokio::time::timeout(LINGER, discard).await;
    }

    fn too_large(&self) -> IngestError {
        IngestError::TooLarge { limit_bytes: self.max_request_bytes }
    }
}

/// The deadlines of one body.
struct Clock {
    end: Instant,
    silence: Duration,
}

impl Clock {
    fn new(intake: &Intake) -> Self {
        Self { end: Instant::now() + intake.body_timeout, silence: intake.body_silence }
    }

    async fn next<B: Body<Data = Bytes> + Unpin>(&mut self, body: &mut B, room: &mut Room) -> Result<Option<Bytes>, IngestError> {
        let mut silent_since = Instant::now();
        loop {
            let now = Instant::now();
            let permit_ends = room.permit_ends().map(Instant::from);
            if permit_ends.is_some_and(|ends| ends <= now) {
                room.give_up_permit();
            }
            let until = self.end.min(silent_since + self.silence);
            let wake = permit_ends.filter(|ends| *ends > now).map_or(until, |ends| ends.min(until));
            let Ok(frame) = tokio::time::timeout_at(wake, body.frame()).await else {
                if wake < until {
                    continue;
                }
                return Err(IngestError::TooSlow);
            };
            silent_since = Instant::now();
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(IngestError::BrokenOff),
                // Trailers of a request say nothing to us.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Bytes that came in pieces; a single piece is not copied. Room is taken for the memory they have, which grows in few steps from what
/// came: memory for all that was announced would be a gift to those who then send nothing.
struct Gathered {
    first: Bytes,
    all: BytesMut,
    expected: usize,
    counted: usize,
}

/// So much memory, and so many times what has come, is taken at once for a request with a permit.
const AT_ONCE_BYTES: usize = 1024 * 1024;
const AT_ONCE_TIMES: usize = 32;
/// How many times as large `all` is each time, where it is known how much will come.
const GROWTH: usize = 4;

impl Gathered {
    fn expecting(expected: usize) -> Self {
        Self { first: Bytes::new(), all: BytesMut::new(), expected, counted: 0 }
    }

    fn len(&self) -> usize {
        self.first.len() + self.all.len()
    }

    fn push(&mut self, data: Bytes, room: &mut Room) -> Result<(), IngestError> {
        let needed = self.len() + data.len();
        if needed == data.len() {
            room.grow(needed)?;
            (self.first, self.counted) = (data, needed);
            return Ok(());
        }
        if needed > self.all.capacity() {
            let ahead = match self.expected {
                0 => self.len().saturating_mul(2),
                // They come soon, or the permit is lost.
                expected if room.permit_ends().is_some() && expected <= AT_ONCE_BYTES.min(self.len() * AT_ONCE_TIMES) => expected,
                expected => expected.min(self.len().saturating_mul(GROWTH)),
            };
            let capacity = ahead.max(needed);
            room.grow(capacity.saturating_sub(self.counted))?;
            self.counted = self.counted.max(capacity);
            let mut all = BytesMut::with_capacity(capacity);
            all.extend_from_slice(&std::mem::take(&mut self.first));
            all.extend_from_slice(&self.all);
            self.all = all;
        }
        self.all.extend_from_slice(&data);
        Ok(())
    }

    fn into_bytes(self, room: &mut Room) -> Bytes {
        room.shrink(self.counted.saturating_sub(self.len()));
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}

#[cfg(test)]
mod tests;
