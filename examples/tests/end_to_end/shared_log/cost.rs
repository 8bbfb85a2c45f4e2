//! What a span costs from the door to the table, where servers share a log: spans a second, and CPU time apart.
//!
//! It is a measurement and no test: it asserts nothing about time, and runs when it is asked for.

use std::time::{Duration, Instant};

use super::{Ground, PATIENCE, post, request};
use crate::{loadgen, transports::direct::Receiver};

const SPANS: u64 = 500_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release --workspace --test end_to_end -- --ignored --nocapture what_a_shared_log_costs"]
async fn what_a_shared_log_costs() {
    println!(
        "| spans a request | spans/s acknowledged | in the table | server, ns CPU a span | Kafka | p50 ack, ms | p99 ack, ms | topic to table, spans/s | ns CPU |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for batch in [10, 100, 512, 4096] {
        measure(batch).await;
    }
}

async fn measure(batch: u64) {
    let ground = Ground::new().await;
    let mut server = ground.server().await;
    // Connections are made, and partitions taken, before the clock runs.
    post(&server, request(0..10)).await;
    wait_until_written(&server, 10).await;
    let spans = SPANS.min(batch * 10_000);

    let (cpu, broker, begun) = (server.cpu(), ground.kafka.cpu(), Instant::now());
    let report = loadgen::send("scouter-grpc", &server.addresses, spans, batch).await;
    let acknowledged = begun.elapsed();
    wait_until_written(&server, spans + 10).await;
    let written = begun.elapsed();
    let (server_cpu, broker_cpu) = (server.cpu(), ground.kafka.cpu());

    // The same messages again, into other tables.
    server.stop().await;
    let reader = Receiver::start_in(ground.flags_for("other"), ground.objects.environment()).await;
    let (reader_cpu, begun) = (reader.cpu(), Instant::now());
    wait_until_written(&reader, spans + 10).await;
    let read = begun.elapsed();

    let rate = |elapsed: Duration| spans as f64 / elapsed.as_secs_f64();
    let each = |after: Duration, before: Duration| after.saturating_sub(before).as_nanos() / u128::from(spans);
    println!(
        "| {batch} | {:.0} | {:.0} | {} | {} | {:.1} | {:.1} | {:.0} | {} |",
        rate(acknowledged),
        rate(written),
        each(server_cpu, cpu),
        each(broker_cpu, broker),
        report.p50_ack_ms,
        report.p99_ack_ms,
        rate(read),
        each(reader.cpu(), reader_cpu),
    );
}

/// Until the table's files have all rows.
async fn wait_until_written(server: &Receiver, rows: u64) {
    let deadline = Instant::now() + PATIENCE;
    while server.metric("scouter_store_rows_written_total").await < rows as f64 {
        assert!(Instant::now() < deadline, "{rows} rows are not in the table");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
