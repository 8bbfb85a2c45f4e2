//! The HTTP API for questions at a running server: who may ask, what is refused and how, formats. What the answers say is tested in
//! `scouter-answers`.
#![allow(clippy::unwrap_used)]

mod support;

use prost::Message;
use reqwest::{Response, StatusCode};
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use serde_json::{Value, json};
use support::{TestServer, grpc, otlp_request};

const TRACE: &str = "00000000000000000000000000000001";

async fn filled() -> TestServer {
    fill(TestServer::start().await).await
}

async fn fill(server: TestServer) -> TestServer {
    let body = otlp_request(1, 20).encode_to_vec();
    let authorization = format!("Bearer {}", server.token);
    grpc::<opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse>(
        &server,
        "otlp-grpc",
        OTLP_TRACE_EXPORT,
        &authorization,
        body,
        None,
    )
    .await
    .unwrap();
    server
}

async fn get(server: &TestServer, path: &str) -> (StatusCode, Value) {
    let response = reqwest::Client::new().get(server.url("http", path)).bearer_auth(&server.token).send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn post(server: &TestServer, path: &str, body: Value) -> Response {
    reqwest::Client::new().post(server.url("http", path)).bearer_auth(&server.token).json(&body).send().await.unwrap()
}

/// Every route of the API, each with the member its answer must have.
const ROUTES: [(&str, &str); 28] = [
    ("/api/v1/services", "services"),
    ("/api/v1/operations?service=test", "operations"),
    ("/api/v1/attributes", "attributes"),
    ("/api/v1/attributes/index/values", "values"),
    ("/api/v1/traces?service=test&attr=index[int]=3", "traces"),
    ("/api/v1/traces/00000000000000000000000000000001", "spans"),
    ("/api/v1/traces/00000000000000000000000000000001/genai", "steps"),
    ("/api/v1/traces/00000000000000000000000000000001/spans/0000000000000003", "attributes"),
    ("/api/v1/series?by=service", "groups"),
    ("/api/v1/service-graph", "edges"),
    ("/api/v1/genai/summary", "points"),
    ("/api/v1/genai/models", "models"),
    ("/api/v1/genai/tools", "tools"),
    ("/api/v1/genai/agents", "agents"),
    ("/api/v1/genai/errors", "errors"),
    ("/api/v1/genai/conversations", "conversations"),
    ("/api/v1/records", "kinds"),
    ("/api/v1/records/custom?entity=x", "series"),
    ("/jaeger/api/services", "data"),
    ("/jaeger/api/services/test/operations", "data"),
    ("/jaeger/api/operations?service=test", "data"),
    ("/jaeger/api/traces?service=test&start=0&end=2000000000000000", "data"),
    ("/jaeger/api/traces/1", "data"),
    ("/jaeger/api/dependencies?endTs=1790000001000&lookback=86400000", "data"),
    ("/scouter/trace/spans?trace_id=00000000000000000000000000000001", "spans"),
    ("/scouter/v1/traces/00000000000000000000000000000001/spans", "spans"),
    ("/scouter/trace/baggage?trace_id=00000000000000000000000000000001", "baggage"),
    ("/scouter/genai/conversation/none", "spans"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_answers_readers_and_nobody_else() {
    let server = fill(TestServer::start_with_administrator().await).await;
    let created = post(&server, "/api/v1/keys", json!({"name": "writer", "permissions": "write"})).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let writer = created.json::<Value>().await.unwrap()["key"].as_str().unwrap().to_owned();
    // Spans and SQL are of all spaces, so who reads one alone does not see them.
    let created =
        post(&server, "/api/v1/users", json!({"name": "ada", "password": "a long password", "permissions": "read:one,write:one"})).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let of_one_space = server.login("ada", "a long password").await.unwrap();
    let http = reqwest::Client::new();
    for (path, member) in ROUTES {
        let (status, body) = get(&server, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        assert!(body.get(member).is_some_and(Value::is_array), "{path} has {member}: {body}");
        let basic = http.get(server.url("http", path)).basic_auth("root", Some("roots password")).send().await.unwrap();
        assert_eq!(basic.status(), StatusCode::OK, "{path} with Basic");
        for (response, expected, code) in [
            (http.get(server.url("http", path)).send().await.unwrap(), StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
            (http.get(server.url("http", path)).bearer_auth(&writer).send().await.unwrap(), StatusCode::FORBIDDEN, "PERMISSION_DENIED"),
            (
                http.get(server.url("http", path)).bearer_auth(&of_one_space).send().await.unwrap(),
                StatusCode::FORBIDDEN,
                "PERMISSION_DENIED",
            ),
        ] {
            assert_eq!(response.status(), expected, "{path}");
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["code"], code, "{path}: {body}");
            assert!(body["suggested_action"].is_string(), "{path}: {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_one_shape_and_say_what_to_do() {
    let server = filled().await;
    for (path, status, code, part) in [
        ("/api/v1/traces?servce=x", 400, "INVALID_ARGUMENT", "servce"),
        ("/api/v1/traces?limit=1000", 400, "INVALID_ARGUMENT", "limit"),
        ("/api/v1/traces?start=yesterday", 400, "INVALID_ARGUMENT", "start"),
        ("/api/v1/traces?min_duration=ten", 400, "INVALID_ARGUMENT", "min_duration"),
        ("/api/v1/traces?attr=%5Bint%5D", 400, "INVALID_ARGUMENT", "attr"),
        ("/api/v1/traces?cursor=zzz", 400, "INVALID_ARGUMENT", "cursor"),
        ("/api/v1/traces/xyz", 400, "INVALID_ARGUMENT", "xyz"),
        ("/api/v1/traces/00000000000000000000000000000009", 404, "NOT_FOUND", "trace"),
        ("/api/v1/traces/00000000000000000000000000000001?detail=more", 400, "INVALID_ARGUMENT", "detail"),
        ("/api/v1/genai/conversations/none", 404, "NOT_FOUND", "conversation"),
        ("/api/v1/records/none", 404, "NOT_FOUND", "kind"),
        ("/api/v1/nothing", 404, "NOT_FOUND", "nothing"),
        ("/api/v1/series?start=2000-01-01T00:00:00Z&end=2026-01-01T00:00:00Z&bucket=1s", 422, "RESOURCE_EXHAUSTED", "2000"),
    ] {
        let (found, body) = get(&server, path).await;
        assert_eq!((found.as_u16(), &body["code"]), (status, &json!(code)), "{path}: {body}");
        assert!(body["error"].as_str().unwrap().contains(part), "{path}: {body}");
        assert!(!body["suggested_action"].as_str().unwrap().is_empty(), "{path}: {body}");
    }
    let (status, body) = get(&server, "/jaeger/api/traces/9").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        body,
        json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": 404, "msg": "there is no trace \"9\""}]})
    );
    for (path, body) in [
        ("/scouter/trace/paginated", json!({"limit": "x"})),
        ("/scouter/trace/paginated", json!({"direction": "up"})),
        ("/scouter/trace/metrics", json!({"start_time": "x", "end_time": "y"})),
        ("/scouter/trace/spans/tags", json!({"tag_filters": []})),
        ("/scouter/genai/spans", json!({"limit": 0})),
        ("/scouter/genai/agent/metrics", json!({"start_time": "x", "end_time": "y"})),
        ("/scouter/genai/tool/metrics", json!({})),
    ] {
        let response = post(&server, path, body).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        assert!(response.json::<Value>().await.unwrap()["suggested_action"].is_string(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scouters_clients_get_pages_spans_and_metrics() {
    let server = filled().await;
    let page: Value = post(&server, "/scouter/trace/paginated", json!({"service_name": "test"})).await.json().await.unwrap();
    assert_eq!(
        (&page["items"][0]["trace_id"], &page["items"][0]["span_count"], &page["has_next"]),
        (&json!(TRACE), &json!(20), &json!(false))
    );
    let spans: Value = post(&server, "/scouter/trace/spans/filters", json!({"trace_ids": [TRACE]})).await.json().await.unwrap();
    assert_eq!(spans["spans"].as_array().unwrap().len(), 20);
    let range = json!({"start_time": "2026-09-01T00:00:00Z", "end_time": "2026-10-01T00:00:00Z", "bucket_interval": "1 day"});
    let metrics: Value = post(&server, "/scouter/trace/metrics", range.clone()).await.json().await.unwrap();
    assert_eq!(metrics["metrics"][0]["trace_count"], 1);
    for (path, body, member) in [
        ("/scouter/genai/spans", json!({}), "/spans"),
        ("/scouter/genai/agent/metrics", range.clone(), "/buckets"),
        ("/scouter/genai/agent/metrics", range.clone(), "/summary/cost_by_model"),
        ("/scouter/genai/tool/metrics", range.clone(), "/time_series"),
        ("/scouter/genai/metrics/tokens", range, "/buckets"),
    ] {
        let answer: Value = post(&server, path, body).await.json().await.unwrap();
        assert_eq!(answer.pointer(member), Some(&json!([])), "{path}: {answer}");
    }
}

/// One caller's narrowed question is not the next one's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_and_c14_a_trace_is_given_whole_whatever_its_age_and_whoever_asked_before() {
    let server = filled().await;
    let count = async |more: &str| {
        let (status, body) = get(&server, &format!("/scouter/trace/spans?trace_id={TRACE}{more}")).await;
        assert_eq!(status, StatusCode::OK, "{more}: {body}");
        body["spans"].as_array().unwrap().len()
    };
    assert_eq!(count("&service_name=nobody").await, 0);
    assert_eq!(count("&service_name=test").await, 20);
    assert_eq!(count("").await, 20);
    // Its spans are of another time than a client's default range, the last day.
    assert_eq!(count("&start_time=2020-01-01T00:00:00Z&end_time=2020-01-02T00:00:00Z").await, 20);
    assert_eq!(count("").await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sql_is_answered_in_four_formats() {
    let server = filled().await;
    let query = "SELECT name, start_unix_nano, trace_id, CASE WHEN parent_span_id IS NULL THEN 'a \"root\", yes' END AS root FROM spans ORDER BY span_id LIMIT 2";
    let json: Value = post(&server, "/api/v1/sql", json!({"query": query, "int64": "string"})).await.json().await.unwrap();
    assert_eq!(json["columns"], json!(["name", "start_unix_nano", "trace_id", "root"]));
    assert_eq!(json["types"][1], "Int64");
    assert_eq!(json["rows"][0], json!(["span 1", "1790000000000000001", TRACE, "a \"root\", yes"]));
    assert!(json["elapsed_ms"].is_u64());

    let accepted = |media_type: &str| {
        let request = reqwest::Client::new().post(server.url("http", "/api/v1/sql")).bearer_auth(&server.token);
        request.header("accept", media_type).json(&json!({"query": query})).send()
    };
    let csv = accepted("text/csv").await.unwrap();
    assert!(csv.headers()["content-type"].to_str().unwrap().starts_with("text/csv"));
    let text = csv.text().await.unwrap();
    let expected = format!(
        "name,start_unix_nano,trace_id,root\r\nspan 1,1790000000000000001,{TRACE},\"a \"\"root\"\", yes\"\r\nspan 2,1790000000000000002,{TRACE},\r\n"
    );
    assert_eq!(text, expected);
    for (media_type, magic) in
        [("application/vnd.apache.arrow.stream", &[0xff, 0xff, 0xff, 0xff][..]), ("application/vnd.apache.parquet", b"PAR1")]
    {
        let response = accepted(media_type).await.unwrap();
        assert_eq!(response.headers()["content-type"], media_type);
        assert!(response.bytes().await.unwrap().starts_with(magic), "{media_type}");
    }
    for body in [
        json!({"query": "SELECT 1", "format": "xml"}),
        json!({"query": "SELECT 1", "int64": "x"}),
        json!({"query": "SELECT 1", "limit": 1}),
        json!({}),
    ] {
        assert!(post(&server, "/api/v1/sql", body.clone()).await.status().is_client_error(), "{body}");
    }
    let wrong: Value = post(&server, "/api/v1/sql", json!({"query": "SELECT *\nFROM spans ORDER WHERE"})).await.json().await.unwrap();
    assert_eq!((&wrong["line"], &wrong["code"]), (&json!(2), &json!("INVALID_ARGUMENT")), "{wrong}");

    let file = server.folder.path().join("answer.csv");
    let output = server.command(&["sql", "--format", "csv", "--output", file.to_str().unwrap(), query]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(file).unwrap(), expected, "the command line asks the running server");
}
