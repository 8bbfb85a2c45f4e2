//! Which evaluations belong to a trace, and which traces to an evaluation.
//!
//! They are bound in two ways: the record says its trace (`trace_id`), or a span says that it queued the record (`scouter.queue.record`, the
//! column `queue_ids`). One alone is enough, and each answer says which there are.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use scouter_answers::parse_trace_id;
use serde_json::{Value, json};

use super::{HttpDoors, Who, json_response, literal, query_error, refused_space};
use crate::{auth::Permission, http::error_response};

const BY_RECORD: &str = "record";
const BY_SPAN: &str = "span";

/// `GET /api/v1/traces/{trace_id}/evaluations`.
pub(super) async fn of_trace(State(doors): State<HttpDoors>, Extension(caller): Who, Path(trace_id): Path<String>) -> Response {
    let Some(id) = parse_trace_id(&trace_id) else {
        return error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "trace_id is 32 hexadecimal digits");
    };
    // A trace belongs to no space.
    if let Some(refused) = refused_space(&doors, &caller, Permission::Read, None) {
        return refused;
    }
    let trace = format!("X'{:032x}'", u128::from_be_bytes(id));
    let queued = format!("SELECT DISTINCT unnest(queue_ids) FROM spans WHERE trace_id = {trace}");
    let queued = match doors.engine.sql(&queued).await {
        Ok(answer) => answer.rows,
        Err(error) => return query_error(error),
    };
    let queued: BTreeSet<String> = queued.iter().filter_map(|row| row.first()?.as_str().map(str::to_owned)).collect();
    let mut condition = format!("trace_id = {trace}");
    if !queued.is_empty() {
        let uids: Vec<String> = queued.iter().map(|uid| literal(uid)).collect();
        condition = format!("{condition} OR uid IN ({})", uids.join(", "));
    }
    let records = format!(
        "SELECT uid, entity_uid, record_id, session_id, status, created_at_unix_nano, coalesce(trace_id = {trace}, false) \
         FROM agent_eval_record WHERE {condition} ORDER BY created_at_unix_nano"
    );
    let rows = match doors.engine.sql(&records).await {
        Ok(answer) => answer.rows,
        Err(error) => return query_error(error),
    };
    let evaluation = |row: &Vec<Value>| {
        let [uid, entity_uid, record_id, session_id, status, created_at, says_so] = row.as_slice() else { return Value::Null };
        let is_queued = uid.as_str().is_some_and(|uid| queued.contains(uid));
        let linked_by: Vec<&str> = [(says_so == &Value::Bool(true), BY_RECORD), (is_queued, BY_SPAN)]
            .into_iter()
            .filter(|(is, _)| *is)
            .map(|(_, by)| by)
            .collect();
        json!({ "uid": uid, "entity_uid": entity_uid, "record_id": record_id, "session_id": session_id, "status": status,
            "created_at_unix_nano": created_at.to_string(), "linked_by": linked_by })
    };
    json_response(
        &json!({ "trace_id": format!("{:032x}", u128::from_be_bytes(id)), "evaluations": rows.iter().map(evaluation).collect::<Vec<_>>() }),
    )
}

/// `GET /api/v1/evaluations/{uid}/traces`.
pub(super) async fn traces_of(State(doors): State<HttpDoors>, Extension(caller): Who, Path(uid): Path<String>) -> Response {
    if let Some(refused) = refused_space(&doors, &caller, Permission::Read, None) {
        return refused;
    }
    let by_record = format!("SELECT DISTINCT hex(trace_id) FROM agent_eval_record WHERE uid = {} AND trace_id IS NOT NULL", literal(&uid));
    let by_span = format!("SELECT DISTINCT hex(trace_id) FROM spans WHERE array_has(queue_ids, {})", literal(&uid));
    let mut traces: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (sql, by) in [(by_record, BY_RECORD), (by_span, BY_SPAN)] {
        match doors.engine.sql(&sql).await {
            Ok(answer) => {
                for trace in answer.rows.iter().filter_map(|row| row.first()?.as_str()) {
                    traces.entry(trace.to_owned()).or_default().push(by);
                }
            }
            Err(error) => return query_error(error),
        }
    }
    let traces: Vec<Value> =
        traces.into_iter().map(|(trace_id, linked_by)| json!({ "trace_id": trace_id, "linked_by": linked_by })).collect();
    json_response(&json!({ "uid": uid, "traces": traces }))
}
