//! Scouter's GenAI metrics. Tokens read from and written to a model's cache have no column and are given as 0.

use scouter_query::{Engine, micros_text};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::filters::time;
use super::genai_spans::{named, of_model};
use super::metrics::interval;
use crate::error::AnswerError;
use crate::filter::SpanFilter;
use crate::genai::{Sums, for_each};
use crate::groups::Groups;

/// The body of `POST /scouter/genai/metrics/...`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "Scouter's names say it")]
pub struct GenAiMetrics {
    pub service_name: Option<String>,
    pub start_time: String,
    pub end_time: String,
    #[serde(default = "hour")]
    pub bucket_interval: String,
    pub operation_name: Option<String>,
    pub provider_name: Option<String>,
    pub model: Option<String>,
    pub agent_name: Option<String>,
}

pub(super) fn hour() -> String {
    "hour".to_owned()
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum GenAiTable {
    Tokens,
    Operations,
    Models,
    Agents,
    Tools,
    Errors,
}

impl GenAiTable {
    /// By the last part of the route.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "tokens" => Self::Tokens,
            "operations" => Self::Operations,
            "models" => Self::Models,
            "agents" => Self::Agents,
            "tools" => Self::Tools,
            "errors" => Self::Errors,
            _ => return None,
        })
    }
}

type Key = (Option<String>, Option<String>);

/// `POST /scouter/genai/metrics/{tokens,operations,models,agents,tools,errors}`.
///
/// # Errors
/// A time or an interval cannot be read.
pub async fn genai_metrics(engine: &Engine, table: GenAiTable, question: GenAiMetrics) -> Result<impl Serialize + use<>, AnswerError> {
    let interval = interval(&question.bucket_interval)?;
    let filter = SpanFilter {
        from: Some(time("start_time", &question.start_time)?),
        until: Some(time("end_time", &question.end_time)?),
        services: question.service_name.into_iter().collect(),
        ..SpanFilter::default()
    };
    let mut conditions = filter.conditions();
    conditions.extend(named([
        ("gen_ai_operation_name", question.operation_name),
        ("gen_ai_provider_name", question.provider_name),
        ("gen_ai_agent_name", question.agent_name),
    ]));
    conditions.extend(question.model.map(of_model));
    let (groups, buckets) = engine
        .ask(move |mut reader| async move {
            let (mut groups, mut buckets): (Groups<Key, Sums>, Groups<i64, Sums>) = (Groups::default(), Groups::default());
            for_each(&mut reader, conditions, |row| {
                let text = |text: Option<&str>| text.map(str::to_owned);
                let key = match table {
                    GenAiTable::Tokens => {
                        return Ok(buckets.of(interval.start_of(row.start))?.add(row) + buckets.grown());
                    }
                    GenAiTable::Operations => row.operation.map(|operation| (text(Some(operation)), text(row.provider))),
                    GenAiTable::Models => row.model.map(|model| (text(Some(model)), text(row.provider))),
                    GenAiTable::Agents => row.agent.map(|agent| (text(Some(agent)), text(row.conversation))),
                    GenAiTable::Tools => row.tool.map(|tool| (text(Some(tool)), None)),
                    GenAiTable::Errors => row.error_type.map(|error| (text(Some(error)), None)),
                };
                match key {
                    Some(key) => Ok(groups.of(key)?.add(row) + groups.grown()),
                    None => Ok(0),
                }
            })
            .await?;
            Ok((groups, buckets))
        })
        .await?;
    let mut groups: Vec<(Key, Sums)> = groups.into_iter().collect();
    groups.sort_by(|(left, few), (right, many)| many.tally.count.cmp(&few.tally.count).then_with(|| left.cmp(right)));
    let mut buckets: Vec<(i64, Sums)> = buckets.into_iter().collect();
    buckets.sort_by_key(|(start, _)| *start);
    let rows: Vec<Value> = match table {
        GenAiTable::Tokens => buckets.into_iter().map(|(start, sums)| bucket(start, &sums)).collect(),
        _ => groups.into_iter().map(|((name, second), sums)| row(table, name, second, &sums)).collect(),
    };
    let name = match table {
        GenAiTable::Tokens => "buckets",
        GenAiTable::Operations => "operations",
        GenAiTable::Models => "models",
        GenAiTable::Agents => "agents",
        GenAiTable::Tools => "tools",
        GenAiTable::Errors => "errors",
    };
    Ok(json!({ name: rows }))
}

pub(super) fn time_text(nanos: i64) -> String {
    micros_text(nanos.div_euclid(1000))
}

pub(super) fn error_rate(sums: &Sums) -> f64 {
    sums.tally.errors as f64 / sums.tally.count.max(1) as f64
}

pub(super) fn average_ms(sums: &Sums) -> f64 {
    sums.duration_nano as f64 / sums.tally.count.max(1) as f64 / 1e6
}

fn bucket(start: i64, sums: &Sums) -> Value {
    json!({
        "bucket_start": time_text(start), "total_input_tokens": sums.input_tokens, "total_output_tokens": sums.output_tokens,
        "total_cache_creation_tokens": 0, "total_cache_read_tokens": 0, "span_count": sums.tally.count, "error_rate": error_rate(sums),
    })
}

fn row(table: GenAiTable, name: Option<String>, second: Option<String>, sums: &Sums) -> Value {
    let millis = |share: f64| sums.tally.durations.percentile(share) as f64 / 1e6;
    match table {
        GenAiTable::Operations | GenAiTable::Tokens => json!({
            "operation_name": name, "provider_name": second, "span_count": sums.tally.count, "avg_duration_ms": average_ms(sums),
            "total_input_tokens": sums.input_tokens, "total_output_tokens": sums.output_tokens, "error_rate": error_rate(sums),
        }),
        GenAiTable::Models => json!({
            "model": name, "provider_name": second, "span_count": sums.tally.count, "total_input_tokens": sums.input_tokens,
            "total_output_tokens": sums.output_tokens, "p50_duration_ms": millis(0.5), "p95_duration_ms": millis(0.95),
            "error_rate": error_rate(sums),
        }),
        GenAiTable::Agents => json!({
            "agent_name": name, "agent_id": null, "conversation_id": second, "span_count": sums.tally.count,
            "total_input_tokens": sums.input_tokens, "total_output_tokens": sums.output_tokens, "last_seen": time_text(sums.last),
        }),
        GenAiTable::Tools => json!({
            "tool_name": name, "tool_type": null, "call_count": sums.tally.count, "avg_duration_ms": average_ms(sums),
            "error_rate": error_rate(sums),
        }),
        GenAiTable::Errors => json!({ "error_type": name, "count": sums.tally.count }),
    }
}
