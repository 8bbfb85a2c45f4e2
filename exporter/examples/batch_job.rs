//! A job that works through a pile, with spans of its steps and a report of what became of them.
//!
//! `cargo run -p scouter-exporter --example batch_job`, with a server on localhost:50051 or `SCOUTER_GRPC_URI` set.
//! No async runtime, and none is needed. Without a server it says what was not delivered, and exits in time.

use std::{process::ExitCode, thread, time::Duration};

use scouter_exporter::{GrpcConfig, init_tracing};
use tracing::{Span, field::Empty, info, info_span, instrument};
use tracing_subscriber::{filter::LevelFilter, prelude::*};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let telemetry = init_tracing("nightly-scores", GrpcConfig::from_env()?)?;
    // Messages go to the terminal as well: the exporter warns there when it cannot deliver.
    let terminal = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_filter(LevelFilter::WARN);
    tracing_subscriber::registry().with(telemetry.layer()).with(terminal).init();

    let total = info_span!("job", documents = 100).in_scope(|| (0..100).map(score).sum::<u64>());
    println!("total score {total}");

    // A checkpoint: what ended so far is stored, or the reason is known. The job goes on either way.
    if let Err(error) = telemetry.flush(Duration::from_secs(2)) {
        eprintln!("not delivered yet: {error}");
    }
    info_span!("clean up").in_scope(|| info!("done"));

    let report = telemetry.shutdown(Duration::from_secs(5));
    let spans = &report.stats.spans;
    println!("spans: {} ended, {} exported, {} rejected, {} dropped", spans.ended, spans.exported, spans.rejected, spans.dropped.total());
    Ok(if report.undelivered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[instrument(fields(score = Empty))]
fn score(document: u64) -> u64 {
    thread::sleep(Duration::from_millis(1));
    let score = document * 7 % 11;
    Span::current().record("score", score);
    score
}
