//! Clients that are slow, silent, greedy or broken, against a running server over real sockets.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use support::{TestServer, grpc, grpc_over, otlp_request, resident_bytes, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const DOORS: [&str; 4] = ["grpc", "http", "otlp-grpc", "otlp-http"];
/// Every patience as short as it can be said.
const IMPATIENT: [&str; 8] =
    ["--header-timeout-seconds", "1", "--silence-timeout-seconds", "1", "--body-timeout-seconds", "2", "--idle-timeout-seconds", "2"];

async fn connect(server: &TestServer, door: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address(door)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// What comes until the server closes the connection, which it must within half a minute.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("the server ends it");
    answer
}

async fn still_serves(server: &TestServer) {
    let body = otlp_request(rand::random(), 1).encode_to_vec();
    let header = format!("Bearer {}", server.token);
    grpc::<ExportTraceServiceResponse>(server, "otlp-grpc", OTLP_TRACE_EXPORT, &header, body, None).await.unwrap();
    assert_eq!(reqwest::get(server.url("http", "/healthz")).await.unwrap().status(), 200);
}

fn post_head(server: &TestServer, length: usize) -> String {
    format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {length}\r\n\r\n",
        server.token
    )
}

#[tokio::test]
async fn silent_connections_end_by_themselves() {
    let server = TestServer::start_with(&IMPATIENT).await;
    for door in DOORS {
        for start in [&b""[..], b"PRI * HTTP/2", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"] {
            until_closed(connect(&server, door, start).await).await;
        }
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_connection_without_requests_ends_with_a_goodbye() {
    let server = TestServer::start_with(&IMPATIENT).await;
    // The preface and an empty SETTINGS frame: a client that came to stay.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = until_closed(connect(&server, "otlp-grpc", preface).await).await;
    // A GOAWAY frame has the type 7.
    assert!(answer.windows(5).any(|bytes| bytes[0] == 0 && bytes[3] == 7 && bytes[4] == 0), "{answer:?}");
}

#[tokio::test]
async fn a_body_that_stops_or_drips_is_given_up_and_its_memory_comes_back() {
    let server = TestServer::start_with(&IMPATIENT).await;
    let stopped = connect(&server, "otlp-http", format!("{}abc", post_head(&server, 1000)).as_bytes()).await;
    let (mut reading, mut writing) = connect(&server, "otlp-http", post_head(&server, 1000).as_bytes()).await.into_split();
    let drip = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    assert!(until_closed(stopped).await.starts_with(b"HTTP/1.1 408"));
    let mut answer = [0; 12];
    tokio::time::timeout(Duration::from_secs(30), reading.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    drip.abort();
    wait_until("memory comes back", async || server.metric("scouter_admission_used_bytes").await == 0.0).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn connections_are_bounded_and_come_back() {
    let server = TestServer::start_with(&["--max-connections", "8", "--header-timeout-seconds", "2"]).await;
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(TcpStream::connect(server.address("otlp-http")).await.unwrap());
    }
    let mut closed = 0;
    for mut stream in held {
        let mut byte = [0];
        // The refused are closed at once, the others when they have been silent for long enough.
        if tokio::time::timeout(Duration::from_millis(300), stream.read(&mut byte)).await.is_ok() {
            closed += 1;
        }
    }
    assert!(closed >= 32, "{closed}");
    wait_until("there is room again", async || reqwest::get(server.url("http", "/healthz")).await.is_ok()).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn one_address_cannot_have_all_connections() {
    let server = TestServer::start_with(&["--max-connections-per-address", "4", "--max-connections", "64"]).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(TcpStream::connect(server.address("otlp-grpc")).await.unwrap());
    }
    wait_until("the others are closed", async || {
        // Another loopback address is somebody else.
        let other = tokio::net::TcpSocket::new_v4().unwrap();
        other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = other.connect(server.address("http").parse().unwrap()).await.unwrap();
        other.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let answer = String::from_utf8(until_closed(other).await).unwrap();
        let name = "scouter_connections_ended_by_server_total{reason=\"too_many_of_address\"} ";
        answer.lines().find_map(|line| line.strip_prefix(name)).unwrap().parse::<u32>().unwrap() >= 16
    })
    .await;
    drop(held);
    wait_until("there is room again", async || reqwest::get(server.url("http", "/healthz")).await.is_ok()).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn clients_that_do_not_heed_refusals_leave_room_for_the_others() {
    /// More than may wait of one connection.
    const STREAMS: u128 = 8;
    let server = TestServer::start_with(&["--max-request-mib", "4", "--memory-budget-mib", "168", "--max-connections", "64"]).await;
    let (stop, header) = (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), format!("Bearer {}", server.token));
    let mut storm = tokio::task::JoinSet::new();
    for connection in 0..6_u128 {
        let channel = server.channel("otlp-grpc").await;
        for stream in 0..STREAMS {
            let (channel, header, stop) = (channel.clone(), header.clone(), std::sync::Arc::clone(&stop));
            storm.spawn(async move {
                let mut refused = 0;
                for number in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    let body = otlp_request(((connection * STREAMS + stream + 1) << 64) + number, 8000).encode_to_vec();
                    let sent = grpc_over::<ExportTraceServiceResponse>(channel.clone(), OTLP_TRACE_EXPORT, &header, body, None).await;
                    refused += u32::from(sent.is_err());
                }
                refused
            });
        }
    }
    let channel = server.channel("otlp-grpc").await;
    let mut refused = 0;
    for trace in 1..=100 {
        let body = otlp_request(trace, 10).encode_to_vec();
        while let Err(status) =
            grpc_over::<ExportTraceServiceResponse>(channel.clone(), OTLP_TRACE_EXPORT, &header, body.clone(), None).await
        {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            refused += 1;
            assert!(refused < 100, "the others take all the room");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let storm_refused: u32 = storm.join_all().await.into_iter().sum();
    assert!(storm_refused > 0, "it was no storm");
    wait_until("memory comes back", async || server.metric("scouter_admission_used_bytes").await == 0.0).await;
}

#[tokio::test]
async fn garbage_on_every_port_harms_nothing() {
    let server = TestServer::start_with(&IMPATIENT).await;
    let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let noise: Vec<u8> = (0..100_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let bad_frame = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    for door in DOORS {
        for bytes in
            [&tls_hello[..], &noise, bad_frame, b"\0", b"GET / HTTP/9.9\r\n\r\n", b"POST /v1/traces HTTP/1.1\r\ncontent-length: -1\r\n\r\n"]
        {
            let mut stream = TcpStream::connect(server.address(door)).await.unwrap();
            let _ = stream.write_all(bytes).await;
            until_closed(stream).await;
        }
    }
    still_serves(&server).await;
    assert_eq!(server.metric("scouter_request_panics_total").await, 0.0);
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let server = TestServer::start_with(&IMPATIENT).await;
    let many: String = (0..1000).map(|index| format!("x-{index}: y\r\n")).collect();
    let long = format!("x: {}\r\n", "y".repeat(1024 * 1024));
    for headers in [many, long] {
        let mut stream = TcpStream::connect(server.address("otlp-http")).await.unwrap();
        let _ = stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{headers}\r\n").as_bytes()).await;
        let answer = until_closed(stream).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&answer));
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let flooded = client.get(server.url("http", "/healthz")).header("x", "y".repeat(200_000)).send().await;
    assert!(flooded.is_err() || flooded.is_ok_and(|response| response.status() == 431));
    still_serves(&server).await;
}

#[tokio::test]
async fn bombs_at_many_times_the_budget_leave_memory_within_it() {
    let server = TestServer::start_with(&["--max-request-mib", "4", "--memory-budget-mib", "192"]).await;
    let bomb = zstd::encode_all(&vec![0_u8; 4 * 1024 * 1024][..], 1).unwrap();
    let client = reqwest::Client::new();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let request = client.post(server.url("otlp-http", "/v1/traces")).bearer_auth(&server.token).body(bomb.clone());
        all.spawn(request.header("content-type", "application/x-protobuf").header("content-encoding", "zstd").send());
    }
    let mut highest = 0;
    while let Some(answer) = all.join_next().await {
        let status = answer.unwrap().unwrap().status().as_u16();
        assert!([400, 503].contains(&status), "{status}");
        highest = highest.max(resident_bytes(&server));
    }
    // All of them inflated are 800 MiB.
    assert!(highest < 192 * 1024 * 1024, "{highest}");
    wait_until("memory comes back", async || server.metric("scouter_admission_used_bytes").await == 0.0).await;
    still_serves(&server).await;
}

#[tokio::test]
async fn clients_that_hang_up_leave_nothing_behind() {
    let server = TestServer::start().await;
    for length in [0, 1, 500] {
        for door in ["http", "otlp-http"] {
            let mut stream = connect(&server, door, post_head(&server, 1000).as_bytes()).await;
            stream.write_all(&vec![0; length]).await.unwrap();
            drop(stream);
        }
    }
    wait_until("all is given back", async || {
        server.metric("scouter_admission_used_bytes").await == 0.0 && server.metric("scouter_connections_open").await <= 2.0
    })
    .await;
    still_serves(&server).await;
}
