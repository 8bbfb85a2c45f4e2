//! OpenTelemetry's own SDKs as clients of the real server, directly and through a real OpenTelemetry Collector.
//!
//! `scripts/interop.sh` builds the clients and runs these tests, which are ignored otherwise: it names their folder in
//! `SCOUTER_INTEROP` and those that this machine can build in `SCOUTER_INTEROP_CLIENTS`. Each tells the story of
//! `examples/interop/README.md`, knows the destination from OpenTelemetry's variables only, and prints the context it would send on.

mod collector;
mod jaeger;
mod kafka;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{Instant, timeout},
};

use self::collector::Collector;
use crate::server::{Server, create_key};

const CLIENT_TIMEOUT: Duration = Duration::from_secs(120);
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(60);
const BEGIN_UNIX_NANO: i64 = 1_750_000_000_000_000_123;
const REMOTE_SPAN: &str = "00f067aa0ba902b7";
const GRPC: &str = "grpc";
const PROTOBUF: &str = "http/protobuf";
const JSON: &str = "http/json";

/// A client and what of the story its SDK can say.
#[derive(Debug, Clone, Copy)]
struct Sdk {
    name: &'static str,
    protocols: &'static [&'static str],
    /// The W3C flags of a sampled trace, which Python's SDK leaves out.
    sampled_flag: u32,
    /// Whether it sends the state of a link's trace.
    sends_link_state: bool,
    /// Whether attributes may be bytes and maps.
    has_nested_attributes: bool,
}

const SDKS: [Sdk; 4] = [
    Sdk { name: "python", protocols: &[GRPC, PROTOBUF], sampled_flag: 0, sends_link_state: false, has_nested_attributes: true },
    Sdk { name: "javascript", protocols: &[GRPC, PROTOBUF, JSON], sampled_flag: 1, sends_link_state: true, has_nested_attributes: false },
    Sdk { name: "go", protocols: &[GRPC, PROTOBUF], sampled_flag: 1, sends_link_state: false, has_nested_attributes: true },
    Sdk { name: "java", protocols: &[GRPC, PROTOBUF], sampled_flag: 1, sends_link_state: true, has_nested_attributes: true },
];

/// Where a client sends to.
#[derive(Debug, Clone)]
struct Destination {
    grpc: String,
    http: String,
    key: Option<String>,
}

#[tokio::test]
#[ignore = "scripts/interop.sh builds its clients and runs it"]
async fn interop_sdks_over_every_protocol_are_stored_as_they_were_told() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let key = Some(create_key(&server, "interop").await);
    let to = Destination { grpc: server.addresses.otlp_grpc.clone(), http: server.addresses.otlp_http.clone(), key };
    for sdk in available_sdks() {
        for protocol in sdk.protocols {
            for compression in ["none", "gzip"] {
                let service = format!("{} {protocol} {compression}", sdk.name);
                let told = tell(sdk, &to, protocol, compression, &service).await;
                assert_stored(&server, sdk, &service, &told).await;
            }
        }
    }
}

#[tokio::test]
#[ignore = "scripts/interop.sh builds its clients and runs it"]
async fn interop_clients_without_a_key_are_told_so_and_store_nothing() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let to = Destination { grpc: server.addresses.otlp_grpc.clone(), http: server.addresses.otlp_http.clone(), key: None };
    for sdk in available_sdks() {
        let service = format!("{} without a key", sdk.name);
        // Whether the SDK tells its application is the SDK's business; that it ends is not.
        let ended = timeout(CLIENT_TIMEOUT, client(sdk, &to, sdk.protocols[0], "none", &service, &trace_id(&service)).output()).await;
        ended.expect("a refused client ends by itself").expect("it starts");
    }
    assert_eq!(server.count("SELECT count(*) FROM spans").await, 0);
}

#[tokio::test]
#[ignore = "scripts/interop.sh builds its clients and runs it"]
async fn interop_collector_as_documented_passes_everything_on_over_both_exporters() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let key = create_key(&server, "collector").await;
    if !is_available("collector") {
        return;
    }
    for exporter in ["otlp_grpc/scouter", "otlp_http/scouter"] {
        let collector = Collector::start(folder.path(), &server, &key, exporter).await;
        for sdk in available_sdks() {
            for protocol in sdk.protocols {
                let service = format!("{} {protocol} by {exporter}", sdk.name);
                let told = tell(sdk, &collector.destination, protocol, "gzip", &service).await;
                assert_stored(&server, sdk, &service, &told).await;
            }
        }
    }
}

#[tokio::test]
#[ignore = "scripts/interop.sh builds its clients and runs it"]
async fn interop_collector_keeps_what_comes_while_the_server_is_away() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let key = create_key(&server, "collector").await;
    if !is_available("collector") {
        return;
    }
    let addresses = server.addresses.clone();
    let collector = Collector::start(folder.path(), &server, &key, "otlp_grpc/scouter").await;
    server.kill().await;
    let sdk = available_sdks()[0];
    let told = tell(sdk, &collector.destination, sdk.protocols[0], "none", "while away").await;
    let server = Server::start_at(&folder, &addresses).await;
    assert_stored(&server, sdk, "while away", &told).await;
}

