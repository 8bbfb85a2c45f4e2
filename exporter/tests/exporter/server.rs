//! An in-process server that answers as it is told and writes down what it was sent, byte for byte.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use scouter_exporter::GrpcConfig;
use scouter_tonic::{
    codec::ReceiveBytes,
    grpc::{
        InsertMessageRequest, InsertMessageResponse, LoginRequest, LoginResponse, RefreshTokenRequest, RefreshTokenResponse,
        ValidateTokenRequest, ValidateTokenResponse,
        auth_service_server::{AuthService, AuthServiceServer},
    },
    limits::MAX_REQUEST_BYTES,
    path,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    codec::CompressionEncoding,
    server::{Grpc, NamedService, UnaryService},
    transport::{Identity, ServerTlsConfig},
};

pub(crate) const PASSWORD: &str = "a secret that must not leak";

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does with one InsertMessage. Without instructions it says OK.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Ok,
    Fail(Code, &'static str),
    /// A status with these trailers.
    FailWith(Code, Vec<(&'static str, Vec<u8>)>),
    Reject {
        spans: i64,
        records: i64,
        message: &'static str,
    },
    /// OK, with this token in `x-refreshed-token`.
    Rotate(&'static str),
    /// OK with a message of that many bytes.
    Huge(usize),
    Never,
    /// OK, with fields that only a later version knows.
    Unknown,
    /// OK, after that time.
    Slow(Duration),
}

/// What arrived in one InsertMessage.
#[derive(Clone, Debug)]
pub(crate) struct Insert {
    pub(crate) token: Option<String>,
    pub(crate) grpc_timeout: Option<String>,
    pub(crate) user_agent: Option<String>,
    pub(crate) body: Bytes,
}

impl Insert {
    pub(crate) fn request(&self) -> InsertMessageRequest {
        InsertMessageRequest::decode(self.body.clone()).expect("the exporter sends valid requests")
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let resources = self.request().resource_spans;
        resources.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) replies: VecDeque<Reply>,
    /// The answer when `replies` is empty.
    pub(crate) default_reply: Option<Reply>,
    /// Larger requests are answered with this code.
    pub(crate) max_body: Option<(usize, Code)>,
    /// Requests with a span of this name are answered with this code.
    pub(crate) poison: Option<(&'static str, Code)>,
    pub(crate) login_replies: VecDeque<Option<Status>>,
    pub(crate) refresh_fails: bool,
    /// Renewals are never answered.
    pub(crate) refresh_hangs: bool,
    pub(crate) expires_in_seconds: i64,
    pub(crate) is_old_scouter: bool,
    /// The only token that is good; changes with every login and renewal.
    pub(crate) valid_token: Option<String>,
    pub(crate) inserts: Vec<Insert>,
    /// Those answered with OK, and how many of their spans were rejected.
    pub(crate) acknowledged: Vec<(Insert, i64)>,
    pub(crate) logins: usize,
    pub(crate) refreshes: usize,
    /// Claims of new tokens, encoded as in a JWT; tokens are no JWTs without.
    pub(crate) claims: Option<&'static str>,
    tokens: usize,
}

/// A running server. Dropping it cuts all its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<tokio::runtime::Runtime>,
    scheme: &'static str,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0", Arc::default(), None)
    }

    #[allow(dead_code, reason = "the tests of faults use it")]
    pub(crate) fn start_at(address: &str) -> Self {
        Self::start_on(address, Arc::default(), None)
    }

    pub(crate) fn start_tls(certificate_pem: &str, key_pem: &str) -> Self {
        // Another crate of the same build may bring a second provider; the server's side must be told which one to use.
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        Self::start_on("127.0.0.1:0", Arc::default(), Some(ServerTlsConfig::new().identity(Identity::from_pem(certificate_pem, key_pem))))
    }

    /// Takes only clients with a certificate of that authority.
    pub(crate) fn start_mutual_tls(tls: ServerTlsConfig) -> Self {
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        Self::start_on("127.0.0.1:0", Arc::default(), Some(tls))
    }

    fn start_on(address: &str, state: Arc<Mutex<State>>, tls: Option<ServerTlsConfig>) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(address) {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "cannot listen on {address}: {error}"),
            }
        };
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let doors = Doors(Arc::clone(&state));
        let scheme = if tls.is_some() { "https" } else { "http" };
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut server = tonic::transport::Server::builder();
            if let Some(tls) = tls {
                server = server.tls_config(tls).unwrap();
            }
            server
                .add_service(AuthServiceServer::new(doors.clone()))
                .add_service(MessageDoor(doors))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { address, state, runtime: Some(runtime), scheme }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state().replies.extend(replies);
    }

    pub(crate) fn logins_and_renewals(&self) -> (usize, usize) {
        let state = self.state();
        (state.logins, state.refreshes)
    }

    pub(crate) fn inserts(&self) -> Vec<Insert> {
        self.state().inserts.clone()
    }

    pub(crate) fn config(&self) -> GrpcConfig {
        GrpcConfig {
            server_uri: format!("{}://{}", self.scheme, self.address),
            username: "tester".to_owned(),
            password: PASSWORD.into(),
            timeout: Duration::from_secs(5),
            ..GrpcConfig::default()
        }
    }

    /// Cuts all connections and stops listening.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }

    /// Comes back on the same port with the same memory.
    pub(crate) fn restart(&mut self) {
        self.stop();
        *self = Self::start_on(&self.address.to_string(), Arc::clone(&self.state), None);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// `google.rpc.RetryInfo` with a delay in seconds and nanoseconds.
pub(crate) fn retry_info(seconds: i64, nanos: i32) -> Vec<u8> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Delay {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<Delay>,
    }
    prost::Message::encode_to_vec(&RetryInfo { retry_delay: Some(Delay { seconds, nanos }) })
}

