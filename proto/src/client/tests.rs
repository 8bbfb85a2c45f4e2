use std::{error::Error, fmt, time::Duration};

use prost::Message;
use tonic::{
    Code, Status,
    metadata::{MetadataMap, MetadataValue},
};

use super::{
    config::Target,
    error::is_retryable_code,
    retry_info::{Detail, DurationMessage, RetryInfoMessage, RpcStatus},
    *,
};

#[test]
fn c_33_and_c_34_the_table_of_codes() {
    let check = |code: Code, without: bool, with: bool| {
        assert_eq!((is_retryable_code(code, false), is_retryable_code(code, true)), (without, with), "{code:?}");
    };
    for number in 0..=16 {
        let code = Code::from_i32(number);
        match code {
            Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::OutOfRange | Code::Unavailable | Code::DataLoss => {
                check(code, true, true);
            }
            Code::ResourceExhausted => check(code, false, true),
            _ => check(code, false, false),
        }
    }
}

#[derive(Debug)]
struct Cause;

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection reset")
    }
}

impl Error for Cause {}

#[test]
fn statuses_made_up_by_the_transport_are_told_from_the_servers() {
    let lost = CallError::from_transport(&Status::from_error(Box::new(Cause)), None);
    assert!(lost.is_retryable() && lost.message().contains("connection reset"), "{lost}");
    let check = |code: Code, http: Option<u16>, expected: CallErrorKind| {
        assert_eq!(CallError::from_transport(&Status::new(code, "made up"), http).kind(), expected, "{code:?} {http:?}");
    };
    check(Code::OutOfRange, Some(200), CallErrorKind::AnswerTooLarge);
    check(Code::Unknown, Some(200), CallErrorKind::Retryable);
    check(Code::Unavailable, Some(503), CallErrorKind::Retryable);
    check(Code::Unauthenticated, Some(401), CallErrorKind::Unauthenticated);
    check(Code::Unknown, Some(500), CallErrorKind::Refused);
    check(Code::Internal, Some(200), CallErrorKind::Refused);
    let servers = CallError::from_server(&Status::new(Code::OutOfRange, "theirs"), None);
    assert!(servers.is_retryable());
}

fn metadata(name: &'static str, bytes: &[u8]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(name, MetadataValue::from_bytes(bytes));
    metadata
}

fn info(seconds: i64, nanos: i32) -> Vec<u8> {
    RetryInfoMessage { retry_delay: Some(DurationMessage { seconds, nanos }) }.encode_to_vec()
}

#[test]
fn c_36_retry_info_is_read_from_both_places() {
    let trailer = metadata("google.rpc.retryinfo-bin", &info(2, 500_000_000));
    assert_eq!(RetryInfo::from_metadata(&trailer).and_then(|info| info.delay()), Some(Duration::from_millis(2500)));
    let other = Detail { type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(), value: vec![1] };
    let detail = Detail { type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: info(1, 0) };
    let status = RpcStatus { code: 14, message: "busy".to_owned(), details: vec![other, detail] };
    let details = metadata("grpc-status-details-bin", &status.encode_to_vec());
    assert_eq!(RetryInfo::from_metadata(&details).and_then(|info| info.delay()), Some(Duration::from_secs(1)));
    assert_eq!(RetryInfo::from_metadata(&MetadataMap::new()), None);
    assert_eq!(RetryInfo::from_metadata(&metadata("google.rpc.retryinfo-bin", &[0xff])), None);
    assert_eq!(RetryInfo::from_metadata(&metadata("grpc-status-details-bin", b"garbage")), None);
}

#[test]
fn c_37_absurd_delays_are_no_delay_or_a_bounded_one() {
    let delay = |seconds, nanos| {
        RetryInfo::from_metadata(&metadata("google.rpc.retryinfo-bin", &info(seconds, nanos))).expect("retry info is there").delay()
    };
    for (seconds, nanos) in [(0, 0), (-1, 0), (1, -1), (0, 1_000_000_000), (i64::MIN, 0)] {
        assert_eq!(delay(seconds, nanos), None, "{seconds} s {nanos} ns");
    }
    assert_eq!(delay(i64::MAX, 0), Some(Duration::from_secs(300)));
}

