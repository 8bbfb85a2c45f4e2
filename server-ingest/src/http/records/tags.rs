//! `/scouter/tags`: tags of traces and other entities.
//!
//! A tag comes as a record, or as an attribute of a span, of which the table `spans` keeps a column. Of the records the latest of each key
//! counts, so that a key can be given another value; what spans say is all told, since different spans may say different things.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::JsonRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use prost::Message;
use scouter_answers::parse_trace_id;
use scouter_storage::{log::Door, otlp::Envelope};
use scouter_tonic::{
    grpc::InsertMessageRequest,
    message::{MonitoringRecord, TagRecord, monitoring_record::Record},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{HttpDoors, Who, json_response, literal, query_error, refused_space, success};
use crate::{
    auth::{Caller, Permission},
    http::{error_response, refusal},
    ingest::{Limited, Submission, unix_nano_now},
    receive::Received,
};

/// Tags of one request. A body holds no more of any length that matters.
const MAX_TAGS: usize = 1000;

#[derive(Deserialize)]
pub(super) struct InsertRequest {
    tags: Vec<Tag>,
}

#[derive(Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Tag {
    entity_type: String,
    entity_id: String,
    key: String,
    value: String,
}

#[derive(Deserialize)]
pub(super) struct EntityRequest {
    entity_type: String,
    entity_id: String,
}

#[derive(Deserialize)]
pub(super) struct ByTagsRequest {
    entity_type: String,
    tags: Vec<KeyAndValue>,
    #[serde(default)]
    match_all: bool,
}

#[derive(Deserialize)]
struct KeyAndValue {
    key: String,
    value: String,
}

type Body<T> = Result<Json<T>, JsonRejection>;

/// `POST /scouter/tags`.
pub(super) async fn insert(State(doors): State<HttpDoors>, Extension(caller): Who, body: Body<InsertRequest>) -> Response {
    let tags = match body {
        Ok(Json(request)) if request.tags.len() <= MAX_TAGS => request.tags,
        Ok(_) => return bad_request(&format!("send at most {MAX_TAGS} tags at once")),
        Err(rejection) => return error_response(rejection.status(), "INVALID_ARGUMENT", &rejection.body_text()),
    };
    let created_at_unix_nano = unix_nano_now();
    let record = |tag: Tag| {
        let Tag { entity_type, entity_id, key, value } = tag;
        MonitoringRecord { record: Some(Record::Tag(TagRecord { created_at_unix_nano, entity_type, entity_id, key, value })) }
    };
    let records: Vec<MonitoringRecord> = tags.into_iter().map(record).collect();
    let payload = InsertMessageRequest { records, ..InsertMessageRequest::default() }.encode_to_vec();
    let room = match doors.intake.admission.begin(&Arc::default(), payload.len()) {
        Ok(room) => room,
        Err(error) => return refusal(&error),
    };
    let submission = Submission::new(Door::ScouterHttp, Envelope::Scouter, Received { payload: payload.into(), room });
    match doors.ingest.submit(submission.limited_to(Limited::of(&caller))).await {
        Ok(accepted) if accepted.refusal.is_empty() => success(&format!("Inserted {} tags", accepted.receipt.records)),
        Ok(accepted) => success(&format!("Inserted {} tags; {}", accepted.receipt.records, accepted.refusal)),
        Err(error) => refusal(&error),
    }
}

/// `GET /scouter/tags?entity_type=...&entity_id=...`.
pub(super) async fn of_entity(State(doors): State<HttpDoors>, Extension(caller): Who, Query(request): Query<EntityRequest>) -> Response {
    let EntityRequest { entity_type, entity_id } = request;
    let is_trace = is_trace(&entity_type);
    if let Some(refused) = refused_entity(&doors, &caller, is_trace, &entity_id) {
        return refused;
    }
    let of_records = format!(
        "SELECT key, value FROM tags WHERE lower(entity_type) = lower({}) AND entity_id = {} ORDER BY created_at_unix_nano",
        literal(&entity_type),
        literal(&entity_id)
    );
    let mut latest = BTreeMap::new();
    match doors.engine.sql(&of_records).await {
        Ok(answer) => latest.extend(answer.rows.into_iter().filter_map(|row| two_texts(&row))),
        Err(error) => return query_error(error),
    }
    let mut pairs: BTreeSet<(String, String)> = BTreeSet::new();
    if let Some(trace_id) = is_trace.then(|| parse_trace_id(&entity_id)).flatten() {
        let of_spans =
            format!("SELECT DISTINCT tags FROM spans WHERE trace_id = X'{:032x}' AND tags IS NOT NULL", u128::from_be_bytes(trace_id));
        match doors.engine.sql(&of_spans).await {
            Ok(answer) => pairs.extend(answer.rows.iter().flat_map(|row| members(row))),
            Err(error) => return query_error(error),
        }
    }
    pairs.retain(|(key, _)| !latest.contains_key(key));
    pairs.extend(latest);
    let tag = |(key, value)| Tag { entity_type: entity_type.clone(), entity_id: entity_id.clone(), key, value };
    json_response(&json!({ "tags": pairs.into_iter().map(tag).collect::<Vec<_>>() }))
}

