//! Why a call failed, and whether another attempt can help.

use std::{error::Error, time::Duration};

use tonic::{Code, Status};

use super::retry_info::RetryInfo;

/// Longest text kept from a peer, in bytes: enough to understand it, too little to flood a log.
const MAX_MESSAGE_BYTES: usize = 1024;

/// What a caller can do about a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// Another attempt may succeed: no connection, a lost one, or a server that asks for patience.
    Retryable,
    /// The caller's deadline passed. The server may have done the work.
    DeadlineExceeded,
    /// The token was refused, renewed, and refused again.
    Unauthenticated,
    /// The server does not accept user and password. Further calls fail at once until a pause is over.
    Credentials,
    /// The server's answer is final.
    Refused,
    /// The answer is larger than a client reads.
    AnswerTooLarge,
}

/// A failed call. Its text never holds a password or a token.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.describe())]
pub struct CallError {
    kind: CallErrorKind,
    code: Code,
    message: String,
    retry_info: Option<RetryInfo>,
}

impl CallError {
    /// A failure as a transport other than gRPC met it. Text from a peer is cut to a length a log can bear.
    pub fn new(kind: CallErrorKind, code: Code, message: impl Into<String>) -> Self {
        Self { kind, code, message: shorten(message.into()), retry_info: None }
    }

    /// The caller's deadline passed while waiting for an answer to `what`.
    pub fn deadline(what: &str) -> Self {
        Self::new(CallErrorKind::DeadlineExceeded, Code::DeadlineExceeded, format!("no answer to {what} within the deadline"))
    }

    /// From a status that the server sent.
    pub(super) fn from_server(status: &Status, retry_info: Option<RetryInfo>) -> Self {
        let code = status.code();
        let kind = match code {
            code if is_retryable_code(code, retry_info.is_some()) => CallErrorKind::Retryable,
            Code::Unauthenticated => CallErrorKind::Unauthenticated,
            _ => CallErrorKind::Refused,
        };
        Self { retry_info, ..Self::new(kind, code, status.message()) }
    }

    /// From a status that tonic made up because no complete answer came.
    pub(super) fn from_transport(status: &Status, http_status: Option<u16>) -> Self {
        let code = status.code();
        if status.source().is_some() {
            // The network, TLS, or the connection: nothing the request could be blamed for.
            return Self::new(CallErrorKind::Retryable, Code::Unavailable, with_causes(status));
        }
        let kind = match (code, http_status) {
            // tonic's word for an answer above the limit. The server's own OUT_OF_RANGE is retryable, this is not.
            (Code::OutOfRange | Code::ResourceExhausted, _) => CallErrorKind::AnswerTooLarge,
            // A stream that ended without a status: cut off on the way.
            (Code::Unknown, Some(200) | None) => CallErrorKind::Retryable,
            (code, _) if is_retryable_code(code, false) => CallErrorKind::Retryable,
            (Code::Unauthenticated, _) => CallErrorKind::Unauthenticated,
            _ => CallErrorKind::Refused,
        };
        Self::new(kind, code, status.message())
    }

    /// What to do about it.
    pub fn kind(&self) -> CallErrorKind {
        self.kind
    }

    /// True when the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind == CallErrorKind::Retryable
    }

    /// How long the server asked to be left alone. `None` when it did not say, or said something that is not a time.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_info.and_then(|info| info.delay())
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The server's words, or those of the network.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same failure with the pause that the server asked for, bounded as RetryInfo is.
    #[must_use]
    pub fn with_retry_after(self, delay: Duration) -> Self {
        Self { retry_info: Some(RetryInfo::from(delay)), ..self }
    }

    pub(super) fn with_kind(self, kind: CallErrorKind) -> Self {
        Self { kind, ..self }
    }

    fn describe(&self) -> String {
        let what = match self.kind {
            CallErrorKind::Retryable => "the server cannot be reached or is not ready",
            CallErrorKind::DeadlineExceeded => "the deadline passed",
            CallErrorKind::Unauthenticated => "the server does not accept the token",
            CallErrorKind::Credentials => "the server does not accept user and password",
            CallErrorKind::Refused => "the server refused the request",
            CallErrorKind::AnswerTooLarge => "the answer is too large",
        };
        format!("{what} ({}): {}", code_name(self.code), self.message)
    }
}

/// OTLP's table: which codes are worth another attempt. RESOURCE_EXHAUSTED is, exactly when the server says when.
pub fn is_retryable_code(code: Code, has_retry_info: bool) -> bool {
    match code {
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss => true,
        Code::ResourceExhausted => has_retry_info,
        Code::Ok
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => false,
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// "tcp connect error: Connection refused": the outermost text says little, the innermost says why.
fn with_causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = if text.is_empty() { words } else { format!("{text}: {words}") };
        }
        cause = error.source();
    }
    text
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
