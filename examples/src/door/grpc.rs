//! gRPC doors.

use std::{error::Error as _, future::poll_fn, time::Duration};

use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use scouter_tonic::{
    grpc::InsertMessageResponse,
    path::{INSERT_MESSAGE, OTLP_TRACE_EXPORT},
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Service,
        http::{Request, header},
    },
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::{Compression, Door, Packed, SendError, compress, with_causes};

/// Before each message: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;
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

    /// One frame of gRPC: whether it is compressed, its length, its bytes.
    pub(super) fn pack(&self, body: &Bytes) -> anyhow::Result<Packed> {
        let content = compress(body.clone(), self.compression)?;
        let mut frame = BytesMut::with_capacity(HEAD_BYTES + content.len());
        frame.put_u8(u8::from(self.compression != Compression::Plain));
        frame.put_u32(u32::try_from(content.len()).context("no frame of gRPC is so long")?);
        frame.put_slice(&content);
        Ok(Packed(frame.freeze()))
    }

    /// The call is written by hand: tonic would compress the body each time it is sent.
    pub(super) async fn send(&self, body: &Packed, token: &str) -> Result<u64, SendError> {
        let path = if self.door == Door::ScouterGrpc { INSERT_MESSAGE } else { OTLP_TRACE_EXPORT };
        let mut request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header("grpc-timeout", format!("{}S", REQUEST_TIMEOUT.as_secs()));
        if self.compression != Compression::Plain {
            request = request.header("grpc-encoding", self.compression.name());
        }
        let body = Body::new(Full::new(body.0.clone()));
        let request = request.body(body).map_err(|error| SendError::Refused(error.to_string()))?;
        let mut channel = self.channel.clone();
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, async {
            poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut channel, context)).await?;
            channel.call(request).await
        });
        let broken = |error: &(dyn std::error::Error + 'static)| SendError::Retry(with_causes(error.to_string(), error.source()), None);
        let (head, body) = match answered.await {
            Ok(answered) => answered.map_err(|error| broken(&error))?.into_parts(),
            Err(_) => return Err(SendError::Retry("there was no answer in time".to_owned(), None)),
        };
        let collected = body.collect().await.map_err(|status| classify(&status))?;
        let status = collected.trailers().and_then(Status::from_header_map).or_else(|| Status::from_header_map(&head.headers));
        match status {
            Some(status) if status.code() == Code::Ok => {}
            Some(status) => return Err(classify(&status)),
            None => return Err(SendError::Refused(format!("HTTP {} without a status of gRPC", head.status))),
        }
        let answer = collected.to_bytes();
        let answer = answer.get(HEAD_BYTES..).ok_or_else(|| SendError::Refused("the answer has no message".to_owned()))?;
        let rejected = match self.door {
            Door::ScouterGrpc => InsertMessageResponse::decode(answer).map(|answer| answer.rejected_spans),
            Door::OtlpGrpc | Door::OtlpHttp => {
                ExportTraceServiceResponse::decode(answer).map(|answer| answer.partial_success.map_or(0, |partial| partial.rejected_spans))
            }
        };
        let rejected = rejected.map_err(|error| SendError::Refused(format!("the answer cannot be read: {error}")))?;
        Ok(u64::try_from(rejected).unwrap_or(0))
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
