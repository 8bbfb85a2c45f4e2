//! One table of what can go wrong with a request and how each door says it.
//!
//! [`IngestError::answer`] is the only place where a gRPC code, an HTTP status and a log level meet.

use std::{sync::Arc, time::Duration};

use scouter_storage::{log::LogError, otlp::Malformed, store::StoreError};
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::auth::{Denied, LoginError};

/// How long a client is asked to wait before it sends again, when the server is short of room.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error's text goes into headers, whose readers have limits.
const LONGEST_TEXT_BYTES: usize = 1024;

/// Why a request was not stored. Nothing of it is stored when this is returned.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The bytes are not the message they should be.
    #[error("the request is not a valid protobuf message")]
    Malformed(#[from] Malformed),
    /// JSON of the wrong shape.
    #[error("the JSON is not {expected}: {source}")]
    MalformedJson {
        /// What it should be.
        expected: &'static str,
        /// Where it is not.
        source: serde_json::Error,
    },
    /// JSON that would take far more memory than its text.
    #[error("the JSON has more than {limit} objects; send smaller batches, or protobuf")]
    TooManyObjects {
        /// How many are read.
        limit: usize,
    },
    /// JSON and typed fields in one message, or a `batch_id` of the wrong length.
    #[error("{0}")]
    Contradictory(&'static str),
    /// Larger than the limit both sides know, before or after decompression.
    #[error("the request is larger than the limit of {limit_bytes} bytes; send smaller batches")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// A content encoding that is not read.
    #[error("the content encoding {name:?} is not read here; send gzip, zstd or none")]
    UnknownEncoding {
        /// What the client said.
        name: String,
    },
    /// A content type that is none of OTLP's.
    #[error("the content type is not one of OTLP's; send application/x-protobuf or application/json")]
    UnknownContentType,
    /// A broker's message that does not say what it is.
    #[error("the message says that it is {said:?}; it is Scouter's protobuf, OTLP's, or Scouter's JSON")]
    UnknownMessage {
        /// What it says.
        said: String,
    },
    /// The body stopped coming, or came too slowly.
    #[error("the request's body came too slowly; send it again")]
    TooSlow,
    /// The body ended before its end.
    #[error("the request's body broke off")]
    BrokenOff,
    /// Another signal than traces.
    #[error(
        "OTLP {signal} are not served here; this server takes traces, by {method} and POST /v1/traces",
        method = "opentelemetry.proto.collector.trace.v1.TraceService/Export"
    )]
    NotServed {
        /// What was sent.
        signal: &'static str,
    },
    /// The caller is not known, or may not do this.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// So much is in flight that taking more would break the memory budget.
    #[error("{}", overloaded(because.as_deref()))]
    Overloaded {
        /// When to send again.
        come_again: Duration,
        /// What keeps the server from storing those that it has, where it is not their number.
        because: Option<Arc<str>>,
    },
    /// The store took too long, mostly because its disk is slow.
    #[error("the server could not store the request in time: {}; send again later", because.as_deref().unwrap_or("its disk is slow"))]
    StoreSlow {
        /// What keeps it from storing, where that is known.
        because: Option<Arc<str>>,
    },
    /// The log that servers share took nothing.
    #[error("the request could not be put into the log: {because}; send again later")]
    LogAway {
        /// Why not.
        because: Arc<str>,
    },
    /// The server is going down.
    #[error("the server is shutting down; send again to its successor")]
    ShuttingDown,
    /// The store could not make the request durable.
    #[error("the request could not be made durable")]
    Store(#[from] Arc<StoreError>),
    /// The first of two equal requests failed, and this one waited for it.
    #[error("an equal request that was under way failed; send again")]
    TwinFailed,
}

/// What the doors say of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// gRPC code.
    pub code: Code,
    /// HTTP status.
    pub http_status: u16,
    /// Set when the client should send the same bytes again, after this time.
    pub retry_after: Option<Duration>,
    /// Whether a person should look at the server.
    pub needs_a_person: bool,
}

