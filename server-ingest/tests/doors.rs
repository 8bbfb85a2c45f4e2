//! Every door of a running server, with real clients, read back by SQL.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use scouter_tonic::{
    codec::SendBytes,
    grpc::{
        InsertMessageRequest, InsertMessageResponse, LoginRequest, RefreshTokenRequest, ValidateTokenRequest,
        auth_service_client::AuthServiceClient,
    },
    limits::MAX_REQUEST_BYTES,
    message::{MonitoringRecord, PsiRecord, SpcRecord, monitoring_record::Record},
    path::{INSERT_MESSAGE, OTLP_TRACE_EXPORT},
};
use support::{TestServer, otlp_request, wait_until};
use tonic::{Code, Request, Status, codec::CompressionEncoding};

async fn call<A: Message + Default + Send + 'static>(
    server: &TestServer,
    door: &str,
    path: &'static str,
    token: Option<&str>,
    body: Vec<u8>,
) -> Result<A, Status> {
    send(server, door, path, token, body, None).await
}

async fn send<A: Message + Default + Send + 'static>(
    server: &TestServer,
    door: &str,
    path: &'static str,
    token: Option<&str>,
    body: Vec<u8>,
    compression: Option<CompressionEncoding>,
) -> Result<A, Status> {
    let mut grpc = tonic::client::Grpc::new(server.channel(door).await).max_encoding_message_size(usize::MAX);
    if let Some(encoding) = compression {
        grpc = grpc.send_compressed(encoding);
    }
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(Bytes::from(body));
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    grpc.unary(request, path, SendBytes::<A>::default()).await.map(tonic::Response::into_inner)
}

async fn export(server: &TestServer, request: &ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Status> {
    call(server, "otlp-grpc", OTLP_TRACE_EXPORT, Some(&server.token), request.encode_to_vec()).await
}

async fn insert(server: &TestServer, request: &InsertMessageRequest) -> Result<InsertMessageResponse, Status> {
    call(server, "grpc", INSERT_MESSAGE, Some(&server.token), request.encode_to_vec()).await
}

fn typed(trace: u128, count: u64) -> InsertMessageRequest {
    InsertMessageRequest { resource_spans: otlp_request(trace, count).resource_spans, ..Default::default() }
}

#[tokio::test]
async fn spans_of_every_door_are_queryable_when_the_answer_comes() {
    let server = TestServer::start().await;
    export(&server, &otlp_request(1, 3)).await.unwrap();
    assert_eq!(server.count("spans").await, 3);

    call::<ExportTraceServiceResponse>(&server, "grpc", OTLP_TRACE_EXPORT, Some(&server.token), otlp_request(2, 3).encode_to_vec())
        .await
        .unwrap();
    assert_eq!(server.count("spans").await, 6);

    assert_eq!(insert(&server, &typed(3, 3)).await.unwrap().status, "success");
    assert_eq!(server.count("spans").await, 9);

    let http = reqwest::Client::new();
    for (index, door) in ["http", "otlp-http"].into_iter().enumerate() {
        let body = otlp_request(4 + index as u128, 3).encode_to_vec();
        let request = http.post(server.url(door, "/v1/traces")).bearer_auth(&server.token);
        let response = request.header("content-type", "application/x-protobuf").body(body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/x-protobuf");
        assert_eq!(response.bytes().await.unwrap().len(), 0, "full success leaves partial_success unset");
    }
    assert_eq!(server.count("spans").await, 15);

    let rows =
        server.sql("SELECT encode(trace_id, 'hex'), name, attributes, service_name FROM spans WHERE name = 'span 2' ORDER BY 1").await;
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[0][0], "00000000000000000000000000000001");
    assert_eq!(rows[0][2], r#"{"index":2,"text":"wörld \"quoted\""}"#);
    assert_eq!(rows[0][3], "test");
}

#[tokio::test]
async fn compressed_requests_are_read() {
    let server = TestServer::start().await;
    for (trace, encoding) in [(1, CompressionEncoding::Gzip), (2, CompressionEncoding::Zstd)] {
        let body = otlp_request(trace, 100).encode_to_vec();
        send::<ExportTraceServiceResponse>(&server, "otlp-grpc", OTLP_TRACE_EXPORT, Some(&server.token), body, Some(encoding))
            .await
            .unwrap();
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&otlp_request(3, 100).encode_to_vec()).unwrap();
    let zstd = zstd::encode_all(&otlp_request(4, 100).encode_to_vec()[..], 1).unwrap();
    for (name, body) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd)] {
        let request = reqwest::Client::new().post(server.url("otlp-http", "/v1/traces")).bearer_auth(&server.token);
        let response =
            request.header("content-type", "application/x-protobuf").header("content-encoding", name).body(body).send().await.unwrap();
        assert_eq!(response.status(), 200, "{name}");
    }
    assert_eq!(server.count("spans").await, 400);
}

