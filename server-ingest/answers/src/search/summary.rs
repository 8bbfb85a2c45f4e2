//! What a list shows of a trace, folded from its rows.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use arrow::array::{Array, BinaryArray, BooleanArray, Int32Array, Int64Array};
use futures::StreamExt;
use scouter_query::{Condition, MATCHES, QueryError, Reader, Selection, hex_text, micros_text};
use scouter_storage::columns::Table;
use serde::Serialize;

use super::Order;
use crate::columns::{Columns, TextLists, Words, id, integer};
use crate::filter::State;
use crate::json::Decimal;
use crate::span::{Tag, end, is_error_code, tags};
use crate::trace::ServiceCount;

/// The columns a summary is made of.
const COLUMNS: [&str; 24] = [
    "trace_id",
    "span_id",
    "parent_span_id",
    "start_unix_nano",
    "duration_nano",
    "service_name",
    "name",
    "kind",
    "status_code",
    "status_message",
    "exception_message",
    "gen_ai_operation_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "gen_ai_usage_input_tokens",
    "gen_ai_usage_output_tokens",
    "gen_ai_conversation_id",
    "session_id",
    "entity_ids",
    "queue_ids",
    "tags",
    "scope_name",
    "scope_version",
    "resource_attributes",
];

/// What is kept of a span until its trace is whole: its id, and now and then a text.
const BYTES_PER_SPAN: usize = 64;

/// Values in each list of a summary.
const MOST_VALUES: usize = 50;

/// A trace in a list.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) trace_id: String,
    pub(crate) root: Root,
    pub(crate) is_root_missing: bool,
    pub(crate) start_unix_nano: Decimal,
    pub(crate) start_time: String,
    pub(crate) duration_nano: Decimal,
    pub(crate) span_count: usize,
    pub(crate) error_count: usize,
    pub(crate) matched_span_count: usize,
    pub(crate) services: Vec<ServiceCount>,
    pub(crate) first_error: Option<FirstError>,
    pub(crate) genai: Option<GenAi>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) entity_ids: Vec<String>,
    pub(crate) queue_ids: Vec<String>,
    #[serde(skip)]
    numbers: Option<Numbers>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Root {
    pub(crate) span_id: String,
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) status: &'static str,
    #[serde(skip)]
    pub(crate) status_code: i32,
    #[serde(skip)]
    pub(crate) status_message: String,
    #[serde(skip)]
    pub(crate) scope_name: String,
    #[serde(skip)]
    pub(crate) scope_version: String,
    /// In canonical JSON.
    #[serde(skip)]
    pub(crate) resource_attributes: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct FirstError {
    span_id: String,
    service: String,
    name: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct GenAi {
    span_count: usize,
    input_tokens: i64,
    output_tokens: i64,
    models: Vec<String>,
    operations: Vec<String>,
    conversation_ids: Vec<String>,
}

/// Of the spans that pass: when the first started, how long the longest took.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    first_start: i64,
    longest: i64,
}

impl Summary {
    /// What the trace is ordered by; none if none of its spans pass.
    pub(crate) fn number(&self, order: Order) -> Option<i64> {
        self.numbers.map(|numbers| match order {
            Order::Newest => numbers.first_start,
            Order::Slowest => numbers.longest,
        })
    }

    /// About what it takes.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.services.len() + self.tags.len() * 2 + self.entity_ids.len() + self.queue_ids.len() + 20;
        let tags: usize = self.tags.iter().map(|tag| tag.key.len() + tag.value.len()).sum();
        let message = self.first_error.as_ref().map_or(0, |error| error.message.len());
        size_of::<Self>() + texts * 64 + tags + message + self.root.resource_attributes.len()
    }
}

#[derive(Default)]
struct Folded {
    spans: HashSet<[u8; 8]>,
    start: i64,
    end: i64,
    root: Option<(bool, i64, Root)>,
    services: BTreeMap<String, (usize, usize)>,
    errors: usize,
    first_error: Option<(i64, FirstError)>,
    genai_spans: usize,
    tokens: (i64, i64),
    models: BTreeSet<String>,
    operations: BTreeSet<String>,
    conversations: BTreeSet<String>,
    tags: BTreeSet<Tag>,
    entities: BTreeSet<String>,
    queues: BTreeSet<String>,
    matched: usize,
    numbers: Option<Numbers>,
}

