//! The same load on programs of others, in turn with the server.
//!
//! Rotel is an OpenTelemetry collector in Rust. Its published wheel can receive OTLP and has exporters to services; the one that needs no
//! service drops all spans. So what is measured of it ends where the work of storing begins: HTTP/2, decoding, batching.
//!
//! otlp2parquet writes what it receives over OTLP/HTTP into Parquet files. It answers when spans are in its memory, syncs nothing, and has no
//! table.

use std::{net::TcpListener, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use scouter_examples::door::{Compression, Door, Login};
use tokio::process::{Child, Command};

use crate::{
    Arguments,
    cases::Case,
    measure, send,
    server::{Memory, cpu_of, memory_of},
};

/// A program of others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    Rotel,
    Otlp2Parquet,
}

impl Peer {
    /// The door that it has too.
    fn door(self) -> Door {
        match self {
            Self::Rotel => Door::OtlpGrpc,
            Self::Otlp2Parquet => Door::OtlpHttp,
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Rotel => "Rotel, received and dropped",
            Self::Otlp2Parquet => "otlp2parquet, in Parquet files, not synced",
        }
    }

    /// What it has begun is done by then: Rotel's batches wait up to 200 ms, those of otlp2parquet for a second as it is told here.
    fn drain(self) -> Duration {
        match self {
            Self::Rotel => Duration::from_secs(2),
            Self::Otlp2Parquet => Duration::from_secs(6),
        }
    }

    fn command(self, program: &Path, folder: &Path, cpus: &str, address: &str) -> anyhow::Result<Command> {
        let mut command = Command::new("taskset");
        command.args(["-c", cpus]).arg(program);
        match self {
            Self::Rotel => {
                command.args(["start", "--exporter", "blackhole", "--otlp-grpc-max-recv-msg-size-mib", "64"]);
                command.args(["--otlp-grpc-endpoint", address, "--otlp-http-endpoint", &free_address()?]);
                command.arg("--pid-file").arg(folder.join("pid")).arg("--log-file").arg(folder.join("log"));
            }
            Self::Otlp2Parquet => {
                let config = folder.join("config.toml");
                let data = folder.join("data");
                // Its defaults, but for the age of a batch.
                let settings = format!(
                    "[batch]\nmax_rows = 200000\nmax_bytes = 134217728\nmax_age_secs = 1\nenabled = true\n[request]\nmax_payload_bytes = 67108864\n\
                     [storage]\nbackend = \"fs\"\n[storage.fs]\npath = {data:?}\n[server]\nlisten_addr = {address:?}\nlog_level = \"warn\"\n\
                     log_format = \"text\"\n"
                );
                std::fs::write(&config, settings)?;
                command.arg("--config").arg(&config);
            }
        }
        Ok(command)
    }
}

struct Running {
    _child: Child,
    pid: u32,
    endpoint: String,
}

impl Running {
    async fn start(peer: Peer, program: &Path, folder: &Path, cpus: &str) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = peer.command(program, folder, cpus, &address)?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().context("taskset cannot be run")?;
        let pid = child.id().context("it ended at once")?;
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(&address).await.is_ok() {
                return Ok(Self { _child: child, pid, endpoint: format!("http://{address}") });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{} does not listen on {address}", program.display())
    }
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// CPU µs a span, spans a second, and the most memory.
async fn measure_peer(peer: Peer, case: &Case, program: &Path, arguments: &Arguments) -> anyhow::Result<(f64, f64, Memory)> {
    let folder = tempfile::tempdir()?;
    let running = Running::start(peer, program, folder.path(), &arguments.server_cpu).await?;
    let spans = ((case.spans as f64 * arguments.scale) as u64).next_multiple_of(case.batch);
    send(case, running.endpoint.clone(), Login::Nobody, 1, (spans / 8).next_multiple_of(case.batch)).await?;
    tokio::time::sleep(peer.drain()).await;
    let before = cpu_of(running.pid)?;
    let report = send(case, running.endpoint.clone(), Login::Nobody, 2, spans).await?;
    tokio::time::sleep(peer.drain()).await;
    let cpu = cpu_of(running.pid)? - before;
    Ok((cpu.as_secs_f64() * 1e6 / report.acked as f64, report.spans_per_s, memory_of(running.pid)?.at_most()))
}

/// Prints a row a turn and program.
pub(crate) async fn measure_beside(peer: Peer, program: &Path, server: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(program.is_file(), "{} is missing", program.display());
    let mut cases = crate::cases::cases(false);
    cases.retain(|case| case.door == peer.door() && case.compression == Compression::Plain);
    println!("| case | turn | program | CPU µs a span | spans/s | most RSS MiB |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for case in cases {
        for turn in 1..=arguments.turns {
            let ours = measure(&case, server, arguments).await.context("scouter-server")?;
            let cpu = ours.cpu.as_secs_f64() * 1e6 / ours.report.acked as f64;
            let name = case.name();
            println!(
                "| {name} | {turn} | scouter-server, on disk and in the table | {cpu:.2} | {:.0} | {:.0} |",
                ours.report.spans_per_s, ours.most.resident_mib
            );
            let (cpu, spans_per_s, memory) = measure_peer(peer, &case, program, arguments).await.with_context(|| format!("{peer:?}"))?;
            println!("| {name} | {turn} | {} | {cpu:.2} | {spans_per_s:.0} | {:.0} |", peer.says(), memory.resident_mib);
        }
    }
    Ok(())
}
