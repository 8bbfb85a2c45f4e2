//! Thousands of short connections over every door, most of them bad, while good clients deliver: nothing acknowledged is lost, and
//! neither memory nor open files grow.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use support::{TestServer, grpc, grpc_over, otlp_request, resident_bytes, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const DOORS: [&str; 4] = ["grpc", "http", "otlp-grpc", "otlp-http"];
const FLAGS: [&str; 10] = [
    "--header-timeout-seconds",
    "1",
    "--silence-timeout-seconds",
    "1",
    "--body-timeout-seconds",
    "2",
    "--idle-timeout-seconds",
    "3",
    "--memory-budget-mib",
    "768",
];
/// Bad clients at once.
const BAD_CLIENTS: u64 = 24;
/// Good clients at once, and the spans of each of their requests.
const GOOD_CLIENTS: u64 = 4;
const SPANS: u64 = 20;
/// What a settled server may have more than one that has seen a fourth of the connections.
const GROWTH_BYTES: usize = 32 * 1024 * 1024;

/// What a bad client does.
const KINDS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn churned_connections_lose_nothing_and_leave_nothing() {
    // More with SCOUTER_TEST_SOAK_CONNECTIONS.
    let connections: u64 = std::env::var("SCOUTER_TEST_SOAK_CONNECTIONS").map_or(1000, |number| number.parse().unwrap());
    let server = Arc::new(TestServer::start_with(&FLAGS).await);
    let acknowledged = Arc::new(AtomicU64::new(0));
    churn(&server, &acknowledged, 0..connections / 4).await;
    settle(&server).await;
    let before = (resident_bytes(&server), open_files(&server));

    churn(&server, &acknowledged, connections / 4..connections).await;
    settle(&server).await;
    let after = (resident_bytes(&server), open_files(&server));
    assert!(after.0 < before.0 + GROWTH_BYTES, "memory grew from {} to {}", before.0, after.0);
    assert!(after.1 <= before.1 + 8, "open files grew from {} to {}", before.1, after.1);
    assert_eq!(server.count("spans").await, acknowledged.load(Ordering::Relaxed) * SPANS, "all that was acknowledged, once");
    assert_eq!(server.metric("scouter_request_panics_total").await, 0.0);
    println!("{connections} connections; memory {} to {}, open files {} to {}", before.0, after.0, before.1, after.1);
}

/// Bad connections of these numbers, with good clients beside them until the last has ended.
async fn churn(server: &Arc<TestServer>, acknowledged: &Arc<AtomicU64>, numbers: std::ops::Range<u64>) {
    let next = Arc::new(AtomicU64::new(numbers.start));
    let mut bad = JoinSet::new();
    for _ in 0..BAD_CLIENTS {
        let (server, next, end) = (Arc::clone(server), Arc::clone(&next), numbers.end);
        bad.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    break;
                }
                // A connection that is refused or reset under its client's hands is an end like any other.
                let _ = misbehave(&server, DOORS[(number / KINDS % 4) as usize], number % KINDS).await;
            }
        });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut good = JoinSet::new();
    for client in 0..GOOD_CLIENTS {
        let (server, acknowledged, stop) = (Arc::clone(server), Arc::clone(acknowledged), Arc::clone(&stop));
        let first = numbers.start;
        good.spawn(async move {
            for number in 0_u64.. {
                let trace = u128::from(client + 1) << 96 | u128::from(first + 1) << 64 | u128::from(number + 1);
                deliver(&server, DOORS[((client + number) % 4) as usize], trace).await;
                acknowledged.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
    }
    while let Some(ended) = bad.join_next().await {
        ended.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = good.join_next().await {
        ended.unwrap();
    }
}

/// Sends a request on a connection of its own, again until it is acknowledged.
async fn deliver(server: &TestServer, door: &str, trace: u128) {
    let body = otlp_request(trace, SPANS).encode_to_vec();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !send(server, door, body.clone()).await {
        assert!(Instant::now() < deadline, "a good client is not served");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether it was acknowledged.
async fn send(server: &TestServer, door: &str, body: Vec<u8>) -> bool {
    if door.ends_with("grpc") {
        let endpoint = tonic::transport::Endpoint::from_shared(server.url(door, "")).unwrap();
        let Ok(channel) = endpoint.connect().await else { return false };
        let header = format!("Bearer {}", server.token);
        grpc_over::<ExportTraceServiceResponse>(channel, OTLP_TRACE_EXPORT, &header, body, None).await.is_ok()
    } else {
        let request = reqwest::Client::new().post(server.url(door, "/v1/traces")).bearer_auth(&server.token).body(body);
        request.header("content-type", "application/x-protobuf").send().await.is_ok_and(|answer| answer.status().is_success())
    }
}

async fn misbehave(server: &TestServer, door: &str, kind: u64) -> std::io::Result<()> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut stream = TcpStream::connect(server.address(door)).await?;
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100000\r\n\r\n",
        server.token
    );
    match kind {
        // Come and go.
        0 => {}
        // Say nothing, until the server has had enough of it.
        1 => {}
        // Garbage, also as TLS.
        2 => stream.write_all(&(0..4000_u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>()).await?,
        3 => stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03garbage").await?,
        // A body that is cut by a reset.
        4 => {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&[0; 30_000]).await?;
            stream.set_zero_linger()?;
            return Ok(());
        }
        // A body that stops, its client waiting.
        5 => {
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&[0; 30_000]).await?;
        }
        // A body that drips.
        6 => {
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..30 {
                stream.write_all(&[0]).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        // Headers without an end.
        7 => {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await?;
            for number in 0..2000 {
                stream.write_all(format!("x-{number}: {number}\r\n").as_bytes()).await?;
            }
        }
        // HTTP/2 that becomes nonsense, and HTTP/2 that is reset in its middle.
        8 => {
            stream.write_all(PREFACE).await?;
            stream.write_all(&[0xff; 200]).await?;
        }
        _ => {
            stream.write_all(PREFACE).await?;
            stream.set_zero_linger()?;
            return Ok(());
        }
    }
    if kind > 0 {
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("the server ends it");
    }
    Ok(())
}

/// Until no connection is left but that of the question, and nothing is hot; and until unused memory was given back.
async fn settle(server: &TestServer) {
    wait_until("the connections have ended", async || server.metric("scouter_connections_open").await <= 1.0).await;
    wait_until("the rows are in the table", async || server.metric("scouter_store_hot_rows").await == 0.0).await;
    assert_eq!(server.metric("scouter_admission_used_bytes").await, 0.0);
    let header = format!("Bearer {}", server.token);
    grpc::<ExportTraceServiceResponse>(server, "grpc", OTLP_TRACE_EXPORT, &header, Vec::new(), None).await.unwrap();
    wait_until("the last connection has ended", async || server.metric("scouter_connections_open").await <= 1.0).await;
    // The server gives memory back every five seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
}

fn open_files(server: &TestServer) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.process_id())).unwrap().count()
}
