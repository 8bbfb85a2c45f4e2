//! gRPC doors.

use std::{error::Error as _, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use scouter_tonic::{
    codec::SendBytes,
    grpc::InsertMessageResponse,
    path::{AUTHORIZATION, INSERT_MESSAGE, OTLP_TRACE_EXPORT},
};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::CompressionEncoding,
    codegen::http::uri::PathAndQuery,
    metadata::AsciiMetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::{Compression, Door, SendError, with_causes};

/// A request that got no answer in this time is sent again.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// One HTTP/2 connection.
#[derive(Debug, Clone)]
pub struct GrpcConnection {
    door: Door,
    compression: Compression,
    channel: Channel,
}

impl GrpcConnection {
    pub(super) fn new(door: Door, endpoint: &str, compression: Compression) -> anyhow::Result<Self> {
        Ok(Self { door, compression, channel: channel(endpoint)? })
    }

    pub(super) async fn send(&self, body: Bytes, token: &str) -> Result<u64, SendError> {
        let mut request = Request::new(body);
        request.set_timeout(REQUEST_TIMEOUT);
        let bearer = AsciiMetadataValue::try_from(format!("Bearer {token}")).map_err(|error| SendError::Refused(error.to_string()))?;
        request.metadata_mut().insert(AUTHORIZATION, bearer);

        let mut client = Grpc::new(self.channel.clone());
        client = match self.compression {
            Compression::Plain => client,
            Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => client.send_compressed(CompressionEncoding::Zstd),
        };
        client.ready().await.map_err(|error| SendError::Retry(with_causes(error.to_string(), error.source()), None))?;
        match self.door {
            Door::ScouterGrpc => client
                .unary(request, PathAndQuery::from_static(INSERT_MESSAGE), SendBytes::<InsertMessageResponse>::default())
                .await
                .map(|answer| answer.get_ref().rejected_spans),
            Door::OtlpGrpc | Door::OtlpHttp => client
                .unary(request, PathAndQuery::from_static(OTLP_TRACE_EXPORT), SendBytes::<ExportTraceServiceResponse>::default())
                .await
                .map(|answer| answer.get_ref().partial_success.as_ref().map_or(0, |partial| partial.rejected_spans)),
        }
        .map(|rejected| u64::try_from(rejected).unwrap_or(0))
        .map_err(|status| classify(&status))
    }
}

/// A connection that is made with the first request.
pub(super) fn channel(endpoint: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(endpoint.to_owned())
        .with_context(|| format!("{endpoint:?} is not an address such as http://127.0.0.1:50051"))?;
    Ok(endpoint.connect_timeout(Duration::from_secs(2)).tcp_nodelay(true).connect_lazy())
}

/// OTLP's table, and a connection that broke.
pub(super) fn classify(status: &Status) -> SendError {
    let text = format!("{:?}: {}", status.code(), with_causes(status.message().to_owned(), status.source()));
    // A status made on this side, from a broken connection, has a source; one that the server sent has none.
    let broken = status.source().is_some();
    let retry_info = status.get_details_retry_info();
    let after = retry_info.as_ref().and_then(|info| info.retry_delay);
    match status.code() {
        Code::Unauthenticated => SendError::Unauthenticated(text),
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss => {
            SendError::Retry(text, after)
        }
        Code::ResourceExhausted if retry_info.is_some() => SendError::Retry(text, after),
        Code::Unknown | Code::Internal if broken => SendError::Retry(text, None),
        _ => SendError::Refused(text),
    }
}

#[cfg(test)]
mod tests;
