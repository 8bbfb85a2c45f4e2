//! What a span costs the real server, from the wire to the committed table: CPU, time to the acknowledgement, memory, disk.
//!
//! For each case a fresh `scouter-server` runs on one CPU and the load on another. The CPU time is the server's own, user and system, from
//! the first measured request until every span is in a committed table; then the spans are counted by SQL. Beside the time to an
//! acknowledgement stands that of a bare write and `fdatasync` of as many bytes, on the same disk: right before, when nobody else writes, and
//! meanwhile, some fifty times a second, by a thread on the load's CPU.
//!
//! ```sh
//! cargo build --release --bin scouter-server --bin span_cost
//! target/release/span_cost            # some three minutes
//! target/release/span_cost --full     # every batch size, door, compression and span size: half an hour
//! # Beside a peer, in turn: Rotel, which receives the same requests and throws the spans away.
//! python -m venv venv && venv/bin/pip install rotel
//! target/release/span_cost --rotel venv/lib/python3*/site-packages/rotel/rotel-agent --turns 5
//! ```

mod bare;
mod cases;
mod peer;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use scouter_examples::{
    door::{Door, Login},
    latency::Histogram,
    load::{LoadConfig, LoadReport, Until, run},
    server::{self, Memory, Server},
};

use tokio::signal::unix::{SignalKind, signal};

use bare::{BareDisk, Meanwhile};
use cases::Case;
use peer::Peer;

/// Measures what a span costs a real server, and prints a table.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Every combination, not a choice of them.
    #[arg(long)]
    full: bool,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// The server's program [default: scouter-server beside this program].
    #[arg(long)]
    server: Option<PathBuf>,
    /// Folder on the disk to be measured [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The CPU of the server, or a list of some, such as 0,1.
    #[arg(long, default_value = "1")]
    server_cpu: String,
    /// The CPU of everything else.
    #[arg(long, default_value_t = 0)]
    client_cpu: usize,
    /// Multiplies how many spans each case sends.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Rotel's program: measures it and the server in turn, by OTLP over gRPC, and nothing else.
    #[arg(long)]
    rotel: Option<PathBuf>,
    /// The program otlp2parquet: measures it and the server in turn, by OTLP over HTTP, and nothing else.
    #[arg(long)]
    otlp2parquet: Option<PathBuf>,
    /// How many turns with one of these.
    #[arg(long, default_value_t = 3)]
    turns: u32,
}

