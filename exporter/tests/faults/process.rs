//! Faults of the process and of its machine: it ends while spans are on their way, names stop being answered, servers move, a span is huge.
//!
//! Each runs in a child process, this test binary again, so that it can be ended, or see files of its own in place of the system's.

use std::{
    io::Write,
    net::UdpSocket,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use scouter_exporter::{
    DropReason, GrpcConfig, GrpcSpanProcessor, Pipeline, QueueConfig,
    opentelemetry::{KeyValue, trace::Tracer, trace::TracerProvider},
    opentelemetry_sdk::trace::{SdkTracerProvider, SpanLimits},
};

use super::{
    server::{Insert, PATIENCE, Server, silent_server, wait_until},
    ways::check_balance,
};

/// Set in a child: what it is there for.
const PART: &str = "SCOUTER_TEST_PART";
const CHILD: &str = "process::part";
/// For a child to do its part and end, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn child(part: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", CHILD, "--ignored", "--nocapture"]).env(PART, part).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A child that sees these contents in place of a system file. `None`, with the reason printed, where that is not allowed.
fn child_with_file(part: &str, path: &str, contents: &str) -> Option<Command> {
    if !Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user may not mount a file over {path}");
        return None;
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(contents.as_bytes()).unwrap();
    let file = file.into_temp_path().keep().unwrap();
    let script = format!("mount --bind {} {path} && exec \"$0\" \"$@\"", file.display());
    let own = child(part);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]).arg(own.get_program()).args(own.get_args());
    command.env(PART, part).env("SCOUTER_TEST_FILE", file).stdout(Stdio::piped()).stderr(Stdio::piped());
    Some(command)
}

