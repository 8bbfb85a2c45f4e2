//! Conversations: GenAI spans with one `gen_ai.conversation.id`, else with one `session.id`, or of one trace where they have neither.
//!
//! Many instrumentations put the id on the spans of the model and not on those of its tools. Spans without one therefore belong to the
//! conversation of their trace, if it has exactly one.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures::StreamExt;
use scouter_query::{Condition, Engine, QueryError, Reader, Selection, hex_text};
use scouter_storage::columns::Table;
use serde::Serialize;

use super::{OPENINFERENCE_KIND, Row, for_each, is_genai, is_of_conversation};
use crate::error::AnswerError;
use crate::filter::{FILTER_PARAMETERS, SpanFilter, trace_id};
use crate::groups::{ENTRY_BYTES, Groups, Growth, Key};
use crate::json::{Decimal, TypedValue};
use crate::parameters::Parameters;
use crate::span::{Span, end};
use crate::trace::{in_tree_order, read_trace_id, spans, traces_with};

/// What the ids of conversations that are traces begin with.
const TRACE: &str = "trace:";

const MOST_CONVERSATIONS: usize = 200;
const MOST_STEPS: usize = 1000;
/// Traces of one conversation.
const MOST_TRACES: usize = 1000;
/// Values in each list.
const MOST_VALUES: usize = 50;

#[derive(Debug, Serialize)]
struct Page {
    conversations: Vec<Conversation>,
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize)]
struct Conversation {
    id: String,
    is_trace: bool,
    start_unix_nano: Decimal,
    last_unix_nano: Decimal,
    span_count: u64,
    error_count: u64,
    trace_count: usize,
    trace_ids: Vec<String>,
    input_tokens: i64,
    output_tokens: i64,
    models: BTreeSet<String>,
    agents: BTreeSet<String>,
    tools: BTreeSet<String>,
    services: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Id {
    Named(String),
    Trace([u8; 16]),
}

impl Key for Id {
    fn heap_bytes(&self) -> usize {
        match self {
            Self::Named(id) => id.len(),
            Self::Trace(_) => 0,
        }
    }
}

#[derive(Debug, Default)]
struct Folded {
    spans: u64,
    errors: u64,
    start: i64,
    last: i64,
    tokens: (i64, i64),
    traces: BTreeSet<[u8; 16]>,
    models: BTreeSet<String>,
    agents: BTreeSet<String>,
    tools: BTreeSet<String>,
    services: BTreeSet<String>,
}

/// Tells by how many bytes the set grew.
fn keep(set: &mut BTreeSet<String>, text: Option<&str>) -> usize {
    match text {
        Some(text) if set.len() < MOST_VALUES && !set.contains(text) => {
            set.insert(text.to_owned());
            size_of::<String>() + ENTRY_BYTES + text.len()
        }
        _ => 0,
    }
}

impl Folded {
    /// Tells by how many bytes it grew.
    fn add(&mut self, row: &Row<'_>) -> usize {
        let ended = end(row.start, row.duration);
        (self.start, self.last) = if self.spans == 0 { (row.start, ended) } else { (self.start.min(row.start), self.last.max(ended)) };
        self.spans += 1;
        self.errors += u64::from(row.is_error);
        self.tokens.0 = self.tokens.0.saturating_add(row.input_tokens.unwrap_or(0));
        self.tokens.1 = self.tokens.1.saturating_add(row.output_tokens.unwrap_or(0));
        let of_trace = if self.traces.insert(row.trace) { size_of_val(&row.trace) + ENTRY_BYTES } else { 0 };
        of_trace
            + keep(&mut self.models, row.model)
            + keep(&mut self.agents, row.agent)
            + keep(&mut self.tools, row.tool)
            + keep(&mut self.services, Some(row.service))
    }

