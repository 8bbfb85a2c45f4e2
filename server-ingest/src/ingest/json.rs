//! JSON `MessageRecord` of existing Scouter clients, turned into the typed message.
//!
//! The three shapes are told apart by the key they carry: `request` is a batch of spans as OTLP/JSON, `records` a list
//! of monitoring records, `entity_type` a tag. Both names of the evaluation kinds (`GenAI*`, `Agent*`) are taken.

use bytes::Bytes;
use prost::Message;
use scouter_tonic::{
    grpc::InsertMessageRequest,
    message::{
        AgentTaskRecord, AgentWorkflowRecord, CustomMetricRecord, EvalRecord, MonitoringRecord, ObservabilityRecord, PsiRecord, SpcRecord,
        TagRecord, monitoring_record::Record,
    },
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{RefusedBefore, otlp_json};
use crate::error::IngestError;

/// An object of two characters can become a struct of hundreds of bytes; a batch of real spans has some 25 objects a span.
const MAX_OBJECTS: usize = 500_000;
/// Decoding more text than this may take longer than half a millisecond, so it leaves the reactor's time slice.
const DECODE_INLINE_BYTES: usize = 64 * 1024;

/// Re-encodes the JSON of OTLP as an `ExportTraceServiceRequest`.
pub(super) fn otlp_to_protobuf(json: &[u8]) -> Result<(Bytes, RefusedBefore), IngestError> {
    decode(json, "an OTLP trace request", |json| {
        let (request, refused) = otlp_json::read(json)?;
        Ok((Bytes::from(request.encode_to_vec()), refused))
    })
}

/// Re-encodes the JSON of an existing Scouter client as an `InsertMessageRequest` with typed fields.
pub(super) fn message_record_to_protobuf(json: &[u8]) -> Result<(Bytes, RefusedBefore), IngestError> {
    decode(json, "a Scouter message", to_insert_message)
}

fn decode<T>(json: &[u8], expected: &'static str, decode: impl FnOnce(&[u8]) -> Result<T, serde_json::Error>) -> Result<T, IngestError> {
    let failed = |source| IngestError::MalformedJson { expected, source };
    if json.len() <= DECODE_INLINE_BYTES {
        return decode(json).map_err(failed);
    }
    tokio::task::block_in_place(|| {
        if json.iter().filter(|byte| **byte == b'{').count() > MAX_OBJECTS {
            return Err(IngestError::TooManyObjects { limit: MAX_OBJECTS });
        }
        decode(json).map_err(failed)
    })
}

fn to_insert_message(json: &[u8]) -> Result<(Bytes, RefusedBefore), serde_json::Error> {
    let message: Outer = serde_json::from_slice(json)?;
    let mut refused_before = RefusedBefore::default();
    let typed = match message {
        Outer { request: Some(request), .. } => {
            let (request, refused) = otlp_json::read(request.get().as_bytes())?;
            refused_before = refused;
            InsertMessageRequest { resource_spans: request.resource_spans, ..Default::default() }
        }
        Outer { records: Some(records), .. } => {
            let (records, refused) = read_records(records.get())?;
            refused_before = refused;
            InsertMessageRequest { records, ..Default::default() }
        }
        Outer { entity_type: Some(_), .. } => {
            let tag: Tag = serde_json::from_slice(json)?;
            InsertMessageRequest { records: vec![record(Record::Tag(tag.into()))], ..Default::default() }
        }
        _ => return Err(serde_json::Error::custom("expected one of the keys `request`, `records` or `entity_type`")),
    };
    Ok((Bytes::from(typed.encode_to_vec()), refused_before))
}

/// A record that is none refuses itself, and its neighbours are taken. Only then is the text read once more, record by record.
fn read_records(json: &str) -> Result<(Vec<MonitoringRecord>, RefusedBefore), serde_json::Error> {
    let fault = match serde_json::from_str::<Vec<ServerRecord>>(json) {
        Ok(records) => return Ok((records.into_iter().map(MonitoringRecord::from).collect(), RefusedBefore::default())),
        Err(fault) => fault,
    };
    match serde_json::Deserializer::from_str(json).deserialize_seq(OneByOne::default()) {
        Ok(OneByOne { records, refused }) if !records.is_empty() => Ok((records, refused)),
        _ => Err(fault),
    }
}

#[derive(Default)]
struct OneByOne {
    records: Vec<MonitoringRecord>,
    refused: RefusedBefore,
}

impl<'de> Visitor<'de> for OneByOne {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        let mut index = 0_u32;
        while let Some(text) = list.next_element::<&'de RawValue>()? {
            match serde_json::from_str::<ServerRecord>(text.get()) {
                Ok(record) => self.records.push(record.into()),
                Err(fault) => {
                    if self.refused.records == 0 {
                        self.refused.words = format!("record {index}: {fault}");
                    }
                    self.refused.records += 1;
                }
            }
            index = index.saturating_add(1);
        }
        Ok(self)
    }
}

