//! The hinges of every door: connections are accepted, encrypted, bounded in number and time, and handed to a service.
//!
//! One port speaks HTTP/1.1 and HTTP/2, in clear text or by TLS. A connection has a slot of `max_connections` and one of those that
//! its address may have ([`slots`]); who finds none is closed at once. A connection that says nothing, says it slowly, does not
//! take its answers or is not used ends by itself ([`watch`]); one whose requests were refused for want of memory is not read for
//! a moment ([`Share`]). A request that panics is answered with an error and harms no other. A gRPC call ends when its client
//! stops to wait for it.

use std::{
    any::Any,
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tracing::Instrument;

use crate::{
    admission::{STREAMS_A_WINDOW, Share},
    telemetry::ConnectionMetrics,
    tls::ServerTls,
};

mod buffers;
mod deadline;
mod slots;
mod watch;

use buffers::Buffers;
use slots::Slots;
use watch::{Counted, Use, Verdict, Watched};

/// Of HTTP/2 that one stream may have sent before they are read.
const FRAMES_AHEAD: u32 = 8;
/// All headers of a request together, over HTTP/2 and at most over HTTP/1.1.
const MAX_HEADER_BYTES: u32 = 32 * 1024;
const MAX_HTTP1_HEADER_BYTES: u32 = 64 * 1024;
const MAX_HEADERS: usize = 100;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// After a failed accept, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const REQUEST_ID: &str = "x-request-id";

/// How many connections there may be, and what one may do.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// All listeners together.
    pub max_connections: usize,
    /// Of one address; `None` for as many as there are.
    pub max_connections_per_address: Option<usize>,
    /// Requests under way on one HTTP/2 connection.
    pub max_streams: u32,
    /// The most of unread data under way on one HTTP/2 connection, and a quarter of it on one stream. The usual 64 KiB would stall large
    /// batches.
    pub window_bytes: u32,
    /// For what connections have in memory of their own ([`buffers`]): the largest frame of HTTP/2, whose reader keeps a buffer for one,
    /// and the buffer of HTTP/1.1.
    pub buffers_bytes: usize,
    /// From accepting to the first byte and for TLS; for the headers of a request; between two requests of HTTP/1.1.
    pub header_timeout: Duration,
    /// Without a request under way.
    pub idle_timeout: Duration,
    /// For a client to take what is sent to it.
    pub write_timeout: Duration,
}

/// What all listeners share.
#[derive(Clone)]
pub struct Hinges {
    limits: ConnectionLimits,
    slots: Slots,
    buffers: Buffers,
    metrics: Arc<ConnectionMetrics>,
}

/// Who is at the other end of a request's connection; in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// The peer's address; that of nobody where a request came by no connection.
    pub fn address(extensions: &http::Extensions) -> IpAddr {
        extensions.get::<Self>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip())
    }
}

impl Hinges {
    /// For listeners that share `limits`.
    pub fn new(limits: ConnectionLimits, metrics: Arc<ConnectionMetrics>) -> Self {
        let slots = Slots::new(limits.max_connections, limits.max_connections_per_address);
        let buffers = Buffers::new(limits.buffers_bytes, limits.max_connections);
        Self { limits, slots, buffers, metrics }
    }

