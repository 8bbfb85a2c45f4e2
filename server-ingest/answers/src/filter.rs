//! Which spans a question is about.

mod test_text;

#[cfg(test)]
mod tests;

use scouter_query::{AttributeTest, Condition, bytes_of_hex};
use scouter_storage::columns::Table;

use crate::error::AnswerError;
use crate::parameters::Parameters;
pub(crate) use test_text::{equal, tag_test};

/// What a span may be, and how each is written.
const KINDS: [&str; 6] = ["INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER", "UNSPECIFIED"];

/// How a status is numbered.
const OK: i32 = 1;
/// The number of a failed span's status.
pub(crate) const ERROR: i32 = 2;

/// The names of the parameters that a filter is made of.
pub const FILTER_PARAMETERS: [&str; 15] = [
    "start",
    "end",
    "service",
    "operation",
    "kind",
    "status",
    "min_duration",
    "max_duration",
    "root",
    "attr",
    "tag",
    "entity",
    "queue",
    "trace_id",
    "text",
];

/// Most values of one parameter: each is a term of the plan.
const MOST_VALUES: usize = 200;

/// Which spans a question is about. What is empty or absent asks for nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpanFilter {
    /// Started then or later, in nanoseconds since 1970.
    pub from: Option<i64>,
    /// Started before.
    pub until: Option<i64>,
    /// Ran in one of these services.
    pub services: Vec<String>,
    /// Has one of these names.
    pub operations: Vec<String>,
    /// Is of one of these kinds, as they are stored.
    pub kinds: Vec<String>,
    /// Has one of these states.
    pub states: Vec<State>,
    /// Took this long or longer.
    pub min_duration_nano: Option<i64>,
    /// Took this long or less.
    pub max_duration_nano: Option<i64>,
    /// Has no parent, or has one.
    pub is_root: Option<bool>,
    /// All of these hold of its attributes.
    pub attributes: Vec<AttributeTest>,
    /// All of these hold of its tags.
    pub tags: Vec<AttributeTest>,
    /// Names one of these entities.
    pub entities: Vec<String>,
    /// Names one of these queue records.
    pub queues: Vec<String>,
    /// Is in one of these traces.
    pub traces: Vec<[u8; 16]>,
    /// Has this text somewhere.
    pub text: Option<String>,
}

/// What a span's status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Unset,
    /// Success.
    Ok,
    /// Failure.
    Error,
}

impl State {
    pub(crate) fn of(code: i32) -> Self {
        match code {
            OK => Self::Ok,
            ERROR => Self::Error,
            _ => Self::Unset,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Unset, Self::Ok, Self::Error].into_iter().find(|state| state.name() == name)
    }

    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Unset => 0,
            Self::Ok => OK,
            Self::Error => ERROR,
        }
    }

    fn condition(self) -> Condition {
        let (codes, is_negated) = match self {
            Self::Unset => (vec![OK, ERROR], true),
            Self::Ok => (vec![OK], false),
            Self::Error => (vec![ERROR], false),
        };
        Condition::Codes { column: "status_code", codes, is_negated }
    }
}

impl SpanFilter {
    /// Takes the parameters of [`FILTER_PARAMETERS`].
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn take(parameters: &mut Parameters) -> Result<Self, AnswerError> {
        let mut values = |name: &str| -> Result<Vec<String>, AnswerError> {
            let values: Vec<String> = parameters.all(name).into_iter().filter(|value| !value.is_empty()).collect();
            if values.len() > MOST_VALUES {
                return Err(AnswerError::parameter(format!("{name} is given more than {MOST_VALUES} times"), "ask in several questions"));
            }
            Ok(values)
        };
        let (services, operations, kinds) = (values("service")?, values("operation")?, values("kind")?);
        let kinds = kinds
            .into_iter()
            .map(|kind| {
                if KINDS.contains(&kind.to_uppercase().as_str()) {
                    Ok(kind.to_uppercase())
                } else {
                    Err(bad("kind", &kind, &KINDS.join(", ")))
                }
            })
            .collect::<Result<_, _>>()?;
        let states = values("status")?
            .iter()
            .map(|name| State::from_name(name).ok_or_else(|| bad("status", name, "unset, ok, error")))
            .collect::<Result<_, _>>()?;
        let attributes = values("attr")?.iter().map(|text| test_text::attribute_test(text)).collect::<Result<_, _>>()?;
        let tags = values("tag")?.iter().map(|text| tag_test(text)).collect();
        let traces = values("trace_id")?
            .iter()
            .map(|text| trace_id(text).ok_or_else(|| bad("trace_id", text, "32 hexadecimal digits")))
            .collect::<Result<_, _>>()?;
        let (entities, queues) = (values("entity")?, values("queue")?);
        Ok(Self {
            from: parameters.moment("start")?,
            until: parameters.moment("end")?,
            services,
            operations,
            kinds,
            states,
            min_duration_nano: parameters.duration("min_duration")?,
            max_duration_nano: parameters.duration("max_duration")?,
            is_root: parameters.flag("root")?,
            attributes,
            tags,
            entities,
            queues,
            traces,
            text: parameters.one("text")?,
        })
    }

    /// What must hold of a row.
    pub fn conditions(&self) -> Vec<Condition> {
        let mut conditions = Condition::time(Table::Spans, self.from, self.until);
        if !self.traces.is_empty() {
            conditions.push(Condition::Traces(self.traces.clone()));
        }
        for (column, values) in [("service_name", &self.services), ("name", &self.operations), ("kind", &self.kinds)] {
            if !values.is_empty() {
                conditions.push(Condition::OneOf(column, values.clone()));
            }
        }
        if !self.states.is_empty() {
            conditions.push(Condition::Any(self.states.iter().map(|state| state.condition()).collect()));
        }
        conditions.extend(self.min_duration_nano.map(|nanos| Condition::AtLeast("duration_nano", nanos)));
        conditions.extend(self.max_duration_nano.map(|nanos| Condition::AtMost("duration_nano", nanos)));
        conditions.extend(
            self.is_root.map(|is_root| if is_root { Condition::Missing("parent_span_id") } else { Condition::Present("parent_span_id") }),
        );
        for (column, values) in [("entity_ids", &self.entities), ("queue_ids", &self.queues)] {
            if !values.is_empty() {
                conditions.push(Condition::Lists(column, values.clone()));
            }
        }
        conditions.extend(self.tags.iter().cloned().map(Condition::Tag));
        conditions.extend(self.attributes.iter().cloned().map(Condition::Attribute));
        conditions.extend(self.text.clone().map(Condition::Text));
        conditions
    }
}

fn bad(name: &str, given: &str, expected: &str) -> AnswerError {
    AnswerError::parameter(format!("{name} is not one: {given:?}"), format!("write {expected}"))
}

/// The 16 bytes of a trace id in hexadecimal of either case; `None` for any other text.
pub fn trace_id(text: &str) -> Option<[u8; 16]> {
    bytes_of_hex(text)?.try_into().ok()
}

/// The 8 bytes of a span id in hexadecimal.
pub(crate) fn span_id(text: &str) -> Option<[u8; 8]> {
    bytes_of_hex(text)?.try_into().ok()
}