    fn merge(&mut self, other: Self) {
        (self.start, self.last) = (self.start.min(other.start), self.last.max(other.last));
        self.spans += other.spans;
        self.errors += other.errors;
        self.tokens.0 = self.tokens.0.saturating_add(other.tokens.0);
        self.tokens.1 = self.tokens.1.saturating_add(other.tokens.1);
        self.traces.extend(other.traces);
        for (set, more) in [
            (&mut self.models, other.models),
            (&mut self.agents, other.agents),
            (&mut self.tools, other.tools),
            (&mut self.services, other.services),
        ] {
            more.iter().for_each(|text| _ = keep(set, Some(text)));
        }
    }

    fn finish(self, id: Id) -> Conversation {
        let (id, is_trace) = match id {
            Id::Named(id) => (id, false),
            Id::Trace(trace) => (format!("{TRACE}{}", hex_text(&trace)), true),
        };
        Conversation {
            id,
            is_trace,
            start_unix_nano: Decimal(self.start),
            last_unix_nano: Decimal(self.last),
            span_count: self.spans,
            error_count: self.errors,
            trace_count: self.traces.len(),
            trace_ids: self.traces.iter().take(MOST_VALUES).map(|trace| hex_text(trace)).collect(),
            input_tokens: self.tokens.0,
            output_tokens: self.tokens.1,
            models: self.models,
            agents: self.agents,
            tools: self.tools,
            services: self.services,
        }
    }
}

/// Conversations, last active first.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn conversations(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let filter = SpanFilter::take(&mut parameters)?;
    let limit = parameters.count("limit", 50, MOST_CONVERSATIONS)?;
    let after = parameters.one("cursor")?.map(|text| read_cursor(&text)).transpose()?;
    parameters.end(&[&FILTER_PARAMETERS[..], &["limit", "cursor"]].concat())?;
    let folded = engine
        .ask(move |mut reader| async move {
            let mut groups: Groups<Id, Folded> = Groups::default();
            for_each(&mut reader, filter.conditions(), |row| {
                let id = row.conversation.map_or(Id::Trace(row.trace), |id| Id::Named(id.to_owned()));
                Ok(groups.of(id)?.add(row) + groups.grown())
            })
            .await?;
            gathered(&reader, groups.into_map())
        })
        .await?;
    let mut all: Vec<Conversation> = folded.into_iter().map(|(id, folded)| folded.finish(id)).collect();
    all.sort_by(|left, right| right.last_unix_nano.cmp(&left.last_unix_nano).then_with(|| left.id.cmp(&right.id)));
    let is_behind = |conversation: &Conversation| {
        after.as_ref().is_none_or(|(last, id)| (conversation.last_unix_nano.0, id.as_str()) < (*last, conversation.id.as_str()))
    };
    let mut behind = all.into_iter().filter(is_behind);
    let conversations: Vec<Conversation> = behind.by_ref().take(limit).collect();
    let next_cursor = behind.next().and(conversations.last()).map(|last| format!("{}.{}", last.last_unix_nano.0, last.id));
    Ok(Page { conversations, next_cursor })
}

fn read_cursor(text: &str) -> Result<(i64, String), AnswerError> {
    let read = || {
        let (last, id) = text.split_once('.')?;
        Some((last.parse().ok()?, id.to_owned()))
    };
    read().ok_or_else(|| AnswerError::parameter("cursor is not of this question", "take next_cursor of the page before"))
}

/// Puts what has no id to the only conversation of its trace.
fn gathered(reader: &Reader, mut groups: HashMap<Id, Folded>) -> Result<HashMap<Id, Folded>, QueryError> {
    let mut growth = Growth::default();
    let mut of_trace: HashMap<[u8; 16], Option<Id>> = HashMap::new();
    for (id, folded) in groups.iter().filter(|(id, _)| matches!(id, Id::Named(_))) {
        for trace in folded.traces.iter().filter(|trace| groups.contains_key(&Id::Trace(**trace))) {
            of_trace.entry(*trace).and_modify(|only| *only = None).or_insert_with(|| Some(id.clone()));
            growth.add(reader, size_of::<([u8; 16], Option<Id>)>() + ENTRY_BYTES + id.heap_bytes())?;
        }
    }
    growth.settle(reader)?;
    for (trace, id) in of_trace {
        if let Some(id) = id
            && let Some(without) = groups.remove(&Id::Trace(trace))
            && let Some(folded) = groups.get_mut(&id)
        {
            folded.merge(without);
        }
    }
    Ok(groups)
}

