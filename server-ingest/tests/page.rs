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
    for directive in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'"] {
        assert!(policy.split("; ").any(|found| found == directive), "{directive} is not in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
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
        assert_eq!(answer.headers()["content-security-policy"], policy, "{view}");
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

    // A token is in no cookie, which a browser would send along for another site, and no other site may read the answer it is in.
    let login = reqwest::Client::new().get(server.url("http", "/scouter/auth/login")).header("origin", "http://elsewhere.example");
    let answer = login.header("Username", "guest").header("Password", "guest").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    for header in ["set-cookie", "access-control-allow-origin"] {
        assert!(!answer.headers().contains_key(header), "{answer:?}");
    }
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

    // A page of elsewhere.example, whose name was made to lead to this machine, knows guest's password, and may have a token of his.
    let client = reqwest::Client::new();
    let login = async |host: &str| {
        let login = client.get(server.url("http", "/scouter/auth/login")).header("host", host);
        login.header("Username", "guest").header("Password", "guest").send().await.unwrap()
    };
    assert_eq!(login("localhost:8000").await.status(), 200);
    let refused = login("elsewhere.example:8000").await;
    assert_eq!(refused.status(), 403);
    let text = refused.text().await.unwrap();
    assert!(text.contains("elsewhere.example") && text.contains("scouter-server user add"), "{text}");
    for (path, port) in [("/api/v1/services", "http"), ("/v1/traces", "http"), ("/v1/traces", "otlp-http")] {
        let request = if path == "/v1/traces" { client.post(server.url(port, path)) } else { client.get(server.url(port, path)) };
        let answer = request.header("host", "elsewhere.example").basic_auth("guest", Some("guest")).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{path} at {port}");
    }

    let added = reqwest::Client::new().post(server.url("http", "/api/v1/users")).bearer_auth(&server.token);
    let added = added.json(&json!({ "name": "ada", "password": "correct horse" })).send().await.unwrap();
    assert_eq!(added.status(), 201);
    assert_eq!(about(None).await, expected(false));
}