/// What one case showed.
struct Outcome {
    report: LoadReport,
    cpu: Duration,
    /// Of the bare disk, right before and meanwhile.
    bare: [Histogram; 2],
    idle: Memory,
    most: Memory,
    after: Memory,
    bytes_on_disk: u64,
    stored: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Threads inherit this, so it comes before the runtime.
    if let Err(error) = server::pin_this_process(arguments.client_cpu) {
        eprintln!("span_cost: {error:#}");
        return ExitCode::FAILURE;
    }
    let measured = tokio::runtime::Runtime::new().context("no runtime").and_then(|runtime| runtime.block_on(measure_or_stop(&arguments)));
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("span_cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// SIGTERM and SIGINT end the program at hand with this one: dropping it kills it.
async fn measure_or_stop(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        measured = measure_all(arguments) => measured,
        _ = terminate.recv() => bail!("stopped by SIGTERM"),
        _ = interrupt.recv() => bail!("stopped by SIGINT"),
    }
}

async fn measure_all(arguments: &Arguments) -> anyhow::Result<()> {
    let program = match &arguments.server {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("this program does not know where it is")?.with_file_name("scouter-server"),
    };
    ensure!(program.is_file(), "{} is missing; build it with: cargo build --release --bin scouter-server", program.display());
    if let Some(rotel) = &arguments.rotel {
        return peer::measure_beside(Peer::Rotel, rotel, &program, arguments).await;
    }
    if let Some(otlp2parquet) = &arguments.otlp2parquet {
        return peer::measure_beside(Peer::Otlp2Parquet, otlp2parquet, &program, arguments).await;
    }
    println!(
        "| case | CPU µs a span | spans/s | ack p50 / p99 ms | bare fdatasync before, p50 / p99 ms | and meanwhile | RSS MiB idle, most, after (anonymous) | bytes a span |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for case in cases::cases(arguments.full).into_iter().filter(|case| case.name().contains(&arguments.only)) {
        let outcome = measure(&case, &program, arguments).await.with_context(|| case.name())?;
        println!("{}", row(&case, &outcome));
    }
    Ok(())
}

async fn measure(case: &Case, program: &Path, arguments: &Arguments) -> anyhow::Result<Outcome> {
    let parent = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(&parent).with_context(|| format!("no folder can be made in {}", parent.display()))?;
    let server = Server::start(program, &folder.path().join("storage"), &arguments.server_cpu, &[]).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = server.memory()?;

    let spans = ((case.spans as f64 * arguments.scale) as u64).next_multiple_of(case.batch);
    let warm_up = (spans / 8).next_multiple_of(case.batch);
    load(case, &server, 1, warm_up).await?;
    server.wait_until_committed().await?;

    let mut disk = BareDisk::new(folder.path(), case.request_bytes())?;
    let alone = disk.times(200)?;
    let before = server.cpu()?;
    let meanwhile = Meanwhile::begin(disk);
    let report = load(case, &server, 2, spans).await?;
    let bare = [alone, meanwhile.end()?];
    server.wait_until_committed().await?;
    let cpu = server.cpu()? - before;
    let most = server.memory()?.at_most();
    // The server gives unused memory back every few seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after = server.memory()?;

    let stored = server.count().await?;
    ensure!(stored == spans + warm_up, "{stored} spans are in the table, {} were acknowledged", spans + warm_up);
    let bytes_on_disk = server::parquet_bytes(&server.storage().join("tables"))?;
    server.stop().await?;
    Ok(Outcome { report, cpu, bare, idle, most, after, bytes_on_disk, stored })
}

async fn load(case: &Case, server: &Server, seed: u64, spans: u64) -> anyhow::Result<LoadReport> {
    let grpc = format!("http://{}", server.grpc);
    let http = format!("http://{}", server.http);
    let (endpoint, login) = match case.door {
        Door::ScouterGrpc => (grpc.clone(), Login::Grpc(grpc)),
        Door::OtlpGrpc => (grpc, Login::Http(http)),
        Door::OtlpHttp => (http.clone(), Login::Http(http)),
    };
    send(case, endpoint, login, seed, spans).await
}

/// Sends so many spans; all have to be acknowledged.
async fn send(case: &Case, endpoint: String, login: Login, seed: u64, spans: u64) -> anyhow::Result<LoadReport> {
    let config = LoadConfig {
        door: case.door,
        endpoint,
        login,
        username: "guest".to_owned(),
        password: "guest".to_owned(),
        seed,
        size: case.size,
        rate: case.rate,
        until: Until::Spans(spans),
        batch_spans: case.batch,
        concurrency: case.concurrency(),
        compression: case.compression,
        give_up_after: Duration::from_secs(30),
        ids: None,
    };
    let report = run(config, |_| {}).await?;
    ensure!(report.acked == spans, "{} of {spans} spans were acknowledged: {:?}", report.acked, report.error);
    Ok(report)
}

fn row(case: &Case, outcome: &Outcome) -> String {
    let Outcome { report, cpu, bare: [alone, meanwhile], idle, most, after, bytes_on_disk, stored } = outcome;
    format!(
        "| {} | {:.2} | {:.0} | {:.2} / {:.2} | {:.2} / {:.2} | {:.2} / {:.2} | {:.0}, {:.0}, {:.0} ({:.0}, {:.0}) | {:.1} |",
        case.name(),
        cpu.as_secs_f64() * 1e6 / report.acked as f64,
        report.spans_per_s,
        report.p50_ack_ms,
        report.p99_ack_ms,
        alone.quantile_ms(0.5),
        alone.quantile_ms(0.99),
        meanwhile.quantile_ms(0.5),
        meanwhile.quantile_ms(0.99),
        idle.resident_mib,
        most.resident_mib,
        after.resident_mib,
        idle.anonymous_mib,
        after.anonymous_mib,
        *bytes_on_disk as f64 / *stored as f64,
    )
}