#[derive(Debug, Serialize)]
struct Steps {
    id: String,
    is_trace: bool,
    start_unix_nano: Decimal,
    last_unix_nano: Decimal,
    input_tokens: i64,
    output_tokens: i64,
    error_count: usize,
    trace_ids: BTreeSet<String>,
    truncated: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    operation: Option<String>,
    provider: Option<String>,
    request_model: Option<String>,
    response_model: Option<String>,
    agent: Option<String>,
    tool: Option<String>,
    error_type: Option<String>,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    #[serde(flatten)]
    span: Span,
}

/// One conversation, step by step.
///
/// # Errors
/// There is none of that id.
pub async fn conversation(engine: &Engine, id: &str) -> Result<impl Serialize + use<>, AnswerError> {
    let named = match id.strip_prefix(TRACE).and_then(trace_id) {
        Some(trace) => Id::Trace(trace),
        None => Id::Named(id.to_owned()),
    };
    let is_trace = matches!(named, Id::Trace(_));
    let found = engine.ask(move |mut reader| async move { steps_of(&mut reader, &named).await }).await?;
    if found.is_empty() {
        return Err(AnswerError::NotFound { what: "conversation", name: id.to_owned() });
    }
    Ok(steps(id.to_owned(), is_trace, found))
}

/// The GenAI steps of a trace, whatever conversations they are of.
///
/// # Errors
/// There is no such trace.
pub async fn genai_of_trace(engine: &Engine, id: &str) -> Result<impl Serialize + use<>, AnswerError> {
    let trace = read_trace_id(id)?;
    let found = engine
        .ask(move |mut reader| async move {
            let of_trace = Condition::Traces(vec![trace]);
            let mut any = Selection::new(Table::Spans, &["span_id"], vec![of_trace.clone()]);
            any.limit = Some(1);
            if reader.rows(any).await?.next().await.transpose()?.is_none_or(|batch| batch.num_rows() == 0) {
                return Ok(None);
            }
            spans(&mut reader, vec![of_trace, is_genai()], true).await.map(Some)
        })
        .await?;
    let found = found.ok_or_else(|| AnswerError::NotFound { what: "trace", name: id.to_owned() })?;
    Ok(steps(format!("{TRACE}{}", hex_text(&trace)), true, found))
}

async fn steps_of(reader: &mut Reader, id: &Id) -> Result<Vec<Span>, QueryError> {
    let traces: Vec<[u8; 16]> = match id {
        Id::Trace(trace) => vec![*trace],
        Id::Named(id) => {
            let conditions = vec![is_of_conversation(id), is_genai()];
            let traces = traces_with(reader, conditions).await?;
            if traces.len() > MOST_TRACES {
                return Err(QueryError::TooManyRows { limit: MOST_TRACES });
            }
            traces.into_iter().collect()
        }
    };
    if traces.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = spans(reader, vec![Condition::Traces(traces), is_genai()], true).await?;
    let mut of_trace: HashMap<[u8; 16], HashSet<String>> = HashMap::new();
    for span in &found {
        of_trace.entry(span.ids.trace).or_default().extend(conversation_of(span));
    }
    let Id::Named(id) = id else {
        // As in the list: spans with an id are in that conversation, and those without are too if it is the only one.
        found.retain(|span| conversation_of(span).is_none() && of_trace[&span.ids.trace].len() != 1);
        return Ok(found);
    };
    found.retain(|span| match conversation_of(span) {
        Some(of) => of == *id,
        None => of_trace[&span.ids.trace].len() == 1,
    });
    Ok(found)
}

