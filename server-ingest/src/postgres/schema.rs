//! Making the tables, and adding to those of an older version of this program.

use tokio_postgres::Client;

use super::PostgresError;

/// In order; the version of the database is how many of them it has.
const MIGRATIONS: [&str; 1] = [include_str!("schema/0001_records.sql")];

/// Held while tables are made, so that servers which start together do it one after the other. Any number will do.
const LOCK: i64 = 0x5c0_07e2_0001;

const OWN_TABLES: &str = "
CREATE SCHEMA IF NOT EXISTS scouter;
CREATE TABLE IF NOT EXISTS scouter.ingest_schema (version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS scouter.ingest_position (
    log_id TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT now()
);";

/// Brings the database to this program's version: all of it, or nothing.
pub(super) async fn migrate(client: &mut Client) -> Result<(), PostgresError> {
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction.batch_execute(OWN_TABLES).await?;
    let found: i32 = transaction.query_one("SELECT coalesce(max(version), 0) FROM scouter.ingest_schema", &[]).await?.get(0);
    if found > known {
        return Err(PostgresError::Newer { found, known });
    }
    for (version, migration) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        transaction.batch_execute(migration).await?;
        transaction.execute("INSERT INTO scouter.ingest_schema (version) VALUES ($1)", &[&version]).await?;
        tracing::info!(version, "tables in PostgreSQL made");
    }
    transaction.commit().await?;
    Ok(())
}
