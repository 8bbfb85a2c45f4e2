//! The gRPC client: connects and logs in when it is first used, keeps its token fresh, and sends bytes as they are.
//!
//! Building a client needs neither network nor runtime. Every call has a deadline, which covers connecting, logging in, and one replay
//! after a refused token; it is sent along as `grpc-timeout`. Retrying belongs to the caller, who is told by [`CallError::kind`].
//!
//! Tokens: the first call logs in, and others wait for it instead of logging in themselves. At about 80 % of its life a token is renewed
//! while the old one is still sent. `UNAUTHENTICATED` costs one renewal, shared by all who wait, and one replay of the same bytes.
//! Refused credentials make calls fail at once for a while. Password and token appear in no message, log or `Debug` output.

mod address;
mod channel;
mod checks;
mod config;
mod error;
mod health;
mod otlp;
pub mod quiet;
mod retry_info;
mod session;
mod tls;
mod token;
mod tokens;
mod whole;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use tokio::time::{Instant, timeout_at};
use tonic::{
    Code, Request, Response,
    client::Grpc,
    codec::{Codec, CompressionEncoding},
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::Endpoint,
};
use tonic_prost::ProstCodec;

use self::{
    channel::{Answer, GuardedChannel},
    health::{HealthCheckRequest, HealthCheckResponse},
    whole::WholeMessage,
};
use crate::{
    codec::SendBytes,
    grpc::{
        InsertMessageRequest, InsertMessageResponse, LoginRequest, LoginResponse, RefreshTokenRequest, RefreshTokenResponse,
        ValidateTokenRequest, ValidateTokenResponse,
    },
    path,
};

pub use self::{
    address::{is_cut_by_its_password, is_loopback, shown_address},
    channel::user_agent,
    checks::{bounds_faults, truth},
    config::{Compression, ConfigError, ConfigFault, DEFAULT_TIMEOUT, GrpcConfig, Payload, Secret},
    error::{CallError, CallErrorKind, is_retryable_code},
    health::HealthStatus,
    otlp::TraceExportAnswer,
    retry_info::RetryInfo,
    session::Token,
    tls::TlsFiles,
    token::{BlockingToken, ProvidedToken, TokenError, TokenFuture, TokenProvider},
    tokens::{Granted, Login, Tokens},
};

const LOGIN: &str = "/scouter.grpc.v1.AuthService/Login";
const REFRESH_TOKEN: &str = "/scouter.grpc.v1.AuthService/RefreshToken";
const VALIDATE_TOKEN: &str = "/scouter.grpc.v1.AuthService/ValidateToken";

/// A client of Scouter's gRPC services. Clones share connection and token.
///
/// Methods must be awaited inside a tokio runtime; the connection lives on the runtime of the first call.
#[derive(Clone)]
pub struct GrpcClient {
    inner: Arc<Inner>,
}

struct Inner {
    config: GrpcConfig,
    endpoint: Endpoint,
    headers: MetadataMap,
    channel: OnceLock<GuardedChannel>,
    tokens: Tokens,
    /// In place of login and renewal.
    provider: Option<Arc<dyn TokenProvider>>,
}

