//! One transaction: the rows of some frames, and the position they reach.

use std::{collections::HashMap, time::SystemTime};

use prost::Message;
use scouter_storage::log::Position;
use scouter_tonic::message::{MonitoringRecord, monitoring_record::Record};
use tokio_postgres::{Client, Transaction};

use super::{
    PostgresError, as_bigint,
    profiles::time,
    rows::{Baggage, Batch, Row, TraceEntity},
    text::text,
};

mod inserts;

/// Rows of one statement.
const CHUNK: usize = 1000;
/// Numbers of entities that are remembered.
const MAX_ENTITIES: usize = 100_000;
/// A longer uid may have no room in the indexes of entities, of which an entry has at most 2704 bytes, the space and the rest among them.
const LONGEST_UID_BYTES: usize = 2048;
/// The space of entities that nobody registered. Registering a profile with such a uid puts it into its own space, and its records with it.
const UNREGISTERED: &str = "__unregistered__";

/// What a transaction wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Rows that were not there before.
    pub(super) rows: u64,
    /// Records that PostgreSQL cannot hold.
    pub(super) refused: u64,
}

/// Writes a batch that begins after `from`. Whether it was committed is not known when it fails; the position tells.
pub(super) async fn batch(
    client: &mut Client,
    log_id: &str,
    from: Position,
    batch: &Batch,
    entities: &mut HashMap<String, i32>,
) -> Result<Written, PostgresError> {
    let mut transaction = client.transaction().await?;
    let position = "SELECT position FROM scouter.ingest_position WHERE log_id = $1 FOR UPDATE";
    let found: i64 = transaction.query_one(position, &[&log_id]).await?.get(0);
    if found != as_bigint(from) {
        return Err(PostgresError::Moved { expected: from.0, found });
    }
    resolve(&transaction, batch, entities).await?;
    let mut written = Written::default();
    for of_kind in kinds(batch) {
        for chunk in of_kind.chunks(CHUNK) {
            rows(&mut transaction, log_id, chunk, entities, &mut written).await?;
        }
    }
    for chunk in batch.baggage.chunks(CHUNK) {
        written.rows += baggage(&transaction, chunk).await?;
    }
    for chunk in batch.entities.chunks(CHUNK) {
        written.rows += trace_entities(&transaction, chunk).await?;
    }
    let reached = "UPDATE scouter.ingest_position SET position = $2, updated_at = now() WHERE log_id = $1";
    transaction.execute(reached, &[&log_id, &as_bigint(batch.last)]).await?;
    transaction.commit().await?;
    Ok(written)
}

