//! Scouter's dashboards of agents and of tools: totals, and the same over time.

use std::collections::{HashMap, HashSet};

use scouter_query::{Condition, Engine, QueryError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::filters::time;
use super::genai::{average_ms, error_rate, hour, time_text};
use super::genai_spans::{named, of_model};
use super::metrics::{Interval, interval};
use crate::error::AnswerError;
use crate::filter::SpanFilter;
use crate::genai::{Row, Sums, for_each, insert};
use crate::groups::Groups;

/// What a model costs for a million tokens.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "Scouter's names say it")]
pub struct ModelPricing {
    pub input_per_million: f64,
    pub output_per_million: f64,
    pub cache_creation_per_million: f64,
    pub cache_read_per_million: f64,
}

/// The body of `POST /scouter/genai/agent/metrics` and `POST /scouter/genai/tool/metrics`.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "Scouter's names say it")]
pub struct DashboardQuestion {
    pub service_name: Option<String>,
    pub entity_id: Option<String>,
    pub start_time: String,
    pub end_time: String,
    #[serde(default = "hour")]
    pub bucket_interval: String,
    pub agent_name: Option<String>,
    pub provider_name: Option<String>,
    pub model: Option<String>,
    #[serde(default)]
    pub model_pricing: HashMap<String, ModelPricing>,
}

/// Under this a model is named that no span names.
const UNKNOWN: &str = "unknown";

impl DashboardQuestion {
    fn read(&self) -> Result<(Interval, Vec<Condition>), AnswerError> {
        let filter = SpanFilter {
            from: Some(time("start_time", &self.start_time)?),
            until: Some(time("end_time", &self.end_time)?),
            services: self.service_name.iter().cloned().collect(),
            entities: self.entity_id.iter().cloned().collect(),
            ..SpanFilter::default()
        };
        let mut conditions = filter.conditions();
        conditions.extend(named([("gen_ai_agent_name", self.agent_name.clone()), ("gen_ai_provider_name", self.provider_name.clone())]));
        conditions.extend(self.model.clone().map(of_model));
        Ok((interval(&self.bucket_interval)?, conditions))
    }
}

#[derive(Default)]
struct Agents {
    all: Sums,
    buckets: Groups<i64, Sums>,
    models: Groups<String, Sums>,
    agents: HashSet<String>,
    conversations: HashSet<String>,
}

impl Agents {
    /// Tells by how many bytes it grew.
    fn add(&mut self, row: &Row<'_>, interval: Interval) -> Result<usize, QueryError> {
        let mut grown = self.all.add(row);
        grown += self.buckets.of(interval.start_of(row.start))?.add(row) + self.buckets.grown();
        grown += self.models.of(row.model.unwrap_or(UNKNOWN).to_owned())?.add(row) + self.models.grown();
        grown += row.agent.map_or(0, |agent| insert(&mut self.agents, agent));
        Ok(grown + row.conversation.map_or(0, |conversation| insert(&mut self.conversations, conversation)))
    }
}

/// `POST /scouter/genai/agent/metrics`.
///
/// # Errors
/// A time or an interval cannot be read, or there are too many buckets.
pub async fn agent_metrics(engine: &Engine, question: DashboardQuestion) -> Result<impl Serialize + use<>, AnswerError> {
    let (interval, conditions) = question.read()?;
    let found = engine
        .ask(move |mut reader| async move {
            let mut found = Agents::default();
            for_each(&mut reader, conditions, |row| found.add(row, interval)).await?;
            Ok(found)
        })
        .await?;
    let mut models: Vec<(String, Sums)> = found.models.into_iter().collect();
    models.sort_by(|(left, few), (right, many)| many.tally.count.cmp(&few.tally.count).then_with(|| left.cmp(right)));
    let models: Vec<Value> = models.into_iter().map(|(model, sums)| of_model_and_cost(&model, &sums, &question.model_pricing)).collect();
    let mut buckets: Vec<(i64, Sums)> = found.buckets.into_iter().collect();
    buckets.sort_by_key(|(start, _)| *start);
    let all = &found.all;
    Ok(json!({
        "summary": {
            "total_requests": all.tally.count, "avg_duration_ms": average_ms(all),
            "p50_duration_ms": millis(all, 0.5), "p95_duration_ms": millis(all, 0.95), "p99_duration_ms": millis(all, 0.99),
            "overall_error_rate": error_rate(all), "total_input_tokens": all.input_tokens, "total_output_tokens": all.output_tokens,
            "total_cache_creation_tokens": 0, "total_cache_read_tokens": 0,
            "unique_agent_count": found.agents.len(), "unique_conversation_count": found.conversations.len(), "cost_by_model": models,
        },
        "buckets": buckets.iter().map(|(start, sums)| json!({
            "bucket_start": time_text(*start), "span_count": sums.tally.count, "error_count": sums.tally.errors,
            "error_rate": error_rate(sums), "avg_duration_ms": average_ms(sums),
            "p50_duration_ms": millis(sums, 0.5), "p95_duration_ms": millis(sums, 0.95), "p99_duration_ms": millis(sums, 0.99),
            "total_input_tokens": sums.input_tokens, "total_output_tokens": sums.output_tokens,
            "total_cache_creation_tokens": 0, "total_cache_read_tokens": 0, "total_cost": null,
        })).collect::<Vec<_>>(),
    }))
}

/// `POST /scouter/genai/tool/metrics`.
///
/// # Errors
/// As [`agent_metrics`].
pub async fn tool_metrics(engine: &Engine, question: DashboardQuestion) -> Result<impl Serialize + use<>, AnswerError> {
    let (interval, conditions) = question.read()?;
    let (tools, series) = engine
        .ask(move |mut reader| async move {
            let (mut tools, mut series) = (Groups::<String, Sums>::default(), Groups::<(i64, String), Sums>::default());
            for_each(&mut reader, conditions, |row| {
                let Some(tool) = row.tool else { return Ok(0) };
                let of_tool = tools.of(tool.to_owned())?.add(row) + tools.grown();
                let at = (interval.start_of(row.start), tool.to_owned());
                Ok(of_tool + series.of(at)?.add(row) + series.grown())
            })
            .await?;
            Ok((tools, series))
        })
        .await?;
    let mut tools: Vec<(String, Sums)> = tools.into_iter().collect();
    tools.sort_by(|(left, few), (right, many)| many.tally.count.cmp(&few.tally.count).then_with(|| left.cmp(right)));
    let mut series: Vec<((i64, String), Sums)> = series.into_iter().collect();
    series.sort_by(|(left, _), (right, _)| left.cmp(right));
    let figures = |tool: &str, sums: &Sums| {
        json!({
            "tool_name": tool, "tool_type": null, "call_count": sums.tally.count, "avg_duration_ms": average_ms(sums),
            "error_rate": error_rate(sums),
        })
    };
    let points = series.iter().map(|((start, tool), sums)| {
        let mut point = figures(tool, sums);
        point["bucket_start"] = json!(time_text(*start));
        point
    });
    Ok(json!({
        "aggregates": tools.iter().map(|(tool, sums)| figures(tool, sums)).collect::<Vec<_>>(),
        "time_series": points.collect::<Vec<_>>(),
    }))
}

/// A percentile in milliseconds; null of nothing.
fn millis(sums: &Sums, share: f64) -> Option<f64> {
    (sums.tally.count > 0).then(|| sums.tally.durations.percentile(share) as f64 / 1e6)
}

fn of_model_and_cost(model: &str, sums: &Sums, pricing: &HashMap<String, ModelPricing>) -> Value {
    let cost = pricing
        .get(model)
        .map(|price| (sums.input_tokens as f64 * price.input_per_million + sums.output_tokens as f64 * price.output_per_million) / 1e6);
    json!({
        "model": model, "total_input_tokens": sums.input_tokens, "total_output_tokens": sums.output_tokens,
        "total_cache_creation_tokens": 0, "total_cache_read_tokens": 0, "total_cost": cost,
    })
}
