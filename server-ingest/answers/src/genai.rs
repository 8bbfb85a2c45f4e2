//! What models, agents and tools did: totals, tables, errors. Conversations are in [`conversations`].

mod conversations;

use std::collections::{BTreeMap, HashSet};

use futures::StreamExt;
use scouter_query::{Condition, Engine, QueryError, Reader, Selection, hex_text};
use scouter_storage::columns::Table;
use serde::Serialize;

use crate::columns::{Columns, Words, id, integer};
use crate::error::AnswerError;
use crate::filter::{FILTER_PARAMETERS, SpanFilter};
use crate::groups::{ENTRY_BYTES, Groups, Growth, Key};
use crate::json::Decimal;
use crate::parameters::Parameters;
use crate::series::{Buckets, Tally, bucket_length};
use crate::span::is_error_code;

pub use conversations::{conversation, conversations, genai_of_trace};

/// The attribute, a text, of every span of OpenInference.
pub(crate) const OPENINFERENCE_KIND: &str = "openinference.span.kind";

/// The columns of which a GenAI span has one.
const MARKS: [&str; 9] = [
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "gen_ai_conversation_id",
    "gen_ai_agent_name",
    "gen_ai_tool_name",
    "gen_ai_usage_input_tokens",
    "gen_ai_usage_output_tokens",
];

/// That a span is one of GenAI.
pub(crate) fn is_genai() -> Condition {
    Condition::Any(MARKS.into_iter().map(Condition::Present).collect())
}

/// That a GenAI span is of a conversation: by its own id, else by that of its session, which is OpenInference's word for it.
pub(crate) fn is_of_conversation(id: &str) -> Condition {
    let is_id = |column| Condition::OneOf(column, vec![id.to_owned()]);
    Condition::Any(vec![
        is_id("gen_ai_conversation_id"),
        Condition::All(vec![Condition::Missing("gen_ai_conversation_id"), is_id("session_id")]),
    ])
}

/// Takes a filter that is all of the question.
fn take_filter(mut parameters: Parameters) -> Result<SpanFilter, AnswerError> {
    let filter = SpanFilter::take(&mut parameters)?;
    parameters.end(&FILTER_PARAMETERS)?;
    Ok(filter)
}

/// What is summed up of spans.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    pub(crate) tally: Tally,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) duration_nano: i128,
    pub(crate) last: i64,
}

impl Sums {
    /// Tells by how many bytes it grew.
    pub(crate) fn add(&mut self, row: &Row<'_>) -> usize {
        self.duration_nano += i128::from(row.duration.max(0));
        self.last = if self.tally.count == 0 { row.start } else { self.last.max(row.start) };
        self.input_tokens = self.input_tokens.saturating_add(row.input_tokens.unwrap_or(0));
        self.output_tokens = self.output_tokens.saturating_add(row.output_tokens.unwrap_or(0));
        self.tally.add(row.duration, row.is_error)
    }
}

/// What is read of a GenAI span.
pub(crate) struct Row<'a> {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
    pub(crate) start: i64,
    pub(crate) duration: i64,
    pub(crate) is_error: bool,
    pub(crate) service: &'a str,
    pub(crate) name: &'a str,
    pub(crate) message: &'a str,
    pub(crate) error_type: Option<&'a str>,
    pub(crate) operation: Option<&'a str>,
    pub(crate) provider: Option<&'a str>,
    pub(crate) model: Option<&'a str>,
    pub(crate) conversation: Option<&'a str>,
    pub(crate) agent: Option<&'a str>,
    pub(crate) tool: Option<&'a str>,
    pub(crate) input_tokens: Option<i64>,
    pub(crate) output_tokens: Option<i64>,
}

const COLUMNS: [&str; 21] = [
    "trace_id",
    "span_id",
    "start_unix_nano",
    "duration_nano",
    "status_code",
    "service_name",
    "name",
    "status_message",
    "error_type",
    "exception_type",
    "exception_message",
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "gen_ai_conversation_id",
    "session_id",
    "gen_ai_agent_name",
    "gen_ai_tool_name",
    "gen_ai_usage_input_tokens",
    "gen_ai_usage_output_tokens",
];

/// The texts among them.
const WORDS: std::ops::Range<usize> = 5..19;