/// The rows by their kind, in their order.
fn kinds(batch: &Batch) -> Vec<Vec<&Row>> {
    let mut kinds: HashMap<&'static str, Vec<&Row>> = HashMap::new();
    for row in &batch.rows {
        kinds.entry(row.kind()).or_default().push(row);
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    // Servers that write at the same time take their locks in the same order.
    kinds.sort_by_key(|(kind, _)| *kind);
    kinds.into_iter().map(|(_, rows)| rows).collect()
}

/// Finds the numbers of the entities that the rows name, and makes entities for uids that nobody registered.
async fn resolve(transaction: &Transaction<'_>, batch: &Batch, entities: &mut HashMap<String, i32>) -> Result<(), PostgresError> {
    if entities.len() > MAX_ENTITIES {
        entities.clear();
    }
    let mut unknown: HashMap<String, Option<&'static str>> = HashMap::new();
    for (uid, kind) in batch.rows.iter().filter(|row| has_room(row)).filter_map(Row::entity) {
        let uid = text(uid);
        if !entities.contains_key(&*uid) && !unknown.contains_key(&*uid) {
            unknown.insert(uid.into_owned(), kind);
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let mut unknown: Vec<(String, Option<&str>)> = unknown.into_iter().collect();
    unknown.sort_unstable();
    let (uids, kinds): (Vec<String>, Vec<Option<&str>>) = unknown.into_iter().unzip();
    let make = "
        INSERT INTO scouter.drift_entities (uid, space, name, version, drift_type)
        SELECT uid, $3, uid, '0.0.0', kind FROM unnest($1::text[], $2::text[]) AS new (uid, kind)
        ON CONFLICT DO NOTHING";
    transaction.execute(make, &[&uids, &kinds, &UNREGISTERED]).await?;
    let find = "SELECT uid, id FROM scouter.drift_entities WHERE uid = ANY($1)";
    for row in transaction.query(find, &[&uids]).await? {
        entities.insert(row.get(0), row.get(1));
    }
    Ok(())
}

/// Writes rows of one kind. If PostgreSQL does not take them together, they are written one by one, and those it never takes are kept whole.
async fn rows(
    transaction: &mut Transaction<'_>,
    log_id: &str,
    chunk: &[&Row],
    entities: &HashMap<String, i32>,
    written: &mut Written,
) -> Result<(), PostgresError> {
    let Err(reason) = try_rows(transaction, chunk, entities, written).await? else { return Ok(()) };
    if let [row] = chunk {
        return refuse(transaction, log_id, row, &reason, written).await;
    }
    for row in chunk {
        if let Err(reason) = try_rows(transaction, &[row], entities, written).await? {
            refuse(transaction, log_id, row, &reason, written).await?;
        }
    }
    Ok(())
}

/// Answers with PostgreSQL's reason when the rows are not for it.
async fn try_rows(
    transaction: &mut Transaction<'_>,
    chunk: &[&Row],
    entities: &HashMap<String, i32>,
    written: &mut Written,
) -> Result<Result<(), String>, PostgresError> {
    if !chunk.iter().all(|row| has_room(row)) {
        return Ok(Err(format!("its uid has more than {LONGEST_UID_BYTES} bytes")));
    }
    let savepoint = transaction.transaction().await?;
    match inserts::insert(&savepoint, chunk, entities).await {
        Ok(Ok(count)) => {
            savepoint.commit().await?;
            written.rows += count;
            Ok(Ok(()))
        }
        Ok(Err(reason)) => {
            savepoint.rollback().await?;
            Ok(Err(reason))
        }
        Err(error) if is_about_data(&error) => {
            savepoint.rollback().await?;
            let message = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
            Ok(Err(message))
        }
        Err(error) => Err(error.into()),
    }
}

async fn refuse(transaction: &Transaction<'_>, log_id: &str, row: &Row, reason: &str, written: &mut Written) -> Result<(), PostgresError> {
    let keep = "
        INSERT INTO scouter.refused_record (log_id, position, record_key, kind, reason, record) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT DO NOTHING";
    let record = MonitoringRecord { record: Some(row.record.clone()) }.encode_to_vec();
    let (position, key) = (as_bigint(row.position), &row.key[..]);
    transaction.execute(keep, &[&log_id, &position, &key, &row.kind(), &text(reason), &record]).await?;
    written.refused += 1;
    Ok(())
}

/// Whether an error is about what was to be written, so that trying again is no use: data, limits of a row, constraints.
pub(super) fn is_about_data(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|state| ["22", "23", "54"].iter().any(|class| state.code().starts_with(class)))
}

async fn baggage(transaction: &Transaction<'_>, chunk: &[Baggage]) -> Result<u64, PostgresError> {
    let insert = "
        INSERT INTO scouter.trace_baggage (created_at, trace_id, scope, key, value)
        SELECT * FROM unnest($1::timestamptz[], $2::bytea[], $3::text[], $4::text[], $5::text[]) ON CONFLICT DO NOTHING";
    let times: Vec<SystemTime> = chunk.iter().map(|member| time(member.unix_nano)).collect();
    let traces: Vec<&[u8]> = chunk.iter().map(|member| &member.trace_id[..]).collect();
    let scopes: Vec<_> = chunk.iter().map(|member| text(&member.scope)).collect();
    let keys: Vec<_> = chunk.iter().map(|member| text(&member.key)).collect();
    let values: Vec<_> = chunk.iter().map(|member| text(&member.value)).collect();
    Ok(transaction.execute(insert, &[&times, &traces, &scopes, &keys, &values]).await?)
}

async fn trace_entities(transaction: &Transaction<'_>, chunk: &[TraceEntity]) -> Result<u64, PostgresError> {
    let insert = "
        INSERT INTO scouter.trace_entities (tagged_at, trace_id, entity_uid)
        SELECT * FROM unnest($1::timestamptz[], $2::bytea[], $3::bytea[]) ON CONFLICT DO NOTHING";
    let times: Vec<SystemTime> = chunk.iter().map(|entity| time(entity.unix_nano)).collect();
    let traces: Vec<&[u8]> = chunk.iter().map(|entity| &entity.trace_id[..]).collect();
    let uids: Vec<&[u8]> = chunk.iter().map(|entity| &entity.entity_uid[..]).collect();
    Ok(transaction.execute(insert, &[&times, &traces, &uids]).await?)
}

/// Whether the indexes of entities have room for the uid of a row's.
fn has_room(row: &Row) -> bool {
    row.entity().is_none_or(|(uid, _)| text(uid).len() <= LONGEST_UID_BYTES)
}

/// The number of a row's entity, which [`resolve`] found. 0 is that of none, for what a transaction beside this one took away meanwhile.
fn entity_id(row: &Row, entities: &HashMap<String, i32>) -> i32 {
    row.entity().and_then(|(uid, _)| entities.get(&*text(uid)).copied()).unwrap_or(0)
}

/// Every record has one; records of a judged frame fit.
fn created_at(record: &Record) -> SystemTime {
    time(match record {
        Record::Psi(record) => record.created_at_unix_nano,
        Record::Spc(record) => record.created_at_unix_nano,
        Record::Custom(record) => record.created_at_unix_nano,
        Record::Eval(record) => record.created_at_unix_nano,
        Record::Tag(record) => record.created_at_unix_nano,
        Record::Observability(record) => record.created_at_unix_nano,
        Record::AgentTask(record) => record.created_at_unix_nano,
        Record::AgentWorkflow(record) => record.created_at_unix_nano,
        Record::Group(group) => group.base_unix_nano,
    })
}
