//! OTLP over HTTP: `POST /v1/traces`, protobuf or JSON, plain, gzip or zstd. The answer has the request's type.

use std::io::Read;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use scouter_storage::{log::Door, otlp::Envelope};
use scouter_tonic::limits::MAX_REQUEST_BYTES;
use tonic::Code;

use super::HttpDoors;
use crate::{
    error::IngestError,
    grpc::otlp_response,
    ingest::{Submission, request},
};

/// The two encodings of OTLP/HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

/// Lets a request pass only with a valid bearer token; the refusal has the request's type.
pub(super) async fn require_caller(State(doors): State<HttpDoors>, request: Request, next: Next) -> Response {
    match doors.admit_caller(request.headers()) {
        Ok(_) => next.run(request).await,
        Err(error) => {
            let encoding = Encoding::of(request.headers()).unwrap_or(Encoding::Json);
            let mut response = failure(encoding, StatusCode::UNAUTHORIZED, Code::Unauthenticated, &error.to_string(), None);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

/// `POST /v1/traces`.
pub(super) async fn traces(State(doors): State<HttpDoors>, request: Request) -> Response {
    let Some(encoding) = Encoding::of(request.headers()) else {
        let text = "the content type is application/x-protobuf or application/json";
        return failure(Encoding::Json, StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, text, None);
    };
    match store(&doors, encoding, request).await {
        Ok(response) => response,
        Err(error) => {
            let answer = error.answer();
            let status = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            failure(encoding, status, answer.code, &error.text(), answer.retry_after)
        }
    }
}

async fn store(doors: &HttpDoors, encoding: Encoding, request: Request) -> Result<Response, IngestError> {
    let (parts, body) = request.into_parts();
    let content_encoding =
        parts.headers.get(header::CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?")).to_ascii_lowercase();
    let body = read(body).await?;
    // Inflating and decoding may take longer than a request should hold the reactor.
    let submission = tokio::task::block_in_place(|| {
        let payload = inflate(&content_encoding, body)?;
        match encoding {
            Encoding::Protobuf => Ok(Submission { door: Door::OtlpHttp, envelope: Envelope::Otlp, payload, batch_id: None }),
            Encoding::Json => request::otlp_json(&payload, Door::OtlpHttp),
        }
    })?;
    let answer = otlp_response(&doors.ingest.submit(submission).await?);
    Ok(encoding.response(&answer))
}

async fn read(body: Body) -> Result<Bytes, IngestError> {
    match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.downcast_ref::<LengthLimitError>().is_some() => Err(IngestError::TooLarge { limit_bytes: MAX_REQUEST_BYTES }),
        Err(_) => Err(IngestError::Contradictory("the body ended before its announced length")),
    }
}

fn inflate(content_encoding: &str, body: Bytes) -> Result<Bytes, IngestError> {
    match content_encoding {
        "" | "identity" => Ok(body),
        "gzip" => inflate_within_limit(flate2::read::MultiGzDecoder::new(&body[..])),
        "zstd" => inflate_within_limit(
            zstd::stream::read::Decoder::new(&body[..]).map_err(|_| IngestError::Contradictory("the body is not zstd"))?,
        ),
        _ => Err(IngestError::Contradictory("the content encoding is gzip, zstd or none")),
    }
}

/// Reads at most one byte more than the limit, so that a small body cannot unfold into a large one.
fn inflate_within_limit(reader: impl Read) -> Result<Bytes, IngestError> {
    let mut inflated = Vec::new();
    reader
        .take(MAX_REQUEST_BYTES as u64 + 1)
        .read_to_end(&mut inflated)
        .map_err(|_| IngestError::Contradictory("the body is not what its content encoding says"))?;
    if inflated.len() > MAX_REQUEST_BYTES {
        return Err(IngestError::TooLarge { limit_bytes: MAX_REQUEST_BYTES });
    }
    Ok(Bytes::from(inflated))
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn response(self, answer: &ExportTraceServiceResponse) -> Response {
        let (content_type, body) = match (self, &answer.partial_success) {
            (Self::Protobuf, _) => ("application/x-protobuf", answer.encode_to_vec()),
            (Self::Json, None) => ("application/json", b"{}".to_vec()),
            (Self::Json, Some(partial)) => {
                // 64-bit numbers are text in OTLP's JSON.
                let partial =
                    serde_json::json!({ "rejectedSpans": partial.rejected_spans.to_string(), "errorMessage": partial.error_message });
                ("application/json", serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes())
            }
        };
        ([(header::CONTENT_TYPE, content_type)], body).into_response()
    }
}

/// An error as `google.rpc.Status`, in the type of the request.
fn failure(encoding: Encoding, status: StatusCode, code: Code, text: &str, retry_after: Option<std::time::Duration>) -> Response {
    let (content_type, body) = match encoding {
        Encoding::Protobuf => {
            let details = retry_after
                .map(|delay| prost_types::Any {
                    type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                    value: tonic_types::pb::RetryInfo { retry_delay: prost_types::Duration::try_from(delay).ok() }.encode_to_vec(),
                })
                .into_iter()
                .collect();
            let status = tonic_types::pb::Status { code: code.into(), message: text.to_owned(), details };
            ("application/x-protobuf", status.encode_to_vec())
        }
        Encoding::Json => {
            let body = serde_json::json!({ "code": i32::from(code), "message": text });
            ("application/json", body.to_string().into_bytes())
        }
    };
    let mut response = (status, [(header::CONTENT_TYPE, content_type)], body).into_response();
    if let Some(delay) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(delay.as_secs().max(1)));
    }
    response
}

#[cfg(test)]
mod tests;