/// `POST /scouter/tags/entity`: the entities of a type that have one of the tags, or all of them.
pub(super) async fn entities_with(State(doors): State<HttpDoors>, Extension(caller): Who, body: Body<ByTagsRequest>) -> Response {
    let request = match body {
        Ok(Json(request)) if !request.tags.is_empty() && request.tags.len() <= MAX_TAGS => request,
        Ok(_) => return bad_request(&format!("send 1 to {MAX_TAGS} tags")),
        Err(rejection) => return error_response(rejection.status(), "INVALID_ARGUMENT", &rejection.body_text()),
    };
    // Entities of all spaces are searched.
    if let Some(refused) = refused_space(&doors, &caller, Permission::Read, None) {
        return refused;
    }
    let wanted: BTreeSet<(String, String)> = request.tags.into_iter().map(|tag| (tag.key, tag.value)).collect();
    let keys: BTreeSet<String> = wanted.iter().map(|(key, _)| literal(key)).collect();
    // A tag that is given anew replaces the one before.
    let of_records = format!(
        "SELECT entity_id, key, last_value(value ORDER BY created_at_unix_nano) FROM tags WHERE lower(entity_type) = lower({}) AND key IN ({}) \
         GROUP BY entity_id, key",
        literal(&request.entity_type),
        keys.into_iter().collect::<Vec<_>>().join(", ")
    );
    let mut latest: BTreeSet<(String, String)> = BTreeSet::new();
    let mut having: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    match doors.engine.sql(&of_records).await {
        Ok(answer) => {
            for row in answer.rows {
                if let ([entity_id, ..], Some(pair)) = (row.as_slice(), two_texts(&row[1..])) {
                    let entity_id = entity_id.as_str().unwrap_or_default().to_owned();
                    latest.insert((entity_id.clone(), pair.0.clone()));
                    having.entry(entity_id).or_default().extend(wanted.contains(&pair).then_some(pair));
                }
            }
        }
        Err(error) => return query_error(error),
    }
    if is_trace(&request.entity_type) {
        let of_spans: Vec<String> =
            wanted.iter().map(|(key, value)| format!("attr(tags, {}) = {}", literal(key), literal(value))).collect();
        let of_spans = format!("SELECT DISTINCT hex(trace_id), tags FROM spans WHERE tags IS NOT NULL AND ({})", of_spans.join(" OR "));
        match doors.engine.sql(&of_spans).await {
            Ok(answer) => {
                for row in &answer.rows {
                    let trace = row[0].as_str().unwrap_or_default().to_owned();
                    let mut found = members(&row[1..]);
                    found.retain(|pair| wanted.contains(pair) && !latest.contains(&(trace.clone(), pair.0.clone())));
                    having.entry(trace).or_default().extend(found);
                }
            }
            Err(error) => return query_error(error),
        }
    }
    having.retain(|_, found| if request.match_all { found.len() == wanted.len() } else { !found.is_empty() });
    Json(json!({ "entity_id": having.into_keys().collect::<Vec<_>>() })).into_response()
}

fn is_trace(entity_type: &str) -> bool {
    entity_type.eq_ignore_ascii_case("trace")
}

/// Traces belong to no space; another entity is a profile, or nobody's.
fn refused_entity(doors: &HttpDoors, caller: &Caller, is_trace: bool, entity_id: &str) -> Option<Response> {
    let space = if is_trace { None } else { super::space_of(doors, entity_id) };
    refused_space(doors, caller, Permission::Read, space.as_deref())
}

fn two_texts(row: &[Value]) -> Option<(String, String)> {
    match row {
        [Value::String(key), Value::String(value)] => Some((key.clone(), value.clone())),
        _ => None,
    }
}

/// The members of the JSON object in the one column of a row.
fn members(row: &[Value]) -> Vec<(String, String)> {
    let text = row.first().and_then(Value::as_str).unwrap_or_default();
    let members: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let text = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
    members.into_iter().map(|(key, value)| (key, text(value))).collect()
}

fn bad_request(text: &str) -> Response {
    error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", text)
}
