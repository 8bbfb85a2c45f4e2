//! The faults, and their product with [`Way`] and [`Operation`].

use std::{
    any::Any,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use scouter_exporter::{DropReason, GrpcConfig, GrpcSpanExporter, opentelemetry_sdk::trace::SpanExporter};
use tonic::{Code, Status};

use super::{
    doors::{self, BlackHole, Door},
    server::{Reply, Server, refused_address, retry_info, throttle, wait_until},
    ways::{Expected, Operation, TIMEOUT, Way, block_on, run},
};

/// Cells under way at a time. They wait more than they compute.
const PARALLEL: usize = 32;

struct Fault {
    name: String,
    config: GrpcConfig,
    expected: Expected,
    /// Must appear in what `stats` says went wrong last.
    words: &'static str,
    /// Kept alive as long as the fault is of use.
    _peer: Box<dyn Any + Send + Sync>,
}

const LATE: Expected = Expected::Dropped(DropReason::ExportTimeout);
const REFUSED: Expected = Expected::Dropped(DropReason::Refused);
const UNAUTHENTICATED: Expected = Expected::Dropped(DropReason::Unauthenticated);

fn fault(name: impl Into<String>, config: GrpcConfig, expected: Expected, peer: impl Any + Send + Sync) -> Fault {
    Fault { name: name.into(), config, expected, words: "", _peer: Box::new(peer) }
}

fn at(server_uri: String) -> GrpcConfig {
    GrpcConfig { server_uri, insecure: true, username: String::new(), ..GrpcConfig::default() }
}

/// A client of a [`Server`] without a user: that server knows one token at a time, and many clients share it here.
fn without_user(server: &Server) -> GrpcConfig {
    GrpcConfig { username: String::new(), ..server.config() }
}

fn with_login(config: GrpcConfig) -> GrpcConfig {
    GrpcConfig { username: "tester".to_owned(), ..config }
}

fn network_faults() -> Vec<Fault> {
    let hole = BlackHole::open();
    let mut faults = vec![
        Fault { words: "refused", ..fault("refused port", at(format!("http://{}", refused_address())), LATE, ()) },
        fault("black hole", at(format!("http://{}", hole.address)), LATE, hole),
        fault("name that does not exist", at("http://scouter.invalid:50051".to_owned()), LATE, ()),
    ];
    let mut raw = |name, scheme, expected, door: Door| faults.push(fault(name, at(door.url(scheme)), expected, door));
    raw("accepts, then silent", "http", LATE, Door::open(doors::silent));
    raw("TLS handshake stalls", "https", LATE, Door::open(doors::silent));
    raw("TLS answered by plaintext", "https", LATE, Door::open(doors::http2(doors::never)));
    raw("accepts, then closes", "http", LATE, Door::open(doors::closing));
    raw("accepts, then resets", "http", LATE, Door::open(doors::resetting));
    raw("babbles", "http", LATE, Door::open(doors::babbling));
    raw("speaks HTTP/1.1", "http", LATE, Door::open(doors::old_fashioned));
    raw("never answers", "http", LATE, Door::open(doors::http2(doors::never)));
    raw("goes away in the middle", "http", LATE, Door::open(doors::http2(doors::go_away)));
    raw("resets the stream", "http", LATE, Door::open(doors::http2(doors::reset_stream)));
    raw("headers only", "http", LATE, Door::open(doors::http2(doors::headers_only)));
    raw("slow drip", "http", LATE, Door::open(doors::http2(doors::dripping)));
    raw("answers garbage", "http", REFUSED, Door::open(doors::http2(doors::garbage)));
    raw("HTTP 503", "http", LATE, Door::open(doors::http_status("503")));
    raw("HTTP 429", "http", LATE, Door::open(doors::http_status("429")));
    raw("HTTP 500", "http", REFUSED, Door::open(doors::http_status("500")));
    raw("HTTP 404", "http", REFUSED, Door::open(doors::http_status("404")));
    raw("HTTP 401", "http", UNAUTHENTICATED, Door::open(doors::http_status("401")));
    let mut login = |name, expected, door: Door| faults.push(fault(name, with_login(at(door.url("http"))), expected, door));
    login("login never answers", LATE, Door::open(doors::http2(doors::never)));
    login("login answers garbage", REFUSED, Door::open(doors::http2(doors::garbage)));
    login("login HTTP 503", LATE, Door::open(doors::http_status("503")));
    login("login HTTP 500", REFUSED, Door::open(doors::http_status("500")));
    login("login HTTP 401", UNAUTHENTICATED, Door::open(doors::http_status("401")));
    faults
}

fn answering(name: &str, reply: Reply, expected: Expected) -> Fault {
    let server = Server::start();
    server.state().default_reply = Some(reply);
    fault(name, without_user(&server), expected, server)
}

fn server_faults() -> Vec<Fault> {
    let login_refused = Server::start();
    let busy_login = Server::start();
    busy_login.state().login_replies.extend((0..10_000).map(|_| Some(Status::unavailable("starting"))));
    let wrong = GrpcConfig { password: "wrong".into(), ..login_refused.config() };
    vec![
        fault("wrong password", wrong, UNAUTHENTICATED, login_refused),
        fault("login unavailable", busy_login.config(), LATE, busy_login),
        answering("unavailable", Reply::Fail(Code::Unavailable, "busy"), LATE),
        answering("no fault", Reply::Ok, Expected::Exported),
        answering("unavailable for an hour", throttle(Code::Unavailable, 3600, 0), LATE),
        answering("exhausted", Reply::Fail(Code::ResourceExhausted, "too large"), REFUSED),
        answering("exhausted for 20 s", throttle(Code::ResourceExhausted, 20, 0), LATE),
        answering("invalid", Reply::Fail(Code::InvalidArgument, "no"), REFUSED),
        answering("unauthenticated", Reply::Fail(Code::Unauthenticated, "not you"), UNAUTHENTICATED),
        answering("partial success", Reply::Reject { spans: 1, records: 0, message: "no id" }, Expected::Rejected),
        answering("warning", Reply::Reject { spans: 0, records: 0, message: "please update" }, Expected::Exported),
        answering("reply above 4 MiB", Reply::Huge(5 * 1024 * 1024), REFUSED),
        answering("no reply", Reply::Never, LATE),
    ]
}

fn tls_faults() -> Vec<Fault> {
    let server = |name: &str, words, host: &str, not_after: i32, is_trusted: bool, expected| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(not_after, 1, 1);
        let certificate = params.self_signed(&key).unwrap().pem();
        let other = CertificateParams::new([host.to_owned()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        let server = Server::start_tls(&certificate, &key.serialize_pem());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(if is_trusted { certificate.as_bytes() } else { other.as_bytes() }).unwrap();
        let config = GrpcConfig { ca_file: Some(file.path().to_owned()), ..without_user(&server) };
        Fault { words, ..fault(name, config, expected, (server, file)) }
    };
    vec![
        server("good certificate", "", "127.0.0.1", 2200, true, Expected::Exported),
        server("wrong CA", "certificate", "127.0.0.1", 2200, false, LATE),
        server("expired certificate", "xpired", "127.0.0.1", 2001, true, LATE),
        server("wrong name", "not valid for name", "scouter.example.com", 2200, true, LATE),
    ]
}

/// Runs all cells, as many at a time as [`PARALLEL`] says, and names those that failed.
fn run_cells<T: Sync>(cells: Vec<T>, name: impl Fn(&T) -> String + Sync, run: impl Fn(&T) -> Duration + Sync) {
    let start = Instant::now();
    let count = cells.len();
    let next = Mutex::new(cells.iter());
    let failed = Mutex::new(Vec::new());
    let latest = Mutex::new((Duration::ZERO, String::new()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let Some(cell) = next.lock().unwrap().next() else { break };
                    match catch_unwind(AssertUnwindSafe(|| run(cell))) {
                        Ok(late) => {
                            let mut latest = latest.lock().unwrap();
                            if late > latest.0 {
                                *latest = (late, name(cell));
                            }
                        }
                        Err(_) => failed.lock().unwrap().push(name(cell)),
                    }
                }
            });
        }
    });
    let (late, cell) = latest.into_inner().unwrap();
    println!("{count} cells in {:?}; latest by {late:?}: {cell}", start.elapsed());
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count} failed: {failed:#?}", failed.len());
}

