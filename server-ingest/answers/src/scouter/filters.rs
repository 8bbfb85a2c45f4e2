//! The filters of Scouter's trace list.

use chrono::{DateTime, SecondsFormat, Utc};
use scouter_query::{Condition, bytes_of_hex};
use serde::{Deserialize, Serialize};

use crate::error::AnswerError;
use crate::filter::{SpanFilter, State, equal};
use crate::search::{Key, Summary};

const DEFAULT_LIMIT: usize = 50;
const MOST_TRACES: usize = 1000;

/// The body of Scouter's trace questions. Everything may be left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "Scouter's names say it")]
pub struct TraceFilters {
    pub service_name: Option<String>,
    pub has_errors: Option<bool>,
    pub status_code: Option<i32>,
    pub start_time: Option<String>,
    pub end_time: Option<String>,
    pub limit: Option<i64>,
    pub cursor_start_time: Option<String>,
    pub cursor_trace_id: Option<String>,
    pub direction: Option<String>,
    pub attribute_filters: Option<Vec<String>>,
    pub trace_ids: Option<Vec<String>>,
    pub entity_uid: Option<String>,
    pub queue_uid: Option<String>,
}

/// A place in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Cursor {
    pub(super) start_time: String,
    pub(super) trace_id: String,
}

/// Filters that were read.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// What must hold of a span.
    pub(super) conditions: Vec<Condition>,
    pub(super) limit: usize,
    pub(super) cursor: Option<Key>,
    pub(super) is_back: bool,
    has_errors: Option<bool>,
    status_code: Option<i32>,
}

impl Question {
    /// Whether a whole trace passes.
    pub(super) fn accepts(&self, summary: &Summary, status_code: i32) -> bool {
        self.has_errors.is_none_or(|has| has == (summary.error_count > 0)) && self.status_code.is_none_or(|wanted| wanted == status_code)
    }
}

/// Nanoseconds since 1970 as RFC 3339 that loses none of them.
pub(super) fn nanos_text(nanos: i64) -> String {
    DateTime::<Utc>::from_timestamp_nanos(nanos).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

pub(super) fn time(name: &str, text: &str) -> Result<i64, AnswerError> {
    let parsed = DateTime::parse_from_rfc3339(text).ok().and_then(|time| time.timestamp_nanos_opt());
    parsed.ok_or_else(|| AnswerError::parameter(format!("{name} is not RFC 3339: {text:?}"), "write such as 2026-01-02T03:04:05Z"))
}

pub(super) fn optional_time(name: &str, text: Option<&String>) -> Result<Option<i64>, AnswerError> {
    text.map(|text| time(name, text)).transpose()
}

/// That a span has an attribute or a tag as `key:value` or `key=value` says; the whole value, not a part of it.
pub(super) fn attribute_filters(filters: &[String]) -> Result<Option<Condition>, AnswerError> {
    if filters.is_empty() {
        return Ok(None);
    }
    let conditions = filters
        .iter()
        .map(|filter| {
            let (key, value) =
                filter.find([':', '=']).map(|at| (&filter[..at], &filter[at + 1..])).filter(|(key, _)| !key.is_empty()).ok_or_else(
                    || AnswerError::parameter(format!("attribute_filters has no key: {filter:?}"), "write key:value or key=value"),
                )?;
            let test = equal(key, value);
            Ok([Condition::Attribute(test.clone()), Condition::Tag(test)])
        })
        .collect::<Result<Vec<_>, AnswerError>>()?;
    Ok(Some(Condition::Any(conditions.into_iter().flatten().collect())))
}

impl TraceFilters {
    pub(super) fn read(&self) -> Result<Question, AnswerError> {
        let trace = |text: &String| {
            let id = bytes_of_hex(text).and_then(|bytes| bytes.try_into().ok());
            id.ok_or_else(|| AnswerError::parameter(format!("{text:?} is not a trace id"), "write 32 hexadecimal digits"))
        };
        let mut filter = SpanFilter {
            from: optional_time("start_time", self.start_time.as_ref())?,
            until: optional_time("end_time", self.end_time.as_ref())?,
            services: self.service_name.iter().cloned().collect(),
            entities: self.entity_uid.iter().cloned().collect(),
            queues: self.queue_uid.iter().cloned().collect(),
            traces: self.trace_ids.iter().flatten().map(trace).collect::<Result<_, _>>()?,
            ..SpanFilter::default()
        };
        let other_conditions = !filter.services.is_empty() || !filter.entities.is_empty() || !filter.queues.is_empty();
        let attributes = attribute_filters(self.attribute_filters.as_deref().unwrap_or_default())?;
        if self.has_errors == Some(true) && !other_conditions && attributes.is_none() {
            // Then a trace has a failed span exactly if a failed span is found, and the others need not be looked up.
            filter.states = vec![State::Error];
        }
        let mut conditions = filter.conditions();
        conditions.extend(attributes);
        if self.trace_ids.as_ref().is_some_and(Vec::is_empty) {
            // A list that names none finds none; a missing one asks for nothing.
            conditions.push(Condition::Any(Vec::new()));
        }
        let cursor = match (&self.cursor_start_time, &self.cursor_trace_id) {
            (Some(start), Some(id)) => Some(Key { number: time("cursor_start_time", start)?, trace: trace(id)? }),
            (None, None) => None,
            _ => {
                return Err(AnswerError::parameter(
                    "half of a cursor is missing",
                    "give cursor_start_time and cursor_trace_id, or neither",
                ));
            }
        };
        let is_back = match self.direction.as_deref() {
            None | Some("next") => false,
            Some("previous") => true,
            Some(other) => return Err(AnswerError::parameter(format!("direction is not one: {other:?}"), "write next or previous")),
        };
        let limit = self.limit.map_or(Ok(DEFAULT_LIMIT), |limit| {
            let limit = usize::try_from(limit).ok().filter(|limit| (1..=MOST_TRACES).contains(limit));
            limit.ok_or_else(|| AnswerError::parameter(format!("limit is not from 1 to {MOST_TRACES}"), "write such a number"))
        })?;
        Ok(Question { conditions, limit, cursor, is_back, has_errors: self.has_errors, status_code: self.status_code })
    }
}
