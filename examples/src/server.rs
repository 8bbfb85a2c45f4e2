//! A server on one CPU, and what the operating system says about it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::door::Login;

const START: Duration = Duration::from_secs(30);
const COMMIT: Duration = Duration::from_secs(60);

/// Parts of a second in which `/proc` counts CPU time; the same on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of the server, in MiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All that is in memory.
    pub resident_mib: f64,
    /// What of it is no file's.
    pub anonymous_mib: f64,
    most_mib: f64,
}

impl Memory {
    /// The most that was resident since the start.
    #[must_use]
    pub fn at_most(self) -> Self {
        Self { resident_mib: self.most_mib, ..self }
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pid: u32,
    /// Address of its gRPC listener.
    pub grpc: String,
    /// Address of its HTTP listener.
    pub http: String,
    storage: PathBuf,
    _stdout: Lines<BufReader<ChildStdout>>,
}

/// All threads that come after it are on `cpu` too.
///
/// # Errors
/// There is no `taskset`, or no such CPU.
pub fn pin_this_process(cpu: usize) -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let pinned = std::process::Command::new("taskset").args(["-cp", &cpu.to_string(), &pid]).stdout(Stdio::null()).status();
    ensure!(pinned.context("taskset (package util-linux) cannot be run")?.success(), "this program cannot be put on CPU {cpu}");
    Ok(())
}

impl Server {
    /// Starts `program` on `cpus`, a list as `taskset` takes it, with `flags` beside those for its folder and free ports.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(program: &Path, storage: &Path, cpus: &str, flags: &[&str]) -> anyhow::Result<Self> {
        // It ends with this program, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", cpus]).arg(program).arg("serve").arg("--storage").arg(storage).args(flags);
        for flag in ["--grpc-addr", "--http-addr"] {
            command.args([flag, "127.0.0.1:0"]);
        }
        for flag in ["--otlp-grpc-addr", "--otlp-http-addr"] {
            command.args([flag, ""]);
        }
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SCOUTER_")) {
            command.env_remove(name);
        }
        // setpriv becomes taskset and that the server, so the child's process id is the server's.
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("setpriv and taskset (package util-linux) cannot be run")?;
        let pid = child.id().context("the server ended at once")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let line = timeout(START, lines.next_line()).await.context("the server does not come up")??.context("the server ended")?;
        let address = |key: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(key)).map(str::to_owned);
            word.with_context(|| format!("the server's first line names no {key} address: {line}"))
        };
        Ok(Self { pid, grpc: address("grpc=")?, http: address("http=")?, storage: storage.to_owned(), child, _stdout: lines })
    }

    /// Its folder.
    pub fn storage(&self) -> &Path {
        &self.storage
    }

    /// User and system time so far.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(self.pid)
    }

    /// Its memory now, and the most it had.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        memory_of(self.pid)
    }

    /// Until nothing is hot any more.
    ///
    /// # Errors
    /// That does not come true.
    pub async fn wait_until_committed(&self) -> anyhow::Result<()> {
        let waiting = async {
            loop {
                let metrics = self.metrics().await?;
                let figure = |name: &str| metrics.iter().find_map(|(key, value)| (key == name).then_some(*value));
                let hot = figure("scouter_store_hot_rows").context("the server's metrics have no scouter_store_hot_rows")?;
                if hot == 0.0 && figure("scouter_store_durable_position") == figure("scouter_store_committed_position") {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(COMMIT, waiting).await.context("the rows do not get committed")?
    }

    /// Names, with labels, and values of its metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> anyhow::Result<Vec<(String, f64)>> {
        let text = reqwest::get(format!("http://{}/metrics", self.http)).await?.text().await?;
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        Ok(lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// Spans in the table, by SQL.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn count(&self) -> anyhow::Result<u64> {
        let login = Login::Http(format!("http://{}", self.http));
        let token = login.token("guest", "guest").await.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let request = reqwest::Client::new().post(format!("http://{}/api/v1/sql", self.http)).bearer_auth(token);
        let answer: Value = request.json(&json!({ "query": "SELECT count(*) FROM spans" })).send().await?.json().await?;
        answer["rows"][0][0].as_u64().with_context(|| format!("no count in {answer}"))
    }

    /// SIGTERM, then its end.
    ///
    /// # Errors
    /// It does not end, or not well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let told = Command::new("kill").args(["-TERM", &self.pid.to_string()]).status().await?;
        ensure!(told.success(), "the server was gone before it was told to stop");
        let ended = timeout(COMMIT, self.child.wait()).await.context("the server does not stop")??;
        if !ended.success() {
            bail!("the server ended with {ended}");
        }
        Ok(())
    }
}

/// User and system time of a process so far.
///
/// # Errors
/// There is no such process.
pub fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces; the fields after it are counted from 3.
    let fields: Vec<&str> = stat.rsplit_once(')').context("/proc/PID/stat has no name")?.1.split_whitespace().collect();
    let ticks = |field: usize| -> anyhow::Result<f64> { Ok(fields.get(field - 3).context("a short /proc/PID/stat")?.parse()?) };
    Ok(Duration::from_secs_f64((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND))
}

/// Memory of a process now, and the most it had.
///
/// # Errors
/// There is no such process.
pub fn memory_of(pid: u32) -> anyhow::Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |key: &str| -> anyhow::Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("/proc/PID/status has no {key}"))?;
        let kib: f64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory { resident_mib: mib("VmRSS:")?, anonymous_mib: mib("RssAnon:")?, most_mib: mib("VmHWM:")? })
}

/// Bytes of all Parquet data files under a folder.
///
/// # Errors
/// It cannot be read.
pub fn parquet_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() && !path.ends_with("_delta_log") {
            bytes += parquet_bytes(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
