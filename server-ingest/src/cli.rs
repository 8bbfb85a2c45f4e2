//! The command line of `scouter-server`.

use std::{path::PathBuf, process::ExitCode};

use clap::{ArgMatches, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand};
use scouter_storage::scheduling;

use crate::{
    app,
    config::{Config, ConfigError, Secret, file},
    telemetry::start_logging,
};

/// For how long threads are waited for that nobody needs any more.
const LAST_THREADS: std::time::Duration = std::time::Duration::from_secs(1);

mod accounts;
mod ask;

/// Takes spans and monitoring records, makes them durable, stores them in open tables, answers questions about them.
#[derive(Debug, Parser)]
#[command(name = "scouter-server", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C
    Serve(Box<Config>),
    /// Answer an SQL question from a storage folder, whether a server is running on it or not
    Sql {
        #[command(flatten)]
        source: Source,
        /// The question, such as "SELECT service_name, count(*) FROM spans GROUP BY 1"
        query: String,
        /// How the answer is written
        #[arg(long, value_enum, default_value_t = ask::Output::Table)]
        format: ask::Output,
        /// The same as --format json
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// Where to write the answer; Arrow and Parquet are not written to a terminal
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print a trace as a tree
    Trace {
        #[command(flatten)]
        source: Source,
        /// 32 hexadecimal digits
        trace_id: String,
    },
    /// Users, in a storage folder or in the folder of --state; a running server knows of a change within a second
    #[command(subcommand)]
    User(accounts::UserCommand),
    /// Ingest keys, in a storage folder or in the folder of --state, for clients whose headers never change
    #[command(subcommand)]
    Key(accounts::KeyCommand),
}

/// Where a question is answered from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Source {
    /// Folder of the log and the tables, or where servers share the tables: s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH
    #[arg(long, env = "SCOUTER_STORAGE_URI", default_value = "./scouter_storage", value_name = "FOLDER|URL")]
    storage: String,
    /// User to ask a running server as
    #[arg(long, env = "SCOUTER_USERNAME", default_value = "guest", value_name = "NAME")]
    username: String,
    /// That user's password
    #[arg(long, env = "SCOUTER_PASSWORD", default_value = "guest", value_name = "PASSWORD", hide_env_values = true)]
    password: Secret,
    /// Root of a running server's certificate, in PEM, if it is no public one
    #[arg(long, env = "SCOUTER_TLS_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Does what the command line asks. Errors go to stderr, one sentence and its causes. `keep_below` is told how many bytes of
/// memory a server may have, before it starts.
pub fn run(keep_below: impl FnOnce(usize)) -> ExitCode {
    // deltalake brings a second TLS provider into the process; which one is used must not be left to chance.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match parse_and_run(keep_below) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn parse_and_run(keep_below: impl FnOnce(usize)) -> anyhow::Result<()> {
    let (command, matches, faults) = matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        Command::Serve(config) => serve(&config, &command, &matches, faults, keep_below),
        Command::Sql { source, query, format, json, output } => {
            let format = if json { ask::Output::Json } else { format };
            runtime()?.block_on(ask::sql(&source, &query, format, output.as_deref()))
        }
        Command::Trace { source, trace_id } => runtime()?.block_on(ask::trace(&source, &trace_id)),
        Command::User(command) => accounts::user(command),
        Command::Key(command) => accounts::key(command),
    }
}

/// Reads the command line twice if it names a file: what the file says are then the defaults.
fn matches() -> (ClapCommand, ArgMatches, Vec<String>) {
    let command = Cli::command();
    let first = command.clone().get_matches();
    let named = first.subcommand_matches("serve").and_then(|serve| serve.get_one::<PathBuf>("config").cloned());
    let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) else {
        return (command, first, Vec::new());
    };
    let mut faults = Vec::new();
    let command = command.mut_subcommand("serve", |serve| {
        let (serve, found) = file::with_defaults_of(serve, &path);
        faults = found;
        serve
    });
    let matches = command.clone().get_matches();
    (command, matches, faults)
}

fn serve(
    config: &Config,
    command: &ClapCommand,
    matches: &ArgMatches,
    mut faults: Vec<String>,
    keep_below: impl FnOnce(usize),
) -> anyhow::Result<()> {
    let checked = match config.validate() {
        Ok(checked) if faults.is_empty() => Ok(checked),
        Ok(_) => Err(ConfigError { faults }),
        Err(error) => {
            faults.extend(error.faults);
            Err(ConfigError { faults })
        }
    };
    if config.print_config {
        let serve = command.find_subcommand("serve").zip(matches.subcommand_matches("serve"));
        let (serve, matches) = serve.ok_or_else(|| anyhow::anyhow!("the command line has no serve"))?;
        print!("{}", file::print(serve, matches, config.config.as_deref()));
        return Ok(checked.map(|_| ())?);
    }
    let checked = checked?;
    if config.check_config {
        println!("the configuration can be used");
        return Ok(());
    }
    keep_below(checked.memory.total);
    start_logging(&config.log_filter, config.log_format == "json");
    let runtime = runtime()?;
    let served = runtime.block_on(app::serve(checked));
    // All that counts is done. A client of a broker that does not answer may still keep its thread.
    runtime.shutdown_timeout(LAST_THREADS);
    served
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    // Threads for blocking work, too: who logs in waits for the hash of a password.
    let runtime = runtime.enable_all().thread_name("scouter-server").on_thread_start(scheduling::be_prompt).build();
    runtime.map_err(|error| anyhow::Error::new(error).context("the threads of the server cannot be started"))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    eprintln!("scouter-server: {text}");
    ExitCode::FAILURE
}