/// The columns of one batch.
struct Batch<'a> {
    span_ids: BinaryArray,
    parents: BinaryArray,
    starts: &'a Int64Array,
    durations: &'a Int64Array,
    codes: &'a Int32Array,
    services: Words<'a>,
    names: Words<'a>,
    kinds: Words<'a>,
    messages: Words<'a>,
    exceptions: Words<'a>,
    operations: Words<'a>,
    request_models: Words<'a>,
    response_models: Words<'a>,
    conversations: Words<'a>,
    sessions: Words<'a>,
    tags: Words<'a>,
    scopes: Words<'a>,
    scope_versions: Words<'a>,
    resources: Words<'a>,
    input_tokens: &'a Int64Array,
    output_tokens: &'a Int64Array,
    entities: TextLists<'a>,
    queues: TextLists<'a>,
    matches: &'a BooleanArray,
}

impl<'a> Batch<'a> {
    fn new(columns: Columns<'a>) -> Result<Self, QueryError> {
        Ok(Self {
            span_ids: columns.bytes("span_id")?,
            parents: columns.bytes("parent_span_id")?,
            starts: columns.integers("start_unix_nano")?,
            durations: columns.integers("duration_nano")?,
            codes: columns.codes("status_code")?,
            services: columns.words("service_name")?,
            names: columns.words("name")?,
            kinds: columns.words("kind")?,
            messages: columns.words("status_message")?,
            exceptions: columns.words("exception_message")?,
            operations: columns.words("gen_ai_operation_name")?,
            request_models: columns.words("gen_ai_request_model")?,
            response_models: columns.words("gen_ai_response_model")?,
            conversations: columns.words("gen_ai_conversation_id")?,
            sessions: columns.words("session_id")?,
            tags: columns.words("tags")?,
            scopes: columns.words("scope_name")?,
            scope_versions: columns.words("scope_version")?,
            resources: columns.words("resource_attributes")?,
            input_tokens: columns.integers("gen_ai_usage_input_tokens")?,
            output_tokens: columns.integers("gen_ai_usage_output_tokens")?,
            entities: columns.texts_in_lists("entity_ids")?,
            queues: columns.texts_in_lists("queue_ids")?,
            matches: columns.flags(MATCHES)?,
        })
    }
}

/// Each of the traces as a list shows it, with how its spans stand to `conditions`.
pub(crate) async fn summaries(
    reader: &mut Reader,
    traces: &[[u8; 16]],
    conditions: &[Condition],
) -> Result<Vec<([u8; 16], Summary)>, QueryError> {
    if traces.is_empty() {
        return Ok(Vec::new());
    }
    let selection = Selection::new(Table::Spans, &COLUMNS, vec![Condition::Traces(traces.to_vec())]).marking(conditions.to_vec());
    let mut rows = reader.rows(selection).await?;
    let mut folded: HashMap<[u8; 16], Folded> = HashMap::new();
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows();
        if count > reader.max_rows() {
            return Err(QueryError::TooManyRows { limit: reader.max_rows() });
        }
        reader.hold(batch.num_rows() * BYTES_PER_SPAN)?;
        let columns = Columns(&batch);
        let trace_ids = columns.bytes("trace_id")?;
        let batch = Batch::new(columns)?;
        for row in 0..columns.rows() {
            let (Some(trace), Some(span)) = (id(&trace_ids, row), id(&batch.span_ids, row)) else { continue };
            folded.entry(trace).or_default().add(&batch, row, span);
        }
    }
    let summaries = folded.into_iter().map(|(trace, folded)| (trace, folded.finish(&trace))).collect();
    reader.give_back(count * BYTES_PER_SPAN);
    Ok(summaries)
}

fn keep(set: &mut BTreeSet<String>, text: &str) {
    if set.len() < MOST_VALUES && !set.contains(text) {
        set.insert(text.to_owned());
    }
}

impl Folded {
    fn add(&mut self, batch: &Batch<'_>, row: usize, span: [u8; 8]) {
        let (start, duration) = (batch.starts.value(row), batch.durations.value(row));
        let does_match = batch.matches.is_valid(row) && batch.matches.value(row);
        if does_match {
            let numbers = self.numbers.get_or_insert(Numbers { first_start: start, longest: duration });
            numbers.first_start = numbers.first_start.min(start);
            numbers.longest = numbers.longest.max(duration);
        }
        if !self.spans.insert(span) {
            return;
        }
        self.matched += usize::from(does_match);
        if self.spans.len() == 1 {
            (self.start, self.end) = (start, end(start, duration));
        }
        self.start = self.start.min(start);
        self.end = self.end.max(end(start, duration));
        let is_error = is_error_code(batch.codes.value(row));
        self.add_service(batch.services.or_empty(row), is_error);
        let has_parent = id::<8>(&batch.parents, row).is_some_and(|parent| parent != [0; 8]);
        if self.root.as_ref().is_none_or(|(has, at, _)| (has_parent, start) < (*has, *at)) {
            self.root = Some((has_parent, start, root(batch, row, span)));
        }
        if is_error {
            self.errors += 1;
            if self.first_error.as_ref().is_none_or(|(at, _)| start < *at) {
                self.first_error = Some((start, first_error(batch, row, span)));
            }
        }
        self.add_genai(batch, row);
        if let Some(json) = batch.tags.get(row) {
            let room = MOST_VALUES.saturating_sub(self.tags.len());
            self.tags.extend(tags(Some(json)).into_iter().take(room));
        }
        batch.entities.of(row).for_each(|entity| keep(&mut self.entities, entity));
        batch.queues.of(row).for_each(|queue| keep(&mut self.queues, queue));
    }

