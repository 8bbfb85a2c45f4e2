//! OTLP's rules for servers, a test a row of the list in docs/otlp-conformance.md, against a running server over real sockets.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use reqwest::{StatusCode, header::HeaderMap};
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use serde_json::{Value, json};
use support::{TestServer, grpc, otlp_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Code, Status, codec::CompressionEncoding};
use tonic_types::StatusExt;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const LIMIT: usize = 1024 * 1024;
/// A server small enough to be filled.
const SMALL: [&str; 6] = ["--max-request-mib", "1", "--memory-budget-mib", "156", "--max-connections", "112"];

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], JSON);
        serde_json::from_slice(&self.body).unwrap()
    }

    fn status(&self) -> tonic_types::pb::Status {
        assert_eq!(self.headers["content-type"], PROTOBUF);
        tonic_types::pb::Status::decode(self.body.clone()).unwrap()
    }

    fn response(&self) -> ExportTraceServiceResponse {
        assert_eq!((self.status, self.headers["content-type"].to_str().unwrap()), (StatusCode::OK, PROTOBUF));
        ExportTraceServiceResponse::decode(self.body.clone()).unwrap()
    }
}

async fn post_to(server: &TestServer, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Answer {
    let mut request = reqwest::Client::new().post(server.url("otlp-http", path)).bearer_auth(&server.token).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    Answer { status: response.status(), headers: response.headers().clone(), body: response.bytes().await.unwrap() }
}

async fn post(server: &TestServer, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    post_to(server, "/v1/traces", &[("content-type", content_type)], body).await
}

async fn export(
    server: &TestServer,
    body: Vec<u8>,
    compression: Option<CompressionEncoding>,
) -> Result<ExportTraceServiceResponse, Status> {
    grpc(server, "otlp-grpc", OTLP_TRACE_EXPORT, &format!("Bearer {}", server.token), body, compression).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// OTLP/JSON of one span, with more fields.
fn json_span(fields: &str) -> String {
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0AF7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331",{fields}}}]}}]}}]}}"#
    )
}

#[tokio::test]
async fn s_01_no_compression_and_gzip_on_both_protocols() {
    let server = TestServer::start().await;
    export(&server, otlp_request(1, 1).encode_to_vec(), None).await.unwrap();
    export(&server, otlp_request(2, 1).encode_to_vec(), Some(CompressionEncoding::Gzip)).await.unwrap();
    post(&server, PROTOBUF, otlp_request(3, 1).encode_to_vec()).await.response();
    let body = gzip(&otlp_request(4, 1).encode_to_vec());
    post_to(&server, "/v1/traces", &[("content-type", PROTOBUF), ("content-encoding", "gzip")], body).await.response();
    assert_eq!(server.count("spans").await, 4);
}

#[tokio::test]
async fn s_02_the_limit_holds_before_and_after_decompression_and_is_final() {
    let server = TestServer::start_with(&SMALL).await;
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let status = export(&server, vec![0; LIMIT + 1], compression).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{compression:?}: {status}");
        assert!(status.get_details_retry_info().is_none() && status.metadata().get_bin("google.rpc.retryinfo-bin").is_none());
    }
    for (encoding, body) in [("identity", vec![0; LIMIT + 1]), ("gzip", gzip(&vec![0; LIMIT + 1]))] {
        let answer = post_to(&server, "/v1/traces", &[("content-type", PROTOBUF), ("content-encoding", encoding)], body).await;
        assert_eq!((answer.status, answer.status().code), (StatusCode::PAYLOAD_TOO_LARGE, i32::from(Code::ResourceExhausted)));
        assert!(!answer.headers.contains_key("retry-after"));
    }
}

#[tokio::test]
async fn s_03_s_04_empty_and_full_success_leave_partial_success_unset() {
    let server = TestServer::start().await;
    for body in [Vec::new(), otlp_request(1, 3).encode_to_vec()] {
        assert_eq!(export(&server, body.clone(), None).await.unwrap().partial_success, None);
        assert_eq!(post(&server, PROTOBUF, body).await.response().partial_success, None);
    }
    assert_eq!(post(&server, JSON, "{}").await.json(), json!({}));
    let empty = ExportTraceServiceRequest { resource_spans: vec![Default::default()] };
    assert_eq!(export(&server, empty.encode_to_vec(), None).await.unwrap().partial_success, None);
}