#[tokio::test]
async fn otlp_json_is_stored_like_protobuf() {
    let server = TestServer::start().await;
    let body = serde_json::to_string(&otlp_request(1, 2)).unwrap();
    let request = reqwest::Client::new().post(server.url("otlp-http", "/v1/traces")).bearer_auth(&server.token);
    let response = request.header("content-type", "application/json").body(body).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
    assert_eq!(server.count("spans").await, 2);
}

#[tokio::test]
async fn one_bad_span_rejects_itself_only() {
    let server = TestServer::start().await;
    let mut request = otlp_request(1, 3);
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = vec![1, 2, 3];
    let partial = export(&server, &request).await.unwrap().partial_success.expect("something was refused");
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("span 1") && partial.error_message.contains("16"), "{}", partial.error_message);
    assert_eq!(server.count("spans").await, 2);

    let mut request = typed(2, 2);
    request.resource_spans[0].scope_spans[0].spans[0].span_id = vec![0; 8];
    let response = insert(&server, &request).await.unwrap();
    assert_eq!((response.rejected_spans, response.status.as_str()), (1, "success"));
    assert_eq!(server.count("spans").await, 3);
}

#[tokio::test]
async fn a_batch_sent_twice_is_stored_once_also_after_a_crash() {
    let server = TestServer::start().await;
    let request = InsertMessageRequest { batch_id: vec![9; 16], ..typed(1, 10) };
    insert(&server, &request).await.unwrap();
    insert(&server, &request).await.unwrap();
    export(&server, &otlp_request(2, 10)).await.unwrap();
    export(&server, &otlp_request(2, 10)).await.unwrap();
    assert_eq!(server.count("spans").await, 20);

    let server = server.crash_and_restart().await;
    insert(&server, &request).await.unwrap();
    export(&server, &otlp_request(2, 10)).await.unwrap();
    assert_eq!(server.count("spans").await, 20);
}

#[tokio::test]
async fn typed_records_come_back_as_rows_of_their_kind() {
    let server = TestServer::start().await;
    let psi = PsiRecord {
        created_at_unix_nano: 1_790_000_000_000_000_001,
        entity_uid: "entity-1".to_owned(),
        feature: "age".to_owned(),
        bin_id: 4,
        bin_count: 17,
    };
    let spc = SpcRecord {
        created_at_unix_nano: 1_790_000_000_000_000_002,
        entity_uid: "entity-2".to_owned(),
        feature: "f".to_owned(),
        value: f64::NAN,
    };
    let records = [Record::Psi(psi), Record::Spc(spc)].map(|record| MonitoringRecord { record: Some(record) });
    let nameless = MonitoringRecord { record: None };
    let request = InsertMessageRequest { records: records.into_iter().chain([nameless]).collect(), ..Default::default() };
    let response = insert(&server, &request).await.unwrap();
    assert_eq!(response.rejected_records, 1, "{response:?}");
    let rows = server.sql("SELECT entity_uid, feature, bin_id, bin_count FROM psi_drift").await;
    assert_eq!(rows, vec![vec!["entity-1".into(), "age".into(), 4.into(), serde_json::Value::from(17)]]);
    assert_eq!(server.sql("SELECT entity_uid, value FROM spc_drift").await[0][1], "NaN");
}