impl fmt::Debug for GrpcClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcClient").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl GrpcClient {
    /// Builds a client. Reads certificate files; touches no network.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn new(config: GrpcConfig) -> Result<Self, ConfigError> {
        Self::build(config, None)
    }

    /// Builds a client whose tokens come from `provider`; user and password of the configuration are not used.
    ///
    /// # Errors
    /// Every fault of the configuration.
    pub fn with_token_provider(config: GrpcConfig, provider: Arc<dyn TokenProvider>) -> Result<Self, ConfigError> {
        Self::build(config, Some(provider))
    }

    /// Builds the same client anew: nothing is shared with this one but the token provider.
    ///
    /// # Errors
    /// As [`GrpcClient::new`]: files may have changed.
    pub fn rebuilt(&self) -> Result<Self, ConfigError> {
        Self::build(self.inner.config.clone(), self.inner.provider.clone())
    }

    fn build(config: GrpcConfig, provider: Option<Arc<dyn TokenProvider>>) -> Result<Self, ConfigError> {
        config.validate()?;
        let endpoint = channel::endpoint(&config)?;
        let mut headers = MetadataMap::new();
        for (name, value) in &config.headers {
            let unusable = |reason| ConfigFault::Header { name: name.clone(), reason };
            let key = AsciiMetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes())
                .map_err(|_| unusable("its name is not a header name"))?;
            let mut value = AsciiMetadataValue::try_from(value).map_err(|_| unusable("its value is not printable ASCII"))?;
            value.set_sensitive(true);
            headers.append(key, value);
        }
        Ok(Self { inner: Arc::new(Inner { config, endpoint, headers, channel: OnceLock::new(), tokens: Tokens::default(), provider }) })
    }

    /// The same client with a connection and a token of its own, for a process that forked.
    pub fn with_new_connection(&self) -> Self {
        let Inner { config, endpoint, headers, provider, .. } = &*self.inner;
        let (config, endpoint, headers, provider) = (config.clone(), endpoint.clone(), headers.clone(), provider.clone());
        Self { inner: Arc::new(Inner { config, endpoint, headers, channel: OnceLock::new(), tokens: Tokens::default(), provider }) }
    }

    /// The configuration it was built with.
    pub fn config(&self) -> &GrpcConfig {
        &self.inner.config
    }

    /// Sends an encoded `InsertMessageRequest`. An `Ok` answer means that the server made it durable, except what it counts as rejected.
    ///
    /// # Errors
    /// See [`CallErrorKind`]. After `DeadlineExceeded` or `Retryable` the server may have stored the request; sending the same bytes
    /// again is safe, because they carry the same `batch_id`.
    pub async fn insert_message(&self, request: Bytes, deadline: Instant) -> Result<InsertMessageResponse, CallError> {
        self.insert(request, true, deadline).await
    }

    /// Sends the JSON of Scouter's `MessageRecord`, for a server that reads nothing else. Such a server neither says what it rejects nor
    /// recognises a repetition.
    ///
    /// # Errors
    /// See [`CallErrorKind`].
    pub async fn insert_message_record(&self, json: Vec<u8>, deadline: Instant) -> Result<InsertMessageResponse, CallError> {
        let request = InsertMessageRequest { message_record: json, ..InsertMessageRequest::default() };
        self.insert(request.encode_to_vec().into(), false, deadline).await
    }

    /// Whether requests must be JSON: because the configuration says so, or the server's answer to the login, which is awaited.
    ///
    /// # Errors
    /// Those of the login; see [`CallErrorKind`].
    pub async fn wants_json(&self, deadline: Instant) -> Result<bool, CallError> {
        if self.inner.config.payload == Payload::Json {
            return Ok(true);
        }
        Ok(self.token(deadline).await?.is_some() && !self.inner.tokens.accepts_typed_messages())
    }

    async fn insert(&self, request: Bytes, is_typed: bool, deadline: Instant) -> Result<InsertMessageResponse, CallError> {
        let token = self.token(deadline).await?;
        match self.insert_with(token.as_deref(), request.clone(), is_typed, deadline).await {
            Err(error) if error.kind() == CallErrorKind::Unauthenticated && token.is_some() => {
                let token = self.replace_token(token.as_deref(), deadline).await?;
                self.insert_with(Some(&token), request, is_typed, deadline).await
            }
            result => result,
        }
    }

    /// Logs in now, unless a token is at hand.
    ///
    /// # Errors
    /// See [`CallErrorKind`]; `Credentials` for a wrong user or password.
    pub async fn login(&self, deadline: Instant) -> Result<(), CallError> {
        self.token(deadline).await.map(drop)
    }

    /// Asks the server whether the client's token is valid; logs in first when there is none.
    ///
    /// # Errors
    /// See [`CallErrorKind`].
    pub async fn validate_token(&self, deadline: Instant) -> Result<bool, CallError> {
        let Some(token) = self.token(deadline).await? else { return Ok(false) };
        let request = ValidateTokenRequest { token: token.text.reveal().to_owned() };
        let answer: Response<ValidateTokenResponse> =
            self.call("token validation", VALIDATE_TOKEN, ProstCodec::default(), request, None, deadline).await?;
        Ok(answer.into_inner().is_authenticated)
    }

    /// Asks for the health of `service`, or of the whole server when it is empty. Needs no login.
    ///
    /// # Errors
    /// See [`CallErrorKind`].
    pub async fn health_check(&self, service: &str, deadline: Instant) -> Result<HealthStatus, CallError> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer: Result<Response<HealthCheckResponse>, _> =
            self.call("a health check", health::CHECK, ProstCodec::default(), request, None, deadline).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner().status()),
            Err(error) if error.code() == Code::NotFound => Ok(HealthStatus::Unknown),
            Err(error) => Err(error),
        }
    }

    /// While the server refuses the credentials: how long calls still fail at once, and the server's words.
    pub fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        self.inner.tokens.pause()
    }

    async fn insert_with(
        &self,
        token: Option<&Token>,
        request: Bytes,
        is_typed: bool,
        deadline: Instant,
    ) -> Result<InsertMessageResponse, CallError> {
        if is_typed && token.is_some() && !self.inner.tokens.accepts_typed_messages() {
            // It would answer OK and store nothing: the fields are unknown to it.
            let message = "this server does not read typed spans and records (accepts_typed_messages is false in its login answer)";
            return Err(CallError::new(CallErrorKind::Refused, Code::Unimplemented, message));
        }
        let answer: Response<InsertMessageResponse> =
            self.call_with_bytes("InsertMessage", path::INSERT_MESSAGE, request, token, deadline).await?;
        if self.inner.provider.is_none()
            && let Some(refreshed) =
                answer.metadata().get(path::REFRESHED_TOKEN).and_then(|value| value.to_str().ok()).filter(|token| !token.is_empty())
        {
            // Should its life be less than its predecessor's, UNAUTHENTICATED will tell.
            self.inner.tokens.accept_unasked(refreshed.to_owned())?;
        }
        Ok(answer.into_inner())
    }

    /// The token to send; `None` for a client without a user.
    async fn token(&self, deadline: Instant) -> Result<Option<Arc<Token>>, CallError> {
        let inner = &self.inner;
        match &inner.provider {
            Some(provider) => inner.tokens.current(&FromProvider(provider), deadline).await.map(Some),
            None if inner.config.username.is_empty() => Ok(None),
            None => inner.tokens.current(self, deadline).await.map(Some),
        }
    }

    /// A token other than the refused one.
    async fn replace_token(&self, refused: Option<&Token>, deadline: Instant) -> Result<Arc<Token>, CallError> {
        match &self.inner.provider {
            Some(provider) => self.inner.tokens.replace(&FromProvider(provider), refused, deadline).await,
            None => self.inner.tokens.replace(self, refused, deadline).await,
        }
    }

    /// A call whose message is encoded already: copied only to be compressed.
    async fn call_with_bytes<Reply: prost::Message + Default + 'static>(
        &self,
        what: &str,
        path: &'static str,
        message: Bytes,
        token: Option<&Token>,
        deadline: Instant,
    ) -> Result<Response<Reply>, CallError> {
        let config = &self.inner.config;
        // Tonic's own words for what is too large.
        let is_sent_as_it_is = config.compression == Compression::None && message.len() <= config.max_request_bytes;
        let whole = is_sent_as_it_is.then(|| WholeMessage::new(message.clone())).flatten();
        let message = if whole.is_some() { Bytes::new() } else { message };
        self.call_in_place_of(whole, what, path, SendBytes::default(), message, token, deadline).await
    }

    async fn call<Message, Reply, C>(
        &self,
        what: &str,
        path: &'static str,
        codec: C,
        message: Message,
        token: Option<&Token>,
        deadline: Instant,
    ) -> Result<Response<Reply>, CallError>
    where
        C: Codec<Encode = Message, Decode = Reply>,
        Message: Send + Sync + 'static,
        Reply: Send + Sync + 'static,
    {
        self.call_in_place_of(None, what, path, codec, message, token, deadline).await
    }

    /// With `whole`, that is sent in place of the message.
    #[allow(clippy::too_many_arguments)]
    async fn call_in_place_of<Message, Reply, C>(
        &self,
        whole: Option<WholeMessage>,
        what: &str,
        path: &'static str,
        codec: C,
        message: Message,
        token: Option<&Token>,
        deadline: Instant,
    ) -> Result<Response<Reply>, CallError>
    where
        C: Codec<Encode = Message, Decode = Reply>,
        Message: Send + Sync + 'static,
        Reply: Send + Sync + 'static,
    {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CallError::deadline(what));
        }
        let answer = Answer::default();
        let mut request = Request::new(message);
        *request.metadata_mut() = self.inner.headers.clone();
        if let Some(token) = token {
            request.metadata_mut().insert(path::AUTHORIZATION, token.header.clone());
        }
        request.set_timeout(left);
        request.extensions_mut().insert(answer.clone());
        if let Some(whole) = whole {
            request.extensions_mut().insert(whole);
        }
        let mut grpc = self.grpc(path);
        let exchange = async {
            grpc.ready().await.map_err(|error| CallError::new(CallErrorKind::Retryable, Code::Unavailable, error.to_string()))?;
            grpc.unary(request, PathAndQuery::from_static(path), codec).await.map_err(|status| {
                if answer.has_grpc_status() {
                    CallError::from_server(&status, answer.retry_info())
                } else if Instant::now() >= deadline {
                    CallError::deadline(what)
                } else {
                    CallError::from_transport(&status, answer.http_status())
                }
            })
        };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| Err(CallError::deadline(what)))
    }

    fn grpc(&self, path: &str) -> Grpc<GuardedChannel> {
        let channel = self.inner.channel.get_or_init(|| GuardedChannel::connect_lazy(&self.inner.endpoint));
        let grpc = Grpc::new(channel.clone())
            .max_decoding_message_size(self.inner.config.max_response_bytes)
            .max_encoding_message_size(self.inner.config.max_request_bytes)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        match self.inner.config.compression {
            // The other calls are small, and a server need not take them compressed.
            _ if path != path::INSERT_MESSAGE && path != path::OTLP_TRACE_EXPORT => grpc,
            Compression::None => grpc,
            Compression::Gzip => grpc.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => grpc.send_compressed(CompressionEncoding::Zstd),
        }
    }
}

