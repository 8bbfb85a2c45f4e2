//! Where a pipeline's requests go. Chosen when the pipeline is built.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use scouter_tonic::client::{CallError, CallErrorKind, DEFAULT_TIMEOUT, GrpcClient, TokenProvider, TraceExportAnswer};
use tokio::time::Instant;
use tonic::Code;

use crate::{
    ConfigError, GrpcConfig, OtlpConfig,
    encode::RequestFormat,
    otlp::{HttpClient, OtlpProtocol, Warnings},
    payload::{EvalNames, to_json},
};

/// One server, and how to speak to it.
pub(crate) struct Destination {
    client: Client,
    timeout: Duration,
    flush_timeout: Duration,
    max_request_bytes: usize,
    warnings: Warnings,
    /// A server that reads JSON alone knows evaluations by their later names.
    has_later_names: AtomicBool,
}

#[derive(Clone)]
enum Client {
    Scouter(GrpcClient),
    OtlpGrpc(GrpcClient),
    OtlpHttp(Arc<HttpClient>),
}

/// What a server says to a request it took.
pub(crate) struct Answer {
    pub(crate) rejected_spans: u64,
    pub(crate) rejected_records: u64,
    pub(crate) message: String,
    /// What was sent, before compression: JSON is larger than the request it stands for.
    pub(crate) bytes: u64,
}

impl Destination {
    pub(crate) fn scouter(config: GrpcConfig) -> Result<Self, ConfigError> {
        Self::of_client(config, GrpcClient::new)
    }

    pub(crate) fn scouter_with_tokens(config: GrpcConfig, provider: Arc<dyn TokenProvider>) -> Result<Self, ConfigError> {
        Self::of_client(config, |config| GrpcClient::with_token_provider(config, provider))
    }

    fn of_client(config: GrpcConfig, client: impl FnOnce(GrpcConfig) -> Result<GrpcClient, ConfigError>) -> Result<Self, ConfigError> {
        let (timeout, max_request_bytes) = (config.timeout, config.max_request_bytes);
        let client = Client::Scouter(client(config)?);
        Ok(Self {
            client,
            timeout,
            flush_timeout: timeout,
            max_request_bytes,
            warnings: Warnings::default(),
            has_later_names: AtomicBool::new(false),
        })
    }

    pub(crate) fn otlp(config: &OtlpConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let client = match config.protocol {
            OtlpProtocol::Grpc => Client::OtlpGrpc(GrpcClient::new(config.grpc_config())?),
            OtlpProtocol::HttpProtobuf => Client::OtlpHttp(Arc::new(HttpClient::new(config)?)),
        };
        Ok(Self {
            client,
            timeout: config.effective_timeout(),
            flush_timeout: if config.timeout.is_zero() { DEFAULT_TIMEOUT } else { config.timeout },
            max_request_bytes: config.max_request_bytes,
            warnings: Warnings::default(),
            has_later_names: AtomicBool::new(false),
        })
    }

