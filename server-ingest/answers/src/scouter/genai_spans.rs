//! GenAI spans in Scouter's shape: what the attributes of OpenTelemetry's conventions say, each under a name of its own.

use std::collections::{BTreeMap, HashSet};

use scouter_query::{Condition, Direction, Engine, QueryError, Reader, Selection, micros_text};
use scouter_storage::columns::Table;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::filters::optional_time;
use crate::error::AnswerError;
use crate::filter::{SpanFilter, State};
use crate::genai::{OPENINFERENCE_KIND, is_genai, is_of_conversation};
use crate::json::{TypedAttribute, TypedValue};
use crate::span::{Event, Span, span_columns};
use crate::trace::collect;

const DEFAULT_LIMIT: usize = 100;
const MOST_SPANS: usize = 5000;

/// How a member is given.
#[derive(Clone, Copy)]
enum Shape {
    Text,
    Integer,
    Double,
    Texts,
    /// The value as JSON text, as messages are.
    Json,
}

/// The members that are taken from attributes: name, attribute, shape. Of two with a name the first that is there counts.
const MEMBERS: [(&str, &str, Shape); 40] = [
    ("operation_name", "gen_ai.operation.name", Shape::Text),
    ("provider_name", "gen_ai.provider.name", Shape::Text),
    ("provider_name", "gen_ai.system", Shape::Text),
    ("request_model", "gen_ai.request.model", Shape::Text),
    ("response_model", "gen_ai.response.model", Shape::Text),
    ("response_id", "gen_ai.response.id", Shape::Text),
    ("input_tokens", "gen_ai.usage.input_tokens", Shape::Integer),
    ("output_tokens", "gen_ai.usage.output_tokens", Shape::Integer),
    ("cache_creation_input_tokens", "gen_ai.usage.cache_creation.input_tokens", Shape::Integer),
    ("cache_read_input_tokens", "gen_ai.usage.cache_read.input_tokens", Shape::Integer),
    ("finish_reasons", "gen_ai.response.finish_reasons", Shape::Texts),
    ("output_type", "gen_ai.output.type", Shape::Text),
    ("conversation_id", "gen_ai.conversation.id", Shape::Text),
    ("agent_name", "gen_ai.agent.name", Shape::Text),
    ("agent_id", "gen_ai.agent.id", Shape::Text),
    ("agent_description", "gen_ai.agent.description", Shape::Text),
    ("agent_version", "gen_ai.agent.version", Shape::Text),
    ("data_source_id", "gen_ai.data_source.id", Shape::Text),
    ("tool_name", "gen_ai.tool.name", Shape::Text),
    ("tool_type", "gen_ai.tool.type", Shape::Text),
    ("tool_call_id", "gen_ai.tool.call.id", Shape::Text),
    ("request_temperature", "gen_ai.request.temperature", Shape::Double),
    ("request_max_tokens", "gen_ai.request.max_tokens", Shape::Integer),
    ("request_top_p", "gen_ai.request.top_p", Shape::Double),
    ("request_choice_count", "gen_ai.request.choice.count", Shape::Integer),
    ("request_seed", "gen_ai.request.seed", Shape::Integer),
    ("request_frequency_penalty", "gen_ai.request.frequency_penalty", Shape::Double),
    ("request_presence_penalty", "gen_ai.request.presence_penalty", Shape::Double),
    ("request_stop_sequences", "gen_ai.request.stop_sequences", Shape::Texts),
    ("server_address", "server.address", Shape::Text),
    ("server_port", "server.port", Shape::Integer),
    ("error_type", "error.type", Shape::Text),
    ("openai_api_type", "openai.api.type", Shape::Text),
    ("openai_service_tier", "openai.response.service_tier", Shape::Text),
    ("label", "scouter.tracing.label", Shape::Text),
    ("input_messages", "gen_ai.input.messages", Shape::Json),
    ("output_messages", "gen_ai.output.messages", Shape::Json),
    ("system_instructions", "gen_ai.system_instructions", Shape::Json),
    ("tool_definitions", "gen_ai.tool.definitions", Shape::Json),
    ("conversation_id", "session.id", Shape::Text),
];

/// What OpenInference calls the same, in spans that say that they are its: names such as `tool.name` are others' too.
const OPENINFERENCE_MEMBERS: [(&str, &str, Shape); 11] = [
    ("provider_name", "llm.provider", Shape::Text),
    ("provider_name", "llm.system", Shape::Text),
    ("request_model", "llm.model_name", Shape::Text),
    ("request_model", "embedding.model_name", Shape::Text),
    ("input_tokens", "llm.token_count.prompt", Shape::Integer),
    ("output_tokens", "llm.token_count.completion", Shape::Integer),
    ("cache_read_input_tokens", "llm.token_count.prompt_details.cache_read", Shape::Integer),
    ("cache_creation_input_tokens", "llm.token_count.prompt_details.cache_write", Shape::Integer),
    ("agent_name", "agent.name", Shape::Text),
    ("tool_name", "tool.name", Shape::Text),
    ("tool_call_id", "tool_call.id", Shape::Text),
];