impl Login for GrpcClient {
    async fn log_in(&self, _refused: Option<&Token>, deadline: Instant) -> Result<Granted, CallError> {
        let config = &self.inner.config;
        let request = LoginRequest { username: config.username.clone(), password: config.password.reveal().to_owned() };
        let answer: Result<Response<LoginResponse>, _> = self.call("login", LOGIN, ProstCodec::default(), request, None, deadline).await;
        let answer = answer.map_err(|error| match error.code() {
            Code::Unauthenticated | Code::PermissionDenied | Code::NotFound | Code::InvalidArgument if !error.is_retryable() => {
                error.with_kind(CallErrorKind::Credentials)
            }
            _ => error,
        })?;
        let LoginResponse { token, message, expires_in_seconds, accepts_typed_messages, .. } = answer.into_inner();
        if token.is_empty() {
            return Err(CallError::new(CallErrorKind::Refused, Code::Internal, format!("login gave no token: {message}")));
        }
        Ok(Granted { token, life: life(expires_in_seconds), accepts_typed_messages: Some(accepts_typed_messages) })
    }

    async fn renew(&self, token: &Token, deadline: Instant) -> Result<Granted, CallError> {
        let request = RefreshTokenRequest { access_token: token.text.reveal().to_owned() };
        let answer: Response<RefreshTokenResponse> =
            self.call("token renewal", REFRESH_TOKEN, ProstCodec::default(), request, None, deadline).await?;
        let RefreshTokenResponse { token, message, expires_in_seconds, .. } = answer.into_inner();
        if token.is_empty() {
            return Err(CallError::new(CallErrorKind::Refused, Code::Internal, format!("renewal gave no token: {message}")));
        }
        Ok(Granted { token, life: life(expires_in_seconds), accepts_typed_messages: None })
    }

