//! Monitoring records as `ServerRecord` of Scouter.

use scouter_tonic::{
    group::{Row, Seen},
    message::{
        AgentTaskRecord, AgentWorkflowRecord, CustomMetricRecord, EvalRecord, ObservabilityRecord, PsiRecord, SpcRecord, TagRecord,
        monitoring_record::Record,
    },
};
use serde::de::IgnoredAny;

use super::{put_field, put_key, put_number, put_text, put_text_field, rfc3339};

/// Evaluation records had their names changed between two versions of Scouter; each knows one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EvalNames {
    /// `GenAIEval`, as the release 0.25.0 has them.
    GenAi,
    /// `AgentEval`, as later ones have them.
    Agent,
}

impl EvalNames {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::GenAi => Self::Agent,
            Self::Agent => Self::GenAi,
        }
    }

    fn pick(self, gen_ai: &'static str, agent: &'static str) -> &'static str {
        match self {
            Self::GenAi => gen_ai,
            Self::Agent => agent,
        }
    }
}

/// `None`, with something half written, when JSON cannot carry the record.
pub(super) fn put_record(out: &mut Vec<u8>, record: &Record, names: EvalNames) -> Option<()> {
    out.push(b'{');
    match record {
        Record::Psi(PsiRecord { created_at_unix_nano, entity_uid, feature, bin_id, bin_count }) => {
            put_psi(out, *created_at_unix_nano, entity_uid, feature, (*bin_id, *bin_count));
        }
        Record::Spc(SpcRecord { created_at_unix_nano, entity_uid, feature, value }) => {
            put_value(out, "Spc", *created_at_unix_nano, entity_uid, ("feature", feature), *value)?;
        }
        Record::Custom(CustomMetricRecord { created_at_unix_nano, entity_uid, metric, value }) => {
            put_value(out, "Custom", *created_at_unix_nano, entity_uid, ("metric", metric), *value)?;
        }
        Record::Eval(eval) => put_eval(out, eval, names)?,
        Record::Observability(observability) => put_observability(out, observability)?,
        Record::AgentTask(task) => put_task(out, task, names)?,
        Record::AgentWorkflow(workflow) => put_workflow(out, workflow, names)?,
        Record::Tag(_) | Record::Group(_) => return None,
    }
    out.push(b'}');
    Some(())
}

/// As [`put_record`], of a row of a group.
pub(super) fn put_row(out: &mut Vec<u8>, row: &Row<'_>) -> Option<()> {
    let Row { created_at_unix_nano: created_at, entity_uid, name, seen } = *row;
    out.push(b'{');
    match seen {
        Seen::Psi { bin_id, bin_count } => put_psi(out, created_at, entity_uid, name, (bin_id, bin_count)),
        Seen::Spc(value) => put_value(out, "Spc", created_at, entity_uid, ("feature", name), value)?,
        Seen::Custom(value) => put_value(out, "Custom", created_at, entity_uid, ("metric", name), value)?,
    }
    out.push(b'}');
    Some(())
}

pub(super) fn put_tag(out: &mut Vec<u8>, tag: &TagRecord) {
    out.push(b'{');
    put_text_field(out, "entity_type", &tag.entity_type);
    put_text_field(out, "entity_id", &tag.entity_id);
    put_text_field(out, "key", &tag.key);
    put_text_field(out, "value", &tag.value);
    out.push(b'}');
}

fn put_psi(out: &mut Vec<u8>, created_at: u64, uid: &str, feature: &str, (bin_id, bin_count): (i64, i64)) {
    begin(out, "Psi");
    put_text_field(out, "created_at", &rfc3339(created_at));
    put_text_field(out, "uid", uid);
    put_text_field(out, "feature", feature);
    put_field(out, "bin_id", bin_id);
    put_field(out, "bin_count", bin_count);
    put_field(out, "entity_id", 0);
    out.push(b'}');
}

fn put_value(out: &mut Vec<u8>, kind: &str, created_at: u64, uid: &str, (key, name): (&str, &str), value: f64) -> Option<()> {
    begin(out, kind);
    put_text_field(out, "created_at", &rfc3339(created_at));
    put_text_field(out, "uid", uid);
    put_text_field(out, key, name);
    put_finite(out, "value", value)?;
    put_field(out, "entity_id", 0);
    out.push(b'}');
    Some(())
}

