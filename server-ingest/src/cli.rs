//! The command line of `scouter-server`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{
    app,
    config::{Config, Secret},
    telemetry::start_logging,
};

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
    Serve(Config),
    /// Answer an SQL question from a storage folder, whether a server is running on it or not
    Sql {
        #[command(flatten)]
        source: Source,
        /// The question, such as "SELECT service_name, count(*) FROM spans GROUP BY 1"
        query: String,
        /// Print the answer as one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print a trace as a tree
    Trace {
        #[command(flatten)]
        source: Source,
        /// 32 hexadecimal digits
        trace_id: String,
    },
}

/// Where a question is answered from.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Source {
    /// Folder of the log and the tables
    #[arg(long, env = "SCOUTER_STORAGE_URI", default_value = "./scouter_storage", value_name = "FOLDER")]
    storage: String,
    /// User to ask a running server as
    #[arg(long, env = "SCOUTER_USERNAME", default_value = "guest", value_name = "NAME")]
    username: String,
    /// That user's password
    #[arg(long, env = "SCOUTER_PASSWORD", default_value = "guest", value_name = "PASSWORD", hide_env_values = true)]
    password: Secret,
}

/// Does what the command line asks. Errors go to stderr, one sentence and its causes.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // deltalake brings a second TLS provider into the process; which one is used must not be left to chance.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("scouter-server").build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("the threads of the server cannot be started")),
    };
    let outcome = match cli.command {
        Command::Serve(config) => {
            start_logging();
            match config.validate() {
                Ok(checked) => runtime.block_on(app::serve(checked)),
                Err(error) => Err(error.into()),
            }
        }
        Command::Sql { source, query, json } => runtime.block_on(ask::sql(&source, &query, json)),
        Command::Trace { source, trace_id } => runtime.block_on(ask::trace(&source, &trace_id)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
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
