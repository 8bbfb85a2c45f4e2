//! What a connection is being used for, and whether it should go on.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::ConnectionLimits;
use crate::admission::Share;

/// HTTP/2 begins with this many bytes that are no request; less than it is nothing.
const PREFACE_BYTES: u64 = 24;
/// Read of a connection while one of its requests comes in with a permit, before others are read, where its buffer is not larger. With
/// less, bodies of many connections come in so many pieces that a server which is offered more than it can take stores a tenth less.
const LEAST_TURN: usize = 64 * 1024;
/// For how long an ending connection without requests may take to say good-bye.
const FAREWELL: Duration = Duration::from_secs(3);

/// The use of one connection. Times are milliseconds since it began.
#[derive(Debug)]
pub(super) struct Use {
    began: Instant,
    read_bytes: AtomicU64,
    requests: AtomicU64,
    under_way: AtomicUsize,
    last_end: AtomicU64,
    /// 0 while it is not ending.
    ending_since: AtomicU64,
}

/// What to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Say good-bye and let requests finish.
    End,
    /// Close it now.
    Cut(&'static str),
}

impl Use {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            read_bytes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            under_way: AtomicUsize::new(0),
            last_end: AtomicU64::new(0),
            ending_since: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A request begins; it is under way until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// The connection is asked to end.
    pub(super) fn end(&self) {
        self.ending_since.store(self.now().max(1), Ordering::Relaxed);
    }

    pub(super) fn judge(&self, limits: &ConnectionLimits) -> Verdict {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return Verdict::Keep;
        }
        let now = self.now();
        let since = |then: u64| Duration::from_millis(now.saturating_sub(then));
        let last_end = self.last_end.load(Ordering::Relaxed);
        let ending_since = self.ending_since.load(Ordering::Relaxed);
        if ending_since > 0 {
            return if since(ending_since.max(last_end)) > FAREWELL { Verdict::Cut("farewell") } else { Verdict::End };
        }
        if self.requests.load(Ordering::Relaxed) == 0 {
            let is_silent = self.read_bytes.load(Ordering::Relaxed) < PREFACE_BYTES;
            // A client may connect before it has something to send, but not keep the place for long.
            let patience = if is_silent { limits.header_timeout } else { limits.idle_timeout.min(limits.header_timeout * 8) };
            return match (since(0) > patience, is_silent) {
                (true, true) => Verdict::Cut("silent"),
                (true, false) => Verdict::End,
                _ => Verdict::Keep,
            };
        }
        if since(last_end) > limits.idle_timeout { Verdict::End } else { Verdict::Keep }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Use>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.last_end.store(self.0.now(), Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body; its request is under way until it has been sent.
#[derive(Debug)]
pub(super) struct Counted<B> {
    body: Pin<Box<B>>,
    _under_way: UnderWay,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, under_way: UnderWay) -> Self {
        Self { body: Box::pin(body), _under_way: under_way }
    }
}

impl<B: Body<Data = Bytes>> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.body.as_mut().poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that counts what is read, fails when what is written is not taken, and is not read while its [`Share`] rests or
/// all its requests wait for a permit.
///
/// HTTP/2 reads a connection for as long as there is something to read and puts it aside, up to the window that the client was given.
/// What is put aside is counted only when its request takes it. So after some bytes this says once that there is nothing: the requests,
/// which are ready to run by then, take what has come, or are refused.
#[derive(Debug)]
pub(super) struct Watched<T> {
    stream: T,
    usage: Arc<Use>,
    share: Arc<Share>,
    /// Read at a time, and of it since the others had their turn.
    turn_bytes: usize,
    read_in_turn: usize,
    resting: Option<Pin<Box<Sleep>>>,
    write_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Watched<T> {
    pub(super) fn new(stream: T, usage: Arc<Use>, share: Arc<Share>, write_timeout: Duration, turn_bytes: usize) -> Self {
        Self { stream, usage, share, turn_bytes, read_in_turn: 0, resting: None, write_timeout, stalled: None }
    }

    /// Waits until the connection is to be read again.
    fn rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Some(until) = self.share.rests_until().map(tokio::time::Instant::from) {
            let resting = self.resting.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if resting.deadline() < until {
                resting.as_mut().reset(until);
            }
            if resting.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        self.resting = None;
        Poll::Ready(())
    }

    /// Passes on what came of a write; one that waits too long fails.
    fn timed<R>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let rests = self.rest(context).is_pending();
        if self.share.poll_read(context, rests).is_pending() {
            return Poll::Pending;
        }
        let turn_bytes = if self.share.is_coming_in() { self.turn_bytes.max(LEAST_TURN) } else { self.turn_bytes };
        if self.read_in_turn >= turn_bytes {
            self.read_in_turn = 0;
            // It comes after those who wait already.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read = buffer.filled().len() - before;
        self.read_in_turn = if outcome.is_ready() { self.read_in_turn + read } else { 0 };
        self.usage.read_bytes.fetch_add(read as u64, Ordering::Relaxed);
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, outcome)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.timed(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(context, outcome)
    }
}