fn steps(id: String, is_trace: bool, found: Vec<Span>) -> Steps {
    // Tree order is within a trace; it also leaves out what was delivered twice.
    let mut of_trace: HashMap<[u8; 16], Vec<Span>> = HashMap::new();
    for span in found {
        of_trace.entry(span.ids.trace).or_default().push(span);
    }
    let mut spans: Vec<Span> = of_trace.into_values().flat_map(in_tree_order).collect();
    spans.sort_by_key(|span| span.start_unix_nano);
    let steps: Vec<Step> = spans.into_iter().map(step).collect();
    let sum = |of: fn(&Step) -> Option<i64>| steps.iter().filter_map(of).fold(0_i64, i64::saturating_add);
    Steps {
        id,
        is_trace,
        start_unix_nano: Decimal(steps.first().map_or(0, |step| step.span.start_unix_nano.0)),
        last_unix_nano: Decimal(steps.iter().map(|step| step.span.end_unix_nano()).max().unwrap_or(0)),
        input_tokens: sum(|step| step.input_tokens),
        output_tokens: sum(|step| step.output_tokens),
        error_count: steps.iter().filter(|step| step.span.is_error()).count(),
        trace_ids: steps.iter().map(|step| hex_text(&step.span.ids.trace)).collect(),
        truncated: steps.len() > MOST_STEPS,
        steps: steps.into_iter().take(MOST_STEPS).collect(),
    }
}

fn step(mut span: Span) -> Step {
    span.place = None;
    let exception = span.body.as_ref().and_then(|body| {
        let exception = body.events.iter().find(|event| event.name == "exception")?;
        exception.attributes.iter().find(|attribute| attribute.key == "exception.type")?.value.text()
    });
    // Names such as `tool.name` are others' too.
    let is_openinference = text(&span, OPENINFERENCE_KIND).is_some();
    let keys = |own: &'static [&'static str], openinference: &'static [&'static str]| {
        own.iter().chain(if is_openinference { openinference } else { &[] })
    };
    let first = |own, openinference| keys(own, openinference).find_map(|key| text(&span, key));
    let count = |own, openinference| keys(own, openinference).find_map(|key| number(&span, key));
    Step {
        // As its column says, which knows what OpenInference calls it.
        operation: span.genai.clone(),
        provider: first(&["gen_ai.provider.name", "gen_ai.system"], &["llm.provider", "llm.system"]),
        request_model: first(&["gen_ai.request.model"], &["llm.model_name", "embedding.model_name"]),
        response_model: first(&["gen_ai.response.model"], &[]),
        agent: first(&["gen_ai.agent.name"], &["agent.name"]),
        tool: first(&["gen_ai.tool.name"], &["tool.name"]),
        error_type: first(&["error.type"], &[]).or(exception),
        input_tokens: count(&["gen_ai.usage.input_tokens"], &["llm.token_count.prompt"]),
        output_tokens: count(&["gen_ai.usage.output_tokens"], &["llm.token_count.completion"]),
        span,
    }
}

/// The conversation that a span names.
fn conversation_of(span: &Span) -> Option<String> {
    text(span, "gen_ai.conversation.id").or_else(|| text(span, "session.id"))
}

fn value<'a>(span: &'a Span, key: &str) -> Option<&'a TypedValue> {
    span.body.as_ref()?.attributes.iter().find(|attribute| attribute.key == key).map(|attribute| &attribute.value)
}

fn text(span: &Span, key: &str) -> Option<String> {
    match value(span, key)? {
        TypedValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn number(span: &Span, key: &str) -> Option<i64> {
    match value(span, key)? {
        TypedValue::Int(value) => Some(value.0),
        _ => None,
    }
}
