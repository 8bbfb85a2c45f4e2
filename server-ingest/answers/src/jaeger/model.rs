//! Jaeger's JSON model, and how our spans become it.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use crate::json::{TypedAttribute, TypedValue};
use crate::span::{Body, Event, Span};
use crate::trace::in_tree_order;

/// The largest integer that JavaScript's numbers hold exactly.
const MOST_EXACT: u64 = (1 << 53) - 1;

/// What every answer is wrapped in.
#[derive(Debug, Serialize)]
pub struct Answer<T> {
    data: Option<T>,
    total: usize,
    limit: usize,
    offset: usize,
    errors: Option<Vec<Fault>>,
}

#[derive(Debug, Serialize)]
struct Fault {
    code: u16,
    msg: String,
}

impl<T> Answer<Vec<T>> {
    /// Everything there is.
    pub(super) fn of_all(data: Vec<T>) -> Self {
        Self { total: data.len(), data: Some(data), limit: 0, offset: 0, errors: None }
    }

    /// Nothing, and why.
    pub fn fault(code: u16, msg: String) -> Self {
        Self { data: None, total: 0, limit: 0, offset: 0, errors: Some(vec![Fault { code, msg }]) }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Operation {
    pub(super) name: String,
    #[serde(rename = "spanKind")]
    pub(super) span_kind: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Dependency {
    pub(super) parent: String,
    pub(super) child: String,
    pub(super) call_count: u64,
}

/// A trace as Jaeger has it.
#[derive(Debug, Serialize)]
pub struct Trace {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<JaegerSpan>,
    processes: BTreeMap<String, Process>,
    warnings: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    /// Left out when zero, as Jaeger leaves it out.
    #[serde(skip_serializing_if = "is_zero")]
    flags: i64,
    operation_name: String,
    references: Vec<Reference>,
    start_time: i64,
    duration: i64,
    tags: Vec<KeyValue>,
    logs: Vec<Log>,
    #[serde(rename = "processID")]
    process_id: String,
    warnings: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Debug, Serialize)]
struct Log {
    timestamp: i64,
    fields: Vec<KeyValue>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct KeyValue {
    key: String,
    #[serde(rename = "type")]
    kind: &'static str,
    value: Value,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
    tags: Vec<KeyValue>,
}

/// A kind as Jaeger writes it; empty for none.
pub(super) fn span_kind(kind: &str) -> String {
    match kind {
        "UNSPECIFIED" => String::new(),
        kind => kind.to_lowercase(),
    }
}

/// The spans as traces, in the order of `ids`; those without a span are left out.
pub(super) fn traces(ids: &[[u8; 16]], spans: Vec<Span>) -> Vec<Trace> {
    let mut of_trace: HashMap<[u8; 16], Vec<Span>> = HashMap::new();
    for span in spans {
        of_trace.entry(span.ids.trace).or_default().push(span);
    }
    ids.iter().filter_map(|id| Some(trace(scouter_query::hex_text(id), in_tree_order(of_trace.remove(id)?)))).collect()
}

fn trace(trace_id: String, spans: Vec<Span>) -> Trace {
    let mut processes: Vec<(String, Vec<TypedAttribute>)> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let spans = spans
        .into_iter()
        .filter_map(|mut span| {
            let body = span.body.take()?;
            // Resources repeat from span to span; their text tells them apart.
            let identity = serde_json::to_string(&(&span.service, &body.resource.attributes)).unwrap_or_default();
            let process = *known.entry(identity).or_insert_with(|| {
                processes.push((span.service.clone(), body.resource.attributes.clone()));
                processes.len()
            });
            Some(jaeger_span(&trace_id, &span, *body, format!("p{process}")))
        })
        .collect();
    let processes = processes
        .into_iter()
        .enumerate()
        .map(|(index, (service_name, attributes))| {
            let tags = attributes.into_iter().filter(|attribute| attribute.key != "service.name").map(key_value).collect();
            (format!("p{}", index + 1), Process { service_name, tags })
        })
        .collect();
    Trace { trace_id, spans, processes, warnings: None }
}

fn jaeger_span(trace_id: &str, span: &Span, body: Body, process_id: String) -> JaegerSpan {
    let parent = span.parent_span_id.as_ref().map(|parent| Reference {
        ref_type: "CHILD_OF",
        trace_id: trace_id.to_owned(),
        span_id: parent.clone(),
    });
    let links = body.links.iter().map(|link| Reference {
        ref_type: "FOLLOWS_FROM",
        trace_id: link.trace_id.clone(),
        span_id: link.span_id.clone(),
    });
    let references = parent.into_iter().chain(links).collect();
    let mut tags: Vec<KeyValue> = Vec::with_capacity(body.attributes.len() + 6);
    let text = |key: &str, value: &str| KeyValue { key: key.to_owned(), kind: "string", value: value.into() };
    tags.extend(body.attributes.into_iter().map(key_value));
    let kind = span_kind(&span.kind);
    if !kind.is_empty() {
        tags.push(text("span.kind", &kind));
    }
    match span.status {
        "error" => {
            tags.push(text("otel.status_code", "ERROR"));
            // One that the application set itself stays the only one.
            if !tags.iter().any(|tag| tag.key == "error") {
                tags.push(KeyValue { key: "error".to_owned(), kind: "bool", value: true.into() });
            }
        }
        "ok" => tags.push(text("otel.status_code", "OK")),
        _ => {}
    }
    for (key, value) in [
        ("otel.status_description", &body.status_message),
        ("otel.scope.name", &body.scope.name),
        ("otel.scope.version", &body.scope.version),
        ("w3c.tracestate", &body.trace_state),
    ] {
        if !value.is_empty() {
            tags.push(text(key, value));
        }
    }
    let mut warnings = Vec::new();
    if span.duration_nano.0 < 0 {
        warnings.push("the span ends before it starts; its duration is shown as 0".to_owned());
    }
    JaegerSpan {
        trace_id: trace_id.to_owned(),
        span_id: span.span_id.clone(),
        flags: body.flags & 0xff,
        operation_name: span.name.clone(),
        references,
        start_time: micros(span.start_unix_nano.0),
        duration: micros(span.duration_nano.0.max(0)),
        tags,
        logs: body.events.into_iter().map(log).collect(),
        process_id,
        warnings: (!warnings.is_empty()).then_some(warnings),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(flags: &i64) -> bool {
    *flags == 0
}

fn micros(nanos: i64) -> i64 {
    nanos.div_euclid(1000)
}

fn log(event: Event) -> Log {
    let name = KeyValue { key: "event".to_owned(), kind: "string", value: event.name.into() };
    let has_own = event.attributes.iter().any(|attribute| attribute.key == "event");
    let fields = (!has_own).then_some(name).into_iter().chain(event.attributes.into_iter().map(key_value)).collect();
    Log { timestamp: micros(event.time_unix_nano.0), fields }
}

fn key_value(attribute: TypedAttribute) -> KeyValue {
    let (kind, value) = match attribute.value {
        TypedValue::String(text) => ("string", text.into()),
        TypedValue::Bool(value) => ("bool", value.into()),
        // Larger ones would be rounded where they are read.
        TypedValue::Int(value) if value.0.unsigned_abs() > MOST_EXACT => ("string", value.0.to_string().into()),
        TypedValue::Int(value) => ("int64", value.0.into()),
        TypedValue::Double(Value::Number(number)) => ("float64", Value::Number(number)),
        TypedValue::Double(text) => ("string", text),
        TypedValue::Bytes(base64) => ("binary", base64.into()),
        nested => ("string", nested.plain().to_string().into()),
    };
    KeyValue { key: attribute.key, kind, value }
}
