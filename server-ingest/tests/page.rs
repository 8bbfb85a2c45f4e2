//! The web page as a browser gets it, without one: `server-ingest/web/tests` has a real one.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use support::TestServer;

#[tokio::test]
async fn every_view_is_the_same_document_and_needs_no_login() {
    let server = TestServer::start().await;
    let root = reqwest::get(server.url("http", "/")).await.unwrap();
    assert_eq!(root.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(root.headers()["x-content-type-options"], "nosniff");
    let policy = root.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let document = root.text().await.unwrap();
    for view in [
        "/search?service=a",
        "/trace/4bf92f3577b34da6a3ce929d0e0e4736",
        "/conversations",
        "/conversations/a%2Fb",
        "/services",
        "/records",
        "/sql",
    ] {
        let answer = reqwest::get(server.url("http", view)).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, document.clone()), "{view}");
    }
    for (path, content_type) in
        [("page.js", "text/javascript; charset=utf-8"), ("page.css", "text/css; charset=utf-8"), ("icon.svg", "image/svg+xml")]
    {
        let answer = reqwest::get(server.url("http", &format!("/assets/{path}"))).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (200, content_type));
        assert!(!answer.bytes().await.unwrap().is_empty());
    }
    for nothing in ["/assets/other.js", "/assets/", "/elsewhere", "/trace"] {
        let answer = reqwest::get(server.url("http", nothing)).await.unwrap();
        assert_eq!(answer.status(), 404, "{nothing}");
        assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["code"], "NOT_FOUND");
    }
    let posted = reqwest::Client::new().post(server.url("http", "/")).send().await.unwrap();
    assert_eq!(posted.status(), 405);
}

#[tokio::test]
async fn guest_is_offered_to_those_on_this_machine_and_only_while_he_may_come() {
    let server = TestServer::start().await;
    let about = async |host: Option<&str>| {
        let mut request = reqwest::Client::new().get(server.url("http", "/api/v1/server"));
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.send().await.unwrap().json::<serde_json::Value>().await.unwrap()
    };
    let expected =
        |development: bool| json!({ "version": env!("CARGO_PKG_VERSION"), "development": development, "grpc": server.address("grpc") });
    assert_eq!(about(None).await, expected(true));
    assert_eq!(about(Some("scouter.example.com")).await, expected(false), "through a proxy");

    let added = reqwest::Client::new().post(server.url("http", "/api/v1/users")).bearer_auth(&server.token);
    let added = added.json(&json!({ "name": "ada", "password": "correct horse" })).send().await.unwrap();
    assert_eq!(added.status(), 201);
    assert_eq!(about(None).await, expected(false));
}
