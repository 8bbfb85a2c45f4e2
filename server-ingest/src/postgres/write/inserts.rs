//! The statement of each kind. Columns are handed over as arrays, so that a thousand rows are one statement that is always the same.

use std::{borrow::Cow, collections::HashMap, time::SystemTime};

use scouter_tonic::message::{
    AgentTaskRecord, AgentWorkflowRecord, CustomMetricRecord, EvalRecord, ObservabilityRecord, PsiRecord, SpcRecord, TagRecord,
    monitoring_record::Record,
};
use tokio_postgres::{Error, Transaction, types::ToSql};

use super::{created_at, entity_id};
use crate::postgres::{
    profiles::time,
    rows::Row,
    text::{json, text},
};

const SPC: &str = "
INSERT INTO scouter.spc_drift (created_at, entity_id, record_key, feature, value)
SELECT * FROM unnest($1::timestamptz[], $2::int4[], $3::bytea[], $4::text[], $5::float8[]) ON CONFLICT DO NOTHING";

const PSI: &str = "
INSERT INTO scouter.psi_drift (created_at, entity_id, record_key, feature, bin_id, bin_count)
SELECT * FROM unnest($1::timestamptz[], $2::int4[], $3::bytea[], $4::text[], $5::int4[], $6::int4[]) ON CONFLICT DO NOTHING";

const CUSTOM: &str = "
INSERT INTO scouter.custom_drift (created_at, entity_id, record_key, metric, value)
SELECT * FROM unnest($1::timestamptz[], $2::int4[], $3::bytea[], $4::text[], $5::float8[]) ON CONFLICT DO NOTHING";

const OBSERVABILITY: &str = "
INSERT INTO scouter.observability_metric (created_at, entity_id, record_key, request_count, error_count, route_metrics)
SELECT created_at, entity_id, record_key, requests, errors, routes::jsonb
FROM unnest($1::timestamptz[], $2::int4[], $3::bytea[], $4::int8[], $5::int8[], $6::text[])
    AS new (created_at, entity_id, record_key, requests, errors, routes)
ON CONFLICT DO NOTHING";

/// Tags of a row come as a JSON list: an array of arrays would have to be a rectangle.
const EVAL: &str = "
INSERT INTO scouter.agent_eval_record
    (created_at, entity_id, record_key, uid, record_id, session_id, context, trace_id, tags, record_source, status)
SELECT created_at, entity_id, record_key, uid, record_id, session_id, context::jsonb, trace_id,
    ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), source, status