fn cross(faults: &[Fault]) {
    let mut cells = Vec::new();
    for fault in faults {
        for way in Way::ALL {
            cells.extend(Operation::ALL.map(|operation| (fault, way, operation)));
        }
    }
    run_cells(
        cells,
        |(fault, way, operation)| format!("{} / {way:?} / {operation:?}", fault.name),
        |(fault, way, operation)| run(*way, *operation, &fault.config, fault.expected),
    );
    for fault in faults.iter().filter(|fault| !fault.words.is_empty()) {
        let exporter = GrpcSpanExporter::new(GrpcConfig { timeout: Duration::from_secs(2), ..fault.config.clone() }).unwrap();
        drop(exporter.pipeline().send_records(vec![Default::default()]));
        wait_until("the reason is known", || exporter.stats().last_error.is_some_and(|error| error.contains(fault.words)));
        let _undelivered = exporter.shutdown_with_timeout(Duration::from_millis(10));
    }
}

#[test]
fn c_53_faults_of_the_network() {
    cross(&network_faults());
}

#[test]
fn c_53_faults_of_the_server() {
    cross(&server_faults());
}

#[test]
fn c_53_faults_of_certificates() {
    cross(&tls_faults());
}

#[test]
fn c_33_c_34_c_37_every_code_with_every_retry_info() {
    let infos = [
        ("none", None, false),
        ("0 s", Some(retry_info(0, 0)), true),
        ("1 s", Some(retry_info(1, 0)), true),
        ("20 s", Some(retry_info(20, 0)), true),
        ("1 h", Some(retry_info(3600, 0)), true),
        ("negative", Some(retry_info(-1, 0)), true),
        ("malformed", Some(vec![0xff; 7]), false),
    ];
    let retryable = [Code::Cancelled, Code::DeadlineExceeded, Code::Aborted, Code::OutOfRange, Code::Unavailable, Code::DataLoss];
    let mut cells = Vec::new();
    for code in (1..=16).map(Code::from_i32) {
        for (name, info, is_valid) in &infos {
            let expected = match code {
                code if retryable.contains(&code) || (code == Code::ResourceExhausted && *is_valid) => LATE,
                Code::Unauthenticated => UNAUTHENTICATED,
                _ => REFUSED,
            };
            cells.push((code, *name, info.clone(), expected));
        }
    }
    run_cells(
        cells,
        |(code, name, ..)| format!("{code:?} with {name}"),
        |(code, _, info, expected)| {
            let server = Server::start();
            let trailers = info.iter().map(|info| ("google.rpc.retryinfo-bin", info.clone())).collect();
            server.state().default_reply = Some(Reply::FailWith(*code, trailers));
            let late = run(Way::NoRuntime, Operation::Export, &server.config(), *expected);
            assert!(server.inserts().len() <= 6, "a busy loop: {} attempts", server.inserts().len());
            late
        },
    );
}

#[test]
fn c_38_a_server_that_restarts_on_its_port_gets_the_spans() {
    let mut server = Server::start();
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    for round in 1..=3 {
        server.stop();
        let send = exporter.pipeline().send_records(vec![Default::default()]);
        std::thread::sleep(TIMEOUT / 3);
        server.restart();
        block_on(send).unwrap();
        assert_eq!(exporter.stats().records.exported, round);
    }
}

#[test]
fn a_04_a_token_that_expires_between_two_attempts_costs_nothing() {
    let server = Server::start();
    server.script([Reply::Fail(Code::Unavailable, "busy")]);
    let exporter = GrpcSpanExporter::new(server.config()).unwrap();
    let send = exporter.pipeline().send_records(vec![Default::default()]);
    wait_until("the first attempt failed", || server.inserts().len() == 1);
    server.state().valid_token = Some("another one".to_owned());
    block_on(send).unwrap();
    assert_eq!(server.logins_and_renewals(), (1, 1));
    let inserts = server.inserts();
    assert!(inserts.iter().all(|insert| insert.body == inserts[0].body), "every attempt sends the same bytes");
    assert_eq!(exporter.stats().records.exported, 1);
}
