//! No door answers a stranger. The routes are read from the sources and the calls from the descriptors, so what is new is asked too.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use prost::Message;
use support::{TestServer, grpc_over};
use tonic::Code;

/// What answers everybody, as the threat model says: health, metrics, the login itself, the page's shell.
const OPEN: [(&str, &str); 8] = [
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/scouter/healthcheck"),
    ("get", "/metrics"),
    // Asks for a name and a password.
    ("get", "/scouter/auth/login"),
    ("get", "/assets/{name}"),
    ("get", "/api/v1/server"),
    // The addresses of the page's views, all of which are one document.
    ("get", "view"),
];
/// The same of gRPC. `ValidateToken` says of the token in its message whether it is good.
const OPEN_CALLS: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/scouter.grpc.v1.AuthService/Login",
    "/scouter.grpc.v1.AuthService/ValidateToken",
];

/// Method and path of each route that is written in the sources of the HTTP doors.
fn routes() -> Vec<(String, String)> {
    let http = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http");
    let mut files = vec![http.with_extension("rs")];
    let mut folders = vec![http];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.file_name().unwrap().to_str().unwrap() {
                "tests.rs" => {}
                _ if path.is_dir() => folders.push(path),
                _ => files.push(path),
            }
        }
    }
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for call in text.split(".route(").skip(1) {
            let (path, rest) = call.split_once(',').unwrap();
            let rest = &rest[..closing(rest)];
            let methods = ["get", "post", "put", "patch", "delete"].into_iter().filter(|method| {
                rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '(' && c != '_').any(|word| word.starts_with(&format!("{method}(")))
            });
            let before = found.len();
            found.extend(methods.map(|method| (method.to_owned(), path.trim().trim_matches('"').to_owned())));
            assert!(found.len() > before, "{}: no method in {path}{rest}", file.display());
        }
    }
    found
}

/// Where the parenthesis ends that is open before `text`.
fn closing(text: &str) -> usize {
    let mut depth = 1;
    let is_end = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    };
    text.find(is_end).unwrap()
}

#[tokio::test]
async fn no_route_answers_a_stranger_but_health_metrics_login_and_the_pages_shell() {
    let server = TestServer::start_with(&["--otlp-http-base-path", "/otlp"]).await;
    let routes = routes();
    for part in ["/api/v1/", "/jaeger/api/", "/scouter/", "/v1/traces"] {
        assert!(routes.iter().any(|(_, path)| path.starts_with(part)), "{part}");
    }
    assert!(routes.len() >= 60, "{routes:?}");
    for open in OPEN {
        assert!(routes.iter().any(|(method, path)| (method.as_str(), path.as_str()) == open), "{open:?} is no route");
    }
    let client = reqwest::Client::new();
    for (method, route) in routes.iter().filter(|(method, path)| !OPEN.contains(&(method.as_str(), path.as_str()))) {
        let path: Vec<&str> = route.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        let path = path.join("/");
        let is_otlp = path.starts_with("/v1");
        let places =
            if is_otlp { vec![("http", ""), ("otlp-http", ""), ("http", "/otlp"), ("otlp-http", "/otlp")] } else { vec![("http", "")] };
        for (door, base) in places {
            for credential in [None, Some("Bearer a.b.c"), Some("Bearer scouter_0_0"), Some("Basic eDp5"), Some("x")] {
                let request = client.request(method.to_uppercase().parse().unwrap(), server.url(door, &format!("{base}{path}"))).body("{}");
                let request = request.header("content-type", "application/json");
                let request = if let Some(credential) = credential { request.header("authorization", credential) } else { request };
                let status = request.send().await.unwrap().status().as_u16();
                // Guesses at a password are limited as well.
                assert!(status == 401 || (status == 429 && credential == Some("Basic eDp5")), "{door} {method} {path}: {status}");
            }
        }
    }
}

/// What a key that may write is for, and the routes that say of it only whether it is good or a token.
const WRITES: [(&str, &str); 12] = [
    ("post", "/v1/traces"),
    ("post", "/v1/traces/"),
    ("post", "/v1/logs"),
    ("post", "/v1/metrics"),
    ("post", "/v1development/profiles"),
    ("post", "/scouter/message"),
    ("post", "/scouter/drift"),
    ("post", "/scouter/profile"),
    ("put", "/scouter/profile"),
    ("put", "/scouter/profile/status"),
    ("post", "/scouter/tags"),
    ("get", "/scouter/auth/validate"),
];
const TOKENS_ONLY: [(&str, &str); 2] = [("get", "/scouter/auth/refresh"), ("post", "/scouter/auth/logout")];