#[tokio::test]
async fn s_05_bad_spans_are_counted_and_named_and_good_ones_are_stored() {
    let server = TestServer::start().await;
    let mut request = otlp_request(1, 3);
    request.resource_spans[0].scope_spans[0].spans[2].span_id = vec![0; 8];
    let partial = export(&server, request.encode_to_vec(), None).await.unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("span 2: span_id is all zeros"), "{}", partial.error_message);
    let partial = post(&server, JSON, serde_json::to_vec(&request).unwrap()).await.json();
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], "1");
    assert!(partial["partialSuccess"]["errorMessage"].as_str().unwrap().contains("span_id is all zeros"));
    assert_eq!(server.sql("SELECT count(DISTINCT span_id) FROM spans").await[0][0], 2);
}

#[tokio::test]
async fn s_06_a_warning_has_words_and_no_rejected_spans() {
    let server = TestServer::start().await;
    let made = server.command(&["key", "create", "collector", "--expires-in-days", "2"]);
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let header = format!("Bearer {key}");
    let send = |trace| {
        grpc::<ExportTraceServiceResponse>(&server, "otlp-grpc", OTLP_TRACE_EXPORT, &header, otlp_request(trace, 1).encode_to_vec(), None)
    };
    support::wait_until("the key is known", async || {
        send(1).await.is_ok_and(|answer| {
            answer.partial_success.is_some_and(|partial| {
                assert_eq!(partial.rejected_spans, 0);
                partial.error_message.contains("expires in 48 hours")
            })
        })
    })
    .await;
    assert_eq!(send(2).await.unwrap().partial_success, None, "it is said once an hour");
    assert_eq!(server.count("spans").await, 2);
}

/// Of the 16 MiB that a [`SMALL`] server has for requests, the last one is for those who have little.
const FILLING: usize = 14;

/// Requests that hold the whole budget of a [`SMALL`] server: all of their bodies but the last byte.
async fn fill(server: &TestServer) -> Vec<tokio::net::TcpStream> {
    let mut held = Vec::new();
    for _ in 0..FILLING {
        let mut stream = tokio::net::TcpStream::connect(server.address("otlp-http")).await.unwrap();
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {LIMIT}\r\n\r\n",
            server.token
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![0; LIMIT - 1]).await.unwrap();
        held.push(stream);
    }
    support::wait_until("the budget is taken", async || {
        let metrics = reqwest::get(server.url("http", "/metrics")).await.unwrap().text().await.unwrap();
        let used = metrics.lines().find_map(|line| line.strip_prefix("scouter_admission_used_bytes ")).unwrap().parse::<usize>().unwrap();
        used > FILLING * (LIMIT - 1)
    })
    .await;
    held
}

