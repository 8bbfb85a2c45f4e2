use tonic::{Code, Status};

use super::{SendError, classify};

#[test]
fn codes_are_sorted_as_otlp_says() {
    for (code, retry) in [
        (Code::Cancelled, true),
        (Code::DeadlineExceeded, true),
        (Code::Aborted, true),
        (Code::OutOfRange, true),
        (Code::Unavailable, true),
        (Code::DataLoss, true),
        (Code::InvalidArgument, false),
        (Code::PermissionDenied, false),
        (Code::Unimplemented, false),
        (Code::ResourceExhausted, false),
        (Code::Unknown, false),
        (Code::Internal, false),
    ] {
        assert_eq!(matches!(classify(&Status::new(code, "")), SendError::Retry(..)), retry, "{code:?}");
    }
    assert!(matches!(classify(&Status::unauthenticated("")), SendError::Unauthenticated(_)));
}

#[test]
fn an_exhausted_server_that_says_when_to_come_back_is_asked_again() {
    let details = bytes::Bytes::from_static(b"\x08\x08\x1a\x2a\x0a\x28type.googleapis.com/google.rpc.RetryInfo");
    let status = Status::with_details(Code::ResourceExhausted, "busy", details);
    assert!(matches!(classify(&status), SendError::Retry(..)));
}
