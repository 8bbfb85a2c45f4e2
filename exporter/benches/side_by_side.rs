//! Our processor beside opentelemetry-otlp behind the SDK's batch processor: same spans, same server, one run.
//!
//! `cargo bench -p scouter-exporter --bench side_by_side [-- --rounds 5 --spans 200000 --outage-seconds 15]`
//!
//! Throughput and CPU: one thread ends spans that exist already, and waits while more than a window of them has not arrived, so
//! nobody drops. The server runs in the same process and decodes nothing; its threads are not counted as the client's CPU.
//! Outage: a process for each, with its default queue; 20,000 spans a second, the server away for a while.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a benchmark that cannot go on has failed")]

#[path = "shared/measure.rs"]
#[allow(dead_code, reason = "shared by benchmarks")]
mod measure;
#[path = "shared/server.rs"]
mod server;
#[path = "shared/spans.rs"]
mod spans;

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use opentelemetry_otlp::WithExportConfig;
use scouter_exporter::{
    GrpcSpanProcessor, QueueConfig,
    opentelemetry_sdk::trace::{BatchConfig, BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor},
};

use self::server::Server;

/// Spans that may be on their way.
const WINDOW: u64 = 16_384;
const QUEUE: usize = 65_536;
/// Spans between two looks at the window.
const STEP: usize = 256;
const OUTAGE_SPANS_A_SECOND: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

struct Options {
    rounds: usize,
    spans: u64,
    outage: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name)?;
        Some(arguments.get(at + 1).and_then(|value| value.parse().ok()).unwrap_or(default))
    };
    let options = Options {
        rounds: number("--rounds", 5).unwrap_or(5).max(1) as usize,
        spans: number("--spans", 200_000).unwrap_or(200_000),
        outage: Duration::from_secs(number("--outage-seconds", 15).unwrap_or(15)),
    };
    if let Some(contender) = number("--through-outage", 0) {
        return through_outage(contender, options.outage);
    }
    println!("load {} at the start", measure::load());
    end_to_end(&options);
    outages(&options);
    println!("load {} at the end", measure::load());
}

fn ours(server: &Server, queue: QueueConfig) -> Box<dyn SpanProcessor> {
    Box::new(GrpcSpanProcessor::new(server.config(), queue).unwrap())
}

/// opentelemetry-otlp needs a runtime that lives as long as it does.
fn otlp(server: &Server, runtime: &tokio::runtime::Runtime, config: BatchConfig) -> Box<dyn SpanProcessor> {
    let _inside = runtime.enter();
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(server.uri()).build().unwrap();
    Box::new(BatchSpanProcessor::builder(exporter).with_batch_config(config).build())
}

fn client_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("otlp-client").enable_all().build().unwrap()
}

struct Round {
    spans_a_second: f64,
    cpu_nanos: f64,
}

fn end_to_end(options: &Options) {
    let (mut all_ours, mut all_otlp) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let server = Server::start();
        let queue = QueueConfig { max_spans: QUEUE, ..QueueConfig::default() };
        all_ours.push(deliver(options, &server, ours(&server, queue)));

        let server = Server::start();
        let runtime = client_runtime();
        let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
        all_otlp.push(deliver(options, &server, otlp(&server, &runtime, config)));
    }
    println!("\n{} spans, one thread that ends them, {} rounds, median (range):\n", options.spans, options.rounds);
    println!("| | spans/s end to end | client CPU ns a span |\n| --- | --- | --- |");
    let row = |name: &str, rounds: &[Round]| {
        let speed = measure::median(&rounds.iter().map(|round| round.spans_a_second).collect::<Vec<f64>>());
        let cpu = measure::median(&rounds.iter().map(|round| round.cpu_nanos).collect::<Vec<f64>>());
        println!("| {name} | {:.0} ({:.0} to {:.0}) | {:.0} ({:.0} to {:.0}) |", speed.0, speed.1, speed.2, cpu.0, cpu.1, cpu.2);
        (speed.0, cpu.0)
    };
    let (speed, cpu) = row("GrpcSpanProcessor", &all_ours);
    let (otlp_speed, otlp_cpu) = row("opentelemetry-otlp, gRPC, SDK batch processor", &all_otlp);
    println!("\nours delivers {:.2} times as many spans a second, for {:.2} of the CPU time a span", speed / otlp_speed, cpu / otlp_cpu);
}

