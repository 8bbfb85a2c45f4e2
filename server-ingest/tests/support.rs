//! A real `scouter-server` on free ports with a folder of its own, stopped when dropped.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use serde_json::json;

pub struct TestServer {
    child: Child,
    pub folder: tempfile::TempDir,
    addresses: HashMap<String, String>,
    pub token: String,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    pub async fn start_in(folder: tempfile::TempDir) -> Self {
        let (child, addresses) = launch(folder.path());
        let mut server = Self { child, folder, addresses, token: String::new() };
        server.token = server.login("guest", "guest").await.expect("guest may log in");
        server
    }

    /// kill -9, and a new process on the same folder.
    pub async fn crash_and_restart(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (child, addresses) = launch(self.folder.path());
        self.child = child;
        self.addresses = addresses;
        self
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        self.child.wait().unwrap().code()
    }

    pub fn address(&self, door: &str) -> &str {
        &self.addresses[door]
    }

    pub fn url(&self, door: &str, path: &str) -> String {
        format!("http://{}{path}", self.address(door))
    }

    pub async fn login(&self, username: &str, password: &str) -> Option<String> {
        let request = reqwest::Client::new().get(self.url("http", "/scouter/auth/login"));
        let response = request.header("Username", username).header("Password", password).send().await.unwrap();
        let body: serde_json::Value = response.json().await.unwrap();
        body["token"].as_str().map(str::to_owned)
    }

    pub async fn sql(&self, query: &str) -> Vec<Vec<serde_json::Value>> {
        let request = reqwest::Client::new().post(self.url("http", "/api/v1/sql")).bearer_auth(&self.token);
        let response = request.json(&json!({ "query": query })).send().await.unwrap();
        let status = response.status();
        let body: serde_json::Value = response.json().await.unwrap();
        assert!(status.is_success(), "{query}: {body}");
        serde_json::from_value(body["rows"].clone()).unwrap()
    }

    pub async fn count(&self, table: &str) -> u64 {
        self.sql(&format!("SELECT count(*) FROM {table}")).await[0][0].as_u64().unwrap()
    }

    pub async fn channel(&self, door: &str) -> tonic::transport::Channel {
        tonic::transport::Endpoint::from_shared(self.url(door, "")).unwrap().connect().await.unwrap()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(folder: &Path) -> (Child, HashMap<String, String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scouter-server"));
    command.arg("serve").arg("--storage").arg(folder.join("storage"));
    for flag in ["--grpc-addr", "--http-addr", "--otlp-grpc-addr", "--otlp-http-addr"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log")).unwrap();
    command.env_remove("SCOUTER_DEFAULT_USERNAME").env_remove("SCOUTER_DEFAULT_PASSWORD");
    let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let started = Instant::now();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(
        line.starts_with("listening "),
        "{line:?} after {:?}: {}",
        started.elapsed(),
        std::fs::read_to_string(folder.join("server.log")).unwrap()
    );
    let addresses = line
        .split_whitespace()
        .skip(1)
        .filter_map(|pair| pair.split_once('='))
        .map(|(door, address)| (door.to_owned(), address.to_owned()));
    (child, addresses.collect())
}

pub async fn wait_until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_true().await {
        assert!(Instant::now() < deadline, "{what} did not come true");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// `count` spans of trace `trace`; equal arguments give equal bytes.
pub fn otlp_request(trace: u128, count: u64) -> ExportTraceServiceRequest {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let attribute = |key: &str, value| KeyValue { key: key.to_owned(), value, ..Default::default() };
    let spans = (1..=count).map(|index| Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: index.to_be_bytes().to_vec(),
        parent_span_id: if index == 1 { vec![] } else { 1_u64.to_be_bytes().to_vec() },
        name: format!("span {index}"),
        kind: 1,
        start_time_unix_nano: 1_790_000_000_000_000_000 + index,
        end_time_unix_nano: 1_790_000_000_001_000_000 + index,
        attributes: vec![
            attribute("index", Some(AnyValue { value: Some(Value::IntValue(i64::try_from(index).unwrap())) })),
            attribute("text", text("wörld \"quoted\"")),
        ],
        ..Default::default()
    });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![attribute("service.name", text("test"))], ..Default::default() }),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope { name: "tests".to_owned(), ..Default::default() }),
                spans: spans.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }],
    }
}
