//! A unary gRPC method whose handler gets the request's bytes.
//!
//! The call's framing is read here and not by tonic, because three things must happen between the bytes and the message: the
//! caller is known before a byte is taken, every byte is counted under the memory budget as it comes and as it is inflated,
//! and what is too large is refused with a final status. (tonic answers it with `OUT_OF_RANGE`, which OTLP clients repeat for ever.)

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use prost::Message;
use scouter_storage::log::Door;
use scouter_tonic::path::{INSERT_MESSAGE, OTLP_TRACE_EXPORT};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

use super::{CONTENT_TYPE, GrpcDoors};
use crate::{
    admission::Share,
    auth::{Caller, Permission},
    error::IngestError,
    listener::Peer,
    receive::{Compression, Intake, Received},
    telemetry::RequestStage,
};

/// What a handler answers with: the message, and a fresh token for the caller where he should have one.
#[derive(Debug)]
pub(super) struct Answered<A> {
    pub(super) message: A,
    pub(super) token: Option<(&'static str, String)>,
}

/// Answers the bytes of one request.
pub(super) trait Handle: Send + Sync + 'static {
    /// The answer's message.
    type Answer: Message + Default + 'static;

    fn handle(&self, caller: Caller, request: Received) -> impl Future<Output = Result<Answered<Self::Answer>, IngestError>> + Send;
}

/// The name of a service and the path of its one method.
pub(super) trait MethodPath: Send + Sync + 'static {
    const SERVICE: &'static str;
    const PATH: &'static str;
    const DOOR: Door;
}

/// `scouter.grpc.v1.MessageService/InsertMessage`.
pub(super) struct MessageServicePath;

impl MethodPath for MessageServicePath {
    const SERVICE: &'static str = "scouter.grpc.v1.MessageService";
    const PATH: &'static str = INSERT_MESSAGE;
    const DOOR: Door = Door::ScouterGrpc;
}

/// OTLP's `TraceService/Export`.
pub(super) struct TraceServicePath;

impl MethodPath for TraceServicePath {
    const SERVICE: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    const PATH: &'static str = OTLP_TRACE_EXPORT;
    const DOOR: Door = Door::OtlpGrpc;
}

/// A gRPC service of one unary method.
pub(super) struct RawUnary<H, P> {
    handler: Arc<H>,
    doors: GrpcDoors,
    path: PhantomData<P>,
}

impl<H, P> RawUnary<H, P> {
    pub(super) fn new(handler: H, doors: &GrpcDoors) -> Self {
        Self { handler: Arc::new(handler), doors: doors.clone(), path: PhantomData }
    }
}

impl<H, P> Clone for RawUnary<H, P> {
    fn clone(&self) -> Self {
        Self { handler: Arc::clone(&self.handler), doors: self.doors.clone(), path: PhantomData }
    }
}

impl<H, P: MethodPath> NamedService for RawUnary<H, P> {
    const NAME: &'static str = P::SERVICE;
}

impl<H: Handle, P: MethodPath> Service<http::Request<Body>> for RawUnary<H, P> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (handler, doors) = (Arc::clone(&self.handler), self.doors.clone());
        Box::pin(async move {
            if request.uri().path() != P::PATH {
                return Ok(Status::unimplemented(format!("{} has no such method; it has {}", P::SERVICE, P::PATH)).into_http());
            }
            Ok(match take::<H, P>(&handler, &doors, request).await {
                Ok(answered) => response(&answered),
                Err(error) => refusal(error),
            })
        })
    }
}

async fn take<H: Handle, P: MethodPath>(
    handler: &H,
    doors: &GrpcDoors,
    request: http::Request<Body>,
) -> Result<Answered<H::Answer>, IngestError> {
    let (parts, body) = request.into_parts();
    let header = |name| parts.headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let caller = doors.admit(header("authorization"), Peer::address(&parts.extensions), Permission::Write).await?;
    let begun = Instant::now();
    let share = Share::of(&parts.extensions);
    let received = receive(&doors.intake, &share, header("grpc-encoding").unwrap_or_default(), body).await;
    let received = received.inspect_err(|error| {
        share.rest(error);
        doors.metrics.count_refused(P::DOOR, error);
    })?;
    doors.metrics.time_stage(RequestStage::Receive, begun.elapsed());
    handler.handle(caller, received).await
}

async fn receive(intake: &Intake, share: &Arc<Share>, encoding: &str, body: Body) -> Result<Received, IngestError> {
    let compression = Compression::named(encoding)?;
    let (received, is_compressed) = intake.grpc_message(share, body).await?;
    match compression {
        Some(compression) if is_compressed => intake.inflate(compression, received).await,
        None if is_compressed => Err(IngestError::Contradictory("the message is marked as compressed and grpc-encoding is missing")),
        _ => Ok(received),
    }
}

/// An error without a message, its status in the headers.
pub(super) fn refusal<B: Default>(error: IngestError) -> http::Response<B> {
    let is_encoding = matches!(error, IngestError::UnknownEncoding { .. });
    let mut response = Status::from(error).into_http::<B>();
    if is_encoding {
        response.headers_mut().insert("grpc-accept-encoding", http::HeaderValue::from_static(Compression::ACCEPTED));
    }
    response
}

fn response<A: Message>(answered: &Answered<A>) -> http::Response<Body> {
    let length = answered.message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    if answered.message.encode(&mut frame).is_err() {
        return Status::internal("the answer does not fit its buffer").into_http();
    }
    let mut response = http::Response::new(Body::new(OneMessage { data: Some(frame.freeze()), is_ended: false }));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(CONTENT_TYPE));
    if let Some((name, token)) = &answered.token
        && let Ok(token) = http::HeaderValue::from_str(token)
    {
        response.headers_mut().insert(*name, token);
    }
    response
}

/// One frame and the trailers of success.
struct OneMessage {
    data: Option<Bytes>,
    is_ended: bool,
}

impl http_body::Body for OneMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::replace(&mut self.is_ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = http::HeaderMap::with_capacity(1);
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