/// A failure that says when to come again.
pub(crate) fn throttle(code: Code, seconds: i64, nanos: i32) -> Reply {
    Reply::FailWith(code, vec![("google.rpc.retryinfo-bin", retry_info(seconds, nanos))])
}

/// An address where nobody listens.
pub(crate) fn refused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A server that takes connections and never says a word.
pub(crate) fn silent_server() -> (TcpListener, GrpcConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = GrpcConfig { server_uri: format!("http://{}", listener.local_addr().unwrap()), ..GrpcConfig::default() };
    (listener, config)
}

pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Clone)]
struct Doors(Arc<Mutex<State>>);

impl Doors {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn new_token(state: &mut State) -> String {
        state.tokens += 1;
        let token = match state.claims {
            Some(claims) => format!("eyJhbGciOiJub25lIn0.{claims}.{}", state.tokens),
            None => format!("token-{}", state.tokens),
        };
        state.valid_token = Some(token.clone());
        token
    }

    async fn insert(&self, insert: Insert) -> Result<Response<InsertMessageResponse>, Status> {
        let reply = {
            let mut state = self.state();
            let is_authorized = insert.token == state.valid_token.as_ref().map(|token| format!("Bearer {token}"));
            state.inserts.push(insert.clone());
            if !is_authorized {
                return Err(Status::unauthenticated("the token is not valid"));
            }
            if let Some((max, code)) = state.max_body
                && insert.body.len() > max
            {
                return Err(Status::new(code, "message length too large"));
            }
            if let Some((name, code)) = state.poison
                && insert.spans().iter().any(|span| span.name == name)
            {
                return Err(Status::new(code, "poisoned"));
            }
            let reply = state.replies.pop_front().or_else(|| state.default_reply.clone()).unwrap_or(Reply::Ok);
            match reply {
                Reply::Ok | Reply::Slow(_) | Reply::Unknown => state.acknowledged.push((insert, 0)),
                Reply::Reject { spans, .. } => state.acknowledged.push((insert, spans)),
                _ => {}
            }
            reply
        };
        let ok = InsertMessageResponse { status: "success".to_owned(), ..Default::default() };
        match reply {
            Reply::Ok | Reply::Unknown => Ok(Response::new(ok)),
            Reply::Fail(code, message) => Err(Status::new(code, message)),
            Reply::FailWith(code, trailers) => {
                let mut status = Status::new(code, "with trailers");
                for (name, value) in trailers {
                    status.metadata_mut().insert_bin(name, tonic::metadata::MetadataValue::from_bytes(&value));
                }
                Err(status)
            }
            Reply::Reject { spans, records, message } => Ok(Response::new(InsertMessageResponse {
                rejected_spans: spans,
                rejected_records: records,
                message: message.to_owned(),
                ..ok
            })),
            Reply::Rotate(token) => {
                self.state().valid_token = Some(token.to_owned());
                let mut response = Response::new(ok);
                response.metadata_mut().insert(path::REFRESHED_TOKEN, token.parse().unwrap());
                Ok(response)
            }
            Reply::Huge(bytes) => Ok(Response::new(InsertMessageResponse { message: "x".repeat(bytes), ..ok })),
            Reply::Never => std::future::pending().await,
            Reply::Slow(delay) => {
                tokio::time::sleep(delay).await;
                Ok(Response::new(ok))
            }
        }
    }
}

