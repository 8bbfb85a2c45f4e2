//! Servers that share a log in Kafka and tables in an object store, and keep nothing of their own.
//!
//! Proved here: what one of them acknowledged is in the tables once, whoever dies. Not proved: brokers with replicas, of which a test has one.

mod cost;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    brokers::{Broker, Kind, object_store::ObjectStore},
    loadgen::{self, Running},
    server::{Addresses, run_to_end_in, sql_on_tables},
    transports::direct::Receiver,
};

/// Far more than it takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const TOPIC: &str = "scouter_monitoring";

/// Kafka and an object store.
struct Ground {
    kafka: Broker,
    objects: ObjectStore,
}

impl Ground {
    async fn new() -> Self {
        let (kafka, objects) = tokio::join!(Broker::start(Kind::Kafka), ObjectStore::start());
        Self { kafka, objects }
    }

    fn flags(&self) -> Vec<String> {
        self.flags_for("lake")
    }

    /// With the tables below another path.
    fn flags_for(&self, path: &str) -> Vec<String> {
        let mut flags = self.kafka.flags();
        flags.extend(["--log", "kafka", "--kafka-partitions", "4", "--storage"].map(str::to_owned));
        flags.push(self.objects.url(path));
        flags
    }

    async fn server(&self) -> Receiver {
        Receiver::start_in(self.flags(), self.objects.environment()).await
    }

    fn producer(&self) -> FutureProducer {
        ClientConfig::new().set("bootstrap.servers", self.kafka.plain_address()).create().expect("good settings")
    }
}

