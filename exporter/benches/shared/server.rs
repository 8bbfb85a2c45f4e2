//! A server that costs little: it takes requests of Scouter and of OTLP over gRPC as bytes, counts the spans in them and answers.

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};
use scouter_exporter::GrpcConfig;
use scouter_tonic::{
    codec::ReceiveBytes,
    grpc::{
        InsertMessageResponse, LoginRequest, LoginResponse, RefreshTokenRequest, RefreshTokenResponse, ValidateTokenRequest,
        ValidateTokenResponse,
        auth_service_server::{AuthService, AuthServiceServer},
    },
    limits::MAX_REQUEST_BYTES,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
};

/// Threads with this name are the server's; their CPU time is not the client's.
pub(crate) const THREAD_NAME: &str = "bare-server";

/// A running server. Dropping it cuts its connections.
pub(crate) struct Server {
    address: SocketAddr,
    spans: Arc<AtomicU64>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0", Arc::default())
    }

    fn start_on(address: &str, spans: Arc<AtomicU64>) -> Self {
        let listener = loop {
            match TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(THREAD_NAME).enable_all().build().unwrap();
        let counter = Arc::clone(&spans);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .initial_stream_window_size(4 * 1024 * 1024)
                .initial_connection_window_size(16 * 1024 * 1024)
                .max_frame_size(1024 * 1024)
                .add_service(AuthServiceServer::new(Open))
                .add_service(Door::<Scouter>::new(Arc::clone(&counter)))
                .add_service(Door::<Otlp>::new(counter))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { address, spans, runtime: Some(runtime) }
    }

    /// Spans received so far.
    pub(crate) fn spans(&self) -> u64 {
        self.spans.load(Ordering::Relaxed)
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn config(&self) -> GrpcConfig {
        GrpcConfig { server_uri: self.uri(), ..GrpcConfig::default() }
    }

    /// Cuts all connections and stops listening.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// Comes back on the same port and goes on counting.
    pub(crate) fn restart(&mut self) {
        self.stop();
        *self = Self::start_on(&self.address.to_string(), Arc::clone(&self.spans));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lets everybody in.
struct Open;

#[tonic::async_trait]
impl AuthService for Open {
    async fn login(&self, _request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let token = "token".to_owned();
        Ok(Response::new(LoginResponse { token, status: "success".to_owned(), accepts_typed_messages: true, ..Default::default() }))
    }

    async fn refresh_token(&self, _request: Request<RefreshTokenRequest>) -> Result<Response<RefreshTokenResponse>, Status> {
        Ok(Response::new(RefreshTokenResponse { token: "token".to_owned(), status: "success".to_owned(), ..Default::default() }))
    }

    async fn validate_token(&self, _request: Request<ValidateTokenRequest>) -> Result<Response<ValidateTokenResponse>, Status> {
        Ok(Response::new(ValidateTokenResponse { is_authenticated: true, ..Default::default() }))
    }
}

/// What differs between the two ways in.
trait Protocol: Clone + Send + Sync + 'static {
    const NAME: &'static str;
    /// Number of the field that holds the `ResourceSpans`.
    const RESOURCE_SPANS: u32;
    type Answer: Message + Default + 'static;
}

#[derive(Clone)]
struct Scouter;

impl Protocol for Scouter {
    const NAME: &'static str = "scouter.grpc.v1.MessageService";
    const RESOURCE_SPANS: u32 = 2;
    type Answer = InsertMessageResponse;
}

#[derive(Clone)]
struct Otlp;

impl Protocol for Otlp {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    const RESOURCE_SPANS: u32 = 1;
    type Answer = ExportTraceServiceResponse;
}

#[derive(Clone)]
struct Door<P> {
    spans: Arc<AtomicU64>,
    protocol: PhantomData<P>,
}

impl<P> Door<P> {
    fn new(spans: Arc<AtomicU64>) -> Self {
        Self { spans, protocol: PhantomData }
    }
}

impl<P: Protocol> NamedService for Door<P> {
    const NAME: &'static str = P::NAME;
}

impl<P: Protocol> UnaryService<Bytes> for Door<P> {
    type Response = P::Answer;
    type Future = std::future::Ready<Result<Response<P::Answer>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let count = count_fields(request.get_ref(), &[P::RESOURCE_SPANS, 2, 2]);
        self.spans.fetch_add(count, Ordering::Relaxed);
        std::future::ready(Ok(Response::new(P::Answer::default())))
    }
}

impl<P: Protocol> Service<http::Request<Body>> for Door<P> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ReceiveBytes::<P::Answer>::default()).max_decoding_message_size(MAX_REQUEST_BYTES);
            Ok(grpc.unary(door, request).await)
        })
    }
}

/// How often the message field at the end of `path` occurs.
fn count_fields(mut message: &[u8], path: &[u32]) -> u64 {
    let Some((wanted, rest)) = path.split_first() else { return 1 };
    let mut count = 0;
    while !message.is_empty() {
        let (number, wire_type) = decode_key(&mut message).unwrap();
        if number == *wanted && wire_type == WireType::LengthDelimited {
            let len = decode_varint(&mut message).unwrap() as usize;
            let (inner, after) = message.split_at(len);
            count += count_fields(inner, rest);
            message = after;
        } else {
            skip_field(wire_type, number, &mut message, DecodeContext::default()).unwrap();
        }
    }
    count
}