    fn tell_refused(&self, error: &CallError) {
        let GrpcConfig { server_uri, username, .. } = &self.inner.config;
        let message = error.message();
        let server = shown_address(server_uri);
        tracing::error!(server, username = %username, message, "the server refuses user and password; nothing is sent until it accepts them");
    }
}

/// Tokens from elsewhere. Who gives them knows nothing of the server: typed messages are sent.
struct FromProvider<'a>(&'a Arc<dyn TokenProvider>);

impl FromProvider<'_> {
    async fn ask(&self, refused: Option<Secret>, deadline: Instant) -> Result<Granted, CallError> {
        let ProvidedToken { token, life } = token::provide(self.0, refused, deadline).await?;
        Ok(Granted { token: token.reveal().to_owned(), life, accepts_typed_messages: Some(true) })
    }
}

impl Login for FromProvider<'_> {
    /// A provider is told what was refused.
    const RENEWS_REFUSED: bool = false;

    async fn log_in(&self, refused: Option<&Token>, deadline: Instant) -> Result<Granted, CallError> {
        self.ask(refused.map(|token| token.text.clone()), deadline).await
    }

    async fn renew(&self, _token: &Token, deadline: Instant) -> Result<Granted, CallError> {
        self.ask(None, deadline).await
    }

    fn tell_refused(&self, error: &CallError) {
        tracing::error!(message = error.message(), "the token provider gives no token; nothing is sent until it does");
    }
}

/// `expires_in_seconds` of an answer; 0 means that the server does not say.
fn life(expires_in_seconds: i64) -> Option<Duration> {
    u64::try_from(expires_in_seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}