#[test]
fn c_01_and_c_02_addresses() {
    let check = |uri: &str, insecure: bool, endpoint: &str, is_encrypted: bool, is_this_machine: bool| {
        let target = Target::parse(uri, insecure).unwrap_or_else(|fault| panic!("{uri}: {fault}"));
        assert_eq!(
            (target.endpoint.as_str(), target.is_encrypted, target.is_this_machine),
            (endpoint, is_encrypted, is_this_machine),
            "{uri}"
        );
    };
    check("http://example.com:1", false, "http://example.com:1", false, false);
    check("https://example.com", true, "https://example.com", true, false);
    check(" HTTPS://example.com ", false, "HTTPS://example.com", true, false);
    check("example.com:1", false, "https://example.com:1", true, false);
    check("example.com:1", true, "http://example.com:1", false, false);
    check("localhost:1", false, "http://localhost:1", false, true);
    check("http://[::1]:1", false, "http://[::1]:1", false, true);
    check("unix:/run/scouter.sock", false, "unix:/run/scouter.sock", false, true);
    for bad in ["", "ftp://example.com", "http://", "http://a b", "http://user:password@example.com", "dns:///example.com"] {
        let fault = Target::parse(bad, false).expect_err(bad).to_string();
        assert!(!fault.contains("password@"), "{fault}");
    }
}

#[test]
fn all_faults_of_a_configuration_come_at_once_and_without_secrets() {
    let config = GrpcConfig {
        server_uri: "http://example.com".to_owned(),
        password: "secret".into(),
        timeout: Duration::ZERO,
        keep_alive_interval: Some(Duration::ZERO),
        headers: vec![("Authorization".to_owned(), "secret".to_owned()), ("x-ok".to_owned(), "secret\n".to_owned())],
        max_request_bytes: 1,
        ..GrpcConfig::default()
    };
    let error = config.validate().expect_err("it has faults");
    assert_eq!(error.faults.len(), 6, "{error}");
    assert!(!format!("{error} {error:?} {config:?}").contains("secret"), "{error} {config:?}");
}

#[test]
fn c_53_times_without_end_are_faults_and_a_day_is_none() {
    let check = |time: Duration, expected: usize| {
        let config = GrpcConfig {
            timeout: time,
            connect_timeout: Some(time),
            keep_alive_interval: Some(time),
            keep_alive_timeout: Some(time),
            ..GrpcConfig::default()
        };
        assert_eq!(config.validate().map_or_else(|error| error.faults.len(), |()| 0), expected, "{time:?}");
    };
    check(Duration::from_secs(86_400), 0);
    check(Duration::from_secs(86_401), 4);
    check(Duration::MAX, 4);
}

#[test]
fn c_14_variables_are_read_and_empty_ones_are_unset() {
    let variables = |pairs: &'static [(&str, &str)]| {
        move |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let config = GrpcConfig::from_variables(variables(&[
        ("SCOUTER_GRPC_URI", "https://scouter.example.com"),
        ("SCOUTER_USERNAME", "me"),
        ("SCOUTER_PASSWORD", ""),
        ("SCOUTER_GRPC_INSECURE", "TRUE"),
    ]))
    .expect("it is good");
    assert_eq!(
        (config.server_uri.as_str(), config.username.as_str(), config.password.reveal()),
        ("https://scouter.example.com", "me", "guest")
    );
    assert!(config.insecure && config.ca_file.is_none());
    let error =
        GrpcConfig::from_variables(variables(&[("SCOUTER_GRPC_URI", "ftp://x"), ("SCOUTER_GRPC_INSECURE", "maybe")])).expect_err("bad");
    assert_eq!(error.faults.len(), 2, "{error}");
}

#[test]
fn a_long_message_of_a_peer_is_cut_at_a_character() {
    let error = CallError::from_server(&Status::internal("ä".repeat(5000)), None);
    assert!(error.message().len() < 1100);
    assert!(error.message().ends_with('…'));
}