/// Waits until the server says that there are so many rows.
async fn wait_for(server: &Receiver, table: &str, rows: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = server.count(table).await;
        if found == rows {
            return;
        }
        assert!(found < rows && Instant::now() < deadline, "{found} of {rows} rows of {table}:\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How often each span is stored, as a server sees it.
async fn stored(server: &Receiver) -> HashMap<String, u32> {
    let mut stored = HashMap::new();
    for row in server.server().sql("SELECT trace_id, span_id FROM spans").await {
        let [trace_id, span_id] = row.as_slice() else { panic!("two columns were asked for") };
        *stored.entry(format!("{} {}", trace_id.as_str().expect("hex"), span_id.as_str().expect("hex"))).or_default() += 1;
    }
    stored
}

fn request(spans: std::ops::Range<u8>) -> Vec<u8> {
    let span = |number: u8| Span {
        trace_id: vec![number + 1; 16],
        span_id: vec![number + 1; 8],
        name: "work".to_owned(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_000_001,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: spans.map(span).collect(), ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }.encode_to_vec()
}

async fn post(server: &Receiver, request: Vec<u8>) {
    let url = format!("http://{}/v1/traces", server.addresses.otlp_http);
    let post = reqwest::Client::new().post(url).bearer_auth(server.server().token().await).header("content-type", "application/x-protobuf");
    let answer = post.body(request).send().await.expect("the server answers");
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap_or_default());
}

/// Two servers take load; they, the broker and the object store are killed in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_each_acknowledged_span_is_in_the_table_once() {
    const SPANS: u64 = 60_000;
    let mut ground = Ground::new().await;
    let mut servers = [ground.server().await, ground.server().await];
    let notes = TempDir::new().expect("a folder for the test");
    let ids = ["one", "other"].map(|name| notes.path().join(name));
    let load = |server: &Receiver, seed: &str, ids: &std::path::Path| {
        let rest = ["--spans", &(SPANS / 2).to_string(), "--rate", "3000", "--batch", "64", "--concurrency", "4", "--seed", seed];
        Running::start(loadgen::command("scouter-grpc", &server.addresses, &rest), ids.to_owned())
    };
    let runs = [load(&servers[0], "1", &ids[0]), load(&servers[1], "2", &ids[1])];
    for turn in 1..=4 {
        runs[0].wait_until_acked(SPANS / 2 * turn / 6).await;
        match turn {
            1 => {
                servers[0].kill().await;
                servers[0].revive().await;
            }
            2 => {
                ground.kafka.kill().await;
                ground.kafka.revive().await;
            }
            3 => {
                ground.objects.kill().await;
                // Meanwhile rows wait.
                tokio::time::sleep(Duration::from_secs(2)).await;
                ground.objects.start_again().await;
            }
            _ => {
                servers[1].kill().await;
                servers[1].revive().await;
            }
        }
    }
    let [one, other] = runs;
    for report in [one.finish().await, other.finish().await] {
        assert_eq!((report.acked, report.rejected, report.failed), (SPANS / 2, 0, 0), "{report:?}");
    }
    let acked: Vec<String> = ids.iter().flat_map(|ids| loadgen::acknowledged(ids)).collect();
    assert_eq!(acked.len() as u64, SPANS);
    for server in &servers {
        wait_for(server, "spans", SPANS).await;
    }
    // Who has only the tables.
    let third = ground.server().await;
    for server in servers.iter().chain([&third]) {
        let stored = stored(server).await;
        let missing = acked.iter().filter(|id| !stored.contains_key(*id)).count();
        let repeated = stored.values().filter(|times| **times > 1).count();
        assert_eq!((missing, repeated, stored.len() as u64), (0, 0, SPANS));
    }
    for mut server in servers.into_iter().chain([third]) {
        server.stop().await;
    }
    let output = sql_on_tables(&ground.objects.url("lake"), &ground.objects.environment(), "SELECT count(*) AS n FROM spans").await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(&SPANS.to_string()), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// The same request to two servers, at once and later, and after the one that read it is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_sent_to_several_servers_is_stored_once() {
    let ground = Ground::new().await;
    let (mut one, other) = (ground.server().await, ground.server().await);
    tokio::join!(post(&one, request(0..50)), post(&other, request(0..50)));
    for server in [&one, &other] {
        wait_for(server, "spans", 50).await;
    }
    one.kill().await;
    post(&other, request(0..50)).await;
    post(&other, request(50..60)).await;
    wait_for(&other, "spans", 60).await;
    one.revive().await;
    post(&one, request(0..50)).await;
    post(&one, request(60..61)).await;
    wait_for(&one, "spans", 61).await;
    wait_for(&other, "spans", 61).await;
    assert_eq!(stored(&one).await.values().max(), Some(&1));
}

/// What clients and Collectors write to the topic themselves comes the same way, and is what servers write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_a_topic_that_others_write_and_read() {
    let ground = Ground::new().await;
    let server = ground.server().await;
    let producer = ground.producer();
    let send = async |payload: &[u8]| {
        let record = FutureRecord::<(), [u8]>::to(TOPIC).payload(payload);
        producer.send(record, PATIENCE).await.expect("the broker takes it");
    };
    // Without a header, as a Collector does; the same again is recognised by its bytes, if it is in the same partition.
    send(&request(0..3)).await;
    // JSON of an existing client, and what nobody can read.
    send(br#"{"records":[{"Custom":{"created_at":"2026-01-01T00:00:00Z","uid":"u","metric":"m","value":1.5}}]}"#).await;
    send(b"\xff\xff\xff").await;
    post(&server, request(10..12)).await;
    wait_for(&server, "spans", 5).await;
    wait_for(&server, "custom_drift", 1).await;

    let addresses = ground.kafka.plain_address();
    let read = move |topic: &'static str, count: usize| {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &addresses).set("group.id", topic).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = settings.create().expect("good settings");
        consumer.subscribe(&[topic]).expect("it may");
        let deadline = Instant::now() + PATIENCE;
        let mut found = Vec::new();
        while found.len() < count && Instant::now() < deadline {
            let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else { continue };
            let headers = message.headers().map(|headers| headers.iter().map(|header| header.key.to_owned()).collect::<Vec<_>>());
            found.push((message.payload().unwrap_or_default().to_vec(), headers.unwrap_or_default()));
        }
        found
    };
    let reading = read.clone();
    let messages = tokio::task::spawn_blocking(move || reading(TOPIC, 4)).await.expect("no panic");
    let written = messages.iter().find(|(_, headers)| headers.iter().any(|header| header == "scouter-door")).expect("the server's");
    assert_eq!(written.0, request(10..12), "a Collector reads it as otlp_proto");
    let dead = tokio::task::spawn_blocking(move || read("scouter_monitoring.dead", 1)).await.expect("no panic");
    assert!(dead.iter().any(|(payload, _)| payload == b"\xff\xff\xff"), "{dead:?}");

    // The group has read all of it. Other tables have nothing, and are filled from the start.
    let mut server = server;
    server.stop().await;
    let other = Receiver::start_in(ground.flags_for("other"), ground.objects.environment()).await;
    wait_for(&other, "spans", 5).await;
}