#[tokio::test]
async fn messages_of_an_existing_client_are_stored() {
    let server = TestServer::start().await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scouter-0.25");
    let mut sent_spans = 0;
    let mut sent_records = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let json = std::fs::read(&path).unwrap();
        let message: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let scopes = message["request"]["resourceSpans"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|resource| resource["scopeSpans"].as_array().unwrap());
        sent_spans += scopes.map(|scope| scope["spans"].as_array().unwrap().len()).sum::<usize>();
        sent_records += message["records"].as_array().map_or(0, Vec::len);
        let response = insert(&server, &InsertMessageRequest { message_record: json, ..Default::default() }).await;
        assert_eq!(response.unwrap_or_else(|status| panic!("{}: {status}", path.display())).status, "success");
    }
    assert!(sent_spans > 0 && sent_records > 0);
    assert_eq!(server.count("spans").await, sent_spans as u64);
    let mut stored_records = 0;
    for table in ["psi_drift", "spc_drift", "custom_drift", "agent_eval_record"] {
        stored_records += server.count(table).await;
    }
    assert_eq!(stored_records, sent_records as u64);
}

#[tokio::test]
async fn no_door_answers_without_a_token_but_health_metrics_and_login() {
    let server = TestServer::start().await;
    for token in [None, Some("a.b.c")] {
        for (door, path) in [("grpc", INSERT_MESSAGE), ("grpc", OTLP_TRACE_EXPORT), ("otlp-grpc", OTLP_TRACE_EXPORT)] {
            let status = call::<InsertMessageResponse>(&server, door, path, token, otlp_request(1, 1).encode_to_vec()).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{door} {path}");
        }
    }
    let http = reqwest::Client::new();
    for (door, path) in [("http", "/v1/traces"), ("otlp-http", "/v1/traces"), ("http", "/api/v1/sql")] {
        let response = http.post(server.url(door, path)).body("{}").send().await.unwrap();
        assert_eq!(response.status(), 401, "{door} {path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer, Basic realm=\"scouter\"");
    }
    assert_eq!(http.get(server.url("http", "/scouter/trace/spans?trace_id=00")).send().await.unwrap().status(), 401);
    assert_eq!(http.get(server.url("http", "/healthz")).send().await.unwrap().status(), 200);
    assert_eq!(http.get(server.url("otlp-http", "/healthz")).send().await.unwrap().status(), 200);
    let metrics = http.get(server.url("http", "/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("scouter_denied_requests_total{reason=\"token\"} 10"), "{metrics}");
    assert_eq!(server.count("spans").await, 0);
}

#[tokio::test]
async fn login_refresh_and_validate_over_grpc_and_http() {
    let server = TestServer::start().await;
    let mut auth = AuthServiceClient::new(server.channel("grpc").await);
    let login = auth.login(LoginRequest { username: "guest".to_owned(), password: "guest".to_owned() }).await.unwrap().into_inner();
    assert_eq!((login.status.as_str(), login.accepts_typed_messages), ("success", true));
    assert!(login.expires_in_seconds > 60);
    for (username, password) in [("guest", "wrong"), ("nobody", "guest")] {
        let status = auth.login(LoginRequest { username: username.to_owned(), password: password.to_owned() }).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "the user name or the password is wrong"));
    }
    let refreshed = auth.refresh_token(RefreshTokenRequest { access_token: login.token }).await.unwrap().into_inner();
    let valid = auth.validate_token(ValidateTokenRequest { token: refreshed.token.clone() }).await.unwrap().into_inner();
    assert!(valid.is_authenticated);
    assert!(!auth.validate_token(ValidateTokenRequest { token: "x".to_owned() }).await.unwrap().into_inner().is_authenticated);
    assert_eq!(server.login("guest", "wrong").await, None);
    let http = reqwest::Client::new();
    for path in ["/scouter/auth/validate", "/scouter/auth/refresh"] {
        assert_eq!(http.get(server.url("http", path)).bearer_auth(&refreshed.token).send().await.unwrap().status(), 200, "{path}");
        assert_eq!(http.get(server.url("http", path)).bearer_auth("x").send().await.unwrap().status(), 401, "{path}");
    }
}