fn put_eval(out: &mut Vec<u8>, eval: &EvalRecord, names: EvalNames) -> Option<()> {
    begin(out, names.pick("GenAIEval", "AgentEval"));
    put_key(out, "record");
    out.push(b'{');
    put_text_field(out, "record_id", &eval.record_id);
    put_text_field(out, "session_id", &eval.session_id);
    put_text_field(out, "created_at", &rfc3339(eval.created_at_unix_nano));
    put_text_field(out, "uid", &eval.uid);
    put_json(out, "context", &eval.context_json)?;
    put_field(out, "id", 0);
    for key in ["updated_at", "processing_started_at", "processing_ended_at", "processing_duration"] {
        put_field(out, key, "null");
    }
    put_field(out, "entity_id", 0);
    put_text_field(out, "entity_uid", &eval.entity_uid);
    put_text_field(out, "status", or(&eval.status, "Pending"));
    put_text_field(out, "entity_type", names.pick("GenAI", "Agent"));
    put_field(out, "retry_count", 0);
    match eval.trace_id.len() {
        0 => put_field(out, "trace_id", "null"),
        _ => put_text_field(out, "trace_id", &super::spans::hex(&eval.trace_id)),
    }
    if names == EvalNames::Agent {
        put_text_field(out, "record_source", or(&eval.record_source, "User"));
    }
    put_key(out, "tags");
    out.push(b'[');
    for (index, tag) in eval.tags.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put_text(out, tag);
    }
    out.extend_from_slice(b"]}}");
    Some(())
}

fn put_observability(out: &mut Vec<u8>, observability: &ObservabilityRecord) -> Option<()> {
    begin(out, "Observability");
    put_text_field(out, "uid", &observability.entity_uid);
    put_field(out, "request_count", observability.request_count);
    put_field(out, "error_count", observability.error_count);
    put_json(out, "route_metrics", or(&observability.route_metrics_json, "[]"))?;
    put_field(out, "entity_id", 0);
    out.push(b'}');
    Some(())
}

fn put_task(out: &mut Vec<u8>, task: &AgentTaskRecord, names: EvalNames) -> Option<()> {
    begin(out, names.pick("GenAITaskRecord", "AgentTaskRecord"));
    put_text_field(out, "created_at", &rfc3339(task.created_at_unix_nano));
    put_text_field(out, "start_time", &rfc3339(task.start_time_unix_nano));
    put_text_field(out, "end_time", &rfc3339(task.end_time_unix_nano));
    put_text_field(out, "record_uid", &task.record_uid);
    put_field(out, "entity_id", 0);
    put_text_field(out, "task_id", &task.task_id);
    put_text_field(out, "task_type", &task.task_type);
    put_field(out, "passed", task.passed);
    put_finite(out, "value", task.value)?;
    put_json(out, "assertion", or(&task.assertion_json, "{\"FieldPath\":null}"))?;
    put_text_field(out, "operator", &task.operator);
    put_json(out, "expected", or(&task.expected_json, "null"))?;
    put_json(out, "actual", or(&task.actual_json, "null"))?;
    put_text_field(out, "message", &task.message);
    put_text_field(out, "entity_uid", &task.entity_uid);
    put_field(out, "condition", task.condition);
    put_field(out, "stage", task.stage);
    out.push(b'}');
    Some(())
}

fn put_workflow(out: &mut Vec<u8>, workflow: &AgentWorkflowRecord, names: EvalNames) -> Option<()> {
    begin(out, names.pick("GenAIWorkflowRecord", "AgentWorkflowRecord"));
    put_text_field(out, "created_at", &rfc3339(workflow.created_at_unix_nano));
    put_text_field(out, "record_uid", &workflow.record_uid);
    put_field(out, "entity_id", 0);
    put_field(out, "total_tasks", workflow.total_tasks);
    put_field(out, "passed_tasks", workflow.passed_tasks);
    put_field(out, "failed_tasks", workflow.failed_tasks);
    put_finite(out, "pass_rate", workflow.pass_rate)?;
    put_field(out, "duration_ms", workflow.duration_ms);
    put_text_field(out, "entity_uid", &workflow.entity_uid);
    put_json(out, "execution_plan", or(&workflow.execution_plan_json, "{\"stages\":[],\"nodes\":{}}"))?;
    put_field(out, "id", 0);
    out.push(b'}');
    Some(())
}

fn begin(out: &mut Vec<u8>, kind: &str) {
    put_key(out, kind);
    out.push(b'{');
}

fn put_finite(out: &mut Vec<u8>, key: &str, value: f64) -> Option<()> {
    put_key(out, key);
    put_number(out, value);
    value.is_finite().then_some(())
}

/// JSON that came as text; one that is none would spoil the whole message.
fn put_json(out: &mut Vec<u8>, key: &str, json: &str) -> Option<()> {
    put_field(out, key, json);
    serde_json::from_str::<IgnoredAny>(json).is_ok().then_some(())
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}