fn deliver(options: &Options, server: &Server, mut processor: Box<dyn SpanProcessor>) -> Round {
    processor.set_resource(&spans::resource());
    // Connection and memory as in a process that has run for a while.
    (0..4096).for_each(|index| processor.on_end(spans::span(index)));
    processor.force_flush().unwrap();
    wait_for(server, 4096);

    let mut spans: Vec<SpanData> = (0..options.spans).map(spans::span).collect();
    spans.reverse();
    let (begun, cpu) = (Instant::now(), measure::cpu_of_threads(server::THREAD_NAME));
    let mut ended = 4096;
    while !spans.is_empty() {
        for span in spans.drain(spans.len().saturating_sub(STEP)..).rev() {
            processor.on_end(span);
            ended += 1;
        }
        while ended - server.spans() > WINDOW {
            thread::sleep(Duration::from_micros(100));
        }
    }
    processor.force_flush().unwrap();
    wait_for(server, ended);
    let elapsed = begun.elapsed();
    let cpu = measure::cpu_of_threads(server::THREAD_NAME) - cpu;
    processor.shutdown().unwrap();
    Round { spans_a_second: options.spans as f64 / elapsed.as_secs_f64(), cpu_nanos: cpu.as_nanos() as f64 / options.spans as f64 }
}

fn wait_for(server: &Server, spans: u64) {
    let deadline = Instant::now() + PATIENCE;
    while server.spans() < spans {
        assert!(Instant::now() < deadline, "{} of {spans} spans arrived", server.spans());
        thread::sleep(Duration::from_micros(100));
    }
}

fn outages(options: &Options) {
    println!("\n{OUTAGE_SPANS_A_SECOND} spans/s, the server away for {:?}:\n", options.outage);
    println!("| | MiB before | most MiB in the outage | MiB after | delivered of ended |\n| --- | --- | --- | --- | --- |");
    let program = std::env::current_exe().unwrap();
    for contender in 0..3 {
        let seconds = options.outage.as_secs().to_string();
        let contender = contender.to_string();
        let status = Command::new(&program).args(["--through-outage", &contender, "--outage-seconds", &seconds]).status().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Runs in a process of its own and prints a row.
fn through_outage(contender: u64, outage: Duration) {
    let mut server = Server::start();
    let runtime = client_runtime();
    let (name, mut processor) = match contender {
        0 => ("GrpcSpanProcessor, default queue (32,768 spans)", ours(&server, QueueConfig::default())),
        1 => ("opentelemetry-otlp, default queue (2,048 spans)", otlp(&server, &runtime, BatchConfigBuilder::default().build())),
        _ => {
            let config = BatchConfigBuilder::default().with_max_queue_size(32_768).build();
            ("opentelemetry-otlp, queue of 32,768 spans", otlp(&server, &runtime, config))
        }
    };
    processor.set_resource(&spans::resource());
    let mut ended = 0;
    load(&*processor, Duration::from_secs(3), &mut ended);
    let before = measure::resident_bytes();
    server.stop();
    let most = load(&*processor, outage, &mut ended);
    server.restart();
    load(&*processor, Duration::from_secs(12), &mut ended);
    let flushed = processor.force_flush();
    // Whatever is still under way after a flush; it only waits.
    thread::sleep(Duration::from_secs(1));
    let after = measure::resident_bytes();
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let delivered = server.spans();
    println!(
        "| {name} | {:.1} | {:.1} | {:.1} | {delivered} of {ended} ({:.1} %){} |",
        mib(before),
        mib(most),
        mib(after),
        100.0 * delivered as f64 / ended as f64,
        if flushed.is_ok() { "" } else { ", the flush failed" }
    );
}

/// Ends spans at a steady rate and gives the most memory seen.
fn load(processor: &dyn SpanProcessor, time: Duration, ended: &mut u64) -> u64 {
    let (begun, first) = (Instant::now(), *ended);
    let mut most = 0;
    while begun.elapsed() < time {
        let due = first + (begun.elapsed().as_secs_f64() * OUTAGE_SPANS_A_SECOND as f64) as u64;
        while *ended < due {
            processor.on_end(spans::span(*ended));
            *ended += 1;
        }
        most = most.max(measure::resident_bytes());
        thread::sleep(Duration::from_millis(10));
    }
    most
}
