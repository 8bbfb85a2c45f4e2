//! Any server that speaks OTLP, over gRPC or HTTP. It takes no monitoring records.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Uri};
use scouter_tonic::client::{CallError, DEFAULT_TIMEOUT, GrpcClient, TraceExportAnswer, quiet::aloud, shown_address};
use tokio::time::Instant;

use super::{Limits, Sent, Transport, TransportFuture, check_length, count, grpc::renewed, http_client::HttpClient};
use crate::{
    ConfigError, ConfigFault, OtlpConfig,
    encode::RequestFormat,
    otlp::{OtlpProtocol, Warnings},
};

pub(crate) struct OtlpTransport {
    client: Client,
    limits: Limits,
    warnings: Warnings,
}

enum Client {
    Grpc(GrpcClient),
    Http(Box<HttpClient>, Uri),
}

impl OtlpTransport {
    pub(crate) fn new(config: &OtlpConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let settings = config.grpc_config();
        let client = match config.protocol {
            OtlpProtocol::Grpc => Client::Grpc(GrpcClient::new(settings)?),
            OtlpProtocol::HttpProtobuf => {
                let uri = settings
                    .server_uri
                    .parse()
                    .map_err(|_| ConfigFault::Endpoint { uri: shown_address(&config.endpoint), reason: "it is not a URI".to_owned() })?;
                Client::Http(Box::new(HttpClient::new(&settings)?), uri)
            }
        };
        let limits = Limits {
            timeout: config.effective_timeout(),
            flush_timeout: if config.timeout.is_zero() { DEFAULT_TIMEOUT } else { config.timeout },
            max_request_bytes: config.max_request_bytes,
        };
        Ok(Self { client, limits, warnings: Warnings::default() })
    }

    async fn send_once(&self, request: Bytes, deadline: Instant) -> Result<Sent, CallError> {
        check_length(&request, self.limits.max_request_bytes)?;
        let bytes = request.len() as u64;
        let answer = match &self.client {
            Client::Grpc(client) => client.export_traces(request, deadline).await?,
            Client::Http(client, uri) => {
                let (_, body) = client.post(uri, HeaderMap::new(), request, deadline).await?;
                // The status says that the spans were taken. A body that is no protobuf, as some gateways make it, does not unsay it.
                TraceExportAnswer::decode(&body).unwrap_or_else(|error| {
                    aloud(|| tracing::debug!(%error, "the answer is not the message expected"));
                    TraceExportAnswer::default()
                })
            }
        };
        self.warnings.tell(&answer);
        let TraceExportAnswer { rejected_spans, message } = answer;
        Ok(Sent { rejected_spans: count(rejected_spans), rejected_records: 0, message, bytes })
    }
}

impl Transport for OtlpTransport {
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>> {
        Box::pin(self.send_once(request, deadline))
    }

    fn format(&self) -> RequestFormat {
        RequestFormat::Otlp
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn with_new_connection(&self) -> Arc<dyn Transport> {
        let client = match &self.client {
            Client::Grpc(client) => Client::Grpc(renewed(client)),
            Client::Http(client, uri) => Client::Http(Box::new(client.with_new_connection()), uri.clone()),
        };
        Arc::new(Self { client, limits: self.limits, warnings: Warnings::default() })
    }

    fn component(&self) -> (&'static str, String) {
        match &self.client {
            Client::Grpc(client) => ("otlp_grpc_span_exporter", shown_address(&client.config().server_uri)),
            Client::Http(_, uri) => ("otlp_http_span_exporter", shown_address(&uri.to_string())),
        }
    }
}

impl fmt::Debug for OtlpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.client {
            Client::Grpc(client) => f.debug_tuple("OtlpGrpc").field(client.config()).finish(),
            Client::Http(client, uri) => f.debug_tuple("OtlpHttp").field(&shown_address(&uri.to_string())).field(client).finish(),
        }
    }
}