impl IngestError {
    /// The row of this error in the table.
    pub fn answer(&self) -> Answer {
        let refused = |code, http_status| Answer { code, http_status, retry_after: None, needs_a_person: false };
        let later = |needs_a_person| Answer { code: Code::Unavailable, http_status: 503, retry_after: Some(RETRY_AFTER), needs_a_person };
        match self {
            Self::Malformed(_) | Self::MalformedJson { .. } | Self::Contradictory(_) | Self::BrokenOff => {
                refused(Code::InvalidArgument, 400)
            }
            Self::UnknownEncoding { .. } => refused(Code::Unimplemented, 415),
            Self::UnknownContentType | Self::UnknownMessage { .. } => refused(Code::InvalidArgument, 415),
            Self::NotServed { .. } => refused(Code::Unimplemented, 404),
            // Over gRPC a client repeats it, over HTTP it does not, as OTLP's tables have it.
            Self::TooSlow => refused(Code::DeadlineExceeded, 408),
            Self::Denied(Denied::Token(_) | Denied::Login(LoginError::Refused)) => refused(Code::Unauthenticated, 401),
            Self::Denied(Denied::Forbidden { .. } | Denied::Elsewhere { .. }) => refused(Code::PermissionDenied, 403),
            Self::Denied(Denied::Login(LoginError::Busy)) => later(false),
            Self::Denied(Denied::Login(LoginError::TooMany { wait })) => {
                let retry_after = Some((*wait).max(RETRY_AFTER));
                Answer { code: Code::ResourceExhausted, http_status: 429, retry_after, needs_a_person: false }
            }
            Self::TooLarge { .. } | Self::TooManyObjects { .. } => refused(Code::ResourceExhausted, 413),
            Self::Overloaded { come_again, because } => Answer { retry_after: Some(*come_again), ..later(because.is_some()) },
            Self::ShuttingDown | Self::TwinFailed => later(false),
            Self::StoreSlow { .. } | Self::LogAway { .. } => later(true),
            Self::Store(error) => match &**error {
                StoreError::Log(LogError::TooLarge { .. }) => refused(Code::ResourceExhausted, 413),
                StoreError::Log(LogError::Closed) => later(false),
                // A full disk passes; a dead log does not, but the server then ends and its successor can store.
                _ => later(true),
            },
        }
    }

    /// See [`text_of`].
    pub fn text(&self) -> String {
        text_of(self)
    }
}

/// The whole chain of causes in one line. A cause may quote what the client sent; of that the beginning is enough.
pub fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    if text.len() > LONGEST_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT_BYTES));
        text.push('…');
    }
    text
}

fn overloaded(because: Option<&str>) -> String {
    match because {
        None => "the server holds as many unfinished requests as its memory budget allows; send again later".to_owned(),
        Some(why) => format!("nothing can be stored now: {why}; send again later"),
    }
}

impl From<StoreError> for IngestError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<IngestError> for Status {
    fn from(error: IngestError) -> Self {
        let answer = error.answer();
        let text = error.text();
        let Some(delay) = answer.retry_after else {
            if answer.code == Code::InvalidArgument {
                let details = ErrorDetails::with_bad_request_violation("request", text.clone());
                return Self::with_error_details(answer.code, text, details);
            }
            return Self::new(answer.code, text);
        };
        let mut status = Self::with_error_details(answer.code, text, ErrorDetails::with_retry_info(Some(delay)));
        // The Python SDK reads only this trailer, not the status details.
        let info = prost::Message::encode_to_vec(&tonic_types::pb::RetryInfo { retry_delay: prost_types::Duration::try_from(delay).ok() });
        status.metadata_mut().insert_bin("google.rpc.retryinfo-bin", tonic::metadata::MetadataValue::from_bytes(&info));
        status
    }
}

#[cfg(test)]
mod tests;