    /// The same destination with a connection of its own, for a process that forked.
    pub(crate) fn with_new_connection(&self) -> Self {
        let renewed = |client: &GrpcClient| client.rebuilt().unwrap_or_else(|_| client.with_new_connection());
        let client = match &self.client {
            Client::Scouter(client) => Client::Scouter(renewed(client)),
            Client::OtlpGrpc(client) => Client::OtlpGrpc(renewed(client)),
            Client::OtlpHttp(client) => Client::OtlpHttp(Arc::new(client.with_new_connection())),
        };
        Self {
            client,
            timeout: self.timeout,
            flush_timeout: self.flush_timeout,
            max_request_bytes: self.max_request_bytes,
            warnings: Warnings::default(),
            has_later_names: AtomicBool::new(self.has_later_names.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn format(&self) -> RequestFormat {
        match self.client {
            Client::Scouter(_) => RequestFormat::Scouter,
            Client::OtlpGrpc(_) | Client::OtlpHttp(_) => RequestFormat::Otlp,
        }
    }

    pub(crate) fn takes_records(&self) -> bool {
        self.format() == RequestFormat::Scouter
    }

    pub(crate) fn max_request_bytes(&self) -> usize {
        self.max_request_bytes
    }

    /// Time for connect, login and all attempts of one request.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Time for a flush whose caller has no say in it: a request without a limit must not make it wait for ever.
    pub(crate) fn flush_timeout(&self) -> Duration {
        self.flush_timeout
    }

    /// The type of exporter in OpenTelemetry's words, and the server's address.
    #[cfg(feature = "self-metrics")]
    pub(crate) fn component(&self) -> (&'static str, String) {
        match &self.client {
            Client::Scouter(client) | Client::OtlpGrpc(client) => ("otlp_grpc_span_exporter", client.config().server_uri.clone()),
            Client::OtlpHttp(client) => ("otlp_http_span_exporter", client.uri().to_string()),
        }
    }

    /// While the server refuses the credentials: how long calls still fail at once, and the server's words.
    pub(crate) fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        match &self.client {
            Client::Scouter(client) => client.credentials_pause(),
            Client::OtlpGrpc(_) | Client::OtlpHttp(_) => None,
        }
    }

    /// Sends an encoded request once. An `Ok` answer means that the server took it, except what it counts as rejected.
    pub(crate) async fn send(&self, request: Bytes, deadline: Instant) -> Result<Answer, CallError> {
        let bytes = request.len() as u64;
        let answer = match &self.client {
            Client::Scouter(client) => return self.send_to_scouter(client, request, deadline).await,
            Client::OtlpGrpc(client) => client.export_traces(request, deadline).await?,
            Client::OtlpHttp(client) => client.export_traces(request, deadline).await?,
        };
        self.warnings.tell(&answer);
        let TraceExportAnswer { rejected_spans, message } = answer;
        Ok(Answer { rejected_spans: count(rejected_spans), rejected_records: 0, message, bytes })
    }

    async fn send_to_scouter(&self, client: &GrpcClient, request: Bytes, deadline: Instant) -> Result<Answer, CallError> {
        if !client.wants_json(deadline).await? {
            match client.insert_message(request.clone(), deadline).await {
                // It logged in anew meanwhile, at a server of another version.
                Err(error) if error.code() == Code::Unimplemented && client.wants_json(deadline).await? => {}
                answer => {
                    let answer = answer?;
                    return Ok(Answer {
                        rejected_spans: count(answer.rejected_spans),
                        rejected_records: count(answer.rejected_records),
                        message: answer.message,
                        bytes: request.len() as u64,
                    });
                }
            }
        }
        self.send_json(client, &request, deadline).await
    }

    /// Writes the request anew for a server that reads JSON alone.
    async fn send_json(&self, client: &GrpcClient, request: &[u8], deadline: Instant) -> Result<Answer, CallError> {
        let unreadable = |error| CallError::new(CallErrorKind::Refused, Code::Internal, format!("the request is not ours: {error}"));
        let later = self.has_later_names.load(Ordering::Relaxed);
        let names = if later { EvalNames::Agent } else { EvalNames::GenAi };
        let json = to_json(request, names).map_err(unreadable)?;
        let mut bytes = 0;
        for (index, message) in json.messages.into_iter().enumerate() {
            bytes += message.json.len() as u64;
            let sent = client.insert_message_record(message.json, deadline).await;
            match sent {
                // Of such a server: come again. It says OUT_OF_RANGE of what is too large.
                Err(error) if error.code() == Code::ResourceExhausted => {
                    return Err(CallError::new(CallErrorKind::Retryable, Code::Unavailable, error.message()));
                }
                Err(error) if message.has_evaluations && error.code() == Code::InvalidArgument => {
                    // It may be of the version that has the other names.
                    let other = to_json(request, names.other()).map_err(unreadable)?.messages.into_iter().nth(index);
                    client.insert_message_record(other.map(|message| message.json).unwrap_or_default(), deadline).await?;
                    self.has_later_names.store(!later, Ordering::Relaxed);
                }
                sent => drop(sent?),
            }
        }
        let message =
            if json.left_out > 0 { "a server that reads JSON alone takes no record with NaN, an infinity or broken JSON" } else { "" };
        Ok(Answer { rejected_spans: 0, rejected_records: json.left_out, message: message.to_owned(), bytes })
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.client {
            Client::Scouter(client) => f.debug_tuple("Scouter").field(client.config()).finish(),
            Client::OtlpGrpc(client) => f.debug_tuple("OtlpGrpc").field(client.config()).finish(),
            Client::OtlpHttp(client) => f.debug_tuple("OtlpHttp").field(client).finish(),
        }
    }
}

/// A peer may send any number.
fn count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