fn is_available(client: &str) -> bool {
    let named = std::env::var("SCOUTER_INTEROP_CLIENTS").expect("scripts/interop.sh names the clients it has built");
    let is_available = named.split_whitespace().any(|name| name == client);
    if !is_available {
        // Why, the script has said.
        eprintln!("interop: {client} is skipped");
    }
    is_available
}

fn available_sdks() -> Vec<Sdk> {
    let sdks: Vec<Sdk> = SDKS.into_iter().filter(|sdk| is_available(sdk.name)).collect();
    assert!(!sdks.is_empty(), "scripts/interop.sh always has the Python SDK");
    sdks
}

fn built(client: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("SCOUTER_INTEROP").expect("scripts/interop.sh names the folder of the clients")).join(client)
}

/// The command of a client; a Java program is a class path, a Python and a JavaScript one a script.
fn command(sdk: Sdk) -> Command {
    let folder = built(sdk.name);
    match sdk.name {
        "python" => {
            let mut command = Command::new(std::env::var_os("PYTHON").expect("scripts/interop.sh names the Python to use"));
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/python/client.py"));
            command
        }
        "javascript" => {
            let mut command = Command::new("node");
            command.arg(folder.join("client.js"));
            command
        }
        "java" => {
            let mut command = Command::new("java");
            command.arg("-cp").arg(format!("{0}/target/classes:{0}/target/lib/*", folder.display())).arg("interop.Client");
            command
        }
        _ => Command::new(folder.join("client")),
    }
}

/// The trace of a service in these tests; any that are different will do.
fn trace_id(service: &str) -> String {
    let seed = service.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("4bf92f3577b34da6{seed:016x}")
}

fn client(sdk: Sdk, to: &Destination, protocol: &str, compression: &str, service: &str, trace_id: &str) -> Command {
    let mut command = command(sdk);
    let address = if protocol == GRPC { &to.grpc } else { &to.http };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
        .env("OTEL_SERVICE_NAME", service)
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .env("OTEL_METRICS_EXPORTER", "none")
        .env("OTEL_LOGS_EXPORTER", "none")
        .env("TRACEPARENT", format!("00-{trace_id}-{REMOTE_SPAN}-01"))
        .env("TRACESTATE", "vendor=opaque")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Python's SDK does not know the value "none".
    if compression != "none" {
        command.env("OTEL_EXPORTER_OTLP_COMPRESSION", compression);
    }
    if let Some(key) = &to.key {
        command.env("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization=Bearer%20{key}"));
    }
    command
}

/// What a client said of itself.
struct Told {
    trace_id: String,
    /// The `traceparent` that it would send on from inside of "charge".
    outgoing: String,
}

async fn tell(sdk: Sdk, to: &Destination, protocol: &str, compression: &str, service: &str) -> Told {
    let trace_id = trace_id(service);
    let output = client(sdk, to, protocol, compression, service, &trace_id).output();
    let output = timeout(CLIENT_TIMEOUT, output).await.expect("a client ends").expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{service}: the client failed:\n{stderr}");
    assert!(!stderr.to_lowercase().contains("fail"), "{service}: the SDK complains:\n{stderr}");
    Told { trace_id, outgoing: String::from_utf8_lossy(&output.stdout).trim().to_owned() }
}

const COLUMNS: [&str; 25] = [
    "name",
    "hex(trace_id)",
    "hex(parent_span_id)",
    "kind",
    "start_unix_nano",
    "duration_nano",
    "status_code",
    "status_message",
    "scope_name",
    "scope_version",
    "trace_state",
    "flags",
    "attributes",
    "events",
    "links",
    "dropped_attributes_count + dropped_events_count + dropped_links_count",
    "http_request_method",
    "http_response_status_code",
    "exception_type",
    "exception_message",
    "attr(resource_attributes, 'service.name')",
    "attr(resource_attributes, 'deployment.environment.name')",
    "attr(resource_attributes, 'telemetry.sdk.language')",
    "scope_attributes",
    "hex(span_id)",
];