/// Calls `each` with every GenAI span for which `conditions` hold. It tells by how many bytes it grew what it keeps.
pub(crate) async fn for_each(
    reader: &mut Reader,
    mut conditions: Vec<Condition>,
    mut each: impl FnMut(&Row<'_>) -> Result<usize, QueryError> + Send,
) -> Result<(), QueryError> {
    conditions.push(is_genai());
    let mut rows = reader.rows(Selection::new(Table::Spans, &COLUMNS, conditions)).await?;
    let mut growth = Growth::default();
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        let columns = Columns(&batch);
        let (traces, spans) = (columns.bytes("trace_id")?, columns.bytes("span_id")?);
        let (starts, durations) = (columns.integers("start_unix_nano")?, columns.integers("duration_nano")?);
        let codes = columns.codes("status_code")?;
        let words: Vec<Words<'_>> = COLUMNS[WORDS].iter().map(|name| columns.words(name)).collect::<Result<_, _>>()?;
        let word = |name: &str, row: usize| {
            let at = COLUMNS[WORDS].iter().position(|column| *column == name)?;
            words.get(at)?.get(row)
        };
        let (inputs, outputs) = (columns.integers("gen_ai_usage_input_tokens")?, columns.integers("gen_ai_usage_output_tokens")?);
        for row in 0..columns.rows() {
            let (Some(trace), Some(span)) = (id(&traces, row), id(&spans, row)) else { continue };
            let message = word("status_message", row).filter(|message| !message.is_empty());
            let grown = each(&Row {
                trace,
                span,
                start: starts.value(row),
                duration: durations.value(row),
                is_error: is_error_code(codes.value(row)),
                service: word("service_name", row).unwrap_or_default(),
                name: word("name", row).unwrap_or_default(),
                message: message.or_else(|| word("exception_message", row)).unwrap_or_default(),
                error_type: word("error_type", row).or_else(|| word("exception_type", row)),
                operation: word("gen_ai_operation_name", row),
                provider: word("gen_ai_provider_name", row),
                model: word("gen_ai_response_model", row).or_else(|| word("gen_ai_request_model", row)),
                conversation: word("gen_ai_conversation_id", row).or_else(|| word("session_id", row)),
                agent: word("gen_ai_agent_name", row),
                tool: word("gen_ai_tool_name", row),
                input_tokens: integer(inputs, row),
                output_tokens: integer(outputs, row),
            })?;
            growth.add(reader, grown)?;
        }
    }
    growth.settle(reader)
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

#[derive(Debug, Serialize)]
struct SummaryAnswer {
    span_count: u64,
    error_count: u64,
    trace_count: usize,
    conversation_count: usize,
    input_tokens: i64,
    output_tokens: i64,
    p50_nano: Decimal,
    p95_nano: Decimal,
    p99_nano: Decimal,
    operations: Vec<OperationAnswer>,
    bucket_nano: Decimal,
    points: Vec<PointAnswer>,
}

#[derive(Debug, Serialize)]
struct OperationAnswer {
    operation: Option<String>,
    span_count: u64,
    error_count: u64,
    input_tokens: i64,
    output_tokens: i64,
    p50_nano: Decimal,
    p95_nano: Decimal,
}

#[derive(Debug, Serialize)]
struct PointAnswer {
    start_unix_nano: Decimal,
    count: u64,
    error_count: u64,
    input_tokens: i64,
    output_tokens: i64,
    p50_nano: Decimal,
    p95_nano: Decimal,
}

#[derive(Default)]
struct Summed {
    all: Sums,
    traces: HashSet<[u8; 16]>,
    conversations: HashSet<String>,
    operations: Groups<Option<String>, Sums>,
    points: BTreeMap<i64, Sums>,
}

impl Summed {
    /// Tells by how many bytes it grew. The start of a bucket says which.
    fn add(&mut self, row: &Row<'_>, bucket: i64) -> Result<usize, QueryError> {
        let mut grown = self.all.add(row);
        grown += if self.traces.insert(row.trace) { size_of_val(&row.trace) + ENTRY_BYTES } else { 0 };
        grown += row.conversation.map_or(0, |conversation| insert(&mut self.conversations, conversation));
        grown += self.operations.of(owned(row.operation))?.add(row) + self.operations.grown();
        let point = self.points.entry(bucket).or_default();
        grown += if point.tally.count == 0 { size_of::<(i64, Sums)>() + ENTRY_BYTES } else { 0 };
        Ok(grown + point.add(row))
    }
}

/// Puts a text into a set and tells by how many bytes that grew.
pub(crate) fn insert(set: &mut HashSet<String>, text: &str) -> usize {
    if set.contains(text) {
        return 0;
    }
    set.insert(text.to_owned());
    size_of::<String>() + ENTRY_BYTES + text.len()
}

/// Totals of GenAI spans, by operation and over time.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn genai_summary(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let length = bucket_length(&mut parameters)?;
    let filter = SpanFilter::take(&mut parameters)?;
    parameters.end(&[&FILTER_PARAMETERS[..], &["bucket"]].concat())?;
    let (buckets, summed) = engine
        .ask(move |mut reader| async move {
            let buckets = Buckets::over(&mut reader, Table::Spans, (filter.from, filter.until), length).await?.check()?;
            let mut summed = Summed::default();
            for_each(&mut reader, filter.conditions(), |row| summed.add(row, buckets.of(row.start))).await?;
            Ok((buckets, summed))
        })
        .await?;
    let mut operations: Vec<OperationAnswer> = summed
        .operations
        .into_iter()
        .map(|(operation, sums)| OperationAnswer {
            operation,
            span_count: sums.tally.count,
            error_count: sums.tally.errors,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            p50_nano: sums.tally.percentile(0.5),
            p95_nano: sums.tally.percentile(0.95),
        })
        .collect();
    operations.sort_by(|left, right| right.span_count.cmp(&left.span_count).then_with(|| left.operation.cmp(&right.operation)));
    let points = summed
        .points
        .into_iter()
        .map(|(start, sums)| PointAnswer {
            start_unix_nano: Decimal(start),
            count: sums.tally.count,
            error_count: sums.tally.errors,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            p50_nano: sums.tally.percentile(0.5),
            p95_nano: sums.tally.percentile(0.95),
        })
        .collect();
    Ok(SummaryAnswer {
        span_count: summed.all.tally.count,
        error_count: summed.all.tally.errors,
        trace_count: summed.traces.len(),
        conversation_count: summed.conversations.len(),
        input_tokens: summed.all.input_tokens,
        output_tokens: summed.all.output_tokens,
        p50_nano: summed.all.tally.percentile(0.5),
        p95_nano: summed.all.tally.percentile(0.95),
        p99_nano: summed.all.tally.percentile(0.99),
        operations,
        bucket_nano: Decimal(buckets.length),
        points,
    })
}

