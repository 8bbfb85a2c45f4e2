//! What ending a span costs the thread that ends it: our processor beside the SDK's batch processor, on the same spans in the same run.
//!
//! `cargo bench -p scouter-exporter --bench on_end [-- ROUNDS]`
//!
//! Every queue holds all spans of a round, so nobody is quick because he drops. Ours delivers to a server in the same process while
//! it is measured; the SDK's processor has an exporter that does nothing. CPU time is that of the calling threads alone, so it counts
//! waiting in a spin but not in a sleep; wall time counts both, and whatever else the machine does.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a benchmark that cannot go on has failed")]

#[path = "shared/measure.rs"]
#[allow(dead_code, reason = "shared by benchmarks")]
mod measure;
#[path = "shared/server.rs"]
#[allow(dead_code, reason = "shared by benchmarks")]
mod server;
#[path = "shared/spans.rs"]
mod spans;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use scouter_exporter::{
    GrpcSpanProcessor, QueueConfig,
    encode::write_span,
    opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor},
    },
};

use self::server::Server;

/// Spans of a round, shared out among the threads.
const SPANS: u64 = 96_000;
const THREADS: [u64; 3] = [1, 4, 16];
const ROUNDS: usize = 9;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system allocator unchanged; counting touches only a thread-local integer without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Does nothing with its spans but drop them.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    fn export(&self, _batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        std::future::ready(Ok(()))
    }
}

/// What one round of one contender gave.
struct Round {
    cpu_nanos: f64,
    wall_nanos: f64,
    allocations: f64,
}

fn round(threads: u64, on_end: &(dyn Fn(SpanData) + Sync)) -> Round {
    let each = SPANS / threads;
    let barrier = Barrier::new(threads as usize);
    let results: Vec<(Duration, Instant, Instant, u64)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let spans: Vec<SpanData> = (0..each).map(|index| spans::span(number * each + index)).collect();
                    barrier.wait();
                    let (allocations, cpu, begun) = (ALLOCATIONS.with(Cell::get), measure::thread_cpu(), Instant::now());
                    let own = ALLOCATIONS.with(Cell::get) - allocations;
                    spans.into_iter().for_each(on_end);
                    let counted = ALLOCATIONS.with(Cell::get) - allocations - own;
                    let ended = Instant::now();
                    (measure::thread_cpu() - cpu, begun, ended, counted)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let begun = results.iter().map(|result| result.1).min().unwrap();
    let ended = results.iter().map(|result| result.2).max().unwrap();
    let spans = (each * threads) as f64;
    Round {
        cpu_nanos: results.iter().map(|result| result.0.as_nanos() as f64).sum::<f64>() / spans,
        wall_nanos: (ended - begun).as_nanos() as f64 / spans,
        allocations: results.iter().map(|result| result.3 as f64).sum::<f64>() / spans,
    }
}

fn contender(name: &str, threads: u64, server: &Server) -> Round {
    match name {
        "dropping the span alone" => round(threads, &|span| drop(span)),
        "encoding and dropping it" => round(threads, &|span| {
            thread_local!(static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });
            let mut buffer = BUFFER.take();
            buffer.clear();
            write_span(&mut buffer, &span);
            BUFFER.set(buffer);
        }),
        "GrpcSpanProcessor" => {
            let queue = QueueConfig { max_spans: 1 << 20, max_bytes: 1 << 30, ..QueueConfig::default() };
            let mut processor = GrpcSpanProcessor::new(server.config(), queue).unwrap();
            processor.set_resource(&spans::resource());
            // The connection stands and the queue has memory, as in a process that has run for a while.
            (0..4096).for_each(|index| processor.on_end(spans::span(index)));
            processor.force_flush().unwrap();
            let round = round(threads, &|span| processor.on_end(span));
            processor.force_flush().unwrap();
            let account = processor.stats().spans;
            assert_eq!(account.exported, account.ended, "{account:?}");
            processor.shutdown().unwrap();
            round
        }
        _ => {
            let config = BatchConfigBuilder::default().with_max_queue_size(1 << 20).build();
            let processor = BatchSpanProcessor::builder(Nowhere).with_batch_config(config).build();
            (0..4096).for_each(|index| processor.on_end(spans::span(index)));
            processor.force_flush().unwrap();
            let round = round(threads, &|span| processor.on_end(span));
            processor.force_flush().unwrap();
            processor.shutdown().unwrap();
            round
        }
    }
}

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(ROUNDS);
    let server = Server::start();
    let names = ["dropping the span alone", "encoding and dropping it", "GrpcSpanProcessor", "SDK BatchSpanProcessor, no-op exporter"];
    println!("{SPANS} spans a round, {rounds} rounds, median (range), load {}", measure::load());
    println!("| threads | on_end | CPU ns a span | wall ns a span | allocations a span |\n| --- | --- | --- | --- | --- |");
    for threads in THREADS {
        let mut results: Vec<Vec<Round>> = names.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (name, results) in names.iter().zip(&mut results) {
                results.push(contender(name, threads, &server));
            }
        }
        let mut medians = Vec::new();
        for (name, results) in names.iter().zip(&results) {
            let column = |value: fn(&Round) -> f64| measure::median(&results.iter().map(value).collect::<Vec<f64>>());
            let (cpu, wall, allocations) =
                (column(|round| round.cpu_nanos), column(|round| round.wall_nanos), column(|round| round.allocations));
            println!(
                "| {threads} | {name} | {:.0} ({:.0} to {:.0}) | {:.0} ({:.0} to {:.0}) | {:.3} |",
                cpu.0, cpu.1, cpu.2, wall.0, wall.1, wall.2, allocations.0
            );
            medians.push(cpu.0);
        }
        println!(
            "{threads} threads: on_end costs {:.0} ns more than encoding and dropping; the SDK's costs {:.2} times ours",
            medians[2] - medians[1],
            medians[3] / medians[2]
        );
    }
    println!("load {}", measure::load());
}
