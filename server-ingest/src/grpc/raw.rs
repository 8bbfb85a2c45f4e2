//! A unary gRPC method whose handler gets the request's bytes.
//!
//! Requests may be compressed with gzip or zstd; the limit holds before and after inflating. tonic answers a frame that
//! announces too much with `OUT_OF_RANGE`, which OTLP clients retry for ever, so that code becomes `RESOURCE_EXHAUSTED`.

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use prost::Message;
use scouter_tonic::{
    codec::ReceiveBytes,
    limits::MAX_REQUEST_BYTES,
    path::{INSERT_MESSAGE, OTLP_TRACE_EXPORT},
};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codec::CompressionEncoding,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, UnaryService},
};

/// Answers the bytes of one request.
pub(super) trait Handle: Send + Sync + 'static {
    /// The answer's message.
    type Answer: Message + Default + 'static;

    fn handle(&self, request: Request<Bytes>) -> impl Future<Output = Result<Response<Self::Answer>, Status>> + Send;
}

/// The name of a service and the path of its one method.
pub(super) trait MethodPath: Send + Sync + 'static {
    const SERVICE: &'static str;
    const PATH: &'static str;
}

/// `scouter.grpc.v1.MessageService/InsertMessage`.
pub(super) struct MessageServicePath;

impl MethodPath for MessageServicePath {
    const SERVICE: &'static str = "scouter.grpc.v1.MessageService";
    const PATH: &'static str = INSERT_MESSAGE;
}

/// OTLP's `TraceService/Export`.
pub(super) struct TraceServicePath;

impl MethodPath for TraceServicePath {
    const SERVICE: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    const PATH: &'static str = OTLP_TRACE_EXPORT;
}

/// A gRPC service of one unary method.
pub(super) struct RawUnary<H, P> {
    handler: Arc<H>,
    path: PhantomData<P>,
}

impl<H, P> RawUnary<H, P> {
    pub(super) fn new(handler: H) -> Self {
        Self { handler: Arc::new(handler), path: PhantomData }
    }
}

impl<H, P> Clone for RawUnary<H, P> {
    fn clone(&self) -> Self {
        Self { handler: Arc::clone(&self.handler), path: PhantomData }
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
        let handler = Arc::clone(&self.handler);
        Box::pin(async move {
            if request.uri().path() != P::PATH {
                return Ok(Status::unimplemented(format!("{} has no such method", P::SERVICE)).into_http());
            }
            let mut grpc = Grpc::new(ReceiveBytes::<H::Answer>::default())
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd)
                .max_decoding_message_size(MAX_REQUEST_BYTES);
            Ok(with_final_size_refusal(grpc.unary(Method(handler), request).await))
        })
    }
}

struct Method<H>(Arc<H>);

impl<H: Handle> UnaryService<Bytes> for Method<H> {
    type Response = H::Answer;
    type Future = Pin<Box<dyn Future<Output = Result<Response<H::Answer>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let handler = Arc::clone(&self.0);
        Box::pin(async move { handler.handle(request).await })
    }
}

/// The status of a failed unary call stands in the headers; no handler of ours answers `OUT_OF_RANGE`.
fn with_final_size_refusal(response: http::Response<Body>) -> http::Response<Body> {
    let code = Status::from_header_map(response.headers()).map(|status| status.code());
    match code {
        Some(Code::OutOfRange | Code::ResourceExhausted) => {
            let text = format!("the request is larger than the limit of {MAX_REQUEST_BYTES} bytes; send smaller batches");
            Status::resource_exhausted(text).into_http()
        }
        _ => response,
    }
}