FROM unnest($1::timestamptz[], $2::int4[], $3::bytea[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::text[],
        $10::text[], $11::text[])
    AS new (created_at, entity_id, record_key, uid, record_id, session_id, context, trace_id, tags, source, status)
ON CONFLICT DO NOTHING";

const WORKFLOW: &str = "
INSERT INTO scouter.agent_eval_workflow
    (created_at, entity_id, record_key, record_uid, total_tasks, passed_tasks, failed_tasks, pass_rate, duration_ms, execution_plan)
SELECT created_at, entity_id, record_key, record_uid, total, passed, failed, pass_rate, duration_ms, plan::jsonb
FROM unnest($1::timestamptz[], $2::int4[], $3::bytea[], $4::text[], $5::int4[], $6::int4[], $7::int4[], $8::float8[], $9::int8[],
        $10::text[])
    AS new (created_at, entity_id, record_key, record_uid, total, passed, failed, pass_rate, duration_ms, plan)
ON CONFLICT DO NOTHING";

const TASK: &str = "
INSERT INTO scouter.agent_eval_task
    (created_at, entity_id, record_key, start_time, end_time, record_uid, task_id, task_type, passed, value, assertion, operator,
     expected, actual, message, condition, stage)
SELECT created_at, entity_id, record_key, start_time, end_time, record_uid, task_id, task_type, passed, value, assertion::jsonb, operator,
    expected::jsonb, actual::jsonb, message, condition, stage
FROM unnest($1::timestamptz[], $2::int4[], $3::bytea[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $8::text[],
        $9::bool[], $10::float8[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::bool[], $17::int4[])
    AS new (created_at, entity_id, record_key, start_time, end_time, record_uid, task_id, task_type, passed, value, assertion, operator,
        expected, actual, message, condition, stage)
ON CONFLICT DO NOTHING";

const TAG: &str = "
INSERT INTO scouter.tags (created_at, entity_type, entity_id, key, value)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[]) ON CONFLICT DO NOTHING";

/// How many rows were new, or why PostgreSQL cannot hold one of them.
pub(super) async fn insert(
    transaction: &Transaction<'_>,
    rows: &[&Row],
    entities: &HashMap<String, i32>,
) -> Result<Result<u64, String>, Error> {
    let Some(first) = rows.first() else { return Ok(Ok(0)) };
    let times: Vec<SystemTime> = rows.iter().map(|row| created_at(&row.record)).collect();
    let ids: Vec<i32> = rows.iter().map(|row| entity_id(row, entities)).collect();
    let keys: Vec<&[u8]> = rows.iter().map(|row| &row.key[..]).collect();
    let (statement, columns) = match &first.record {
        Record::Tag(_) => return tags(transaction, &times, rows).await.map(Ok),
        Record::Spc(_) => (SPC, Ok(spc(rows))),
        Record::Psi(_) => (PSI, psi(rows)),
        Record::Custom(_) => (CUSTOM, Ok(custom(rows))),
        Record::Observability(_) => (OBSERVABILITY, Ok(observability(rows))),
        Record::Eval(_) => (EVAL, Ok(evaluations(rows))),
        Record::AgentTask(_) => (TASK, Ok(tasks(rows))),
        Record::AgentWorkflow(_) => (WORKFLOW, workflows(rows)),
        Record::Group(_) => return Ok(Err("a group of records is no row".to_owned())),
    };
    let columns = match columns {
        Ok(columns) => columns,
        Err(reason) => return Ok(Err(reason)),
    };
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&times, &ids, &keys];
    parameters.extend(columns.iter().map(|column| -> &(dyn ToSql + Sync) { &**column }));
    transaction.execute(statement, &parameters).await.map(Ok)
}

/// The values of a column.
type Column<'a> = Box<dyn ToSql + Sync + Send + 'a>;

type Columns<'a> = Vec<Column<'a>>;

/// The records of one kind among rows that are all of it.
fn all<'a, T: 'a>(rows: &[&'a Row], of_kind: impl Fn(&'a Record) -> Option<&'a T>) -> Vec<&'a T> {
    rows.iter().filter_map(|row| of_kind(&row.record)).collect()
}

fn texts<'a, T>(records: &[&'a T], field: impl Fn(&'a T) -> &'a str) -> Column<'a> {
    values(records, |record| text(field(record)))
}

fn jsons<'a, T>(records: &[&'a T], field: impl Fn(&'a T) -> &'a str) -> Column<'a> {
    values(records, |record| json(field(record)))
}

fn values<'a, T, V: ToSql + Sync + Send + 'a>(records: &[&'a T], field: impl Fn(&'a T) -> V) -> Column<'a> {
    Box::new(records.iter().map(|record| field(record)).collect::<Vec<V>>())
}

/// Scouter's columns of counts have 32 bits.
fn small<'a, T>(records: &[&'a T], name: &str, field: impl Fn(&'a T) -> i64) -> Result<Column<'a>, String> {
    let convert = |value: i64| i32::try_from(value).map_err(|_| format!("{name} is {value}, and its column has 32 bits"));
    let numbers = records.iter().map(|record| convert(field(record))).collect::<Result<Vec<i32>, String>>()?;
    Ok(Box::new(numbers))
}

async fn tags(transaction: &Transaction<'_>, times: &[SystemTime], rows: &[&Row]) -> Result<u64, Error> {
    let records: Vec<&TagRecord> = all(rows, |record| if let Record::Tag(record) = record { Some(record) } else { None });
    let columns = [
        texts(&records, |tag| &tag.entity_type),
        texts(&records, |tag| &tag.entity_id),
        texts(&records, |tag| &tag.key),
        texts(&records, |tag| &tag.value),
    ];
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&times];
    parameters.extend(columns.iter().map(|column| -> &(dyn ToSql + Sync) { &**column }));
    transaction.execute(TAG, &parameters).await
}

fn spc<'a>(rows: &[&'a Row]) -> Columns<'a> {
    let records: Vec<&SpcRecord> = all(rows, |record| if let Record::Spc(record) = record { Some(record) } else { None });
    vec![texts(&records, |record| &record.feature), values(&records, |record| record.value)]
}