/// What every row of a table tells.
#[derive(Debug, Serialize)]
struct Figures {
    span_count: u64,
    error_count: u64,
    input_tokens: i64,
    output_tokens: i64,
    p50_nano: Decimal,
    p95_nano: Decimal,
    p99_nano: Decimal,
    last_seen_unix_nano: Decimal,
}

impl Figures {
    fn of(sums: &Sums) -> Self {
        Self {
            span_count: sums.tally.count,
            error_count: sums.tally.errors,
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            p50_nano: sums.tally.percentile(0.5),
            p95_nano: sums.tally.percentile(0.95),
            p99_nano: sums.tally.percentile(0.99),
            last_seen_unix_nano: Decimal(sums.last),
        }
    }
}

/// The sums of the GenAI spans that have a key, most frequent first.
async fn table<K: Key + Ord + Send + 'static>(
    engine: &Engine,
    filter: SpanFilter,
    key: impl Fn(&Row<'_>) -> Option<K> + Send + Sync + 'static,
) -> Result<Vec<(K, Figures)>, AnswerError> {
    let groups = engine
        .ask(move |mut reader| async move {
            let mut groups: Groups<K, Sums> = Groups::default();
            for_each(&mut reader, filter.conditions(), |row| match key(row) {
                Some(key) => Ok(groups.of(key)?.add(row) + groups.grown()),
                None => Ok(0),
            })
            .await?;
            Ok(groups)
        })
        .await?;
    let mut rows: Vec<(K, Figures)> = groups.into_iter().map(|(key, sums)| (key, Figures::of(&sums))).collect();
    rows.sort_by(|(left, few), (right, many)| many.span_count.cmp(&few.span_count).then_with(|| left.cmp(right)));
    Ok(rows)
}