/// The outer object, its parts left as text so that nothing is parsed twice into trees.
#[derive(Deserialize)]
#[serde(rename = "message record")]
struct Outer<'a> {
    #[serde(borrow, default)]
    request: Option<&'a RawValue>,
    #[serde(borrow, default)]
    records: Option<&'a RawValue>,
    #[serde(default)]
    entity_type: Option<String>,
}

#[derive(Deserialize)]
enum ServerRecord {
    Psi(Psi),
    Spc(Spc),
    Custom(Custom),
    Observability(Observability),
    #[serde(alias = "GenAIEval")]
    AgentEval(Boxed),
    #[serde(alias = "GenAITaskRecord", alias = "GenAITask")]
    AgentTaskRecord(Task),
    #[serde(alias = "GenAIWorkflowRecord", alias = "GenAIWorkflow")]
    AgentWorkflowRecord(Workflow),
}

#[derive(Deserialize)]
struct Psi {
    created_at: Time,
    uid: String,
    feature: String,
    bin_id: i64,
    bin_count: i64,
}

#[derive(Deserialize)]
struct Spc {
    created_at: Time,
    uid: String,
    feature: String,
    #[serde(deserialize_with = "number_or_nan")]
    value: f64,
}

#[derive(Deserialize)]
struct Custom {
    created_at: Time,
    uid: String,
    metric: String,
    #[serde(deserialize_with = "number_or_nan")]
    value: f64,
}

#[derive(Deserialize)]
struct Observability {
    #[serde(default)]
    created_at: Time,
    uid: String,
    request_count: i64,
    error_count: i64,
    route_metrics: Box<RawValue>,
}

#[derive(Deserialize)]
struct Boxed {
    record: Eval,
}

#[derive(Deserialize)]
struct Eval {
    created_at: Time,
    uid: String,
    #[serde(default)]
    record_id: String,
    #[serde(default)]
    session_id: String,
    context: Box<RawValue>,
    entity_uid: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    trace_id: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    record_source: String,
}

#[derive(Deserialize)]
struct Task {
    created_at: Time,
    start_time: Time,
    end_time: Time,
    record_uid: String,
    task_id: String,
    task_type: String,
    passed: bool,
    #[serde(deserialize_with = "number_or_nan")]
    value: f64,
    assertion: Box<RawValue>,
    operator: String,
    expected: Box<RawValue>,
    actual: Box<RawValue>,
    #[serde(default)]
    message: String,
    entity_uid: String,
    #[serde(default)]
    condition: bool,
    #[serde(default)]
    stage: i32,
}

#[derive(Deserialize)]
struct Workflow {
    created_at: Time,
    record_uid: String,
    total_tasks: i64,
    passed_tasks: i64,
    failed_tasks: i64,
    #[serde(deserialize_with = "number_or_nan")]
    pass_rate: f64,
    duration_ms: i64,
    entity_uid: String,
    execution_plan: Box<RawValue>,
}

#[derive(Deserialize)]
struct Tag {
    #[serde(default)]
    created_at: Time,
    entity_type: String,
    entity_id: String,
    key: String,
    value: String,
}

/// An RFC 3339 time as nanoseconds since the epoch.
#[derive(Clone, Copy)]
struct Time(u64);

impl Default for Time {
    /// Where a client sends none, the time of receipt. Two equal reports then stay two; a repetition is stored again.
    fn default() -> Self {
        Self(super::unix_nano_now())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = chrono::DateTime::parse_from_rfc3339(&text).map_err(|error| D::Error::custom(format!("time {text:?}: {error}")))?;
        let nanos = time.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok());
        nanos.map(Time).ok_or_else(|| D::Error::custom(format!("time {text:?} is outside 1970 to 2262")))
    }
}

