//! Records, profiles, tags and baggage in PostgreSQL too, in Scouter's schema, so that its drift jobs run on them unchanged.
//!
//! ```text
//! log ─▶ frames after the position that PostgreSQL has ─▶ rows ─▶ one transaction: rows and the new position ─▶ the log may let go
//! ```
//!
//! The log is the queue. Nothing waits in memory, a request is answered as if PostgreSQL were not there, and while it is away the log keeps
//! what it lacks, within the log's own limit. Without `--database-uri` none of this runs.
//!
//! Invariants:
//! - the position of a log is a row of `scouter.ingest_position`, written by the transaction that writes the rows up to it and read under a
//!   lock by the next one: whatever became of a commit whose answer was lost, each frame's rows are written once;
//! - a row's key is its record ([`rows`]), so a record that is sent again in another request is one row, and two records are two;
//! - the log is let go of up to the position that is known to be committed, never further ([`Store::let_go`]);
//! - a record that PostgreSQL cannot hold goes whole into `scouter.refused_record` and holds nothing up;
//! - no password is logged or shown.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use prometheus_client::collector::Collector;
use scouter_storage::{
    log::{LogError, Position},
    store::{Store, StoreError},
};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::{postgres_target::Target, profiles::Profiles};

mod connect;
mod copying;
mod profiles;
mod rows;
mod schema;
mod stats;
mod text;
mod write;

pub use stats::PostgresStats;

use copying::Copying;
use stats::StatsCollector;

const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Why PostgreSQL does not have what it should.
#[derive(Debug, Error)]
pub enum PostgresError {
    /// It cannot be reached, or refuses.
    #[error("PostgreSQL cannot be used")]
    Database(#[from] tokio_postgres::Error),
    /// It took too long.
    #[error("PostgreSQL did not answer within {} s", within.as_secs())]
    Silent {
        /// How long that is.
        within: Duration,
    },
    /// Certificates for TLS cannot be had.
    #[error("there are no root certificates to check PostgreSQL's with")]
    NoRoots,
    /// Another server moved the position of this log.
    #[error("the position of this log in PostgreSQL is {found} where {expected} was left; another server must be writing it")]
    Moved {
        /// What it should be.
        expected: u64,
        /// What it is.
        found: i64,
    },
    /// The database is newer than this program.
    #[error("the tables in PostgreSQL have version {found}, and this server knows version {known}")]
    Newer {
        /// What is there.
        found: i32,
        /// What is known.
        known: i32,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] LogError),
    /// The store ended.
    #[error("the store ended")]
    Store(#[from] StoreError),
}

/// Copies what the log has into PostgreSQL until it is stopped.
#[derive(Debug)]
pub struct Sink {
    copying: Arc<Copying>,
    stats: Arc<PostgresStats>,
    store: Weak<Store>,
}

/// A running [`Sink`].
#[derive(Debug)]
pub struct RunningSink {
    task: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Sink {
    /// `log` is the name of the store's log. The store holds its log for this sink.
    pub fn new(target: Target, log: String, store: &Arc<Store>, profiles: Arc<Profiles>) -> Self {
        let stats = Arc::new(PostgresStats::default());
        let copying = Copying::new(target, log, Arc::clone(store), profiles, Arc::clone(&stats));
        Self { copying: Arc::new(copying), stats, store: Arc::downgrade(store) }
    }

    /// Shows its figures among the server's.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(StatsCollector { stats: Arc::clone(&self.stats), store: self.store.clone() })
    }

    /// Starts to copy.
    pub fn start(self) -> RunningSink {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(self.copying, self.stats, stop.clone()));
        RunningSink { task, stop }
    }
}

impl RunningSink {
    /// Copies what is durable now, for `patience` at the longest, and ends. What is left over is in the log, and copied after the next start.
    pub async fn finish(mut self, patience: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("PostgreSQL does not have everything; the log keeps the rest for the next start");
        }
    }
}

/// Sessions with PostgreSQL, one after the other.
async fn run(copying: Arc<Copying>, stats: Arc<PostgresStats>, stop: CancellationToken) {
    let mut backoff = FIRST_BACKOFF;
    let mut is_told = false;
    loop {
        let mut has_written = false;
        let ended = copying.session(&stop, &mut has_written).await;
        stats.set_connected(false);
        let Err(error) = ended else { return };
        if has_written {
            (backoff, is_told) = (FIRST_BACKOFF, false);
        }
        stats.failed();
        if !is_told {
            // Once an outage: its length is seen in the metrics.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                target_database = copying.shown(),
                "PostgreSQL is away; records wait in the log"
            );
            is_told = true;
        }
        if stop.is_cancelled() || matches!(error, PostgresError::Store(_)) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(MAX_BACKOFF),
            () = stop.cancelled() => {}
        }
    }
}

/// A position as PostgreSQL's integer.
fn as_bigint(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}