#[derive(Debug, Serialize)]
struct Models {
    models: Vec<Model>,
}

#[derive(Debug, Serialize)]
struct Model {
    provider: Option<String>,
    model: Option<String>,
    #[serde(flatten)]
    figures: Figures,
}

/// What each model did.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn genai_models(engine: &Engine, parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let key = |row: &Row<'_>| (row.model.is_some() || row.input_tokens.is_some()).then(|| (owned(row.provider), owned(row.model)));
    let rows = table(engine, take_filter(parameters)?, key).await?;
    Ok(Models { models: rows.into_iter().map(|((provider, model), figures)| Model { provider, model, figures }).collect() })
}

#[derive(Debug, Serialize)]
struct Tools {
    tools: Vec<Tool>,
}

#[derive(Debug, Serialize)]
struct Tool {
    tool: String,
    #[serde(flatten)]
    figures: Figures,
}

/// What each tool did.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn genai_tools(engine: &Engine, parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let rows = table(engine, take_filter(parameters)?, |row| owned(row.tool)).await?;
    Ok(Tools { tools: rows.into_iter().map(|(tool, figures)| Tool { tool, figures }).collect() })
}

#[derive(Debug, Serialize)]
struct Agents {
    agents: Vec<Agent>,
}

#[derive(Debug, Serialize)]
struct Agent {
    agent: String,
    #[serde(flatten)]
    figures: Figures,
}

/// What each agent did.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn genai_agents(engine: &Engine, parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let rows = table(engine, take_filter(parameters)?, |row| owned(row.agent)).await?;
    Ok(Agents { agents: rows.into_iter().map(|(agent, figures)| Agent { agent, figures }).collect() })
}

#[derive(Debug, Serialize)]
struct Errors {
    errors: Vec<ErrorGroup>,
}

#[derive(Debug, Serialize)]
struct ErrorGroup {
    error_type: Option<String>,
    operation: Option<String>,
    model: Option<String>,
    count: u64,
    last_seen_unix_nano: Decimal,
    last: LastError,
}

#[derive(Debug, Default, Serialize)]
struct LastError {
    trace_id: String,
    span_id: String,
    service: String,
    name: String,
    message: String,
}

impl LastError {
    fn heap_bytes(&self) -> usize {
        [&self.trace_id, &self.span_id, &self.service, &self.name, &self.message].map(String::capacity).into_iter().sum()
    }
}

/// The errors of GenAI spans, most frequent first.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn genai_errors(engine: &Engine, parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    type Kind = (Option<String>, Option<String>, Option<String>);
    let filter = take_filter(parameters)?;
    let groups = engine
        .ask(move |mut reader| async move {
            let mut groups: Groups<Kind, (u64, i64, LastError)> = Groups::default();
            for_each(&mut reader, filter.conditions(), |row| {
                if !row.is_error && row.error_type.is_none() {
                    return Ok(0);
                }
                let (count, last, error) = groups.of((owned(row.error_type), owned(row.operation), owned(row.model)))?;
                let before = error.heap_bytes();
                if *count == 0 || row.start > *last {
                    *last = row.start;
                    *error = LastError {
                        trace_id: hex_text(&row.trace),
                        span_id: hex_text(&row.span),
                        service: row.service.to_owned(),
                        name: row.name.to_owned(),
                        message: row.message.to_owned(),
                    };
                }
                *count += 1;
                let grown = error.heap_bytes().saturating_sub(before);
                Ok(grown + groups.grown())
            })
            .await?;
            Ok(groups)
        })
        .await?;
    let mut errors: Vec<ErrorGroup> = groups
        .into_iter()
        .map(|((error_type, operation, model), (count, last_seen, last))| ErrorGroup {
            error_type,
            operation,
            model,
            count,
            last_seen_unix_nano: Decimal(last_seen),
            last,
        })
        .collect();
    errors.sort_by(|left, right| right.count.cmp(&left.count).then_with(|| right.last_seen_unix_nano.cmp(&left.last_seen_unix_nano)));
    Ok(Errors { errors })
}