#[tokio::test]
async fn over_the_limit_is_final_and_harms_nothing() {
    let server = TestServer::start().await;
    let large = vec![0_u8; MAX_REQUEST_BYTES + 1];
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let outcome: Result<ExportTraceServiceResponse, _> =
            send(&server, "otlp-grpc", OTLP_TRACE_EXPORT, Some(&server.token), large.clone(), compression).await;
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{compression:?}: {status}");
        assert!(status.details().is_empty(), "no RetryInfo: a retry cannot help");
    }
    let request = reqwest::Client::new().post(server.url("otlp-http", "/v1/traces")).bearer_auth(&server.token);
    let response = request.header("content-type", "application/x-protobuf").body(large).send().await.unwrap();
    assert_eq!(response.status(), 413);
    export(&server, &otlp_request(1, 1)).await.unwrap();
    assert_eq!(server.count("spans").await, 1);
}

#[tokio::test]
async fn garbage_is_refused_with_what_was_wrong() {
    let server = TestServer::start().await;
    let status = call::<InsertMessageResponse>(&server, "grpc", INSERT_MESSAGE, Some(&server.token), vec![0x12, 0xff]).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("protobuf"), "{status}");
    let json = InsertMessageRequest { message_record: b"{\"what\": 1}".to_vec(), ..Default::default() };
    let status = insert(&server, &json).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("`records`"), "{status}");
    let request = reqwest::Client::new().post(server.url("otlp-http", "/v1/traces")).bearer_auth(&server.token);
    let response = request.header("content-type", "application/x-protobuf").body(vec![0xff; 100]).send().await.unwrap();
    assert_eq!(response.status(), 400);
    let status = tonic_types::pb::Status::decode(response.bytes().await.unwrap()).unwrap();
    assert_eq!(status.code, i32::from(Code::InvalidArgument));
    let request = reqwest::Client::new().post(server.url("http", "/v1/traces")).bearer_auth(&server.token);
    assert_eq!(request.header("content-type", "text/plain").body("x").send().await.unwrap().status(), 415);
    assert!(export(&server, &ExportTraceServiceRequest::default()).await.unwrap().partial_success.is_none(), "an empty request is fine");
}

#[tokio::test]
async fn a_trace_is_served_in_scouters_shape() {
    let server = TestServer::start().await;
    export(&server, &otlp_request(0xabc, 3)).await.unwrap();
    let http = reqwest::Client::new();
    let url = server.url("http", &format!("/scouter/trace/spans?trace_id={:032x}", 0xabc));
    let body: serde_json::Value = http.get(url).bearer_auth(&server.token).send().await.unwrap().json().await.unwrap();
    let spans = body["spans"].as_array().unwrap();
    assert_eq!(spans.len(), 3);
    assert_eq!((spans[0]["depth"].as_u64(), spans[1]["depth"].as_u64()), (Some(0), Some(1)));
    assert_eq!(spans[1]["parent_span_id"], "0000000000000001");
    assert_eq!(spans[1]["span_kind"], "INTERNAL");
    let bad = http.get(server.url("http", "/scouter/trace/spans?trace_id=zz")).bearer_auth(&server.token).send().await.unwrap();
    assert_eq!(bad.status(), 400);
}

#[tokio::test]
async fn the_command_line_asks_a_running_server() {
    let server = TestServer::start().await;
    export(&server, &otlp_request(7, 2)).await.unwrap();
    let ask = |command: &str, argument: &str| {
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_scouter-server"));
        process.arg(command).arg("--storage").arg(server.folder.path().join("storage")).arg(argument).output().unwrap()
    };
    let output = ask("sql", "SELECT name, kind FROM spans ORDER BY name");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("span 1  INTERNAL") && text.contains("(2 rows)"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("a server is running"));
    let text = String::from_utf8(ask("trace", &format!("{:032x}", 7)).stdout).unwrap();
    assert!(text.contains("span 1") && text.contains("span 2") && text.contains("test"), "{text}");
    let refused = ask("sql", "DELETE FROM spans");
    assert!(!refused.status.success());
}

