//! Users, sessions and keys of a running server: who comes in, who does not, and how that changes.
#![allow(clippy::unwrap_used)]

mod support;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::{Client, StatusCode};
use scouter_tonic::{
    grpc::{InsertMessageResponse, LoginRequest, auth_service_client::AuthServiceClient},
    path::{INSERT_MESSAGE, OTLP_TRACE_EXPORT},
};
use serde_json::{Value, json};
use support::{TestServer, grpc, otlp_request, wait_until};
use tonic::Code;

/// The text a command prints, which must go well.
fn run(server: &TestServer, arguments: &[&str]) -> String {
    let output = server.command(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn otlp_http(server: &TestServer, authorization: &str) -> StatusCode {
    let request = Client::new().post(server.url("otlp-http", "/v1/traces")).header("authorization", authorization);
    request.header("content-type", "application/x-protobuf").body(otlp_request(1, 1).encode_to_vec()).send().await.unwrap().status()
}

async fn sql(server: &TestServer, authorization: &str) -> StatusCode {
    let request = Client::new().post(server.url("http", "/api/v1/sql")).header("authorization", authorization);
    request.json(&json!({ "query": "SELECT 1" })).send().await.unwrap().status()
}

async fn api(server: &TestServer, method: reqwest::Method, path: &str, body: Value) -> (StatusCode, Value) {
    let request = Client::new().request(method, server.url("http", path)).bearer_auth(&server.token);
    let response = request.json(&body).send().await.unwrap();
    (response.status(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn a_key_of_the_command_line_is_good_at_every_door_until_it_is_revoked() {
    let server = TestServer::start().await;
    let key = run(&server, &["key", "create", "collector"]);
    let bearer = format!("Bearer {}", key.trim());
    wait_until("the key is known", async || otlp_http(&server, &bearer).await == StatusCode::OK).await;
    let body = || otlp_request(2, 1).encode_to_vec();
    grpc::<ExportTraceServiceResponse>(&server, "otlp-grpc", OTLP_TRACE_EXPORT, &bearer, body(), None).await.unwrap();
    let insert = scouter_tonic::grpc::InsertMessageRequest { resource_spans: otlp_request(3, 1).resource_spans, ..Default::default() };
    grpc::<InsertMessageResponse>(&server, "grpc", INSERT_MESSAGE, &bearer, insert.encode_to_vec(), None).await.unwrap();
    assert_eq!(sql(&server, &bearer).await, StatusCode::FORBIDDEN, "a key to write does not read");
    assert!(run(&server, &["key", "list"]).contains("collector"));
    let id = key.split('_').nth(1).unwrap();
    run(&server, &["key", "revoke", id]);
    wait_until("the key is refused", async || otlp_http(&server, &bearer).await == StatusCode::UNAUTHORIZED).await;
    let status = grpc::<ExportTraceServiceResponse>(&server, "otlp-grpc", OTLP_TRACE_EXPORT, &bearer, body(), None).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn basic_is_good_for_clients_with_fixed_headers() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let server = TestServer::start().await;
    let basic = |credential: &str| format!("Basic {}", STANDARD.encode(credential));
    assert_eq!(otlp_http(&server, &basic("guest:guest")).await, StatusCode::OK);
    let body = otlp_request(2, 1).encode_to_vec();
    grpc::<ExportTraceServiceResponse>(&server, "otlp-grpc", OTLP_TRACE_EXPORT, &basic("guest:guest"), body, None).await.unwrap();
    for wrong in ["guest:wrong", "nobody:guest", "guest"] {
        assert_eq!(otlp_http(&server, &basic(wrong)).await, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    assert_eq!(sql(&server, &basic("guest:guest")).await, StatusCode::OK);
}

#[tokio::test]
async fn permissions_hold_at_every_door() {
    let server = TestServer::start().await;
    let reader = run(&server, &["key", "create", "reader", "--permissions", "read"]);
    let reader = format!("Bearer {}", reader.trim());
    wait_until("the key is known", async || sql(&server, &reader).await == StatusCode::OK).await;
    assert_eq!(otlp_http(&server, &reader).await, StatusCode::FORBIDDEN);
    for (door, path) in [("grpc", INSERT_MESSAGE), ("grpc", OTLP_TRACE_EXPORT), ("otlp-grpc", OTLP_TRACE_EXPORT)] {
        let status = grpc::<InsertMessageResponse>(&server, door, path, &reader, Vec::new(), None).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{door} {path}");
    }
    for path in ["/api/v1/users", "/api/v1/keys"] {
        for (authorization, expected) in [(reader.as_str(), 403), ("Bearer x", 401), ("", 401)] {
            let request = Client::new().get(server.url("http", path)).header("authorization", authorization);
            assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{path}");
        }
    }
    assert_eq!(server.count("spans").await, 0);
}

#[tokio::test]
async fn users_and_keys_are_managed_over_http() {
    use reqwest::Method;
    let server = TestServer::start_with_administrator().await;
    let ada = json!({ "name": "ada", "password": "a good password", "permissions": "write,read" });
    assert_eq!(api(&server, Method::POST, "/api/v1/users", ada.clone()).await.0, StatusCode::CREATED);
    assert_eq!(api(&server, Method::POST, "/api/v1/users", ada).await.0, StatusCode::CONFLICT);
    let short = json!({ "name": "eve", "password": "short" });
    assert_eq!(api(&server, Method::POST, "/api/v1/users", short).await.0, StatusCode::BAD_REQUEST);
    let token = server.login("ada", "a good password").await.unwrap();
    let ada = format!("Bearer {token}");
    assert_eq!((otlp_http(&server, &ada).await, sql(&server, &ada).await), (StatusCode::OK, StatusCode::OK));

    let (status, body) = api(&server, Method::PATCH, "/api/v1/users/ada", json!({ "permissions": "read" })).await;
    assert_eq!((status, &body["permissions"]), (StatusCode::OK, &json!("read")));
    assert_eq!((otlp_http(&server, &ada).await, sql(&server, &ada).await), (StatusCode::FORBIDDEN, StatusCode::OK));
    assert_eq!(api(&server, Method::PATCH, "/api/v1/users/eve", json!({ "active": false })).await.0, StatusCode::NOT_FOUND);

    let (status, key) = api(&server, Method::POST, "/api/v1/keys", json!({ "name": "collector", "expires_in_days": 30 })).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(otlp_http(&server, &format!("Bearer {}", key["key"].as_str().unwrap())).await, StatusCode::OK);
    let (_, listed) = api(&server, Method::GET, "/api/v1/keys", Value::Null).await;
    assert_eq!((listed["keys"].as_array().unwrap().len(), listed["keys"][0].get("key")), (1, None));
    let path = format!("/api/v1/keys/{}", key["id"].as_str().unwrap());
    assert_eq!(api(&server, Method::DELETE, &path, Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(otlp_http(&server, &format!("Bearer {}", key["key"].as_str().unwrap())).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_deactivated_user_is_refused_at_once_and_looks_unknown() {
    use reqwest::Method;
    let server = TestServer::start_with_administrator().await;
    let ada = json!({ "name": "ada", "password": "a good password" });
    api(&server, Method::POST, "/api/v1/users", ada).await;
    let ada = format!("Bearer {}", server.login("ada", "a good password").await.unwrap());
    assert_eq!(otlp_http(&server, &ada).await, StatusCode::OK);
    api(&server, Method::PATCH, "/api/v1/users/ada", json!({ "active": false })).await;
    assert_eq!(otlp_http(&server, &ada).await, StatusCode::UNAUTHORIZED);
    let mut auth = AuthServiceClient::new(server.channel("grpc").await);
    let mut texts = Vec::new();
    for (name, password) in [("ada", "a good password"), ("nobody", "a good password"), ("guest", "wrong")] {
        let login = LoginRequest { username: name.to_owned(), password: password.to_owned() };
        texts.push(format!("{:?}", auth.login(login).await.unwrap_err().message()));
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
}

#[tokio::test]
async fn guesses_are_limited_and_say_when_to_come_again() {
    let server = TestServer::start().await;
    let login = async || {
        let request = Client::new().get(server.url("http", "/scouter/auth/login"));
        request.header("Username", "eve").header("Password", "guess").send().await.unwrap()
    };
    for _ in 0..10 {
        assert_eq!(login().await.status(), StatusCode::UNAUTHORIZED);
    }
    let refused = login().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=6).contains(&seconds), "{seconds}");
    assert!(server.login("guest", "guest").await.is_some(), "another user is not harmed");
    assert!(server.metric("scouter_denied_requests_total").await >= 11.0);
}

#[tokio::test]
async fn one_clients_exchange_or_logout_ends_no_other_session() {
    let server = TestServer::start().await;
    let (mine, other) = (server.login("guest", "guest").await.unwrap(), server.login("guest", "guest").await.unwrap());
    let call = async |method: reqwest::Method, path: &str, token: &str| {
        Client::new().request(method, server.url("http", path)).bearer_auth(token).send().await.unwrap()
    };
    let refreshed: Value = call(reqwest::Method::GET, "/scouter/auth/refresh", &mine).await.json().await.unwrap();
    let refreshed = refreshed["token"].as_str().unwrap();
    let again: Value = call(reqwest::Method::GET, "/scouter/auth/refresh", refreshed).await.json().await.unwrap();
    assert!(again["token"].is_string());
    assert_eq!(
        call(reqwest::Method::GET, "/scouter/auth/refresh", &mine).await.status(),
        StatusCode::UNAUTHORIZED,
        "it was exchanged twice"
    );
    assert_eq!(call(reqwest::Method::POST, "/scouter/auth/logout", refreshed).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(otlp_http(&server, &format!("Bearer {mine}")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(otlp_http(&server, &format!("Bearer {other}")).await, StatusCode::OK);
    let server = server.crash_and_restart().await;
    assert_eq!(otlp_http(&server, &format!("Bearer {other}")).await, StatusCode::OK, "a session survives a crash");
}

#[tokio::test]
async fn users_of_the_command_line_take_the_place_of_guest() {
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("storage");
    let program = env!("CARGO_BIN_EXE_scouter-server");
    let added = std::process::Command::new(program).args(["user", "add", "ada", "--storage"]).arg(&storage).output().unwrap();
    let text = String::from_utf8(added.stdout).unwrap();
    let password = text.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
    let server = TestServer::start_without_login(folder, &[]);
    assert_eq!(server.login("guest", "guest").await, None);
    let token = server.login("ada", password).await.unwrap();
    assert_eq!(sql(&server, &format!("Bearer {token}")).await, StatusCode::OK);
    run(&server, &["user", "permit", "ada", "write"]);
    wait_until("she may not ask", async || sql(&server, &format!("Bearer {token}")).await == StatusCode::FORBIDDEN).await;
    run(&server, &["user", "permit", "ada", "write,read"]);
    run(&server, &["user", "deactivate", "ada"]);
    wait_until("she is refused", async || sql(&server, &format!("Bearer {token}")).await == StatusCode::UNAUTHORIZED).await;
    assert!(run(&server, &["user", "list"]).contains("inactive"));
}

#[tokio::test]
async fn guest_is_gone_with_his_sessions_when_the_first_user_comes() {
    let server = TestServer::start().await;
    let guest = format!("Bearer {}", server.token);
    let basic = "Basic Z3Vlc3Q6Z3Vlc3Q=";
    assert_eq!((otlp_http(&server, &guest).await, otlp_http(&server, basic).await), (StatusCode::OK, StatusCode::OK));
    let text = run(&server, &["user", "add", "ada"]);
    let password = text.lines().find_map(|line| line.strip_prefix("password: ")).unwrap();
    wait_until("the session of guest is over", async || otlp_http(&server, &guest).await == StatusCode::UNAUTHORIZED).await;
    assert_eq!(otlp_http(&server, basic).await, StatusCode::UNAUTHORIZED);
    assert_eq!(server.login("guest", "guest").await, None);
    let ada = format!("Bearer {}", server.login("ada", password).await.unwrap());
    assert_eq!(otlp_http(&server, &ada).await, StatusCode::OK);
    run(&server, &["user", "deactivate", "ada"]);
    wait_until("she is refused", async || otlp_http(&server, &ada).await == StatusCode::UNAUTHORIZED).await;
    assert_eq!(server.login("guest", "guest").await, None, "and guest does not come back");
}
