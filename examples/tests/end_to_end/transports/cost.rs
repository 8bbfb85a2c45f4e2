//! What each way costs, in one run: spans a second, and the CPU time of a span for the producer, the broker and the server, apart.
//!
//! It is a measurement and no test: it asserts nothing about time, and runs when it is asked for.

use std::time::Duration;

use scouter_exporter::{Pipeline, QueueConfig};
use tokio::time::{Instant, sleep, timeout};

use super::{
    PATIENCE, Route,
    brokered::{Kafka, RabbitMq, Redis},
    contract::push_spans,
    direct::{Grpc, Http},
};
use crate::brokers::processes;

const SPANS: u64 = 400_000;
/// Of one push, and what may wait at once.
const PART: u64 = 10_000;
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release --workspace --test end_to_end -- --ignored --nocapture what_each_way_costs"]
async fn what_each_way_costs() {
    println!("| way | spans/s until `Ok` | spans/s until stored | producer, ns CPU a span | broker | server |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for _ in 0..ROUNDS {
        measure::<Grpc>("gRPC").await;
        measure::<Http>("HTTP").await;
        measure::<Kafka>("Kafka").await;
        measure::<Redis>("Redis Streams").await;
        measure::<RabbitMq>("RabbitMQ").await;
    }
}

async fn measure<R: Route>(way: &str) {
    let route = R::open().await;
    let pipeline = Pipeline::new(route.config(), QueueConfig::default()).expect("good settings");
    // Connections are made and logged in before the clock runs.
    push_spans(&pipeline, 100);
    flush(&pipeline).await;
    route.expect_spans(100).await;

    let (producer, [broker, server], begun) = (own_cpu(), route.cpu(), Instant::now());
    let pushing = pipeline.clone();
    let pushed = tokio::task::spawn_blocking(move || {
        for _ in 0..SPANS / PART {
            while pushing.stats().spans.pending() > PART {
                std::thread::sleep(Duration::from_millis(1));
            }
            push_spans(&pushing, PART);
        }
    });
    pushed.await.expect("no panic");
    flush(&pipeline).await;
    let acknowledged = begun.elapsed();
    let producer = own_cpu() - producer;
    let stored = timeout(PATIENCE * 5, async {
        while route.spans().await < SPANS + 100 {
            sleep(Duration::from_millis(200)).await;
        }
        begun.elapsed()
    });
    let stored = stored.await.expect("everything is stored");
    let [broker_after, server_after] = route.cpu();

    let rate = |elapsed: Duration| SPANS as f64 / elapsed.as_secs_f64();
    let each = |cpu: Duration| cpu.as_nanos() / u128::from(SPANS);
    println!(
        "| {way} | {:.0} | {:.0} | {} | {} | {} |",
        rate(acknowledged),
        rate(stored),
        each(producer),
        each(broker_after.saturating_sub(broker)),
        each(server_after.saturating_sub(server)),
    );
}

async fn flush(pipeline: &Pipeline) {
    let flushing = pipeline.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE * 5)).await.expect("no panic").expect("everything is delivered");
}

fn own_cpu() -> Duration {
    processes().filter(|process| process.id == std::process::id()).map(|process| process.cpu).sum()
}
