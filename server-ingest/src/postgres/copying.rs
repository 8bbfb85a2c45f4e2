//! One session with PostgreSQL: from the position it has to the end of the log, and on as the log grows.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use scouter_storage::{
    log::{LogError, Position},
    store::Store,
};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{
    PostgresError, PostgresStats, Target, as_bigint,
    profiles::{self, Synced},
    rows::Batch,
    schema, write,
};
use crate::profiles::Profiles;

/// Frames, payload bytes and rows that one transaction takes at the most, but for a frame that alone has more.
const MAX_FRAMES: usize = 2000;
const MAX_BYTES: usize = 8 * 1024 * 1024;
const MAX_ROWS: usize = 20_000;
/// After this PostgreSQL is taken for dead. The connection is given up, and what became of the transaction is read from the position.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What the sessions share.
#[derive(Debug)]
pub(super) struct Copying {
    target: Target,
    log_id: String,
    store: Arc<Store>,
    profiles: Arc<Profiles>,
    stats: Arc<PostgresStats>,
    /// The last frame when the server started.
    opened_at: Position,
    /// Whether the position was read since then.
    has_begun: AtomicBool,
}

impl Copying {
    pub(super) fn new(target: Target, log_id: String, store: Arc<Store>, profiles: Arc<Profiles>, stats: Arc<PostgresStats>) -> Self {
        let opened_at = store.durable();
        Self { target, log_id, store, profiles, stats, opened_at, has_begun: AtomicBool::new(false) }
    }

    /// The database, without the password.
    pub(super) fn shown(&self) -> String {
        self.target.to_string()
    }

    /// Ends well when it was stopped and PostgreSQL has everything that was durable then.
    pub(super) async fn session(&self, stop: &CancellationToken, has_written: &mut bool) -> Result<(), PostgresError> {
        let mut client = self.target.connect().await?;
        answered(schema::migrate(&mut client)).await?;
        let mut position = answered(self.position(&client)).await?;
        self.store.let_go(position);
        self.stats.reached(position, 0, 0);
        let mut changes = self.profiles.changes();
        let mut synced = Synced::default();
        let mut entities = HashMap::new();
        answered(profiles::sync(&mut client, &self.profiles, &mut synced)).await?;
        self.stats.set_connected(true);
        tracing::info!(target_database = self.shown(), position = position.0, "PostgreSQL is written");
        *has_written = true;
        loop {
            if position >= self.store.durable() {
                if stop.is_cancelled() {
                    return Ok(());
                }
                tokio::select! {
                    grown = self.store.wait_after(position) => grown?,
                    _ = changes.changed() => {}
                    () = stop.cancelled() => {}
                }
            }
            if changes.has_changed().unwrap_or(false) {
                changes.mark_unchanged();
            }
            // Before the records that may name them.
            answered(profiles::sync(&mut client, &self.profiles, &mut synced)).await?;
            let batch = self.read_after(position).await?;
            let reached = batch.last;
            if reached > position {
                let written = answered(write::batch(&mut client, &self.log_id, position, &batch, &mut entities)).await?;
                position = reached;
                self.store.let_go(position);
                self.stats.reached(position, written.rows, written.refused);
            }
        }
    }

    /// The position of this log that PostgreSQL has; 0 for a log it does not know.
    async fn position(&self, client: &Client) -> Result<Position, PostgresError> {
        let known = "INSERT INTO scouter.ingest_position (log_id, position) VALUES ($1, 0) ON CONFLICT DO NOTHING";
        client.execute(known, &[&self.log_id]).await?;
        let found: i64 = client.query_one("SELECT position FROM scouter.ingest_position WHERE log_id = $1", &[&self.log_id]).await?.get(0);
        let mut found = Position(u64::try_from(found).unwrap_or(0));
        if !self.has_begun.load(Ordering::Acquire) && found > self.opened_at {
            // A power loss took the end of a log that is not synced, and PostgreSQL has it. New frames have its positions.
            tracing::warn!(
                written = found.0,
                log = self.opened_at.0,
                "PostgreSQL has more of the log than the log itself; it goes on from here"
            );
            let back = "UPDATE scouter.ingest_position SET position = $2 WHERE log_id = $1";
            client.execute(back, &[&self.log_id, &as_bigint(self.opened_at)]).await?;
            found = self.opened_at;
        }
        self.has_begun.store(true, Ordering::Release);
        Ok(found)
    }

    /// The rows of the next frames.
    async fn read_after(&self, position: Position) -> Result<Batch, PostgresError> {
        let store = Arc::clone(&self.store);
        let read = tokio::task::spawn_blocking(move || read(&store, position)).await;
        read.unwrap_or_else(|_| Err(PostgresError::Store(scouter_storage::store::StoreError::Closed)))
    }
}

fn read(store: &Store, position: Position) -> Result<Batch, PostgresError> {
    let mut batch = Batch::new(position);
    let durable = store.durable();
    let (mut frames, mut bytes) = (0, 0);
    for frame in store.frames_after(position)? {
        match frame {
            Ok((position, frame)) => {
                frames += 1;
                bytes += frame.payload.len();
                batch.add(position, &frame);
            }
            // This log was not held for PostgreSQL when it let go of them. The tables have their rows.
            Err(LogError::MissingSegment { expected, found, .. }) if frames == 0 => {
                let next = if found == 0 { durable.0 + 1 } else { found };
                tracing::warn!(
                    first = expected,
                    last = next - 1,
                    "requests before this server wrote to PostgreSQL are no longer in the log; their records are in the tables only"
                );
                batch.last = Position(next - 1);
                break;
            }
            Err(error) => return Err(error.into()),
        }
        if frames >= MAX_FRAMES || bytes >= MAX_BYTES || batch.len() >= MAX_ROWS {
            break;
        }
    }
    Ok(batch)
}

/// Waits for PostgreSQL, and not for ever.
async fn answered<T>(work: impl Future<Output = Result<T, PostgresError>>) -> Result<T, PostgresError> {
    tokio::time::timeout(ANSWER_WITHIN, work).await.map_err(|_| PostgresError::Silent { within: ANSWER_WITHIN })?
}
