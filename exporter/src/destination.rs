//! Where a pipeline's requests go. Chosen when the pipeline is built.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use scouter_tonic::client::{CallError, DEFAULT_TIMEOUT, GrpcClient, TokenProvider, TraceExportAnswer};
use tokio::time::Instant;

use crate::{
    ConfigError, GrpcConfig, OtlpConfig,
    encode::RequestFormat,
    otlp::{HttpClient, OtlpProtocol, Warnings},
};

/// One server, and how to speak to it.
pub(crate) struct Destination {
    client: Client,
    timeout: Duration,
    flush_timeout: Duration,
    max_request_bytes: usize,
    warnings: Warnings,
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
        Ok(Self { client, timeout, flush_timeout: timeout, max_request_bytes, warnings: Warnings::default() })
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
        Self { client, warnings: Warnings::default(), ..*self }
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
        let answer = match &self.client {
            Client::Scouter(client) => {
                let answer = client.insert_message(request, deadline).await?;
                return Ok(Answer {
                    rejected_spans: count(answer.rejected_spans),
                    rejected_records: count(answer.rejected_records),
                    message: answer.message,
                });
            }
            Client::OtlpGrpc(client) => client.export_traces(request, deadline).await?,
            Client::OtlpHttp(client) => client.export_traces(request, deadline).await?,
        };
        self.warnings.tell(&answer);
        let TraceExportAnswer { rejected_spans, message } = answer;
        Ok(Answer { rejected_spans: count(rejected_spans), rejected_records: 0, message })
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
