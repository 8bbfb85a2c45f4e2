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

// Said out loud because this file is also a test target of its own, whose modules lie elsewhere.
#[path = "support/postgres.rs"]
pub mod postgres;

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
        Self::start_in_with(folder, &[]).await
    }

    /// With more flags.
    pub async fn start_with(flags: &[&str]) -> Self {
        Self::start_in_with(tempfile::tempdir().unwrap(), flags).await
    }

    pub async fn start_in_with(folder: tempfile::TempDir, flags: &[&str]) -> Self {
        let mut server = Self::start_without_login(folder, flags);
        server.token = server.login("guest", "guest").await.expect("guest may log in");
        server
    }

    /// With an administrator who stays when users are added.
    pub async fn start_with_administrator() -> Self {
        let flags = ["--default-username", "root", "--default-password", "roots password"];
        let mut server = Self::start_without_login(tempfile::tempdir().unwrap(), &flags);
        server.token = server.login("root", "roots password").await.expect("root may log in");
        server
    }

    pub fn start_without_login(folder: tempfile::TempDir, flags: &[&str]) -> Self {
        let (child, addresses) = launch(folder.path(), flags);
        Self { child, folder, addresses, token: String::new() }
    }

    /// With flags and variables; nobody logs in.
    pub fn start_with_variables(flags: &[&str], variables: &[(&str, &std::ffi::OsStr)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (child, addresses) = launch_with(folder.path(), flags, variables);
        Self { child, folder, addresses, token: String::new() }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What the server wrote to stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("server.log")).unwrap()
    }

    /// Waits for it to end by itself; the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name]).arg(self.child.id().to_string()).status().unwrap().success());
    }

    /// The program, on this server's folder.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scouter-server"));
        command.args(arguments).arg("--storage").arg(self.folder.path().join("storage")).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// kill -9, and a new process on the same folder.
    pub async fn crash_and_restart(self) -> Self {
        self.crash_and_restart_with(&[]).await
    }

    /// The same, with flags.
    pub async fn crash_and_restart_with(mut self, flags: &[&str]) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let (child, addresses) = launch(self.folder.path(), flags);
        self.child = child;
        self.addresses = addresses;
        self
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
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

    /// A request to an HTTP route, with this bearer token; the status and the body.
    pub async fn http(&self, method: &str, path: &str, token: &str, body: Option<serde_json::Value>) -> (u16, serde_json::Value) {
        let client = reqwest::Client::new().request(method.parse().unwrap(), self.url("http", path)).bearer_auth(token);
        let request = if let Some(body) = body { client.json(&body) } else { client };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text)))
    }

    /// What an existing client sends; it must be taken.
    pub async fn message(&self, message: &serde_json::Value) -> serde_json::Value {
        let (status, body) = self.http("POST", "/scouter/message", &self.token, Some(message.clone())).await;
        assert_eq!((status, &body["status"]), (200, &"success".into()), "{body}");
        body
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

fn launch(folder: &Path, flags: &[&str]) -> (Child, HashMap<String, String>) {
    launch_with(folder, flags, &[])
}

fn launch_with(folder: &Path, flags: &[&str], variables: &[(&str, &std::ffi::OsStr)]) -> (Child, HashMap<String, String>) {
    // A write past the largest file allowed is then an error and no signal, which is how a test breaks a disk.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_scouter-server")]);
    command.arg("serve").arg("--storage").arg(folder.join("storage"));
    for flag in ["--grpc-addr", "--http-addr", "--otlp-grpc-addr", "--otlp-http-addr"] {
        if !flags.contains(&flag) {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    command.args(flags);
    let log = std::fs::File::options().create(true).append(true).open(folder.join("server.log")).unwrap();
    // Variables of the machine the test runs on have no say: it would take from that machine's brokers, or write to its database.
    for (name, _) in std::env::vars_os().filter(|(name, _)| {
        ["SCOUTER_", "REDIS_", "RABBITMQ_", "KAFKA_", "DATABASE_URI"].iter().any(|own| name.to_string_lossy().starts_with(own))
    }) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
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

/// A unary call with the bytes of its request.
pub async fn grpc<A: prost::Message + Default + Send + 'static>(
    server: &TestServer,
    door: &str,
    path: &'static str,
    authorization: &str,
    body: Vec<u8>,
    compression: Option<tonic::codec::CompressionEncoding>,
) -> Result<A, tonic::Status> {
    grpc_over(server.channel(door).await, path, authorization, body, compression).await
}

/// The same over a channel of the test's own.
pub async fn grpc_over<A: prost::Message + Default + Send + 'static>(
    channel: tonic::transport::Channel,
    path: &'static str,
    authorization: &str,
    body: Vec<u8>,
    compression: Option<tonic::codec::CompressionEncoding>,
) -> Result<A, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel).max_encoding_message_size(usize::MAX);
    if let Some(encoding) = compression {
        grpc = grpc.send_compressed(encoding);
    }
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut request = tonic::Request::new(bytes::Bytes::from(body));
    if !authorization.is_empty() {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    let codec = scouter_tonic::codec::SendBytes::<A>::default();
    grpc.unary(request, path, codec).await.map(tonic::Response::into_inner)
}

/// An export whose body's second half is sent when `rest` says so; the gRPC status.
pub async fn slow_export(
    mut channel: tonic::transport::Channel,
    token: String,
    message: Vec<u8>,
    rest: tokio::sync::oneshot::Receiver<()>,
) -> Result<(), String> {
    use http_body_util::BodyExt;
    use tower::{Service, ServiceExt};

    let frame = [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), &message].concat();
    let (first, second) = (frame[..frame.len() / 2].to_vec(), frame[frame.len() / 2..].to_vec());
    let data = |bytes: Vec<u8>| Ok::<_, tonic::Status>(http_body::Frame::data(bytes::Bytes::from(bytes)));
    let body = futures::stream::once(async move { data(first) }).chain_once(async move {
        let _ = rest.await;
        data(second)
    });
    let request = http::Request::post("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(tonic::body::Body::new(http_body_util::StreamBody::new(body)))
        .unwrap();
    let response = channel.ready().await.unwrap().call(request).await.map_err(|error| error.to_string())?;
    let (head, body) = response.into_parts();
    let trailers = body.collect().await.map_err(|error| error.to_string())?.trailers().cloned().unwrap_or_default();
    match trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status")) {
        Some(status) if status == "0" => Ok(()),
        status => Err(format!("{status:?} {head:?}")),
    }
}

trait ChainOnce: futures::Stream + Sized {
    fn chain_once(self, last: impl Future<Output = Self::Item> + Send + 'static) -> impl futures::Stream<Item = Self::Item> + Send + 'static
    where
        Self: Send + 'static,
    {
        futures::StreamExt::chain(self, futures::stream::once(last))
    }
}

impl<S: futures::Stream> ChainOnce for S {}

impl TestServer {
    /// The sum of a metric over its labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(self.url("http", "/metrics")).await.unwrap().text().await.unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name) && matches!(line.as_bytes().get(name.len()), Some(b' ' | b'{')));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// The server's memory.
pub fn resident_bytes(server: &TestServer) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process_id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
