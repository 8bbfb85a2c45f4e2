//! `sql` and `trace`: from the folder of a stopped server, or by asking the server that holds it.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use scouter_answers::{Format, Int64, parse_trace_id, sql_answer};
use scouter_query::{Engine, Limits, Trace, trace_tree};
use scouter_storage::{
    lake::Objects,
    store::{Store, StoreError, StoreOptions},
};
use serde::Deserialize;
use serde_json::Value;

use super::Source;
use crate::config::{SCHEMES, parse_storage};

/// Columns wider than this are cut in a printed table; `--json` prints all.
const CELL_CHARS: usize = 120;

/// How often a person is told that the work goes on.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Columns for a person
    Table,
    /// One JSON object
    Json,
    /// RFC 4180, with a line of names
    Csv,
    /// A stream of Arrow IPC
    Arrow,
    /// A Parquet file
    Parquet,
}

impl Output {
    /// What is asked for; a table is made from JSON.
    fn format(self) -> Format {
        match self {
            Self::Table | Self::Json => Format::Json,
            Self::Csv => Format::Csv,
            Self::Arrow => Format::Arrow,
            Self::Parquet => Format::Parquet,
        }
    }
}

/// Answers `query` on stdout or into a file.
pub(super) async fn sql(source: &Source, query: &str, output: Output, file: Option<&Path>) -> anyhow::Result<()> {
    if file.is_none() && matches!(output, Output::Arrow | Output::Parquet) && std::io::stdout().is_terminal() {
        bail!("a terminal cannot show this format; name a file with --output");
    }
    let format = output.format();
    let asking = async {
        match Answering::open(source).await? {
            Answering::Here(engine) => {
                let started = Instant::now();
                let rows = engine.sql_batches(query).await?;
                Ok(sql_answer(&rows, format, Int64::Number, started.elapsed())?)
            }
            Answering::Server(server) => server.sql(query, format).await,
        }
    };
    let answer =
        if std::io::stderr().is_terminal() { with_progress(asking, PROGRESS_INTERVAL, std::io::stderr()).await? } else { asking.await? };
    match file {
        Some(path) => {
            let mut out = std::fs::File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
            write_answer(&mut out, output, &answer).with_context(|| format!("{} cannot be written", path.display()))
        }
        None => write_answer(&mut std::io::stdout().lock(), output, &answer),
    }
}

fn write_answer(out: &mut impl Write, output: Output, answer: &[u8]) -> anyhow::Result<()> {
    match output {
        Output::Table => print_table(out, &serde_json::from_slice(answer).context("the answer is not what was expected")?)?,
        Output::Json => {
            out.write_all(answer)?;
            out.write_all(b"\n")?;
        }
        Output::Csv | Output::Arrow | Output::Parquet => out.write_all(answer)?,
    }
    Ok(out.flush()?)
}

/// Says how long it has been waiting, after each interval, on one line that is gone when the work is done.
async fn with_progress<T>(work: impl Future<Output = T>, every: Duration, mut out: impl Write) -> T {
    let started = Instant::now();
    let mut interval = tokio::time::interval(every);
    interval.tick().await;
    let mut work = std::pin::pin!(work);
    let mut is_shown = false;
    loop {
        tokio::select! {
            done = &mut work => {
                if is_shown {
                    // What cannot be written to a terminal is no reason to lose an answer.
                    let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
                }
                return done;
            }
            _ = interval.tick() => {
                is_shown = true;
                let _ = write!(out, "\r\x1b[Kasking for {} s; Ctrl-C stops it", started.elapsed().as_secs()).and_then(|()| out.flush());
            }
        }
    }
}

/// Prints the tree of a trace on stdout.
pub(super) async fn trace(source: &Source, trace_id: &str) -> anyhow::Result<()> {
    let bytes = parse_trace_id(trace_id).ok_or_else(|| anyhow!("{trace_id:?} is not a trace id, which is 32 hexadecimal digits"))?;
    let trace = match Answering::open(source).await? {
        Answering::Here(engine) => engine.trace(bytes).await?,
        Answering::Server(server) => server.trace(trace_id).await?,
    };
    if trace.spans.is_empty() {
        bail!("no span of trace {trace_id} is stored in {}", source.storage);
    }
    print!("{}", trace_tree(&trace));
    Ok(())
}

enum Answering {
    Here(Box<Engine>),
    Server(Server),
}