#[tokio::test]
async fn rows_reach_the_table_and_the_answers_stay_the_same() {
    let server = TestServer::start().await;
    export(&server, &otlp_request(1, 100)).await.unwrap();
    let hot = server.sql("SELECT * FROM spans ORDER BY span_id").await;
    wait_until("a commit", async || {
        let metrics = reqwest::get(server.url("http", "/metrics")).await.unwrap().text().await.unwrap();
        metrics.contains("scouter_store_hot_rows 0")
    })
    .await;
    assert_eq!(server.sql("SELECT * FROM spans ORDER BY span_id").await, hot);
    let server = server.crash_and_restart().await;
    assert_eq!(server.sql("SELECT * FROM spans ORDER BY span_id").await, hot);
}

#[tokio::test]
async fn a_call_ends_when_its_client_waits_no_longer() {
    let server = TestServer::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let message = otlp_request(1, 3).encode_to_vec();
    let frame = Bytes::from([&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat());
    let call = async |timeout: &str, body: reqwest::Body| {
        let request = client.post(server.url("otlp-grpc", OTLP_TRACE_EXPORT)).bearer_auth(&server.token).body(body);
        let request = request.header("content-type", "application/grpc").header("te", "trailers").header("grpc-timeout", timeout);
        let answer = request.send().await.unwrap();
        answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned())
    };
    for (timeout, code) in [("0m", Code::DeadlineExceeded), ("0n", Code::DeadlineExceeded), ("soon", Code::InvalidArgument)] {
        assert_eq!(call(timeout, frame.clone().into()).await, Some((code as i32).to_string()), "{timeout}");
    }
    let never = futures::stream::pending::<Result<http_body::Frame<Bytes>, std::io::Error>>();
    let stuck = reqwest::Body::wrap(http_body_util::StreamBody::new(never));
    assert_eq!(call("300m", stuck).await, Some((Code::DeadlineExceeded as i32).to_string()));
    assert_eq!(server.count("spans").await, 0);
    wait_until("its memory comes back", async || server.metric("scouter_admission_used_bytes").await == 0.0).await;
    // Success is said in trailers.
    assert_eq!(call("60S", frame.into()).await, None);
    assert_eq!(server.count("spans").await, 3);
    assert!(server.metric("scouter_request_deadlines_passed_total").await >= 3.0);
}

#[tokio::test]
async fn a_wrong_method_or_path_is_told_as_every_other_error() {
    let server = TestServer::start().await;
    for (method, path, status, code) in [
        ("DELETE", "/api/v1/sql", 405, "INVALID_ARGUMENT"),
        ("GET", "/v1/traces", 405, "INVALID_ARGUMENT"),
        ("POST", "/healthz", 405, "INVALID_ARGUMENT"),
        ("GET", "/api/v1/traces/%FF", 400, "INVALID_ARGUMENT"),
        ("GET", "/api/v1/evaluations/%FF/traces", 400, "INVALID_ARGUMENT"),
        ("DELETE", "/api/v1/keys/%FF", 400, "INVALID_ARGUMENT"),
        ("GET", "/scouter/drift/spc", 400, "INVALID_ARGUMENT"),
        ("GET", "/scouter/tags", 400, "INVALID_ARGUMENT"),
        ("GET", "/nowhere", 404, "NOT_FOUND"),
    ] {
        let request = reqwest::Client::new().request(method.parse().unwrap(), server.url("http", path)).bearer_auth(&server.token);
        let answer = request.send().await.unwrap();
        let allow = answer.headers().get("allow").map(|methods| methods.to_str().unwrap().to_owned());
        assert_eq!((answer.status().as_u16(), allow.is_some()), (status, status == 405), "{method} {path}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(body["code"], code, "{method} {path}: {body}");
        for field in ["error", "suggested_action"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {body}");
        }
        assert_eq!(allow.is_some(), body["error"].as_str().unwrap().contains("the header `allow`"), "{body}");
    }
    // What a route takes is nobody's business but of those who may ask it.
    let answer = reqwest::Client::new().delete(server.url("http", "/api/v1/sql")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
}
