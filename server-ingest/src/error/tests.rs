use super::*;
use crate::auth::{Permission, TokenError};

fn denied(error: impl Into<Denied>) -> IngestError {
    IngestError::Denied(error.into())
}

/// One of each, with the row it must have: code, HTTP status, whether to send again.
fn table() -> Vec<(IngestError, Code, u16, bool)> {
    let disk_full =
        LogError::DiskFull { dir: "log".into(), need_bytes: 1, cause: Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull)) };
    let json = serde_json::from_str::<u8>("x").expect_err("not a number");
    vec![
        (IngestError::Malformed(Malformed { offset: 7, what: "a tag cannot be read" }), Code::InvalidArgument, 400, false),
        (IngestError::MalformedJson { expected: "a number", source: json }, Code::InvalidArgument, 400, false),
        (IngestError::TooManyObjects { limit: 1 }, Code::ResourceExhausted, 413, false),
        (IngestError::Contradictory("both"), Code::InvalidArgument, 400, false),
        (IngestError::TooLarge { limit_bytes: 1 }, Code::ResourceExhausted, 413, false),
        (IngestError::UnknownEncoding { name: "br".to_owned() }, Code::Unimplemented, 415, false),
        (IngestError::UnknownContentType, Code::InvalidArgument, 415, false),
        (IngestError::TooSlow, Code::DeadlineExceeded, 408, false),
        (IngestError::BrokenOff, Code::InvalidArgument, 400, false),
        (IngestError::NotServed { signal: "logs" }, Code::Unimplemented, 404, false),
        (denied(TokenError::Expired), Code::Unauthenticated, 401, false),
        (denied(LoginError::Refused), Code::Unauthenticated, 401, false),
        (denied(LoginError::Busy), Code::Unavailable, 503, true),
        (denied(LoginError::TooMany { wait: std::time::Duration::ZERO }), Code::ResourceExhausted, 429, true),
        (Denied::Forbidden { who: "ada".to_owned(), needs: Permission::Write }.into(), Code::PermissionDenied, 403, false),
        (Denied::Elsewhere { host: "elsewhere.example".to_owned() }.into(), Code::PermissionDenied, 403, false),
        (IngestError::Overloaded { come_again: RETRY_AFTER, because: None }, Code::Unavailable, 503, true),
        (IngestError::ShuttingDown, Code::Unavailable, 503, true),
        (IngestError::StoreSlow { because: None }, Code::Unavailable, 503, true),
        (IngestError::LogAway { because: "no broker".into() }, Code::Unavailable, 503, true),
        (IngestError::TwinFailed, Code::Unavailable, 503, true),
        (StoreError::Log(disk_full).into(), Code::Unavailable, 503, true),
        (StoreError::Log(LogError::Closed).into(), Code::Unavailable, 503, true),
        (StoreError::Log(LogError::TooLarge { bytes: 2, limit_bytes: 1 }).into(), Code::ResourceExhausted, 413, false),
    ]
}

#[test]
fn every_error_has_its_row() {
    for (error, code, http_status, is_retryable) in table() {
        let answer = error.answer();
        assert_eq!((answer.code, answer.http_status, answer.retry_after.is_some()), (code, http_status, is_retryable), "{error}");
    }
}

#[test]
fn retryable_answers_carry_retry_info_in_both_encodings_and_final_ones_in_none() {
    for (error, code, _, is_retryable) in table() {
        let status = Status::from(error);
        assert_eq!(status.code(), code);
        let details = status.get_details_retry_info();
        assert_eq!(details.is_some(), is_retryable, "{status}");
        let trailer = status.metadata().get_bin("google.rpc.retryinfo-bin").map(|value| value.to_bytes().expect("base64"));
        assert_eq!(trailer.is_some(), is_retryable, "{status}");
        if let Some(bytes) = trailer {
            let info = <tonic_types::pb::RetryInfo as prost::Message>::decode(bytes).expect("a RetryInfo");
            assert_eq!(info.retry_delay.map(|delay| delay.seconds), Some(1));
        }
    }
}

#[test]
fn the_text_names_the_cause() {
    let error = IngestError::Malformed(Malformed { offset: 7, what: "a tag cannot be read" });
    assert!(error.text().contains('7') && error.text().contains("a tag cannot be read"), "{}", error.text());
}