    /// Serves `service` on `listener` until `stop`, then lets what is under way finish.
    ///
    /// Cancelling it cuts its connections.
    pub async fn serve<S, B>(self, listener: TcpListener, tls: Option<Arc<ServerTls>>, service: S, stop: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.metrics.refused("accept_failed");
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let slot = match self.slots.take(peer.ip()) {
                Ok(slot) => slot,
                Err(reason) => {
                    self.metrics.refused(reason);
                    continue;
                }
            };
            let (hinges, tls, service, stop) = (self.clone(), tls.clone(), service.clone(), stop.clone());
            connections.spawn(async move {
                let open = hinges.metrics.open();
                hinges.connection(stream, peer, tls, service, stop).await;
                drop((open, slot));
            });
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    async fn connection<S, B>(&self, stream: TcpStream, peer: SocketAddr, tls: Option<Arc<ServerTls>>, service: S, stop: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Answers are small and waited for. A socket that cannot be set has already gone.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self.speak(stream, peer, service, stop).await;
        };
        let handshake = tokio_rustls::TlsAcceptor::from(tls.current()).accept(stream);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(self.limits.header_timeout, handshake) => outcome,
            () = stop.cancelled() => return,
        };
        match outcome {
            Ok(Ok(stream)) => self.speak(stream, peer, service, stop).await,
            Ok(Err(error)) => {
                self.metrics.refused("tls");
                tracing::debug!(%peer, %error, "a TLS handshake failed");
            }
            Err(_) => self.metrics.refused("tls_timeout"),
        }
    }

    async fn speak<T, S, B>(&self, stream: T, peer: SocketAddr, service: S, stop: CancellationToken)
    where
        T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let buffer = self.buffers.take();
        let usage = Arc::new(Use::new());
        let share: Arc<Share> = Arc::default();
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&usage), Arc::clone(&share), self.limits.write_timeout, buffer.bytes()));
        let metrics = Arc::clone(&self.metrics);
        let counted = Arc::clone(&usage);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            request.extensions_mut().insert(Arc::clone(&share));
            answer(service.clone(), request, peer, counted.begin(), Arc::clone(&metrics))
        });
        let builder = self.protocol(buffer.bytes());
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut tick = tokio::time::interval((self.limits.header_timeout / 4).min(Duration::from_secs(1)));
        let mut is_ending = false;
        loop {
            tokio::select! {
                outcome = connection.as_mut() => {
                    if let Err(error) = outcome {
                        tracing::debug!(%peer, error, "a connection ended with an error");
                    }
                    return;
                }
                () = stop.cancelled(), if !is_ending => {
                    is_ending = true;
                    usage.end();
                    connection.as_mut().graceful_shutdown();
                }
                _ = tick.tick() => match usage.judge(&self.limits) {
                    Verdict::Keep => {}
                    Verdict::End if !is_ending => {
                        is_ending = true;
                        usage.end();
                        self.metrics.refused("idle");
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::End => {}
                    Verdict::Cut(reason) => {
                        self.metrics.refused(reason);
                        return;
                    }
                },
            }
        }
    }

    fn protocol(&self, buffer_bytes: usize) -> auto::Builder<TokioExecutor> {
        let buffer_bytes = u32::try_from(buffer_bytes).unwrap_or(u32::MAX);
        // Of what is refused no more than this has been sent. Where there are many connections it is little: a refusal then costs little.
        let stream_window = buffer_bytes.saturating_mul(FRAMES_AHEAD).min(self.limits.window_bytes / STREAMS_A_WINDOW);
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(buffer_bytes.min(MAX_HTTP1_HEADER_BYTES) as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(stream_window.saturating_mul(STREAMS_A_WINDOW))
            .max_frame_size(buffer_bytes)
            .max_header_list_size(MAX_HEADER_BYTES)
            .max_concurrent_streams(self.limits.max_streams)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        builder
    }
}

type AnswerBody<B> = Counted<Either<B, Full<Bytes>>>;

/// One request, under its id, on its own when it panics.
async fn answer<S, B>(
    mut service: S,
    request: Request<Incoming>,
    peer: SocketAddr,
    under_way: watch::UnderWay,
    metrics: Arc<ConnectionMetrics>,
) -> Result<Response<AnswerBody<B>>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let mut id = request_id(request.headers());
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), %peer, path = request.uri().path());
    let is_grpc = request.headers().get(http::header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let begun = Instant::now();
    let patience = if is_grpc { deadline::of(request.headers()) } else { Ok(None) };
    let call = AssertUnwindSafe(async move { deadline::within(patience, service.call(request)).await });
    let called = call.catch_unwind().instrument(span.clone()).await;
    let mut response = match called {
        Ok(Ok(Ok(response))) => response.map(Either::Left),
        Ok(Err(status)) => {
            if status.code() == tonic::Code::DeadlineExceeded {
                metrics.deadline_passed();
            }
            status.into_http().map(Either::Right)
        }
        Err(panic) => {
            metrics.panicked();
            span.in_scope(|| tracing::error!(panic = panic_text(panic.as_ref()), "a request failed inside the server"));
            failed_inside(is_grpc).map(Either::Right)
        }
    };
    let (status, took) = (response.status().as_u16(), begun.elapsed());
    span.in_scope(|| tracing::debug!(status, ?took, "answered"));
    // No two answers have the same: HTTP/2 need not keep it to compress the next.
    id.set_sensitive(true);
    response.headers_mut().insert(REQUEST_ID, id);
    Ok(response.map(|body| Counted::new(body, under_way)))
}

/// The client's own id when it is one that can be logged, or a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |value: &&HeaderValue| (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    headers.get(REQUEST_ID).filter(is_plain).cloned().unwrap_or_else(|| {
        let id = format!("{:016x}", rand::random::<u64>());
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
    })
}

fn failed_inside(is_grpc: bool) -> Response<Full<Bytes>> {
    if is_grpc {
        return tonic::Status::internal("the request failed inside the server").into_http();
    }
    let mut response =
        Response::new(Full::new(Bytes::from_static(b"{\"error\":\"the request failed inside the server\",\"code\":\"INTERNAL\"}")));
    *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

/// Takes an address to listen on, with an error that says what to do.
///
/// # Errors
/// The address is taken or not allowed.
pub async fn bind(flag: &str, address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { flag: flag.to_owned(), address, source })
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{}; choose another address with {flag}", describe(.source, .address))]
pub struct BindError {
    flag: String,
    address: SocketAddr,
    source: io::Error,
}

fn describe(error: &io::Error, address: &SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{address} is in use by another process: stop it"),
        io::ErrorKind::PermissionDenied => format!("listening on {address} is not permitted to this user"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

#[cfg(test)]
mod tests;
