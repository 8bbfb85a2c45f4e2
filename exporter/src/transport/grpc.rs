//! Scouter's `MessageService` over gRPC.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use scouter_tonic::client::{CallError, CallErrorKind, GrpcClient, TokenProvider, shown_address};
use tokio::time::Instant;
use tonic::Code;

use super::{Limits, Sent, Transport, TransportFuture, check_length, count, json::JsonForm};
use crate::{ConfigError, GrpcConfig};

/// Requests as protobuf, or as JSON to a server that reads nothing else.
pub(crate) struct GrpcTransport {
    client: GrpcClient,
    json: JsonForm,
}

impl GrpcTransport {
    pub(crate) fn new(config: GrpcConfig) -> Result<Self, ConfigError> {
        Ok(Self { client: GrpcClient::new(config)?, json: JsonForm::default() })
    }

    pub(crate) fn with_tokens(config: GrpcConfig, provider: Arc<dyn TokenProvider>) -> Result<Self, ConfigError> {
        Ok(Self { client: GrpcClient::with_token_provider(config, provider)?, json: JsonForm::default() })
    }

    async fn send_once(&self, request: Bytes, deadline: Instant) -> Result<Sent, CallError> {
        let client = &self.client;
        check_length(&request, client.config().max_request_bytes)?;
        if !client.wants_json(deadline).await? {
            match client.insert_message(request.clone(), deadline).await {
                // It logged in anew meanwhile, at a server of another version.
                Err(error) if error.code() == Code::Unimplemented && client.wants_json(deadline).await? => {}
                answer => {
                    let answer = answer?;
                    return Ok(Sent {
                        rejected_spans: count(answer.rejected_spans),
                        rejected_records: count(answer.rejected_records),
                        message: answer.message,
                        bytes: request.len() as u64,
                    });
                }
            }
        }
        let send = |json| async move { client.insert_message_record(json, deadline).await.map(drop).map_err(of_a_json_server) };
        self.json.send(&request, send).await
    }
}

impl Transport for GrpcTransport {
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>> {
        Box::pin(self.send_once(request, deadline))
    }

    fn limits(&self) -> Limits {
        let GrpcConfig { timeout, max_request_bytes, .. } = *self.client.config();
        Limits { timeout, flush_timeout: timeout, max_request_bytes }
    }

    fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        self.client.credentials_pause()
    }

    fn with_new_connection(&self) -> Arc<dyn Transport> {
        let client = renewed(&self.client);
        Arc::new(Self { client, json: self.json.clone() })
    }

    fn component(&self) -> (&'static str, String) {
        ("otlp_grpc_span_exporter", shown_address(&self.client.config().server_uri))
    }
}

impl fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scouter").field(self.client.config()).finish()
    }
}

/// A server that reads JSON alone says RESOURCE_EXHAUSTED and means: come again. OUT_OF_RANGE is what it says of what is too large.
fn of_a_json_server(error: CallError) -> CallError {
    if error.code() == Code::ResourceExhausted {
        CallError::new(CallErrorKind::Retryable, Code::Unavailable, error.message())
    } else {
        error
    }
}

/// Built from the files as they are now, if that is possible.
pub(super) fn renewed(client: &GrpcClient) -> GrpcClient {
    client.rebuilt().unwrap_or_else(|_| client.with_new_connection())
}