fn psi<'a>(rows: &[&'a Row]) -> Result<Columns<'a>, String> {
    let records: Vec<&PsiRecord> = all(rows, |record| if let Record::Psi(record) = record { Some(record) } else { None });
    let bins = small(&records, "bin_id", |record| record.bin_id)?;
    let counts = small(&records, "bin_count", |record| record.bin_count)?;
    Ok(vec![texts(&records, |record| &record.feature), bins, counts])
}

fn custom<'a>(rows: &[&'a Row]) -> Columns<'a> {
    let records: Vec<&CustomMetricRecord> = all(rows, |record| if let Record::Custom(record) = record { Some(record) } else { None });
    vec![texts(&records, |record| &record.metric), values(&records, |record| record.value)]
}

fn observability<'a>(rows: &[&'a Row]) -> Columns<'a> {
    let records: Vec<&ObservabilityRecord> =
        all(rows, |record| if let Record::Observability(record) = record { Some(record) } else { None });
    vec![
        values(&records, |record| record.request_count),
        values(&records, |record| record.error_count),
        jsons(&records, |record| &record.route_metrics_json),
    ]
}

fn evaluations<'a>(rows: &[&'a Row]) -> Columns<'a> {
    let records: Vec<&EvalRecord> = all(rows, |record| if let Record::Eval(record) = record { Some(record) } else { None });
    let tags = |record: &EvalRecord| {
        let tags: Vec<Cow<'_, str>> = record.tags.iter().map(|tag| text(tag)).collect();
        serde_json::to_string(&tags).unwrap_or_else(|_| "[]".to_owned())
    };
    let traces = |record: &'a EvalRecord| Some(&record.trace_id[..]).filter(|id| !id.is_empty());
    vec![
        texts(&records, |record| &record.uid),
        texts(&records, |record| &record.record_id),
        texts(&records, |record| &record.session_id),
        jsons(&records, |record| &record.context_json),
        values(&records, traces),
        values(&records, tags),
        values(&records, |record| snake_case(&record.record_source, "user")),
        values(&records, |record| snake_case(&record.status, "pending")),
    ]
}

fn tasks<'a>(rows: &[&'a Row]) -> Columns<'a> {
    let records: Vec<&AgentTaskRecord> = all(rows, |record| if let Record::AgentTask(record) = record { Some(record) } else { None });
    vec![
        values(&records, |record| time(record.start_time_unix_nano)),
        values(&records, |record| time(record.end_time_unix_nano)),
        texts(&records, |record| &record.record_uid),
        texts(&records, |record| &record.task_id),
        texts(&records, |record| &record.task_type),
        values(&records, |record| record.passed),
        values(&records, |record| record.value),
        jsons(&records, |record| &record.assertion_json),
        texts(&records, |record| &record.operator),
        jsons(&records, |record| &record.expected_json),
        jsons(&records, |record| &record.actual_json),
        texts(&records, |record| &record.message),
        values(&records, |record| record.condition),
        values(&records, |record| record.stage),
    ]
}

fn workflows<'a>(rows: &[&'a Row]) -> Result<Columns<'a>, String> {
    let records: Vec<&AgentWorkflowRecord> =
        all(rows, |record| if let Record::AgentWorkflow(record) = record { Some(record) } else { None });
    let total = small(&records, "total_tasks", |record| record.total_tasks)?;
    let passed = small(&records, "passed_tasks", |record| record.passed_tasks)?;
    let failed = small(&records, "failed_tasks", |record| record.failed_tasks)?;
    Ok(vec![
        texts(&records, |record| &record.record_uid),
        total,
        passed,
        failed,
        values(&records, |record| record.pass_rate),
        values(&records, |record| record.duration_ms),
        jsons(&records, |record| &record.execution_plan_json),
    ])
}

/// Clients write `TraceDispatch` where the column has `trace_dispatch`.
fn snake_case(name: &str, default: &str) -> String {
    if name.is_empty() {
        return default.to_owned();
    }
    let mut out = String::with_capacity(name.len() + 2);
    for (index, character) in text(name).chars().enumerate() {
        if character.is_uppercase() && index > 0 && !out.ends_with('_') {
            out.push('_');
        }
        out.extend(character.to_lowercase());
    }
    out
}