/// Servers share profiles: who registers one tells all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_known_to_all_servers() {
    let ground = Ground::new().await;
    let (one, mut other) = (ground.server().await, ground.server().await);
    let config = json!({ "space": "shop", "name": "model", "version": "1.0.0", "uid": "profile-1", "drift_type": "Spc" });
    let profile = json!({ "config": config, "features": {} }).to_string();
    let body = json!({ "space": "shop", "drift_type": "Spc", "profile": profile, "version_request": null, "active": true, "deactivate_others": false });
    let url = |server: &Receiver, path: &str| format!("http://{}{path}", server.addresses.http);
    let client = reqwest::Client::new();
    let registered = client.post(url(&one, "/scouter/profile")).bearer_auth(one.server().token().await).json(&body).send().await;
    assert_eq!(registered.expect("the server answers").status(), 200);
    let known = async |server: &Receiver| {
        let path = "/scouter/profile?name=model&space=shop&version=1.0.0&drift_type=Spc";
        let answer = client.get(url(server, path)).bearer_auth(server.server().token().await).send().await;
        answer.expect("the server answers").status() == 200
    };
    let deadline = Instant::now() + PATIENCE;
    while !known(&other).await {
        assert!(Instant::now() < deadline, "{}", other.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    other.kill().await;
    other.revive().await;
    assert!(known(&other).await, "also after a restart");
}

/// While nothing can be written to the tables, requests are acknowledged, and their rows come later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_object_store_the_log_goes_on() {
    let mut ground = Ground::new().await;
    let mut server = ground.server().await;
    post(&server, request(0..10)).await;
    wait_for(&server, "spans", 10).await;
    ground.objects.kill().await;
    post(&server, request(10..20)).await;
    server.kill().await;
    ground.objects.start_again().await;
    server.revive().await;
    wait_for(&server, "spans", 20).await;

    // And the other way round: without a log nothing is acknowledged, and it is said why.
    ground.kafka.kill().await;
    let url = format!("http://{}/v1/traces", server.addresses.otlp_http);
    let token = server.server().token().await;
    let post = reqwest::Client::new().post(url).bearer_auth(token).header("content-type", "application/json");
    let answer = post.body(String::from_utf8(json_request()).expect("JSON")).send().await.expect("the server answers");
    let (status, retry_after) = (answer.status(), answer.headers().contains_key("retry-after"));
    let text = answer.text().await.unwrap_or_default();
    assert!(status == 503 && retry_after && text.contains("Kafka"), "{status} {text}");
    ground.kafka.revive().await;
    post_until_taken(&server, request(20..21)).await;
    wait_for(&server, "spans", 21).await;
}

fn json_request() -> Vec<u8> {
    let span = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","name":"n","startTimeUnixNano":"1","endTimeUnixNano":"2"}"#;
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#).into_bytes()
}

async fn post_until_taken(server: &Receiver, request: Vec<u8>) {
    let url = format!("http://{}/v1/traces", server.addresses.otlp_http);
    let token = server.server().token().await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let post = reqwest::Client::new().post(&url).bearer_auth(&token).header("content-type", "application/x-protobuf");
        let answer = post.body(request.clone()).send().await.expect("the server answers");
        if answer.status().is_success() {
            return;
        }
        assert!(Instant::now() < deadline, "{}", answer.text().await.unwrap_or_default());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What a person reads who configures it wrongly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_at_the_start() {
    let ground = Ground::new().await;
    let state = TempDir::new().expect("a folder for the test");
    let run = async |flags: Vec<String>, variables: Vec<(String, String)>| {
        let output = run_to_end_in(state.path(), &Addresses::free(), &flags, &variables).await;
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let shared = |flags: &[&str]| flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>();

    let text = run(shared(&["--storage", "s3://bucket/lake"]), Vec::new()).await;
    assert!(text.contains("--log kafka"), "{text}");
    let text = run(shared(&["--storage", "s3://bucket/lake", "--log", "kafka"]), Vec::new()).await;
    assert!(text.contains("--kafka-brokers"), "{text}");
    let text = run(shared(&["--storage", "s3://bucket/lake", "--log", "kafka", "--kafka-brokers", "127.0.0.1:1"]), Vec::new()).await;
    assert!(text.contains("127.0.0.1:1") && text.contains("cannot be used as the log") && text.contains("refused"), "{text}");

    let mut wrong = ground.objects.environment();
    wrong.iter_mut().filter(|(name, _)| name == "AWS_SECRET_ACCESS_KEY").for_each(|(_, value)| "wrong".clone_into(value));
    let text = run(ground.flags(), wrong).await;
    assert!(text.contains("cannot be used") && text.contains("s3://") && !text.contains("brokers-password"), "{text}");

    // A topic that is not the one that the tables were filled from.
    let mut server = ground.server().await;
    post(&server, request(0..10)).await;
    wait_for(&server, "spans", 10).await;
    server.stop().await;
    let admin: rdkafka::admin::AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", ground.kafka.plain_address()).create().expect("good settings");
    let deleted = admin.delete_topics(&[TOPIC], &rdkafka::admin::AdminOptions::new()).await.expect("the broker answers");
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    server.revive().await;
    let deadline = Instant::now() + PATIENCE;
    while !server.log().contains("the topic was made anew") {
        assert!(Instant::now() < deadline, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