fn ended_soon(command: &mut Command, tell: impl FnOnce(u32)) -> ExitStatus {
    let begun = Instant::now();
    let mut running = command.spawn().unwrap();
    tell(running.id());
    loop {
        if let Some(status) = running.try_wait().unwrap() {
            if !status.success() && status.signal().is_none() && status.code() != Some(7) {
                let output = running.wait_with_output().unwrap();
                panic!("{status}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            }
            return status;
        }
        if begun.elapsed() > SOON {
            running.kill().unwrap();
            panic!("the process does not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A provider with spans on their way to a server that never answers, and a thread that waits for them.
fn with_spans_on_their_way() -> (SdkTracerProvider, impl Sized) {
    let (listener, config) = silent_server();
    let provider =
        SdkTracerProvider::builder().with_span_processor(GrpcSpanProcessor::new(config, QueueConfig::default()).unwrap()).build();
    (0..1000).for_each(|_| provider.tracer("child").in_span("on its way", |_| ()));
    let flushing = provider.clone();
    thread::spawn(move || flushing.force_flush());
    thread::sleep(Duration::from_millis(200));
    (provider, listener)
}

#[test]
#[ignore = "the other half of the tests below"]
fn part() {
    match std::env::var(PART).unwrap().as_str() {
        "exit in a thread" => {
            let _on_their_way = with_spans_on_their_way();
            thread::spawn(|| std::process::exit(7)).join().unwrap();
        }
        "wait for a signal" => {
            let _on_their_way = with_spans_on_their_way();
            println!("ready");
            thread::sleep(SOON * 2);
        }
        "names are never answered" => names_are_never_answered(),
        "the server moves" => the_server_moves(),
        other => panic!("{other}"),
    }
}

#[test]
fn exit_in_a_thread_ends_the_process_while_spans_are_on_their_way() {
    assert_eq!(ended_soon(&mut child("exit in a thread"), |_| ()).code(), Some(7));
}

#[test]
fn sigterm_ends_a_process_that_does_not_handle_it() {
    let status = ended_soon(&mut child("wait for a signal"), |id| {
        thread::sleep(Duration::from_secs(1));
        // SAFETY: a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(id.cast_signed(), libc::SIGTERM) }, 0);
    });
    assert_eq!(status.signal(), Some(libc::SIGTERM));
}

#[test]
fn c_53_a_name_server_that_never_answers_costs_the_deadline_and_not_the_shutdown() {
    if let Some(mut command) =
        child_with_file("names are never answered", "/etc/resolv.conf", "nameserver 127.0.0.53\noptions timeout:30\n")
    {
        assert!(ended_soon(&mut command, |_| ()).success());
    }
}

fn names_are_never_answered() {
    // Takes questions and is silent, so that nobody is told that nobody listens.
    let _silent = UdpSocket::bind("127.0.0.53:53").unwrap();
    let timeout = Duration::from_millis(500);
    let config = GrpcConfig {
        server_uri: "http://scouter.example:50051".to_owned(),
        username: String::new(),
        insecure: true,
        timeout,
        ..GrpcConfig::default()
    };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    let processor = GrpcSpanProcessor::with_pipeline(pipeline.clone());
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    provider.tracer("child").in_span("unsent", |_| ());
    let begun = Instant::now();
    pipeline.flush(timeout).unwrap_err();
    let report = pipeline.shutdown(timeout);
    assert!(begun.elapsed() < 2 * timeout + Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!((report.undelivered, report.stats.spans.pending()), (1, 0));
}

#[test]
fn c_38_a_server_that_moves_to_another_address_is_found_again() {
    if let Some(mut command) = child_with_file("the server moves", "/etc/hosts", "127.0.0.2 scouter.example\n") {
        assert!(ended_soon(&mut command, |_| ()).success());
    }
}

fn the_server_moves() {
    let mut first = Server::start_at("127.0.0.2:0");
    let port = first.address.port();
    let config = GrpcConfig { server_uri: format!("http://scouter.example:{port}"), insecure: true, ..first.config() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    let provider = SdkTracerProvider::builder().with_span_processor(GrpcSpanProcessor::with_pipeline(pipeline.clone())).build();
    provider.tracer("child").in_span("to the first", |_| ());
    pipeline.flush(PATIENCE).unwrap();
    first.stop();
    std::fs::write(std::env::var("SCOUTER_TEST_FILE").unwrap(), "127.0.0.3 scouter.example\n").unwrap();
    let second = Server::start_at(&format!("127.0.0.3:{port}"));
    provider.tracer("child").in_span("to the second", |_| ());
    pipeline.flush(PATIENCE).unwrap();
    let acknowledged = second.state().acknowledged.clone();
    let names: Vec<String> = acknowledged.iter().flat_map(|(insert, _)| insert.spans()).map(|span| span.name).collect();
    assert_eq!(names, ["to the second"]);
}

#[test]
fn c_28_a_span_of_100_mib_is_dropped_and_named_and_one_with_100_000_attributes_arrives() {
    let server = Server::start();
    let pipeline = Pipeline::new(server.config(), QueueConfig::default()).unwrap();
    let limits = SpanLimits { max_attributes_per_span: u32::MAX, ..SpanLimits::default() };
    let provider = SdkTracerProvider::builder()
        .with_span_limits(limits)
        .with_span_processor(GrpcSpanProcessor::with_pipeline(pipeline.clone()))
        .build();
    let tracer = provider.tracer("tests");
    let huge = vec![KeyValue::new("prompt", "x".repeat(100 << 20))];
    tracer.build(tracer.span_builder("huge").with_attributes(huge));
    let many = (0..100_000).map(|number| KeyValue::new(format!("key {number}"), number)).collect::<Vec<_>>();
    tracer.build(tracer.span_builder("many").with_attributes(many));
    tracer.build(tracer.span_builder("none"));
    let error = pipeline.flush(PATIENCE).unwrap_err();
    assert!(error.to_string().contains("`huge` has 1048"), "{error}");
    let spans: Vec<_> = server.inserts().iter().flat_map(Insert::spans).map(|span| (span.name, span.attributes.len())).collect();
    assert_eq!(spans, [("many".to_owned(), 100_000), ("none".to_owned(), 0)]);
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.spans.dropped.get(DropReason::TooLarge)), (2, 1));
    check_balance(&pipeline);
}

#[test]
fn ten_thousand_spans_a_second_into_an_outage_cost_no_more_than_the_queue() {
    let mut server = Server::start();
    let queue = QueueConfig { max_spans: 5_000, ..QueueConfig::default() };
    let pipeline = Pipeline::new(server.config(), queue).unwrap();
    let provider = SdkTracerProvider::builder().with_span_processor(GrpcSpanProcessor::with_pipeline(pipeline.clone())).build();
    let tracer = provider.tracer("tests");
    tracer.in_span("before", |_| ());
    pipeline.flush(PATIENCE).unwrap();
    server.stop();
    let begun = Instant::now();
    for number in 0..20_000_u32 {
        tracer.in_span("in the outage", |_| ());
        if number % 100 == 0 {
            thread::sleep((begun + Duration::from_micros(100) * number).saturating_duration_since(Instant::now()));
        }
    }
    let stats = pipeline.stats();
    assert_eq!(stats.spans.pending() + stats.spans.dropped.get(DropReason::QueueFull), 20_000, "{stats:?}");
    assert!(stats.spans.pending() <= 5_000 && stats.pending_bytes_high_water < 2 << 20, "{stats:?}");
    server.restart();
    wait_until("what was kept arrives", || pipeline.stats().spans.pending() == 0);
    let arrived: usize = server.inserts().iter().map(|insert| insert.spans().len()).sum();
    assert_eq!(arrived as u64, pipeline.stats().spans.exported);
    check_balance(&pipeline);
}

/// Clocks jump, so none may decide when something is sent: those of the machine stand in no file that waits or retries.
#[test]
fn no_clock_that_jumps_decides_when_something_is_sent() {
    let folder = |path: &str| format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    for path in ["src/pipeline.rs", "src/pipeline/delivery.rs", "src/pipeline/health.rs", "src/pipeline/state.rs", "src/pipeline/worker.rs"]
    {
        let source = std::fs::read_to_string(folder(path)).unwrap();
        assert!(source.contains("Instant") && !source.contains("SystemTime"), "{path}");
    }
    for path in ["../proto/src/client.rs", "../proto/src/client/session.rs"] {
        let source = std::fs::read_to_string(folder(path)).unwrap();
        assert!(source.contains("Instant") && !source.contains("SystemTime"), "{path}");
    }
}
