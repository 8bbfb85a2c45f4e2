//! OTLP's `TraceService.Export`, for a client that has no user and so needs no login.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::{DecodeError, Message};
use tokio::time::Instant;
use tonic::Response;

use super::{CallError, GrpcClient};
use crate::path;

/// What an OTLP server says to a request it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceExportAnswer {
    /// Spans it refused for ever; it took the rest.
    pub rejected_spans: i64,
    /// Why; with no span rejected, a warning. Usually empty.
    pub message: String,
}

impl TraceExportAnswer {
    /// Reads an encoded `ExportTraceServiceResponse`; unknown fields are ignored.
    ///
    /// # Errors
    /// When it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        ExportTraceServiceResponse::decode(bytes).map(Self::from)
    }
}

impl From<ExportTraceServiceResponse> for TraceExportAnswer {
    fn from(response: ExportTraceServiceResponse) -> Self {
        let partial = response.partial_success.unwrap_or_default();
        Self { rejected_spans: partial.rejected_spans, message: partial.error_message }
    }
}

impl GrpcClient {
    /// Sends an encoded `ExportTraceServiceRequest`, to any OTLP server. The client does not log in for it; what authorises it stands in the
    /// configuration's `headers`, or in its certificate.
    ///
    /// # Errors
    /// See [`CallErrorKind`](super::CallErrorKind). After `DeadlineExceeded` or `Retryable` the server may have stored the request, and
    /// OTLP has no means to tell it that a second one is the same.
    pub async fn export_traces(&self, request: Bytes, deadline: Instant) -> Result<TraceExportAnswer, CallError> {
        let answer: Response<ExportTraceServiceResponse> =
            self.call_with_bytes("Export", path::OTLP_TRACE_EXPORT, request, None, deadline).await?;
        Ok(answer.into_inner().into())
    }
}