#[tonic::async_trait]
impl AuthService for Doors {
    async fn login(&self, request: Request<LoginRequest>) -> Result<Response<LoginResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.logins += 1;
        if let Some(Some(status)) = state.login_replies.pop_front() {
            return Err(status);
        }
        if request.password != PASSWORD {
            return Err(Status::unauthenticated("wrong user or password"));
        }
        let token = Self::new_token(&mut state);
        Ok(Response::new(LoginResponse {
            token,
            status: "success".to_owned(),
            expires_in_seconds: state.expires_in_seconds,
            accepts_typed_messages: !state.is_old_scouter,
            ..Default::default()
        }))
    }

    async fn refresh_token(&self, request: Request<RefreshTokenRequest>) -> Result<Response<RefreshTokenResponse>, Status> {
        let hangs = self.state().refresh_hangs;
        if hangs {
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        state.refreshes += 1;
        if state.refresh_fails || request.into_inner().access_token.is_empty() {
            return Err(Status::unauthenticated("the session is over"));
        }
        let token = Self::new_token(&mut state);
        let expires_in_seconds = state.expires_in_seconds;
        Ok(Response::new(RefreshTokenResponse { token, status: "success".to_owned(), expires_in_seconds, ..Default::default() }))
    }

    async fn validate_token(&self, request: Request<ValidateTokenRequest>) -> Result<Response<ValidateTokenResponse>, Status> {
        let is_authenticated = self.state().valid_token == Some(request.into_inner().token);
        Ok(Response::new(ValidateTokenResponse { is_authenticated, ..Default::default() }))
    }
}

/// What a later version may answer: the fields of today, and others.
#[derive(Clone, PartialEq, prost::Message)]
struct LaterAnswer {
    #[prost(string, tag = "1")]
    status: String,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int64, tag = "3")]
    rejected_spans: i64,
    #[prost(int64, tag = "4")]
    rejected_records: i64,
    #[prost(string, tag = "99")]
    of_a_later_version: String,
}

/// MessageService below the generated code, so that tests see the bytes.
#[derive(Clone)]
struct MessageDoor(Doors);

impl NamedService for MessageDoor {
    const NAME: &'static str = "scouter.grpc.v1.MessageService";
}

impl UnaryService<Bytes> for MessageDoor {
    type Response = LaterAnswer;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<LaterAnswer>, Status>> + Send>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let doors = self.0.clone();
        let text = |name| request.metadata().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (token, grpc_timeout, user_agent) = (text(path::AUTHORIZATION), text("grpc-timeout"), text("user-agent"));
        let insert = Insert { token, grpc_timeout, user_agent, body: request.into_inner() };
        Box::pin(async move {
            let is_later = matches!(doors.state().replies.front(), Some(Reply::Unknown));
            let answer = doors.insert(insert).await?;
            Ok(answer.map(|InsertMessageResponse { status, message, rejected_spans, rejected_records }| LaterAnswer {
                status,
                message,
                rejected_spans,
                rejected_records,
                of_a_later_version: if is_later { "words".to_owned() } else { String::new() },
            }))
        })
    }
}

type HttpFuture = std::pin::Pin<Box<dyn Future<Output = Result<tonic::codegen::http::Response<Body>, Infallible>> + Send>>;

impl tonic::codegen::Service<tonic::codegen::http::Request<Body>> for MessageDoor {
    type Response = tonic::codegen::http::Response<Body>;
    type Error = Infallible;
    type Future = HttpFuture;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::codegen::http::Request<Body>) -> HttpFuture {
        let door = self.clone();
        Box::pin(async move {
            let codec = ReceiveBytes::<LaterAnswer>::default();
            let mut grpc = Grpc::new(codec)
                .max_decoding_message_size(MAX_REQUEST_BYTES)
                .accept_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Zstd);
            Ok(grpc.unary(door, request).await)
        })
    }
}