/// Waits for the rows of a service and compares all of their fields with the story.
async fn assert_stored(server: &Server, sdk: Sdk, service: &str, told: &Told) {
    let query = format!("SELECT {} FROM spans WHERE service_name = '{service}' ORDER BY start_unix_nano", COLUMNS.join(", "));
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    let mut rows = server.sql(&query).await;
    while rows.len() < 3 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rows = server.sql(&query).await;
    }
    let stored: Vec<BTreeMap<&str, Value>> =
        rows.into_iter().map(|row| COLUMNS.into_iter().zip(row.into_iter().map(unfolded)).collect()).collect();
    assert_eq!(stored.len(), 3, "{service}: {stored:#?}");
    let ids: Vec<&str> = stored.iter().map(|row| row["hex(span_id)"].as_str().expect("an id is text")).collect();
    assert_eq!(told.outgoing, format!("00-{}-{}-01", told.trace_id, ids[1]), "{service}: the context sent on is that of the stored span");
    for (row, expected) in stored.iter().zip(expected(sdk, service, told, &ids)) {
        for (column, value) in row {
            assert_eq!(value, &expected[column], "{service}, {}: {column}", row["name"]);
        }
    }
}

/// Canonical JSON in a row is compared by what it says, not by the order in which an SDK's map gave it.
fn unfolded(value: Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('{') => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        Value::Array(values) => values.into_iter().map(unfolded).collect(),
        Value::Object(members) => members.into_iter().map(|(key, value)| (key, unfolded(value))).collect(),
        other => other,
    }
}

fn expected(sdk: Sdk, service: &str, told: &Told, ids: &[&str]) -> [BTreeMap<&'static str, Value>; 3] {
    let flags = |is_remote: bool| json!(if is_remote { 0x300 } else { 0x100 } | sdk.sampled_flag);
    let row = |name: &str, kind: &str, parent: &str, begins_ms: i64, takes_ms: i64, index: usize| {
        BTreeMap::from([
            ("name", json!(name)),
            ("hex(trace_id)", json!(told.trace_id)),
            ("hex(parent_span_id)", json!(parent)),
            ("hex(span_id)", json!(ids[index])),
            ("kind", json!(kind)),
            ("start_unix_nano", json!(BEGIN_UNIX_NANO + begins_ms * 1_000_000)),
            ("duration_nano", json!(takes_ms * 1_000_000)),
            ("status_code", json!(0)),
            ("status_message", json!("")),
            ("scope_name", json!("interop")),
            ("scope_version", json!("1.2.3")),
            ("scope_attributes", json!({})),
            ("trace_state", json!("vendor=opaque")),
            ("flags", flags(index == 0)),
            ("attributes", json!({})),
            ("events", json!([])),
            ("links", json!([])),
            ("dropped_attributes_count + dropped_events_count + dropped_links_count", json!(0)),
            ("http_request_method", Value::Null),
            ("http_response_status_code", Value::Null),
            ("exception_type", Value::Null),
            ("exception_message", Value::Null),
            ("attr(resource_attributes, 'service.name')", json!(service)),
            ("attr(resource_attributes, 'deployment.environment.name')", json!("test")),
            ("attr(resource_attributes, 'telemetry.sdk.language')", json!(if sdk.name == "javascript" { "nodejs" } else { sdk.name })),
        ])
    };
    let event = |at_ms: i64, name: &str, attributes: Value| {
        json!([{
            "time_unix_nano": BEGIN_UNIX_NANO + at_ms * 1_000_000,
            "name": name,
            "attributes": attributes,
            "dropped_attributes_count": 0,
        }])
    };
    let mut attributes = json!({
        "text": "häl\"lo\n✓",
        "flag": true,
        "count": 4_503_599_627_370_497_i64,
        "ratio": 0.25,
        "texts": ["a", "b"],
        "flags": [true, false],
        "counts": [1, -2],
        "ratios": [0.5, -1.5],
        "http.request.method": "POST",
        "http.response.status_code": 200,
    });
    if sdk.has_nested_attributes {
        attributes["bytes"] = json!({ "$bytes": "AAH/" });
        attributes["map"] = json!({ "key": "value", "number": 7 });
    }
    let mut order = row("order", "SERVER", REMOTE_SPAN, 0, 1500, 0);
    order.extend([
        ("status_code", json!(1)),
        ("attributes", attributes),
        ("events", event(100, "cache.miss", json!({ "cache.key": "basket", "size": 3 }))),
        (
            "links",
            json!([{
                "trace_id": "0af7651916cd43dd8448eb211c80319c",
                "span_id": "b7ad6b7169203331",
                "trace_state": if sdk.sends_link_state { "linked=yes" } else { "" },
                "flags": flags(true),
                "attributes": { "reason": "retry" },
                "dropped_attributes_count": 0,
            }]),
        ),
        ("http_request_method", json!("POST")),
        ("http_response_status_code", json!(200)),
    ]);
    let mut charge = row("charge", "CLIENT", ids[0], 200, 100, 1);
    charge.extend([
        ("status_code", json!(2)),
        ("status_message", json!("card refused")),
        ("events", event(250, "exception", json!({ "exception.type": "CardRefused", "exception.message": "no funds" }))),
        ("exception_type", json!("CardRefused")),
        ("exception_message", json!("no funds")),
    ]);
    let audit = row("audit", "INTERNAL", ids[1], 260, 10, 2);
    [order, charge, audit]
}
