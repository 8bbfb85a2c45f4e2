//! The load generator as a process.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::server::Addresses;

/// The line it prints at its end.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) rejected: u64,
    pub(crate) retries: u64,
    pub(crate) failed: u64,
    pub(crate) p50_ack_ms: f64,
    pub(crate) p99_ack_ms: f64,
}

/// A command line for one door of a server; `arguments` follow.
pub(crate) fn command(door: &str, addresses: &Addresses, arguments: &[&str]) -> Command {
    let address = match door {
        "scouter-grpc" => &addresses.grpc,
        "otlp-grpc" => &addresses.otlp_grpc,
        "otlp-http" => &addresses.otlp_http,
        other => panic!("no door is called {other}"),
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command
        .args(["--door", door, "--endpoint", &format!("http://{address}"), "--login-endpoint", &format!("http://{}", addresses.http)])
        .args(arguments)
        .env_remove("SCOUTER_USERNAME")
        .env_remove("SCOUTER_PASSWORD")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Sends spans and expects every one to be acknowledged.
pub(crate) async fn send(door: &str, addresses: &Addresses, spans: u64, batch: u64) -> Report {
    let arguments = ["--spans", &spans.to_string(), "--batch", &batch.to_string(), "--give-up-after", "20"];
    let output = command(door, addresses, &arguments).output().await.expect("loadgen starts");
    let report = report(&output);
    assert_eq!(report.acked, spans, "{door}: {report:?}");
    report
}

/// The JSON line of a run that ended well.
pub(crate) fn report(output: &Output) -> Report {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "loadgen failed:\n{stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("stdout is not one JSON line ({error}); stderr:\n{stderr}"))
}

/// A run under way, and the file in which it notes what was acknowledged.
pub(crate) struct Running {
    child: Child,
    ids: PathBuf,
}

impl Running {
    pub(crate) fn start(mut command: Command, ids: PathBuf) -> Self {
        let child = command.arg("--ids").arg(&ids).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("loadgen starts");
        Self { child, ids }
    }

    /// Waits until this many spans were acknowledged.
    pub(crate) async fn wait_until_acked(&self, spans: u64) {
        const LINE_BYTES: u64 = 32 + 1 + 16 + 1;
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::fs::metadata(&self.ids).map_or(0, |file| file.len()) < spans * LINE_BYTES {
            assert!(Instant::now() < deadline, "{spans} spans were not acknowledged in a minute");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Its report, when it ended well.
    pub(crate) async fn finish(self) -> Report {
        let output =
            timeout(Duration::from_secs(180), self.child.wait_with_output()).await.expect("loadgen ends").expect("its output can be read");
        report(&output)
    }
}

/// The acknowledged `trace_id span_id` of a run; none is there twice.
pub(crate) fn acknowledged(ids: &Path) -> HashSet<String> {
    let text = std::fs::read_to_string(ids).expect("loadgen wrote its file");
    let lines: HashSet<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), text.lines().count(), "an id was noted twice");
    lines
}
