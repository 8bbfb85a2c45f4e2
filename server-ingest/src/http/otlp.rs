//! OTLP over HTTP: `POST /v1/traces`, protobuf or JSON, plain, gzip or zstd. The answer has the request's type.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Version, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use scouter_storage::{log::Door, otlp::Envelope};
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt;

use super::{HttpDoors, add_hints, content_length};
use crate::{
    admission::Share,
    auth::{Caller, Permission},
    error::IngestError,
    grpc::otlp_response,
    ingest::{Submission, request},
    listener::Peer,
    receive::{Compression, Intake, Received},
    telemetry::RequestStage,
};

/// The two encodings of OTLP/HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// Lets a request pass only with a caller who may write; the refusal has the request's type.
pub(super) async fn require_writer(State(doors): State<HttpDoors>, mut request: Request, next: Next) -> Response {
    let from = Peer::address(request.extensions());
    match doors.admit_to_a_space(request.headers(), from, Permission::Write).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => {
            let response = failure(Encoding::of(request.headers()).unwrap_or(Encoding::Json), error);
            linger(request).await;
            response
        }
    }
}

/// `POST /v1/traces`.
pub(super) async fn traces(State(doors): State<HttpDoors>, request: Request) -> Response {
    let encoding = Encoding::of(request.headers());
    match store(&doors, encoding, request).await {
        Ok(response) => response,
        Err(error) => failure(encoding.unwrap_or(Encoding::Json), error),
    }
}

/// Another signal of OTLP's.
pub(super) fn not_served(request: &Request, signal: &'static str) -> Response {
    failure(Encoding::of(request.headers()).unwrap_or(Encoding::Json), IngestError::NotServed { signal })
}

async fn store(doors: &HttpDoors, encoding: Option<Encoding>, mut request: Request) -> Result<Response, IngestError> {
    let warning = request.extensions_mut().remove::<Caller>().and_then(|caller| caller.warning);
    let encoding = match encoding {
        Some(encoding) => encoding,
        None => {
            linger(request).await;
            return Err(IngestError::UnknownContentType);
        }
    };
    let begun = Instant::now();
    let share = Share::of(request.extensions());
    let received = receive(&doors.intake, &share, request).await.inspect_err(|error| {
        share.rest(error);
        doors.metrics.count_refused(Door::OtlpHttp, error);
    })?;
    doors.metrics.time_stage(RequestStage::Receive, begun.elapsed());
    let submission = match received {
        received if encoding == Encoding::Protobuf => Submission::new(Door::OtlpHttp, Envelope::Otlp, received),
        received => {
            let _turn = doors.intake.turns.take(received.payload.len()).await;
            request::otlp_json(received, Door::OtlpHttp)?
        }
    };
    let answer = otlp_response(&doors.ingest.submit(submission).await?, warning);
    Ok(encoding.response(&answer))
}

/// A body of data, inflated.
pub(super) async fn receive(intake: &Intake, share: &Arc<Share>, request: Request) -> Result<Received, IngestError> {
    let named = request.headers().get(header::CONTENT_ENCODING).map_or(Ok(""), HeaderValue::to_str).unwrap_or("?");
    let compression = match Compression::named(named) {
        Ok(compression) => compression,
        Err(error) => {
            linger(request).await;
            return Err(error);
        }
    };
    let announced = content_length(request.headers());
    let is_alone_on_its_connection = request.version() < Version::HTTP_2;
    let mut body = request.into_body();
    let received = match intake.whole(share, &mut body, announced, compression).await {
        Ok(received) => received,
        Err(error) => {
            if is_alone_on_its_connection && !matches!(error, IngestError::TooSlow | IngestError::BrokenOff) {
                Intake::linger(body).await;
            }
            return Err(error);
        }
    };
    match compression {
        Some(compression) => intake.inflate(compression, received).await,
        None => Ok(received),
    }
}

/// See [`Intake::linger`]. Over HTTP/2 the answer does not wait for the body's end.
pub(super) async fn linger(request: Request) {
    if request.version() < Version::HTTP_2 {
        Intake::linger(request.into_body()).await;
    }
}

impl Encoding {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
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
fn failure(encoding: Encoding, error: IngestError) -> Response {
    let answer = error.answer();
    let http_status = StatusCode::from_u16(answer.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let is_encoding = matches!(error, IngestError::UnknownEncoding { .. });
    let status = Status::from(error);
    let (content_type, body) = match encoding {
        // Details, where there are any, are the whole status already.
        Encoding::Protobuf if !status.details().is_empty() => ("application/x-protobuf", status.details().to_vec()),
        Encoding::Protobuf => {
            let status = tonic_types::pb::Status { code: status.code().into(), message: status.message().to_owned(), details: Vec::new() };
            ("application/x-protobuf", status.encode_to_vec())
        }
        Encoding::Json => ("application/json", status_json(&status).to_string().into_bytes()),
    };
    let mut response = (http_status, [(header::CONTENT_TYPE, content_type)], body).into_response();
    add_hints(response.headers_mut(), &answer);
    if is_encoding {
        response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(Compression::ACCEPTED));
    }
    response
}

/// Protobuf's JSON of a status; what is in an `Any` stands beside the name of its type.
fn status_json(status: &Status) -> serde_json::Value {
    let details = status.get_error_details();
    let retry = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .map(|delay| json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{}s", delay.as_secs_f64()) }));
    let bad = details.bad_request().map(|bad| {
        let violations = bad.field_violations.iter();
        let violations: Vec<_> =
            violations.map(|violation| json!({ "field": violation.field, "description": violation.description })).collect();
        json!({ "@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations })
    });
    let details: Vec<_> = [retry, bad].into_iter().flatten().collect();
    let mut body = json!({ "code": i32::from(status.code()), "message": status.message() });
    if !details.is_empty() {
        body["details"] = details.into();
    }
    body
}

#[cfg(test)]
mod tests;
