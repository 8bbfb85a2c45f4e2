//! Each fault ends in a clear sentence, and nothing else is harmed.

use std::{path::Path, process::Output, time::Duration};

use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};
use scouter_examples::{
    door::{Compression, Connection, Door, SendError},
    spans::mix,
};
use scouter_tonic::{codec::SendBytes, grpc::InsertMessageResponse, limits::MAX_REQUEST_BYTES, path};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::{Code, Request, client::Grpc, codec::CompressionEncoding, codegen::http::uri::PathAndQuery, transport::Endpoint};

use crate::{
    loadgen,
    server::{Addresses, Server, run_to_end},
};

const DOORS: [&str; 3] = ["scouter-grpc", "otlp-grpc", "otlp-http"];

/// Fails unless the program failed and said why in words that include all of `expected`.
fn assert_clear_failure(output: &Output, expected: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "this should have failed:\n{stderr}");
    assert!(output.status.code().is_some(), "it was ended by a signal:\n{stderr}");
    assert!(!stderr.contains("panicked"), "a panic is not a clear error:\n{stderr}");
    for words in expected {
        assert!(stderr.to_lowercase().contains(&words.to_lowercase()), "{words:?} is not in:\n{stderr}");
    }
}

/// Spans go in by every door, and are there.
async fn assert_unharmed(server: &Server) {
    let before = server.count("SELECT count(*) FROM spans").await;
    for door in DOORS {
        loadgen::send(door, &server.addresses, 200, 64).await;
    }
    assert_eq!(server.count("SELECT count(*) FROM spans").await, before + 600);
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_every_login() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    for door in DOORS {
        let output =
            loadgen::command(door, &server.addresses, &["--spans", "10", "--password", "wrong"]).output().await.expect("loadgen starts");
        assert_clear_failure(&output, &["the login as \"guest\" was refused"]);
    }
    assert_unharmed(&server).await;
}

#[tokio::test]
async fn without_a_server_the_client_gives_up_in_time_and_says_so() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a port is free").local_addr().expect("it has an address").to_string();
    let nobody = Addresses { grpc: unused.clone(), http: unused.clone(), otlp_grpc: unused.clone(), otlp_http: unused };
    for door in DOORS {
        let run = loadgen::command(door, &nobody, &["--spans", "10", "--give-up-after", "0.5"]).output();
        let output = timeout(Duration::from_secs(20), run).await.expect("loadgen gives up").expect("loadgen starts");
        assert_clear_failure(&output, &["no server answered the login", "connection refused"]);
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = taken.local_addr().expect("it has an address").to_string();
    for place in 0..4 {
        let folder = TempDir::new().expect("a folder for the test");
        let mut addresses = Addresses::free();
        *[&mut addresses.grpc, &mut addresses.http, &mut addresses.otlp_grpc, &mut addresses.otlp_http][place] = address.clone();
        let output = run_to_end(&folder.path().join("storage"), &addresses).await;
        assert_clear_failure(&output, &[&address, "in use"]);
    }
}

#[tokio::test]
async fn a_folder_in_use_is_named_and_its_server_goes_on() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let output = run_to_end(server.storage(), &Addresses::free()).await;
    assert_clear_failure(&output, &["in use"]);
    assert_unharmed(&server).await;
}

#[tokio::test]
async fn an_unwritable_folder_is_named() {
    let folder = TempDir::new().expect("a folder for the test");
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").expect("the test's folder is writable");
    // Nobody may make folders in /proc, root included; permission bits would not stop root.
    for storage in [file.join("storage"), file.clone(), Path::new("/proc/scouter-storage").to_owned()] {
        let output = run_to_end(&storage, &Addresses::free()).await;
        assert_clear_failure(&output, &[&storage.display().to_string()]);
    }
}

#[tokio::test]
async fn garbage_on_every_port_harms_nothing() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let noise: Vec<u8> = (0..8192).flat_map(|index| mix(index).to_le_bytes()).collect();
    let mut http2_then_noise = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    http2_then_noise.extend_from_slice(&noise);
    let mut post_with_noise =
        b"POST /v1/traces HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-protobuf\r\ncontent-length: 65536\r\n\r\n".to_vec();
    post_with_noise.extend_from_slice(&noise);
    let tls_hello = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &noise[..509]].concat();
    let endless_header = [&b"GET / HTTP/1.1\r\nx: "[..], &vec![b'a'; 1 << 20]].concat();
    for address in server.addresses.all() {
        for garbage in [&noise, &http2_then_noise, &post_with_noise, &tls_hello, &endless_header, &Vec::new()] {
            throw(address, garbage).await;
        }
    }
    assert_unharmed(&server).await;
    assert!(server.stop().await.success(), "the server did not stop in good order");
}

/// Sends bytes and reads what comes back until the other side closes or two seconds are over.
async fn throw(address: &str, garbage: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    // The server may close before it has read everything.
    let _ = timeout(Duration::from_secs(2), stream.write_all(garbage)).await;
    let _ = stream.shutdown().await;
    let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn a_request_above_the_limit_is_refused_for_good() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let token = server.token().await;
    let body = request_of(MAX_REQUEST_BYTES + 1);
    for (door, address, expected) in [
        (Door::ScouterGrpc, &server.addresses.grpc, "ResourceExhausted"),
        (Door::OtlpGrpc, &server.addresses.grpc, "ResourceExhausted"),
        (Door::OtlpGrpc, &server.addresses.otlp_grpc, "ResourceExhausted"),
        (Door::OtlpHttp, &server.addresses.otlp_http, "413"),
        (Door::OtlpHttp, &server.addresses.http, "413"),
    ] {
        let connection = Connection::new(door, &format!("http://{address}"), Compression::Plain).expect("it is an address");
        let packed = connection.pack(body.clone()).expect("it fits a frame");
        match connection.send(&packed, &token).await {
            Err(SendError::Refused(text)) => assert!(text.contains(expected), "{} at {address}: {text}", door.name()),
            other => panic!("{} at {address}: expected {expected}, got {other:?}", door.name()),
        }
    }
    assert_unharmed(&server).await;
}

#[tokio::test]
async fn a_request_that_grows_above_the_limit_is_refused_for_good() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let channel = Endpoint::from_shared(format!("http://{}", server.addresses.grpc))
        .expect("it is an address")
        .connect()
        .await
        .expect("the server listens");
    let mut client = Grpc::new(channel).send_compressed(CompressionEncoding::Gzip);
    let mut request = Request::new(request_of(MAX_REQUEST_BYTES + 1));
    let bearer = format!("Bearer {}", server.token().await).parse().expect("a token is ASCII");
    request.metadata_mut().insert(path::AUTHORIZATION, bearer);
    client.ready().await.expect("the server listens");
    let answer =
        client.unary(request, PathAndQuery::from_static(path::INSERT_MESSAGE), SendBytes::<InsertMessageResponse>::default()).await;
    assert_eq!(answer.expect_err("it is above the limit").code(), Code::ResourceExhausted);
    assert_unharmed(&server).await;
}

/// A well-formed request of this many bytes: one field that no reader knows, full of zeros.
fn request_of(len: usize) -> Bytes {
    const UNKNOWN_FIELD: u32 = 1000;
    let mut bytes = Vec::with_capacity(len + 16);
    encode_key(UNKNOWN_FIELD, WireType::LengthDelimited, &mut bytes);
    encode_varint(len as u64, &mut bytes);
    bytes.resize(bytes.len() + len, 0);
    bytes.into()
}