    fn add_service(&mut self, service: &str, is_error: bool) {
        if !self.services.contains_key(service) {
            self.services.insert(service.to_owned(), (0, 0));
        }
        if let Some(counts) = self.services.get_mut(service) {
            counts.0 += 1;
            counts.1 += usize::from(is_error);
        }
    }

    fn add_genai(&mut self, batch: &Batch<'_>, row: usize) {
        let operation = batch.operations.get(row);
        let model = batch.response_models.get(row).or_else(|| batch.request_models.get(row));
        let tokens = (integer(batch.input_tokens, row), integer(batch.output_tokens, row));
        if operation.is_none() && model.is_none() && tokens == (None, None) {
            return;
        }
        self.genai_spans += 1;
        self.tokens.0 = self.tokens.0.saturating_add(tokens.0.unwrap_or(0));
        self.tokens.1 = self.tokens.1.saturating_add(tokens.1.unwrap_or(0));
        operation.into_iter().for_each(|operation| keep(&mut self.operations, operation));
        model.into_iter().for_each(|model| keep(&mut self.models, model));
        batch.conversations.get(row).or_else(|| batch.sessions.get(row)).into_iter().for_each(|id| keep(&mut self.conversations, id));
    }

    fn finish(self, trace: &[u8; 16]) -> Summary {
        let (has_parent, _, root) = self.root.unwrap_or_else(|| (true, 0, Root::default()));
        let genai = (self.genai_spans > 0).then(|| GenAi {
            span_count: self.genai_spans,
            input_tokens: self.tokens.0,
            output_tokens: self.tokens.1,
            models: self.models.into_iter().collect(),
            operations: self.operations.into_iter().collect(),
            conversation_ids: self.conversations.into_iter().collect(),
        });
        Summary {
            trace_id: hex_text(trace),
            root,
            is_root_missing: has_parent,
            start_unix_nano: Decimal(self.start),
            start_time: micros_text(self.start.div_euclid(1000)),
            duration_nano: Decimal(self.end.saturating_sub(self.start)),
            span_count: self.spans.len(),
            error_count: self.errors,
            matched_span_count: self.matched,
            services: self
                .services
                .into_iter()
                .map(|(service, (span_count, error_count))| ServiceCount { service, span_count, error_count })
                .collect(),
            first_error: self.first_error.map(|(_, error)| error),
            genai,
            tags: self.tags.into_iter().collect(),
            entity_ids: self.entities.into_iter().collect(),
            queue_ids: self.queues.into_iter().collect(),
            numbers: self.numbers,
        }
    }
}

impl Default for Root {
    fn default() -> Self {
        Self {
            span_id: String::new(),
            service: String::new(),
            name: String::new(),
            kind: String::new(),
            status: State::Unset.name(),
            status_code: 0,
            status_message: String::new(),
            scope_name: String::new(),
            scope_version: String::new(),
            resource_attributes: String::new(),
        }
    }
}

fn root(batch: &Batch<'_>, row: usize, span: [u8; 8]) -> Root {
    let status_code = batch.codes.value(row);
    Root {
        span_id: hex_text(&span),
        service: batch.services.owned(row),
        name: batch.names.owned(row),
        kind: batch.kinds.owned(row),
        status: State::of(status_code).name(),
        status_code,
        status_message: batch.messages.owned(row),
        scope_name: batch.scopes.owned(row),
        scope_version: batch.scope_versions.owned(row),
        resource_attributes: batch.resources.owned(row),
    }
}

fn first_error(batch: &Batch<'_>, row: usize, span: [u8; 8]) -> FirstError {
    let message = match batch.messages.or_empty(row) {
        "" => batch.exceptions.or_empty(row),
        message => message,
    };
    FirstError { span_id: hex_text(&span), service: batch.services.owned(row), name: batch.names.owned(row), message: message.to_owned() }
}
