//! Sends seeded spans to a server and prints one JSON line: what was sent, acknowledged, rejected, how fast.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Parser;
use scouter_examples::{
    door::{Compression, Door, Login},
    load::{LoadConfig, Until, run},
    spans::Size,
};

/// Sends seeded spans to a server at a given rate, through the door you name.
///
/// Progress goes to stderr, one JSON line with the outcome to stdout. It survives the server's death: a batch that was not acknowledged is sent
/// again, unchanged, until it is. Exits 0 when every span was acknowledged.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The way into the server.
    #[arg(long, value_enum, default_value = "scouter-grpc")]
    door: Door,
    /// The door's address [default: the one the server listens on by default].
    #[arg(long)]
    endpoint: Option<String>,
    /// HTTP address of the login for the OTLP doors; scouter-grpc logs in at its own address.
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    login_endpoint: String,
    /// Who logs in.
    #[arg(long, env = "SCOUTER_USERNAME", default_value = "guest")]
    username: String,
    /// With which password.
    #[arg(long, env = "SCOUTER_PASSWORD", default_value = "guest", hide_env_values = true)]
    password: String,
    /// How many spans to send.
    #[arg(long, conflicts_with = "duration")]
    spans: Option<u64>,
    /// How many seconds to send.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Spans a second; 0 is as fast as it goes.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// What a span carries.
    #[arg(long, value_enum, default_value = "small")]
    size: Size,
    /// Spans in one request.
    #[arg(long, default_value_t = 512)]
    batch: u64,
    /// Requests under way at once, each on its own connection.
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// How requests are compressed.
    #[arg(long, value_enum, default_value = "plain")]
    compression: Compression,
    /// The same seed makes the same span ids [default: a new one each time].
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds to go on sending a batch that is not acknowledged.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    give_up_after: f64,
    /// File that gets a line `trace_id span_id` (hex) for each span, after it was acknowledged.
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match generate(Arguments::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn generate(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let report = run(config(arguments)?, |line| eprintln!("loadgen: {line}")).await?;
    println!("{}", serde_json::to_string(&report).context("the report cannot be written as JSON")?);
    if let Some(error) = &report.error {
        eprintln!("loadgen: stopped with {} of {} sent spans not acknowledged: {error}", report.failed + report.rejected, report.sent);
    }
    Ok(if report.acked == report.sent && report.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn config(arguments: Arguments) -> anyhow::Result<LoadConfig> {
    let until = match (arguments.spans, arguments.duration) {
        (Some(spans), _) => Until::Spans(spans),
        (None, Some(seconds)) => Until::Elapsed(seconds_of("--duration", seconds)?),
        (None, None) => bail!("say how much to send: --spans N or --duration SECONDS"),
    };
    if !arguments.rate.is_finite() || arguments.rate < 0.0 {
        bail!("--rate is spans a second, 0 or more");
    }
    let endpoint = arguments.endpoint.unwrap_or_else(|| arguments.door.default_endpoint().to_owned());
    let login = match arguments.door {
        Door::ScouterGrpc => Login::Grpc(endpoint.clone()),
        Door::OtlpGrpc | Door::OtlpHttp => Login::Http(arguments.login_endpoint),
    };
    Ok(LoadConfig {
        door: arguments.door,
        endpoint,
        login,
        username: arguments.username,
        password: arguments.password,
        // Small enough for every reader of JSON.
        seed: arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
        size: arguments.size,
        rate: (arguments.rate > 0.0).then_some(arguments.rate),
        until,
        batch_spans: arguments.batch,
        concurrency: arguments.concurrency,
        compression: arguments.compression,
        give_up_after: seconds_of("--give-up-after", arguments.give_up_after)?,
        ids: arguments.ids,
    })
}

fn seconds_of(flag: &str, seconds: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(seconds).with_context(|| format!("{flag} is a number of seconds, 0 or more"))
}
