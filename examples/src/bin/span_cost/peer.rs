//! The same load on a program of others, in turn with the server.
//!
//! Rotel is an OpenTelemetry collector in Rust. Its published wheel can receive OTLP and has exporters to services; the one that needs no
//! service drops all spans. So what is measured of it ends where the work of storing begins: HTTP/2, decoding, batching.

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

/// Rotel's batches wait up to 200 ms.
const DRAIN: Duration = Duration::from_secs(2);

struct Rotel {
    _child: Child,
    pid: u32,
    endpoint: String,
}

impl Rotel {
    async fn start(program: &Path, folder: &Path, cpus: &str) -> anyhow::Result<Self> {
        let (grpc, http) = (free_address()?, free_address()?);
        let mut command = Command::new("taskset");
        command.args(["-c", cpus]).arg(program).args(["start", "--exporter", "blackhole"]);
        command.args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http]);
        command.args(["--otlp-grpc-max-recv-msg-size-mib", "64"]);
        command.arg("--pid-file").arg(folder.join("pid")).arg("--log-file").arg(folder.join("log"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().context("taskset cannot be run")?;
        let pid = child.id().context("Rotel ended at once")?;
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(&grpc).await.is_ok() {
                return Ok(Self { _child: child, pid, endpoint: format!("http://{grpc}") });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::bail!("{} does not listen on {grpc}", program.display())
    }
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// CPU µs a span, spans a second, and the most memory.
async fn measure_rotel(case: &Case, program: &Path, arguments: &Arguments) -> anyhow::Result<(f64, f64, Memory)> {
    let folder = tempfile::tempdir()?;
    let rotel = Rotel::start(program, folder.path(), &arguments.server_cpu).await?;
    let spans = ((case.spans as f64 * arguments.scale) as u64).next_multiple_of(case.batch);
    send(case, rotel.endpoint.clone(), Login::Nobody, 1, (spans / 8).next_multiple_of(case.batch)).await?;
    tokio::time::sleep(DRAIN).await;
    let before = cpu_of(rotel.pid)?;
    let report = send(case, rotel.endpoint.clone(), Login::Nobody, 2, spans).await?;
    tokio::time::sleep(DRAIN).await;
    let cpu = cpu_of(rotel.pid)? - before;
    Ok((cpu.as_secs_f64() * 1e6 / report.acked as f64, report.spans_per_s, memory_of(rotel.pid)?.at_most()))
}

/// Prints a row a turn and program.
pub(crate) async fn measure_beside(rotel: &Path, server: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(rotel.is_file(), "{} is missing", rotel.display());
    let mut cases = crate::cases::cases(false);
    cases.retain(|case| case.door == Door::OtlpGrpc && case.compression == Compression::Plain);
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
            let (cpu, spans_per_s, memory) = measure_rotel(&case, rotel, arguments).await.context("Rotel")?;
            println!("| {name} | {turn} | Rotel, received and dropped | {cpu:.2} | {spans_per_s:.0} | {:.0} |", memory.resident_mib);
        }
    }
    Ok(())
}