#[tokio::test]
async fn s_07_s_09_overload_is_unavailable_with_retry_info_in_both_places() {
    let server = TestServer::start_with(&SMALL).await;
    let held = fill(&server).await;
    let status = export(&server, vec![0; LIMIT], None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay.unwrap().as_secs(), 1);
    let trailer = status.metadata().get_bin("google.rpc.retryinfo-bin").unwrap().to_bytes().unwrap();
    assert_eq!(tonic_types::pb::RetryInfo::decode(trailer).unwrap().retry_delay.unwrap().seconds, 1);

    let answer = post(&server, PROTOBUF, vec![0; LIMIT]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(["1", "2"].contains(&answer.headers["retry-after"].to_str().unwrap()), "{:?}", answer.headers);
    let details = answer.status().details;
    assert_eq!(details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    assert_eq!(tonic_types::pb::RetryInfo::decode(&details[0].value[..]).unwrap().retry_delay.unwrap().seconds, 1);
    let mut spaces = b"{}".to_vec();
    spaces.resize(LIMIT, b' ');
    let answer = post(&server, JSON, spaces).await;
    let detail = &answer.json()["details"][0];
    assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.RetryInfo");
    let seconds: f64 = detail["retryDelay"].as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
    assert!((1.0..2.0).contains(&seconds), "{detail}");

    export(&server, otlp_request(1, 1).encode_to_vec(), None).await.expect("a small one still fits");
    drop(held);
    support::wait_until("room comes back", async || {
        export(&server, vec![0; LIMIT], None).await.is_err_and(|status| status.code() == Code::InvalidArgument)
    })
    .await;
}

#[tokio::test]
async fn s_08_what_cannot_be_read_is_invalid_argument_with_bad_request() {
    let server = TestServer::start().await;
    let status = export(&server, vec![0xff; 10], None).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(violations[0].description.contains("not a valid protobuf message"), "{violations:?}");
    let answer = post(&server, PROTOBUF, vec![0xff; 10]).await;
    assert_eq!((answer.status, answer.status().details.len()), (StatusCode::BAD_REQUEST, 1));
    let answer = post(&server, JSON, "{").await;
    assert_eq!(answer.json()["details"][0]["@type"], "type.googleapis.com/google.rpc.BadRequest");
}

#[tokio::test]
async fn s_10_an_answer_stays_small_however_much_is_wrong() {
    let server = TestServer::start().await;
    let mut request = otlp_request(1, 50_000);
    for span in &mut request.resource_spans[0].scope_spans[0].spans {
        span.trace_id.clear();
    }
    let answer = export(&server, request.encode_to_vec(), None).await.unwrap();
    assert_eq!(answer.partial_success.as_ref().unwrap().rejected_spans, 50_000);
    assert!(answer.encoded_len() < 1000);
    let text = format!("{{\"resourceSpans\": \"{}\"}}", "x".repeat(8 * 1024 * 1024));
    let body = post(&server, JSON, text).await.body;
    assert!(body.len() < 4096, "{} bytes", body.len());
}

#[tokio::test]
async fn s_11_what_is_unknown_is_no_error() {
    let server = TestServer::start().await;
    let mut request = otlp_request(1, 1);
    let span = &mut request.resource_spans[0].scope_spans[0].spans[0];
    (span.kind, span.flags) = (99, 0xffff_fc00);
    let mut body = request.encode_to_vec();
    // Field 99, as text, of the request itself.
    body.extend([0x9a, 0x06, 3, b'n', b'e', b'w']);
    assert_eq!(export(&server, body, None).await.unwrap().partial_success, None);
    let mut request = otlp_request(2, 1);
    request.resource_spans[0].scope_spans[0].spans[0].kind = 0;
    assert_eq!(export(&server, request.encode_to_vec(), None).await.unwrap().partial_success, None);
    assert_eq!(server.sql("SELECT flags FROM spans ORDER BY trace_id").await[0][0], 0xffff_fc00_u32);
    let trace = server.url("http", &format!("/scouter/trace/spans?trace_id={:032x}", 2));
    let body: Value = reqwest::Client::new().get(trace).bearer_auth(&server.token).send().await.unwrap().json().await.unwrap();
    assert!(["INTERNAL", "UNSPECIFIED"].contains(&body["spans"][0]["span_kind"].as_str().unwrap()), "{body}");
}

#[tokio::test]
async fn s_12_an_invalid_span_is_refused_alone_in_protobuf_and_in_json() {
    let server = TestServer::start().await;
    let mut request = otlp_request(1, 5);
    let spans = &mut request.resource_spans[0].scope_spans[0].spans;
    spans[0].trace_id = vec![1; 15];
    spans[1].span_id = vec![];
    // It is kept, with its negative duration: clocks go wrong, and a span that is lost tells nobody.
    spans[2].end_time_unix_nano = spans[2].start_time_unix_nano - 1;
    spans[3].name = "NAME".to_owned();
    let mut body = request.encode_to_vec();
    let name = body.windows(4).position(|bytes| bytes == b"NAME").unwrap();
    body[name] = 0xff;
    let partial = export(&server, body, None).await.unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 3, "{}", partial.error_message);
    assert_eq!(server.sql("SELECT name, duration_nano FROM spans ORDER BY name").await[0][1], -1);

    let mut request = serde_json::to_value(otlp_request(2, 3)).unwrap();
    request["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["traceId"] = "not hexadecimal!".into();
    let partial = post(&server, JSON, request.to_string()).await.json();
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], "1");
    let words = partial["partialSuccess"]["errorMessage"].as_str().unwrap();
    assert!(words.contains("span 1: traceId \"not hexadecimal!\" is not hexadecimal"), "{words}");
    assert_eq!(server.count("spans").await, 4);
}

#[tokio::test]
async fn s_13_a_request_that_comes_again_is_stored_once() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        export(&server, otlp_request(1, 10).encode_to_vec(), None).await.unwrap();
        post(&server, PROTOBUF, otlp_request(1, 10).encode_to_vec()).await.response();
    }
    assert_eq!(server.count("spans").await, 10);
    // Grouped in another way, as a collector that was restarted does.
    export(&server, otlp_request(1, 9).encode_to_vec(), None).await.unwrap();
    let trace = server.url("http", &format!("/scouter/trace/spans?trace_id={:032x}", 1));
    let body: Value = reqwest::Client::new().get(trace).bearer_auth(&server.token).send().await.unwrap().json().await.unwrap();
    assert_eq!(body["spans"].as_array().unwrap().len(), 10, "a trace shows each span once");
}

