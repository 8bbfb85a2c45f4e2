//! An OTLP server over gRPC or HTTP that answers as it is told and writes down what it was sent.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    trace::v1::Span,
};
use prost::Message;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use scouter_exporter::{OtlpConfig, OtlpProtocol};
use scouter_tonic::{codec::ReceiveBytes, limits::MAX_REQUEST_BYTES, path};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codec::CompressionEncoding,
    codegen::{Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::ServerTlsConfig,
};

pub(crate) const BOTH: [OtlpProtocol; 2] = [OtlpProtocol::Grpc, OtlpProtocol::HttpProtobuf];

/// What the server does with one request. Without instructions it says OK.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Ok,
    /// OK with a partial success.
    Partial(i64, &'static str),
    /// UNAVAILABLE or 503, with a pause in seconds where it is not zero.
    Busy(u32),
    /// INVALID_ARGUMENT or 400.
    Bad,
    /// UNAUTHENTICATED or 401.
    Stranger,
    /// OK with a message of that many bytes.
    Huge(usize),
    /// This HTTP status; over gRPC INTERNAL.
    Http(u16),
    /// Half an answer, then the connection ends. HTTP only.
    Cut,
    Never,
}

/// What arrived in one request, decompressed.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) target: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let request = ExportTraceServiceRequest::decode(self.body.clone()).expect("the exporter sends valid requests");
        request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

#[derive(Default)]
struct State {
    replies: VecDeque<Reply>,
    received: Vec<Received>,
}

/// A running server of one protocol.
pub(crate) struct Collector {
    protocol: OtlpProtocol,
    address: SocketAddr,
    scheme: &'static str,
    door: Door,
    _runtime: Option<tokio::runtime::Runtime>,
}

impl Collector {
    pub(crate) fn start(protocol: OtlpProtocol) -> Self {
        match protocol {
            OtlpProtocol::Grpc => Self::start_grpc(None),
            OtlpProtocol::HttpProtobuf => Self::start_http(None),
        }
    }

    pub(crate) fn start_grpc(tls: Option<ServerTlsConfig>) -> Self {
        let door = Door::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = door.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut server = tonic::transport::Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            server.add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { protocol: OtlpProtocol::Grpc, address, scheme, door, _runtime: Some(runtime) }
    }

    pub(crate) fn start_http(tls: Option<Arc<ServerConfig>>) -> Self {
        let door = Door::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let service = door.clone();
        // Its threads end with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (door, tls) = (service.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(tls) => serve_http(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &door),
                    None => serve_http::<TcpStream>(stream, &door),
                });
            }
        });
        Self { protocol: OtlpProtocol::HttpProtobuf, address, scheme, door, _runtime: None }
    }

    pub(crate) fn config(&self) -> OtlpConfig {
        let url = format!("{}://{}", self.scheme, self.address);
        let config = match self.protocol {
            OtlpProtocol::Grpc => OtlpConfig::grpc(url),
            OtlpProtocol::HttpProtobuf => OtlpConfig::http(&url),
        };
        OtlpConfig { timeout: Duration::from_secs(5), ..config }
    }

    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.door.state().replies.extend(replies);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.door.state().received.clone()
    }
}

#[derive(Clone, Default)]
struct Door(Arc<Mutex<State>>);

impl Door {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn take(&self, received: Received) -> Reply {
        let mut state = self.state();
        state.received.push(received);
        state.replies.pop_front().unwrap_or(Reply::Ok)
    }
}

fn response(rejected_spans: i64, error_message: String) -> ExportTraceServiceResponse {
    ExportTraceServiceResponse { partial_success: Some(ExportTracePartialSuccess { rejected_spans, error_message }) }
}

/// HTTP/1.1 as far as these tests need it.
fn serve_http<S: Read + Write>(stream: S, door: &Door) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match stream.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => break,
                Ok(_) => head.push(line.trim().to_owned()),
            }
        }
        let headers: Vec<(String, String)> = head[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let header = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        let mut body = vec![0; header("content-length").expect("requests have a length").parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        let mut plain = Vec::new();
        match header("content-encoding").as_deref() {
            Some("gzip") => drop(flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut plain).unwrap()),
            Some("zstd") => plain = zstd::bulk::decompress(&body, MAX_REQUEST_BYTES).unwrap(),
            _ => plain = body,
        }
        let ok = |response: ExportTraceServiceResponse| (200, String::new(), response.encode_to_vec());
        let (status, more, body) = match door.take(Received { target: head[0].clone(), headers, body: plain.into() }) {
            Reply::Ok => (200, String::new(), Vec::new()),
            Reply::Partial(rejected, message) => ok(response(rejected, message.to_owned())),
            Reply::Busy(0) => (503, String::new(), b"busy".to_vec()),
            Reply::Busy(seconds) => (503, format!("retry-after: {seconds}\r\n"), b"busy".to_vec()),
            Reply::Bad => (400, String::new(), b"bad".to_vec()),
            Reply::Stranger => (401, String::new(), b"who are you".to_vec()),
            Reply::Huge(bytes) => ok(response(0, "x".repeat(bytes))),
            Reply::Http(status) => (status, "location: http://127.0.0.1:1/\r\n".to_owned(), b"scripted".to_vec()),
            Reply::Cut => {
                let _gone = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc");
                return;
            }
            Reply::Never => loop {
                std::thread::park();
            },
        };
        let head = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n{more}\r\n", body.len());
        let stream = stream.get_mut();
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

impl NamedService for Door {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl UnaryService<Bytes> for Door {
    type Response = ExportTraceServiceResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ExportTraceServiceResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
        let headers = request.metadata().clone().into_headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let reply = self.take(Received { target: path::OTLP_TRACE_EXPORT.to_owned(), headers, body: request.into_inner() });
        Box::pin(async move {
            match reply {
                Reply::Ok => Ok(Response::new(ExportTraceServiceResponse::default())),
                Reply::Partial(rejected, message) => Ok(Response::new(response(rejected, message.to_owned()))),
                Reply::Busy(seconds) => {
                    let mut status = Status::unavailable("busy");
                    // google.rpc.RetryInfo { retry_delay { seconds } }
                    let info = [0x0a, 0x02, 0x08, u8::try_from(seconds).unwrap()];
                    if seconds > 0 {
                        let info = tonic::metadata::MetadataValue::from_bytes(&info);
                        status.metadata_mut().insert_bin("google.rpc.retryinfo-bin", info);
                    }
                    Err(status)
                }
                Reply::Bad => Err(Status::invalid_argument("bad")),
                Reply::Stranger => Err(Status::unauthenticated("who are you")),
                Reply::Huge(bytes) => Ok(Response::new(response(0, "x".repeat(bytes)))),
                Reply::Http(_) | Reply::Cut => Err(Status::new(Code::Internal, "scripted")),
                Reply::Never => std::future::pending().await,
            }
        })
    }
}

impl Service<http::Request<Body>> for Door {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ReceiveBytes::<ExportTraceServiceResponse>::default())
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd);
            Ok(grpc.unary(door, request).await)
        })
    }
}