#[tokio::test]
async fn a_key_that_may_write_asks_nothing_and_changes_no_user() {
    let server = TestServer::start_with_administrator().await;
    let new = serde_json::json!({ "name": "collector", "permissions": "write" });
    let (status, body) = server.http("POST", "/api/v1/keys", &server.token, Some(new)).await;
    assert_eq!(status, 201, "{body}");
    let key = body["key"].as_str().unwrap();
    let routes = routes();
    for known in WRITES.iter().chain(&TOKENS_ONLY) {
        assert!(routes.iter().any(|(method, path)| (method.as_str(), path.as_str()) == *known), "{known:?} is no route");
    }
    let mut asked = 0;
    for (method, route) in routes.iter().filter(|(method, path)| !OPEN.contains(&(method.as_str(), path.as_str()))) {
        let path: Vec<&str> = route.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        let this = (method.as_str(), route.as_str());
        let (status, body) = server.http(&method.to_uppercase(), &path.join("/"), key, Some(serde_json::json!({}))).await;
        match this {
            _ if WRITES.contains(&this) => assert!(!matches!(status, 401 | 403), "{this:?}: {status} {body}"),
            _ if TOKENS_ONLY.contains(&this) => assert_eq!(status, 401, "{this:?}: {body}"),
            _ => {
                assert_eq!((status, &body["code"]), (403, &"PERMISSION_DENIED".into()), "{this:?}: {body}");
                asked += 1;
            }
        }
    }
    assert!(asked >= 40, "only {asked} routes ask or administer");
}

/// The path of each call that the server describes or refuses to serve.
fn calls() -> Vec<String> {
    let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
    let mut found = Vec::new();
    for descriptors in [scouter_tonic::DESCRIPTOR_SET, health] {
        for file in prost_types::FileDescriptorSet::decode(descriptors).unwrap().file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                found.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
            }
        }
    }
    for signal in ["logs.v1.Logs", "metrics.v1.Metrics", "profiles.v1development.Profiles"] {
        found.push(format!("/opentelemetry.proto.collector.{signal}Service/Export"));
    }
    found.push("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo".to_owned());
    found
}

#[tokio::test]
async fn no_call_answers_a_stranger_but_health_and_login() {
    let server = TestServer::start().await;
    let calls = calls();
    for path in OPEN_CALLS.into_iter().chain([scouter_tonic::path::INSERT_MESSAGE, scouter_tonic::path::OTLP_TRACE_EXPORT]) {
        assert!(calls.iter().any(|call| call == path), "{path} is not in {calls:?}");
    }
    for call in calls.iter().filter(|call| !OPEN_CALLS.contains(&call.as_str())) {
        let path: &'static str = call.clone().leak();
        for credential in ["", "Bearer a.b.c", "Bearer scouter_0_0"] {
            for door in ["grpc", "otlp-grpc"] {
                let status = grpc_over::<()>(server.channel(door).await, path, credential, Vec::new(), None).await.unwrap_err();
                let is_elsewhere = door == "otlp-grpc" && call.starts_with("/scouter.");
                assert_eq!(status.code(), if is_elsewhere { Code::Unimplemented } else { Code::Unauthenticated }, "{door} {call}");
            }
        }
    }
}

#[tokio::test]
async fn who_takes_the_port_of_grpc_for_http_is_told() {
    let server = TestServer::start().await;
    let clients = [reqwest::Client::builder().http1_only(), reqwest::Client::builder().http2_prior_knowledge()];
    for client in clients.map(|client| client.build().unwrap()) {
        for door in ["grpc", "otlp-grpc"] {
            for path in ["/", "/healthz", "/v1/traces", "/opentelemetry.proto.collector.trace.v1.TraceService/Export"] {
                let answer = client.get(server.url(door, path)).bearer_auth(&server.token).send().await.unwrap();
                assert_eq!(answer.status(), 415, "{door} {path}");
                let text = answer.text().await.unwrap();
                assert!(text.contains("this port speaks gRPC") && text.contains("--http-addr"), "{text}");
            }
        }
    }
}