#[tokio::test]
async fn s_14_strangers_are_unauthenticated_and_the_wrong_ones_are_denied() {
    let server = TestServer::start().await;
    let made = server.command(&["key", "create", "reader", "--permissions", "read"]);
    let reader = format!("Bearer {}", String::from_utf8(made.stdout).unwrap().trim());
    let body = otlp_request(1, 1).encode_to_vec();
    let send = |header: String| {
        let body = body.clone();
        let server = &server;
        async move { grpc::<ExportTraceServiceResponse>(server, "otlp-grpc", OTLP_TRACE_EXPORT, &header, body, None).await.unwrap_err() }
    };
    support::wait_until("the key is known", async || send(reader.clone()).await.code() == Code::PermissionDenied).await;
    for stranger in ["Bearer x", "Basic eDp5", ""] {
        assert_eq!(send(stranger.to_owned()).await.code(), Code::Unauthenticated, "{stranger}");
    }
    for (header, expected) in [(reader.as_str(), 403), ("Bearer x", 401), ("Basic eDp5", 401)] {
        let request = reqwest::Client::new().post(server.url("otlp-http", "/v1/traces")).header("authorization", header);
        let response = request.header("content-type", PROTOBUF).body(body.clone()).send().await.unwrap();
        assert_eq!(response.status().as_u16(), expected, "{header}");
        assert_eq!(response.headers()["content-type"], PROTOBUF);
    }
}

