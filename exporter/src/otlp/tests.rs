use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use prost::Message;
use scouter_tonic::client::CallErrorKind;

use super::{
    environment::{self, Warning},
    *,
};
use crate::transport::{RpcStatus, refusal};

type Pairs = &'static [(&'static str, &'static str)];

fn read_as(protocol: Option<OtlpProtocol>, pairs: Pairs) -> (OtlpConfig, Vec<String>) {
    let mut warnings = Vec::new();
    let variable = |name: &str| {
        let suffix = name.strip_prefix("OTEL_EXPORTER_OTLP_").expect("all of them begin so");
        pairs.iter().find(|(known, _)| *known == suffix).map(|(_, value)| (*value).to_owned())
    };
    let config = environment::read(&variable, protocol, &mut |warning: Warning| warnings.push(warning.to_string()));
    config.validate().unwrap_or_else(|error| panic!("{pairs:?}: {error}"));
    (config, warnings)
}

fn read(pairs: Pairs) -> (OtlpConfig, Vec<String>) {
    read_as(None, pairs)
}

fn quiet(pairs: Pairs) -> OtlpConfig {
    let (config, warnings) = read(pairs);
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

fn server_uri(endpoint: &str, insecure: bool) -> String {
    OtlpConfig { insecure, ..OtlpConfig::grpc(endpoint) }.grpc_config().server_uri
}

#[test]
fn c_01_a_scheme_beats_insecure() {
    for insecure in [false, true] {
        for endpoint in ["http://collector:4317", "https://collector:4317"] {
            let config = OtlpConfig { insecure, ..OtlpConfig::grpc(endpoint) };
            config.validate().unwrap();
            assert_eq!(config.grpc_config().server_uri, endpoint);
        }
    }
}

#[test]
fn c_02_other_forms_of_an_endpoint() {
    assert_eq!(server_uri("unix:/run/otel.sock", false), "unix:/run/otel.sock");
    assert_eq!(server_uri("unix:///run/otel.sock", false), "unix:///run/otel.sock");
    for bad in ["", "dns:///collector:4317", "http://", "http://a b", "http://user:password@collector"] {
        let error = OtlpConfig::grpc(bad).validate().expect_err(bad).to_string();
        assert!(error.contains("endpoint `") && !error.contains("password@"), "{bad}: {error}");
    }
    let http = OtlpConfig { protocol: OtlpProtocol::HttpProtobuf, ..OtlpConfig::grpc("unix:/run/otel.sock") };
    assert!(http.validate().unwrap_err().to_string().contains("unix socket"));
}

#[test]
fn c_03_the_default_endpoint_is_that_of_the_protocol() {
    assert_eq!(quiet(&[]), OtlpConfig::default());
    assert_eq!(OtlpConfig::default().endpoint, "http://localhost:4317");
    let http = quiet(&[("PROTOCOL", "http/protobuf")]);
    assert_eq!(http, OtlpConfig::http("http://localhost:4318/"));
    assert_eq!(http.endpoint, "http://localhost:4318/v1/traces");
}

#[test]
fn c_04_insecure_is_for_endpoints_without_a_scheme_and_false_by_default() {
    assert_eq!(server_uri("collector:4317", false), "https://collector:4317");
    assert_eq!(server_uri("localhost:4317", false), "https://localhost:4317");
    assert_eq!(server_uri("collector:4317", true), "http://collector:4317");
    let config = quiet(&[("ENDPOINT", "collector:4317"), ("TRACES_INSECURE", "TRUE")]);
    assert_eq!(config.grpc_config().server_uri, "http://collector:4317");
}

#[test]
fn c_05_and_c_06_files_are_named_by_the_environment() {
    let config = quiet(&[("CERTIFICATE", "/ca.pem"), ("CLIENT_KEY", "/key.pem"), ("TRACES_CLIENT_CERTIFICATE", "/cert.pem")]);
    let path = |path: &str| Some(PathBuf::from(path));
    assert_eq!(
        (config.ca_file, config.client_key_file, config.client_certificate_file),
        (path("/ca.pem"), path("/key.pem"), path("/cert.pem"))
    );
}

#[test]
fn c_07_headers_are_percent_decoded_lowercased_and_bad_pairs_are_left_out() {
    let (config, warnings) = read(&[(
        "HEADERS",
        "X-Tenant=blue , authorization=Basic%20YTpi,novalue,bad name=1,x-b%c3%a4d=2,x-newline=a%0Ab,x-umlaut=%ff,,te=trailers, empty=,a=b=c",
    )]);
    let expected = [("x-tenant", "blue"), ("authorization", "Basic YTpi"), ("empty", ""), ("a", "b=c")];
    assert_eq!(config.headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(warnings.len(), 6, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.starts_with("OTEL_EXPORTER_OTLP_HEADERS: pair ")), "{warnings:?}");
}

#[test]
fn c_08_compression_in_any_case_and_none_for_traces_beats_gzip_for_all() {
    assert_eq!(quiet(&[("COMPRESSION", "GZip")]).compression, Compression::Gzip);
    assert_eq!(quiet(&[("COMPRESSION", "zstd")]).compression, Compression::Zstd);
    assert_eq!(quiet(&[("COMPRESSION", "gzip"), ("TRACES_COMPRESSION", "None")]).compression, Compression::None);
}

#[test]
fn c_09_timeout_is_in_milliseconds_and_zero_is_no_limit() {
    assert_eq!(quiet(&[]).timeout, Duration::from_secs(10));
    assert_eq!(quiet(&[("TIMEOUT", "1500")]).effective_timeout(), Duration::from_millis(1500));
    let unlimited = quiet(&[("TRACES_TIMEOUT", "0"), ("TIMEOUT", "5")]);
    assert_eq!((unlimited.timeout, unlimited.effective_timeout()), (Duration::ZERO, NO_LIMIT));
    assert_eq!(unlimited.connect_timeout(), DEFAULT_TIMEOUT);
    assert_eq!(OtlpConfig { timeout: Duration::MAX, ..OtlpConfig::default() }.effective_timeout(), NO_LIMIT);
}

#[test]
fn c_10_and_c_11_limits_of_size() {
    let config = OtlpConfig::default();
    assert_eq!((config.max_request_bytes, config.max_response_bytes), (67_108_864, 4 * 1024 * 1024));
    let none = OtlpConfig { max_request_bytes: 0, max_response_bytes: 0, ..config };
    assert_eq!(none.validate().unwrap_err().faults.len(), 2);
}

#[test]
fn c_12_unknown_words_are_told_and_ignored() {
    let (config, warnings) = read(&[("PROTOCOL", "http/json"), ("TRACES_COMPRESSION", "brotli"), ("COMPRESSION", "gzip")]);
    assert_eq!((config.protocol, config.compression), (OtlpProtocol::Grpc, Compression::None));
    assert_eq!(
        warnings,
        [
            "OTEL_EXPORTER_OTLP_PROTOCOL: `http/json` is not grpc or http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION: `brotli` is not none, gzip or zstd",
        ]
    );
    assert_eq!(quiet(&[("PROTOCOL", "GRPC")]).protocol, OtlpProtocol::Grpc);
}

#[test]
fn c_13_traces_beat_the_general_and_the_code_beats_both() {
    let config = quiet(&[
        ("ENDPOINT", "http://general:1"),
        ("TRACES_ENDPOINT", "http://traces:2"),
        ("HEADERS", "a=1,b=2"),
        ("TRACES_HEADERS", "c=3"),
        ("TIMEOUT", "1"),
        ("TRACES_TIMEOUT", "2"),
        ("PROTOCOL", "http/protobuf"),
        ("TRACES_PROTOCOL", "grpc"),
        ("INSECURE", "true"),
        ("TRACES_INSECURE", "false"),
        ("CERTIFICATE", "/general"),
        ("TRACES_CERTIFICATE", "/traces"),
    ]);
    let expected = OtlpConfig {
        headers: vec![("c".to_owned(), "3".to_owned())],
        timeout: Duration::from_millis(2),
        ca_file: Some("/traces".into()),
        ..OtlpConfig::grpc("http://traces:2")
    };
    assert_eq!(config, expected);
    let (chosen, _) = read_as(Some(OtlpProtocol::HttpProtobuf), &[("PROTOCOL", "grpc"), ("ENDPOINT", "http://general:1/base/")]);
    assert_eq!(chosen, OtlpConfig::http("http://general:1/base"));
    assert_eq!(chosen.endpoint, "http://general:1/base/v1/traces");
}

#[test]
fn c_13_an_http_endpoint_for_traces_is_taken_as_it_is() {
    let config = quiet(&[("PROTOCOL", "http/protobuf"), ("TRACES_ENDPOINT", "https://collector/otlp"), ("ENDPOINT", "http://other")]);
    assert_eq!(config.endpoint, "https://collector/otlp");
}

#[test]
fn c_14_empty_is_unset() {
    let config = quiet(&[
        ("TRACES_ENDPOINT", ""),
        ("ENDPOINT", "  "),
        ("HEADERS", ""),
        ("TIMEOUT", ""),
        ("COMPRESSION", ""),
        ("PROTOCOL", ""),
        ("INSECURE", ""),
        ("CERTIFICATE", ""),
        ("CLIENT_KEY", ""),
    ]);
    assert_eq!(config, OtlpConfig::default());
    assert_eq!(quiet(&[("TRACES_TIMEOUT", ""), ("TIMEOUT", "7")]).timeout, Duration::from_millis(7));
}

#[test]
fn c_15_only_true_is_true() {
    for (value, insecure, warns) in [("true", true, 0), ("TrUe", true, 0), ("false", false, 0), ("1", false, 1), ("yes", false, 1)] {
        let pairs: Pairs = Box::leak(Box::new([("INSECURE", value)]));
        let (config, warnings) = read(pairs);
        assert_eq!((config.insecure, warnings.len()), (insecure, warns), "{value}: {warnings:?}");
    }
}

#[test]
fn c_16_what_is_not_a_number_is_told_and_unset() {
    for value in ["soon", "-1", "1.5", "10s", "99999999999999999999999"] {
        let pairs: Pairs = Box::leak(Box::new([("TIMEOUT", value)]));
        let (config, warnings) = read(pairs);
        assert_eq!((config.timeout, warnings.len()), (DEFAULT_TIMEOUT, 1), "{value}: {warnings:?}");
    }
}

#[test]
fn c_17_every_variable_has_a_field() {
    let config = quiet(&[
        ("PROTOCOL", "http/protobuf"),
        ("ENDPOINT", "https://collector"),
        ("INSECURE", "true"),
        ("HEADERS", "a=b"),
        ("TIMEOUT", "1"),
        ("COMPRESSION", "gzip"),
        ("CERTIFICATE", "/ca"),
        ("CLIENT_CERTIFICATE", "/cert"),
        ("CLIENT_KEY", "/key"),
    ]);
    let by_code = OtlpConfig {
        insecure: true,
        headers: vec![("a".to_owned(), "b".to_owned())],
        timeout: Duration::from_millis(1),
        compression: Compression::Gzip,
        ca_file: Some("/ca".into()),
        client_certificate_file: Some("/cert".into()),
        client_key_file: Some("/key".into()),
        ..OtlpConfig::http("https://collector")
    };
    assert_eq!(config, by_code);
}

#[test]
fn a_08_a_token_in_a_header_does_not_cross_plaintext_unless_that_is_said() {
    let with_token = |endpoint: &str, insecure: bool| OtlpConfig {
        insecure,
        headers: vec![("X-Api-Key".to_owned(), "hidden".to_owned())],
        ..OtlpConfig::grpc(endpoint)
    };
    assert!(with_token("http://collector:4317", false).validate().unwrap_err().to_string().contains("plaintext"));
    for good in [with_token("http://collector:4317", true), with_token("http://localhost:4317", false), with_token("https://c", false)] {
        good.validate().unwrap();
        assert!(!format!("{good:?}").contains("hidden"), "{good:?}");
    }
    OtlpConfig::grpc("http://collector:4317").validate().unwrap();
}

#[test]
fn c_33_and_c_34_the_table_of_http_statuses() {
    for number in (300..600).filter_map(|number| StatusCode::from_u16(number).ok()) {
        let error = refusal(number, &HeaderMap::new(), b"words", SystemTime::now());
        assert_eq!(error.is_retryable(), matches!(number.as_u16(), 429 | 502 | 503 | 504), "{number}");
        assert!(error.to_string().contains(number.as_str()) && error.to_string().contains("words"), "{error}");
    }
    let unauthenticated = refusal(StatusCode::UNAUTHORIZED, &HeaderMap::new(), b"", SystemTime::now());
    assert_eq!(unauthenticated.kind(), CallErrorKind::Unauthenticated);
}

#[test]
fn c_36_and_c_37_retry_after_is_seconds_or_a_date_and_bounded() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let delay = |status: StatusCode, text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        refusal(status, &headers, b"", now).retry_after()
    };
    let busy = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(delay(busy, "7"), Some(Duration::from_secs(7)));
    assert_eq!(delay(busy, "Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
    assert_eq!(delay(busy, "99999999"), Some(Duration::from_secs(300)));
    for odd in ["0", "-1", "soon", "1e9", "Sun, 06 Nov 1974 08:49:37 GMT"] {
        assert_eq!(delay(busy, odd), None, "{odd}");
    }
    assert_eq!(delay(StatusCode::BAD_REQUEST, "7"), None);
}

#[test]
fn a_refusals_words_are_read_from_both_kinds_of_body() {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    let body = RpcStatus { code: 3, message: "bad span".to_owned() }.encode_to_vec();
    assert!(refusal(StatusCode::BAD_REQUEST, &headers, &body, SystemTime::now()).message().ends_with(": bad span"));
    assert!(refusal(StatusCode::BAD_REQUEST, &headers, &[0xff; 9], SystemTime::now()).message().ends_with("Bad Request"));
    let long = refusal(StatusCode::BAD_REQUEST, &HeaderMap::new(), &[b'x'; 50_000], SystemTime::now());
    assert!(long.message().len() < 1100);
}
