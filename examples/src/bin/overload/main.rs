//! What becomes of a server that is offered more than it can take: goodput, refusals, memory, and that nothing acknowledged is lost.
//!
//! For each door and compression a fresh `scouter-server` runs on one CPU and its clients on another. First a few clients find out how
//! much it can take. Then there are twice, five times and ten times as many, each of which wants to send its part of that. A
//! client keeps to OTLP's rules: one request at a time, refused ones again after the time that the server names, and what comes due
//! meanwhile is lost to it. At last come ten times as many that keep to no rule: refused, they send again after ten milliseconds. In the end
//! every batch that was begun is delivered, so the table must hold exactly what was acknowledged.
//!
//! All of it is done in rounds, and each figure is that of all rounds together. A machine's speed changes by the minute, and then for all
//! that stands side by side. Before the first round the server works at its peak unmeasured: a fresh one has nothing to file yet, and takes more.
//!
//! A body is made and compressed once, however often it is sent, and the clients' CPU is not the server's. Both are printed: where the
//! clients' is used up, the server was not offered more, and where the server's is not, spans a second tell of something else than of it.
//! With other programs on the same CPUs they tell more of those; the server's CPU a stored span then tells what refusing costs it.
//!
//! ```sh
//! cargo build --release --workspace --bin scouter-server --bin overload
//! target/release/overload             # some five minutes
//! target/release/overload --only "otlp-grpc, plain"
//! ```

mod clients;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use scouter_examples::{
    door::{Compression, Door},
    server::{self, Server},
};

use clients::{Demand, Manners, Outcome, Target};

/// Offers a real server more and more, and prints a table.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// How many times what the server can take.
    #[arg(long, value_delimiter = ',', default_value = "2,5,10")]
    times: Vec<u32>,
    /// How many times what the server can take comes from clients that do not heed the time to come again; 0 leaves that out.
    #[arg(long, default_value_t = 10)]
    hasty_times: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds of measurements.
    #[arg(long, default_value_t = 4)]
    rounds: u32,
    /// The memory that the server is given.
    #[arg(long, default_value_t = 192)]
    memory_budget_mib: u32,
    /// Clients that find out how much the server can take.
    #[arg(long, default_value_t = 32)]
    clients: u32,
    /// Spans in a request.
    #[arg(long, default_value_t = 512)]
    batch: u64,
    /// The server's program [default: scouter-server beside this program].
    #[arg(long)]
    server: Option<PathBuf>,
    /// Folder on the disk to be used [default: the folder for temporary files].
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The CPU of the server.
    #[arg(long, default_value_t = 1)]
    server_cpu: usize,
    /// The CPU of the clients.
    #[arg(long, default_value_t = 0)]
    client_cpu: usize,
}

/// gzip is not among them: compressing costs clients on one CPU more than storing costs the server.
const CASES: [(Door, Compression); 5] = [
    (Door::OtlpGrpc, Compression::Plain),
    (Door::OtlpGrpc, Compression::Zstd),
    (Door::ScouterGrpc, Compression::Plain),
    (Door::OtlpHttp, Compression::Plain),
    (Door::OtlpHttp, Compression::Zstd),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Threads inherit this, so it comes before the runtime.
    let pinned = server::pin_this_process(arguments.client_cpu);
    let runtime = || tokio::runtime::Runtime::new().context("no runtime");
    match pinned.and_then(|()| runtime()?.block_on(measure_all(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure_all(arguments: &Arguments) -> anyhow::Result<()> {
    let program = match &arguments.server {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("this program does not know where it is")?.with_file_name("scouter-server"),
    };
    ensure!(program.is_file(), "{} is missing; build it with: cargo build --release --bin scouter-server", program.display());
    println!(
        "| case | wanted | requests a second: taken, refused, unanswered | spans/s stored, of the peak | CPU of server, clients | server's CPU µs a stored span, the peak's part of it | most RSS MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (door, compression) in CASES {
        let name = format!("{}, {}", door.name(), compression.name());
        if name.contains(&arguments.only) {
            measure(&name, door, compression, &program, arguments).await.context(name)?;
        }
    }
    Ok(())
}

async fn measure(name: &str, door: Door, compression: Compression, program: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let parent = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::tempdir_in(&parent).with_context(|| format!("no folder can be made in {}", parent.display()))?;
    let budget = arguments.memory_budget_mib.to_string();
    let flags = ["--memory-budget-mib", &budget, "--max-request-mib", "4"];
    let server = Server::start(program, &folder.path().join("storage"), &arguments.server_cpu.to_string(), &flags).await?;
    let target = Target::of(&server, door, compression, arguments.batch).await?;
    let window = Duration::from_secs(arguments.seconds);

    let at_peak = || clients::run(&target, &server, arguments.clients, Demand::All, Manners::Heedful, window);
    let mut acknowledged = at_peak().await?.acknowledged;
    let heedful = arguments.times.iter().map(|times| (*times, Manners::Heedful));
    let hasty = Some((arguments.hasty_times, Manners::Hasty)).filter(|(times, _)| *times > 0);
    let mut peak = Outcome::default();
    let mut offers: Vec<_> = heedful.chain(hasty).map(|(times, manners)| (times, manners, Outcome::default())).collect();
    for _ in 0..arguments.rounds {
        let of_round = at_peak().await?;
        let of_one = Demand::SpansPerSecond(of_round.spans_per_s(arguments.batch) / f64::from(arguments.clients));
        peak += of_round;
        for (times, manners, outcome) in &mut offers {
            *outcome += clients::run(&target, &server, arguments.clients * *times, of_one, *manners, window).await?;
        }
    }
    println!("{}", row(name, "all it can take", &peak, &peak, arguments.batch));
    acknowledged += peak.acknowledged;
    for (times, manners, outcome) in &offers {
        let wanted = if *manners == Manners::Hasty { format!("{times} times, hasty") } else { format!("{times} times") };
        println!("{}", row(name, &wanted, outcome, &peak, arguments.batch));
        acknowledged += outcome.acknowledged;
    }
    server.wait_until_committed().await?;
    let stored = server.count().await?;
    ensure!(stored == acknowledged, "{stored} spans are stored, {acknowledged} were acknowledged");
    println!("| {name} | | all {acknowledged} acknowledged spans are stored, none twice | | | | |");
    server.stop().await
}

fn row(name: &str, wanted: &str, outcome: &Outcome, peak: &Outcome, batch: u64) -> String {
    let Outcome { seconds, taken, refused, unanswered, server_cpu, client_cpu, most_resident_mib, .. } = outcome;
    let per_s = |count: &u64| *count as f64 / seconds;
    let percent = |part: f64, whole: f64| part * 100.0 / whole;
    let (spans, cpu) = (outcome.spans_per_s(batch), outcome.cpu_micros_a_span(batch));
    format!(
        "| {name} | {wanted} | {:.0}, {:.0}, {:.1} | {spans:.0}, {:.0} % | {:.0} %, {:.0} % | {cpu:.2}, {:.0} % | {most_resident_mib:.0} |",
        per_s(taken),
        per_s(refused),
        per_s(unanswered),
        percent(spans, peak.spans_per_s(batch)),
        percent(server_cpu.as_secs_f64(), *seconds),
        percent(client_cpu.as_secs_f64(), *seconds),
        percent(peak.cpu_micros_a_span(batch), cpu),
    )
}