#[tokio::test]
async fn s_15_what_is_under_way_at_the_end_is_finished() {
    let mut server = TestServer::start().await;
    let body = otlp_request(1, 10).encode_to_vec();
    let mut stream = tokio::net::TcpStream::connect(server.address("otlp-http")).await.unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {}\r\n\r\n",
        server.token,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body[..100]].concat()).await.unwrap();
    let channel = server.channel("otlp-grpc").await;
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let slow = support::slow_export(channel, server.token.clone(), otlp_request(2, 10).encode_to_vec(), receiver);
    let slow = tokio::spawn(slow);
    support::wait_until("both are under way", async || server.metric("scouter_connections_open").await >= 2.0).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    server.signal("TERM");
    support::wait_until("the doors are closed", async || tokio::net::TcpStream::connect(server.address("otlp-http")).await.is_err()).await;
    stream.write_all(&body[100..]).await.unwrap();
    sender.send(()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
    slow.await.unwrap().unwrap();
    assert_eq!(server.wait(), Some(0), "{}", server.log());
    let output = server.command(&["sql", "--json", "SELECT count(*) FROM spans"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("[[20]]"));
}

#[tokio::test]
async fn s_16_answers_and_errors_have_the_type_of_the_request() {
    let server = TestServer::start().await;
    let body = otlp_request(1, 1).encode_to_vec();
    post(&server, "application/x-protobuf; charset=utf-8", body.clone()).await.response();
    assert_eq!(post(&server, "Application/JSON;charset=UTF-8", "{}").await.json(), json!({}));
    assert_eq!(post(&server, "text/plain", body.clone()).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = post_to(&server, "/v1/traces", &[("content-type", PROTOBUF), ("content-encoding", "br")], body.clone()).await;
    assert_eq!(
        (answer.status, &answer.headers["accept-encoding"]),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, &"gzip,zstd,identity".parse().unwrap())
    );
    assert!(answer.status().message.contains("\"br\""));
    for (signal, path) in [("logs", "/v1/logs"), ("metrics", "/v1/metrics")] {
        let answer = post_to(&server, path, &[("content-type", PROTOBUF)], Vec::new()).await;
        assert_eq!((answer.status, answer.status().code), (StatusCode::NOT_FOUND, i32::from(Code::Unimplemented)));
        let words = post_to(&server, path, &[("content-type", JSON)], "{}").await.json()["message"].as_str().unwrap().to_owned();
        assert!(words.contains(signal) && words.contains("/v1/traces"), "{words}");
    }
    for path in
        ["/opentelemetry.proto.collector.logs.v1.LogsService/Export", "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"]
    {
        let header = format!("Bearer {}", server.token);
        let status = grpc::<ExportTraceServiceResponse>(&server, "otlp-grpc", path, &header, Vec::new(), None).await.unwrap_err();
        assert!(status.code() == Code::Unimplemented && status.message().contains("this server takes traces"), "{status}");
    }
    let chunks: Vec<_> =
        body.chunks(10).map(|chunk| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::copy_from_slice(chunk)))).collect();
    let chunked = reqwest::Body::wrap(http_body_util::StreamBody::new(futures::stream::iter(chunks)));
    post(&server, PROTOBUF, chunked).await.response();
    for client in [reqwest::Client::builder().http1_only(), reqwest::Client::builder().http2_prior_knowledge()] {
        let request = client.build().unwrap().post(server.url("otlp-http", "/v1/traces")).bearer_auth(&server.token);
        assert_eq!(request.header("content-type", PROTOBUF).body(body.clone()).send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn s_17_json_is_read_by_otlps_rules() {
    let server = TestServer::start().await;
    let fields = r#""name":"op","kind":2,"startTimeUnixNano":"1790000000000000001","endTimeUnixNano":1790000000000000005,"unknown":[1],
        "parentSpanId":null,"status":{"code":2},"attributes":[{"key":"i","value":{"intValue":"-7"}},{"key":"j","value":{"intValue":8}},
        {"key":"d","value":{"doubleValue":"NaN"}},{"key":"b","value":{"bytesValue":"AAE="}}]"#;
    assert_eq!(post(&server, JSON, json_span(fields)).await.json(), json!({}));
    let row = server
        .sql("SELECT encode(trace_id, 'hex'), name, kind, start_unix_nano, duration_nano, status_code, attributes FROM spans")
        .await
        .remove(0);
    assert_eq!(row[0], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!((row[1].as_str(), row[3].as_i64(), row[4].as_i64()), (Some("op"), Some(1_790_000_000_000_000_001), Some(4)));
    assert_eq!((row[2].as_str(), row[5].as_i64()), (Some("SERVER"), Some(2)), "{row:?}");
    assert!(row[6].as_str().unwrap().starts_with(r#"{"i":-7,"j":8,"#), "{}", row[6]);
    let refused = post(&server, JSON, json_span(r#""kind":"SPAN_KIND_SERVER""#)).await.json();
    assert_eq!(refused["partialSuccess"]["rejectedSpans"], "1", "{refused}");
}

#[tokio::test]
async fn s_18_paths_have_a_base_and_a_slash_if_one_likes() {
    let server = TestServer::start_with(&["--otlp-http-base-path", "/otlp/"]).await;
    for (trace, path) in ["/v1/traces", "/v1/traces/", "/otlp/v1/traces", "/otlp/v1/traces/"].into_iter().enumerate() {
        let body = otlp_request(1 + trace as u128, 1).encode_to_vec();
        post_to(&server, path, &[("content-type", PROTOBUF)], body).await.response();
    }
    assert_eq!(server.count("spans").await, 4);
}

#[tokio::test]
async fn s_19_many_resources_and_scopes_and_none() {
    let server = TestServer::start().await;
    let mut request = otlp_request(1, 2);
    let mut bare = otlp_request(2, 2).resource_spans.remove(0);
    bare.resource = None;
    bare.scope_spans[0].scope = None;
    bare.scope_spans.push(otlp_request(3, 2).resource_spans.remove(0).scope_spans.remove(0));
    request.resource_spans.push(bare);
    assert_eq!(export(&server, request.encode_to_vec(), None).await.unwrap().partial_success, None);
    let json = post(&server, JSON, serde_json::to_vec(&otlp_request(4, 2)).unwrap()).await;
    assert_eq!(json.status, StatusCode::OK);
    assert_eq!(server.count("spans").await, 8);
}

#[tokio::test]
async fn s_20_a_newer_minor_version_is_read() {
    let server = TestServer::start().await;
    // A field no version has yet, on every level: number 500, of each wire type.
    let new: [&[u8]; 3] = [&[0xa0, 0x1f, 1], &[0xa2, 0x1f, 2, 8, 1], &[0xa5, 0x1f, 1, 2, 3, 4]];
    let field = |number: u8, content: &[u8]| {
        let mut bytes = vec![number << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut bytes);
        [bytes, content.to_vec(), new.concat()].concat()
    };
    let span = otlp_request(1, 1).resource_spans[0].scope_spans[0].spans[0].encode_to_vec();
    let scope_spans = field(2, &[span, new.concat()].concat());
    let resource = field(1, &new.concat());
    let request = field(1, &[resource, field(2, &scope_spans)].concat());
    assert_eq!(export(&server, request, None).await.unwrap().partial_success, None);
    assert_eq!(server.sql("SELECT name FROM spans").await[0][0], "span 1");
}