impl Answering {
    async fn open(source: &Source) -> anyhow::Result<Self> {
        if SCHEMES.iter().any(|scheme| source.storage.starts_with(scheme)) {
            return Self::open_shared(&source.storage).await;
        }
        let mut faults = Vec::new();
        let folder: PathBuf = parse_storage(&source.storage, &mut faults);
        if let Some(fault) = faults.pop() {
            bail!(fault);
        }
        let opened =
            tokio::task::spawn_blocking(move || Store::open_read_only(&folder)).await.context("reading the folder was interrupted")?;
        match opened {
            Ok(store) => Ok(Self::Here(Box::new(Engine::new(Arc::clone(&store) as _, Limits::default())))),
            Err(StoreError::InUse { holder, .. }) => {
                eprintln!("a server is running on {}; asking it at {holder}", source.storage);
                Server::login(&holder, source).await.map(Self::Server)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is in the tables; servers are not asked for what they have beside them.
    async fn open_shared(url: &str) -> anyhow::Result<Self> {
        let (url, runtime) = (url.to_owned(), tokio::runtime::Handle::current());
        let scratch = std::env::temp_dir().join(format!("scouter-{}", std::process::id()));
        let open = move || -> anyhow::Result<Arc<Store>> {
            Ok(Store::open_shared(&Objects::open(&url, &scratch, runtime)?, StoreOptions::default())?)
        };
        let store = tokio::task::spawn_blocking(open).await.context("reading the tables was interrupted")??;
        Ok(Self::Here(Box::new(Engine::new(store as _, Limits::default()))))
    }
}

/// A running server, logged in to.
struct Server {
    http: reqwest::Client,
    base: String,
    token: String,
}

#[derive(Deserialize)]
struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Server {
    async fn login(holder: &str, source: &Source) -> anyhow::Result<Self> {
        let base = holder.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
        let base = if base.contains("://") { base } else { format!("http://{base}") };
        let mut client = reqwest::Client::builder();
        if let Some(path) = &source.ca {
            let pem = std::fs::read(path).with_context(|| format!("--ca {} cannot be read", path.display()))?;
            client = client.tls_certs_merge(
                reqwest::Certificate::from_pem_bundle(&pem).with_context(|| format!("--ca {} holds no certificate", path.display()))?,
            );
        }
        let http = client.build().context("the client for the server cannot be made")?;
        let login = http
            .get(format!("{base}/scouter/auth/login"))
            .header("Username", &source.username)
            .header("Password", source.password.expose());
        let Token { token } = answer(login).await.context("the server refused the login; give --username and --password")?;
        Ok(Self { http, base, token })
    }

    async fn sql(&self, query: &str, format: Format) -> anyhow::Result<Vec<u8>> {
        let request = self.http.post(format!("{}/api/v1/sql", self.base)).bearer_auth(&self.token);
        body(request.json(&serde_json::json!({ "query": query, "format": format.name() }))).await
    }

    async fn trace(&self, trace_id: &str) -> anyhow::Result<Trace> {
        let request = self.http.get(format!("{}/scouter/trace/spans", self.base)).bearer_auth(&self.token);
        answer(request.query(&[("trace_id", trace_id)])).await
    }
}

async fn answer<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> anyhow::Result<T> {
    serde_json::from_slice(&body(request).await?).context("the server's answer is not what was expected")
}

async fn body(request: reqwest::RequestBuilder) -> anyhow::Result<Vec<u8>> {
    let response = request.send().await.context("the server does not answer")?;
    let status = response.status();
    let body = response.bytes().await.context("the server's answer broke off")?;
    if !status.is_success() {
        let text = serde_json::from_slice::<Value>(&body).ok().and_then(|body| body["error"].as_str().map(str::to_owned));
        bail!(text.unwrap_or_else(|| format!("the server answered {status}")));
    }
    Ok(body.into())
}

fn print_table(out: &mut impl Write, answer: &Rows) -> std::io::Result<()> {
    let cell = |value: &Value| {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(CELL_CHARS + 1).collect();
        if text.chars().count() > CELL_CHARS {
            text.pop();
            text.push('…');
        }
        text
    };
    let rows: Vec<Vec<String>> = answer.rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let mut widths: Vec<usize> = answer.columns.iter().map(|name| name.chars().count()).collect();
    for row in &rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.chars().count());
        }
    }
    let mut line = |texts: &[String]| {
        let padded: Vec<String> = texts.iter().zip(&widths).map(|(text, width)| format!("{text:width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())
    };
    line(&answer.columns)?;
    line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>())?;
    rows.iter().try_for_each(|row| line(row))?;
    writeln!(out, "({} row{})", rows.len(), if rows.len() == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