/// Members that OpenInference writes as numbered attributes, `llm.input_messages.0.message.role`.
const NUMBERED: [(&str, &str); 2] = [("input_messages", "llm.input_messages"), ("output_messages", "llm.output_messages")];

/// The body of `POST /scouter/genai/spans`. Everything may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "Scouter's names say it")]
pub struct GenAiSpanFilters {
    pub service_name: Option<String>,
    pub start_time: Option<String>,
    pub end_time: Option<String>,
    pub operation_name: Option<String>,
    pub provider_name: Option<String>,
    pub model: Option<String>,
    pub conversation_id: Option<String>,
    pub agent_name: Option<String>,
    pub tool_name: Option<String>,
    pub error_type: Option<String>,
    pub limit: Option<usize>,
}

/// That a GenAI span names a model, asked for or answering.
pub(super) fn of_model(model: String) -> Condition {
    let columns = ["gen_ai_request_model", "gen_ai_response_model"];
    Condition::Any(columns.map(|column| Condition::OneOf(column, vec![model.clone()])).to_vec())
}

/// The columns that are named, as conditions.
pub(super) fn named<const N: usize>(columns: [(&'static str, Option<String>); N]) -> impl Iterator<Item = Condition> {
    columns.into_iter().filter_map(|(column, value)| Some(Condition::OneOf(column, vec![value?])))
}

/// `POST /scouter/genai/spans`: the newest GenAI spans that pass, newest first.
///
/// # Errors
/// A time or the limit cannot be read.
pub async fn genai_spans(engine: &Engine, filters: GenAiSpanFilters) -> Result<impl Serialize + use<>, AnswerError> {
    let range = SpanFilter {
        from: optional_time("start_time", filters.start_time.as_ref())?,
        until: optional_time("end_time", filters.end_time.as_ref())?,
        services: filters.service_name.into_iter().collect(),
        ..SpanFilter::default()
    };
    let limit = filters.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST_SPANS).contains(&limit) {
        return Err(AnswerError::parameter(format!("limit is not from 1 to {MOST_SPANS}"), "write such a number"));
    }
    let mut conditions = range.conditions();
    conditions.extend(named([
        ("gen_ai_operation_name", filters.operation_name),
        ("gen_ai_provider_name", filters.provider_name),
        ("gen_ai_agent_name", filters.agent_name),
        ("gen_ai_tool_name", filters.tool_name),
    ]));
    conditions.extend(filters.conversation_id.as_deref().map(is_of_conversation));
    conditions.extend(filters.model.map(of_model));
    conditions.extend(filters.error_type.map(|error| {
        let columns = ["error_type", "exception_type"];
        Condition::Any(columns.map(|column| Condition::OneOf(column, vec![error.clone()])).to_vec())
    }));
    let spans = engine.ask(move |mut reader| async move { first(&mut reader, conditions, Direction::LargestFirst, limit).await }).await?;
    Ok(json!({ "spans": spans.iter().map(record).collect::<Vec<_>>() }))
}

/// `GET /scouter/genai/conversation/{id}`: its spans in the order in which they began. None of an unknown one.
///
/// # Errors
/// A time cannot be read, or there are too many spans.
pub async fn genai_conversation(
    engine: &Engine,
    id: &str,
    start_time: Option<&String>,
    end_time: Option<&String>,
) -> Result<impl Serialize + use<>, AnswerError> {
    let range =
        SpanFilter { from: optional_time("start_time", start_time)?, until: optional_time("end_time", end_time)?, ..SpanFilter::default() };
    let mut conditions = range.conditions();
    conditions.push(is_of_conversation(id));
    let spans = engine
        .ask(move |mut reader| async move {
            let spans = first(&mut reader, conditions, Direction::SmallestFirst, MOST_SPANS + 1).await?;
            if spans.len() > MOST_SPANS { Err(QueryError::TooManyRows { limit: MOST_SPANS }) } else { Ok(spans) }
        })
        .await?;
    Ok(json!({ "spans": spans.iter().map(record).collect::<Vec<_>>() }))
}

/// The first GenAI spans by their start, each once.
async fn first(reader: &mut Reader, mut conditions: Vec<Condition>, direction: Direction, limit: usize) -> Result<Vec<Span>, QueryError> {
    conditions.push(is_genai());
    let selection = Selection::new(Table::Spans, &span_columns(true), conditions).first("start_unix_nano", direction, limit);
    let mut spans = collect(reader, selection).await?;
    let mut seen = HashSet::new();
    spans.retain(|span| seen.insert((span.ids.trace, span.ids.span)));
    Ok(spans)
}

fn record(span: &Span) -> Value {
    let attributes = span.body.as_ref().map(|body| body.attributes.as_slice()).unwrap_or_default();
    let mut record = Map::new();
    let is_openinference = attributes.iter().any(|attribute| attribute.key == OPENINFERENCE_KIND && attribute.value.text().is_some());
    let others = if is_openinference { &OPENINFERENCE_MEMBERS[..] } else { &[] };
    for &(name, key, shape) in MEMBERS.iter().chain(others) {
        let value = attributes.iter().find(|attribute| attribute.key == key).map_or(Value::Null, |found| shape.of(&found.value));
        let is_known = record.get(name).is_some_and(|known| !known.is_null());
        if !is_known {
            record.insert(name.to_owned(), if value.is_null() { shape.nothing() } else { value });
        }
    }
    if record["operation_name"].is_null() {
        record["operation_name"] = json!(span.genai);
    }
    for (name, prefix) in NUMBERED {
        if record[name].is_null() {
            record[name] = messages(attributes, prefix);
        }
    }
    let events = span.body.as_ref().map(|body| body.events.as_slice()).unwrap_or_default();
    if record["error_type"].is_null() {
        let exception = events.iter().find(|event| event.name == "exception");
        record["error_type"] = exception.map_or(Value::Null, |event| member(event, "exception.type", Shape::Text));
    }
    let evaluations: Vec<Value> = events.iter().filter(|event| event.name == "gen_ai.evaluation.result").map(evaluation).collect();
    for (name, value) in [
        ("trace_id", json!(span.trace_id)),
        ("span_id", json!(span.span_id)),
        ("service_name", json!(span.service)),
        ("start_time", json!(micros_text(span.start_unix_nano.0.div_euclid(1000)))),
        ("end_time", json!(micros_text(span.end_unix_nano().div_euclid(1000)))),
        ("duration_ms", json!(span.duration_nano.0.max(0) / 1_000_000)),
        ("status_code", json!(State::from_name(span.status).map_or(0, State::code))),
        ("entity_id", json!(span.body.as_ref().and_then(|body| body.entity_ids.first()))),
        ("eval_results", Value::Array(evaluations)),
    ] {
        record.insert(name.to_owned(), value);
    }
    Value::Object(record)
}

/// Numbered attributes as the JSON text of a list of messages; null without any.
fn messages(attributes: &[TypedAttribute], prefix: &str) -> Value {
    let mut messages: BTreeMap<usize, Map<String, Value>> = BTreeMap::new();
    for attribute in attributes {
        let member = attribute.key.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')?.split_once(".message."));
        if let Some((Ok(number), member)) = member.map(|(number, member)| (number.parse(), member)) {
            messages.entry(number).or_default().insert(member.to_owned(), attribute.value.plain());
        }
    }
    if messages.is_empty() { Value::Null } else { json!(json!(messages.into_values().collect::<Vec<_>>()).to_string()) }
}

impl Shape {
    /// The value in this shape, null if it is of another type.
    fn of(self, value: &TypedValue) -> Value {
        match (self, value) {
            (Self::Text, TypedValue::String(text)) => json!(text),
            (Self::Integer, TypedValue::Int(number)) => json!(number.0),
            (Self::Double, TypedValue::Double(number)) => number.clone(),
            (Self::Double, TypedValue::Int(number)) => json!(number.0 as f64),
            (Self::Texts, TypedValue::Array(values)) => values.iter().filter_map(TypedValue::text).map(Value::from).collect(),
            (Self::Json, TypedValue::String(text)) => json!(text),
            (Self::Json, other) => json!(other.plain().to_string()),
            _ => Value::Null,
        }
    }

    fn nothing(self) -> Value {
        if matches!(self, Self::Texts) { json!([]) } else { Value::Null }
    }
}

fn member(event: &Event, key: &str, shape: Shape) -> Value {
    let found = event.attributes.iter().find(|attribute: &&TypedAttribute| attribute.key == key);
    found.map_or(Value::Null, |attribute| shape.of(&attribute.value))
}

fn evaluation(event: &Event) -> Value {
    json!({
        "name": member(event, "gen_ai.evaluation.name", Shape::Text).as_str().unwrap_or_default(),
        "score_label": member(event, "gen_ai.evaluation.score.label", Shape::Text),
        "score_value": member(event, "gen_ai.evaluation.score.value", Shape::Double),
        "explanation": member(event, "gen_ai.evaluation.explanation", Shape::Text),
        "response_id": member(event, "gen_ai.response.id", Shape::Text),
    })
}