/// Existing clients write NaN and infinities as `null`. The text is read by the standard library: serde_json's reading of numbers may be wrong in
/// the last bit, and what makes it right is a feature for everything that is compiled with it.
fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let text = <&RawValue>::deserialize(deserializer)?.get();
    if text == "null" {
        return Ok(f64::NAN);
    }
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| D::Error::custom(format!("{:.40} is no number", text)))
}

fn record(record: Record) -> MonitoringRecord {
    MonitoringRecord { record: Some(record) }
}

impl From<ServerRecord> for MonitoringRecord {
    fn from(server_record: ServerRecord) -> Self {
        record(match server_record {
            ServerRecord::Psi(psi) => Record::Psi(PsiRecord {
                created_at_unix_nano: psi.created_at.0,
                entity_uid: psi.uid,
                feature: psi.feature,
                bin_id: psi.bin_id,
                bin_count: psi.bin_count,
            }),
            ServerRecord::Spc(spc) => Record::Spc(SpcRecord {
                created_at_unix_nano: spc.created_at.0,
                entity_uid: spc.uid,
                feature: spc.feature,
                value: spc.value,
            }),
            ServerRecord::Custom(custom) => Record::Custom(CustomMetricRecord {
                created_at_unix_nano: custom.created_at.0,
                entity_uid: custom.uid,
                metric: custom.metric,
                value: custom.value,
            }),
            ServerRecord::Observability(observed) => Record::Observability(ObservabilityRecord {
                created_at_unix_nano: observed.created_at.0,
                entity_uid: observed.uid,
                request_count: observed.request_count,
                error_count: observed.error_count,
                route_metrics_json: text(observed.route_metrics),
            }),
            ServerRecord::AgentEval(Boxed { record }) => Record::Eval(record.into()),
            ServerRecord::AgentTaskRecord(task) => Record::AgentTask(task.into()),
            ServerRecord::AgentWorkflowRecord(workflow) => Record::AgentWorkflow(AgentWorkflowRecord {
                created_at_unix_nano: workflow.created_at.0,
                entity_uid: workflow.entity_uid,
                record_uid: workflow.record_uid,
                total_tasks: workflow.total_tasks,
                passed_tasks: workflow.passed_tasks,
                failed_tasks: workflow.failed_tasks,
                pass_rate: workflow.pass_rate,
                duration_ms: workflow.duration_ms,
                execution_plan_json: text(workflow.execution_plan),
            }),
        })
    }
}

impl From<Eval> for EvalRecord {
    fn from(eval: Eval) -> Self {
        Self {
            created_at_unix_nano: eval.created_at.0,
            entity_uid: eval.entity_uid,
            uid: eval.uid,
            record_id: eval.record_id,
            session_id: eval.session_id,
            context_json: text(eval.context),
            trace_id: eval.trace_id.as_deref().map(trace_id_bytes).unwrap_or_default(),
            tags: eval.tags,
            record_source: eval.record_source,
            status: eval.status,
        }
    }
}

impl From<Task> for AgentTaskRecord {
    fn from(task: Task) -> Self {
        Self {
            created_at_unix_nano: task.created_at.0,
            entity_uid: task.entity_uid,
            record_uid: task.record_uid,
            task_id: task.task_id,
            task_type: task.task_type,
            start_time_unix_nano: task.start_time.0,
            end_time_unix_nano: task.end_time.0,
            passed: task.passed,
            value: task.value,
            assertion_json: text(task.assertion),
            operator: task.operator,
            expected_json: text(task.expected),
            actual_json: text(task.actual),
            message: task.message,
            condition: task.condition,
            stage: task.stage,
        }
    }
}

impl From<Tag> for TagRecord {
    fn from(tag: Tag) -> Self {
        Self {
            created_at_unix_nano: tag.created_at.0,
            entity_type: tag.entity_type,
            entity_id: tag.entity_id,
            key: tag.key,
            value: tag.value,
        }
    }
}

fn text(json: Box<RawValue>) -> String {
    String::from(Box::<str>::from(json))
}

/// The bytes of a hexadecimal trace id. Text that is none becomes one byte too few or too many, for the judge to refuse.
fn trace_id_bytes(hex: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> = hex.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect(),
        _ => vec![0; if hex.len() == 16 { 15 } else { hex.len() }],
    }
}

#[cfg(test)]
mod tests;
