//! A `scouter-server` process on free ports with a folder of its own.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// Replay included; far more than it takes, so that a busy machine does not fail a test.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Where a server listens, `host:port` each.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) otlp_grpc: String,
    pub(crate) otlp_http: String,
}

impl Addresses {
    /// Any free ports.
    pub(crate) fn free() -> Self {
        let any = || "127.0.0.1:0".to_owned();
        Self { grpc: any(), http: any(), otlp_grpc: any(), otlp_http: any() }
    }

    pub(crate) fn all(&self) -> [&str; 4] {
        [&self.grpc, &self.http, &self.otlp_grpc, &self.otlp_http]
    }

    /// From the line `listening grpc=... http=... otlp-grpc=... otlp-http=...`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_prefix("listening ")?.split(' ');
        let mut next = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        Some(Self { grpc: next("grpc")?, http: next("http")?, otlp_grpc: next("otlp-grpc")?, otlp_http: next("otlp-http")? })
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) addresses: Addresses,
    storage: PathBuf,
    /// Kept open: a server that prints later must not find a closed pipe.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// On free ports, with the tables and the log in `folder`.
    pub(crate) async fn start(folder: &TempDir) -> Self {
        Self::start_at(folder, &Addresses::free()).await
    }

    /// At these addresses; its messages go to `server.log` in `folder`, after those of servers before it.
    pub(crate) async fn start_at(folder: &TempDir, addresses: &Addresses) -> Self {
        Self::start_with(folder, addresses, &[]).await
    }

    /// The same, with more flags.
    pub(crate) async fn start_with(folder: &TempDir, addresses: &Addresses, flags: &[String]) -> Self {
        Self::start_in(folder, addresses, flags, &[]).await
    }

    /// The same, with variables too.
    pub(crate) async fn start_in(folder: &TempDir, addresses: &Addresses, flags: &[String], variables: &[(String, String)]) -> Self {
        let storage = folder.path().join("storage");
        let log_path = folder.path().join("server.log");
        let log = File::options().create(true).append(true).open(&log_path).expect("the test's folder is writable");
        let mut command = command(&storage, addresses, flags);
        command.envs(variables.iter().cloned()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the server's program starts");

        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.expect("the server prints text") {
                if let Some(addresses) = Addresses::parse(&line) {
                    return Some(addresses);
                }
            }
            None
        };
        let Ok(Some(addresses)) = timeout(START_TIMEOUT, ready).await else {
            panic!("the server did not come up; its messages:\n{}", std::fs::read_to_string(&log_path).unwrap_or_default());
        };
        let server = Self { child, addresses, storage, _stdout: lines };
        server.wait_until_ready().await;
        server
    }

    /// As `kill -9` does: no drain, no flush.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("the server was running");
    }

    /// SIGTERM; answers how it ended.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().expect("the server is running");
        let sent = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status().await.expect("sh runs");
        assert!(sent.success(), "the server was gone before it was told to stop");
        timeout(STOP_TIMEOUT, self.child.wait()).await.expect("the server stops in a bounded time").expect("its status can be read")
    }

    /// The rows of a query.
    pub(crate) async fn sql(&self, query: &str) -> Vec<Vec<Value>> {
        let answer = reqwest::Client::new()
            .post(format!("http://{}/api/v1/sql", self.addresses.http))
            .bearer_auth(self.token().await)
            .json(&json!({ "query": query }))
            .send()
            .await
            .expect("the server answers");
        let status = answer.status();
        let text = answer.text().await.expect("the answer arrives");
        assert!(status.is_success(), "{query}: HTTP {status}: {text}");
        let answer: Value = serde_json::from_str(&text).expect("the answer is JSON");
        serde_json::from_value(answer["rows"].clone()).expect("rows are lists")
    }

    pub(crate) async fn count(&self, query: &str) -> u64 {
        self.sql(query).await[0][0].as_u64().expect("a count is a number")
    }

    pub(crate) async fn token(&self) -> String {
        let answer = reqwest::Client::new()
            .get(format!("http://{}/scouter/auth/login", self.addresses.http))
            .header("Username", "guest")
            .header("Password", "guest")
            .send()
            .await
            .expect("the server answers");
        let answer: Value = answer.json().await.expect("the login's answer is JSON");
        answer["token"].as_str().expect("guest may log in on loopback").to_owned()
    }

    /// Its process, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(crate) fn storage(&self) -> &Path {
        &self.storage
    }

    async fn wait_until_ready(&self) {
        let url = format!("http://{}/readyz", self.addresses.http);
        let ready = async {
            while !reqwest::get(&url).await.is_ok_and(|answer| answer.status().is_success()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(START_TIMEOUT, ready).await.expect("the server gets ready");
    }
}

/// Runs a server that is expected to end by itself.
pub(crate) async fn run_to_end(storage: &Path, addresses: &Addresses) -> Output {
    run_to_end_in(storage, addresses, &[], &[]).await
}

/// The same, with flags and variables.
pub(crate) async fn run_to_end_in(storage: &Path, addresses: &Addresses, flags: &[String], variables: &[(String, String)]) -> Output {
    let mut command = command(storage, addresses, flags);
    let ended = command.envs(variables.iter().cloned()).output();
    timeout(START_TIMEOUT, ended).await.expect("the server ends by itself").expect("the server's program starts")
}

/// `scouter-server sql` on the folder of a stopped server.
pub(crate) async fn sql_on_folder(storage: &Path, query: &str) -> Output {
    Command::new(program()).arg("sql").arg("--storage").arg(storage).arg(query).output().await.expect("the server's program starts")
}

/// `scouter-server sql` on tables in an object store.
pub(crate) async fn sql_on_tables(url: &str, variables: &[(String, String)], query: &str) -> Output {
    let mut command = Command::new(program());
    let asked = command.args(["sql", "--storage", url, "--format", "json", query]).envs(variables.iter().cloned()).output();
    asked.await.expect("the server's program starts")
}

/// An ingest key, by `scouter-server key create`; the server is known to take it when this answers.
pub(crate) async fn create_key(server: &Server, name: &str) -> String {
    let output = Command::new(program()).args(["key", "create", name, "--storage"]).arg(server.storage()).output().await;
    let output = output.expect("the server's program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let url = format!("http://{}/v1/traces", server.addresses.otlp_http);
    let known = async {
        let empty = || reqwest::Client::new().post(&url).bearer_auth(&key).header("content-type", "application/x-protobuf").send();
        while !empty().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(START_TIMEOUT, known).await.expect("a running server learns of a new key");
    key
}

fn command(storage: &Path, addresses: &Addresses, flags: &[String]) -> Command {
    let mut command = Command::new(program());
    command.arg("serve").args(flags);
    // Where tables are elsewhere, the rest is in the folder.
    command.arg(if flags.iter().any(|flag| flag == "--storage") { "--state" } else { "--storage" }).arg(storage);
    for (flag, address) in ["--grpc-addr", "--http-addr", "--otlp-grpc-addr", "--otlp-http-addr"].iter().zip(addresses.all()) {
        command.args([flag, address]);
    }
    // Variables of the machine the test runs on have no say.
    for (name, _) in std::env::vars_os().filter(|(name, _)| {
        ["SCOUTER_", "REDIS_", "RABBITMQ_", "KAFKA_", "DATABASE_URI", "AWS_"].iter().any(|own| name.to_string_lossy().starts_with(own))
    }) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// `SCOUTER_SERVER_BIN`, or the one built beside the load generator.
fn program() -> PathBuf {
    let program = match std::env::var_os("SCOUTER_SERVER_BIN") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_BIN_EXE_loadgen")).with_file_name("scouter-server"),
    };
    assert!(
        program.is_file(),
        "there is no server at {}: build it by `cargo build --release --workspace --bins`, or name one in SCOUTER_SERVER_BIN",
        program.display()
    );
    program
}
