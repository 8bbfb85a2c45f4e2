//! The attributes that have a column of their own: a fixed set, part of the table's format version.
//!
//! A promoted column is an accelerator. It holds the value when that has the column's type and null otherwise; the
//! attribute stays where it was. When a span repeats a key, the first value of the right type counts. Some hold what OpenInference says
//! where the span does not say it in OpenTelemetry's words.

/// How the values of a promoted column are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string that repeats: dictionary-encoded.
    Word,
    /// A string that is mostly its own.
    Text,
    /// A 64-bit integer.
    Integer,
}

/// Which attributes a promoted column is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The span's.
    Span,
    /// The span's, else those of its resource.
    SpanOrResource,
    /// Those of the first event named `exception` that has it.
    ExceptionEvent,
}

/// One promoted attribute.
#[derive(Debug)]
pub(super) struct Promoted {
    pub(super) column: &'static str,
    pub(super) key: &'static str,
    pub(super) shape: Shape,
    pub(super) source: Source,
}

const fn promoted(column: &'static str, key: &'static str, shape: Shape, source: Source) -> Promoted {
    Promoted { column, key, shape, source }
}

/// The set, in column order. Adding to it is a new format version; removing from it or changing a type is a new table.
pub(super) static PROMOTED: [Promoted; COUNT] = SET;

/// How many there are.
pub(super) const COUNT: usize = SET.len();

use Shape::{Integer, Text, Word};
use Source::{ExceptionEvent, Span, SpanOrResource};

const SET: [Promoted; 26] = [
    promoted("http_request_method", "http.request.method", Word, Span),
    promoted("http_response_status_code", "http.response.status_code", Integer, Span),
    promoted("http_route", "http.route", Word, Span),
    promoted("url_path", "url.path", Text, Span),
    promoted("rpc_system", "rpc.system", Word, Span),
    promoted("rpc_method", "rpc.method", Word, Span),
    promoted("db_system_name", "db.system.name", Word, Span),
    promoted("db_operation_name", "db.operation.name", Word, Span),
    promoted("messaging_system", "messaging.system", Word, Span),
    promoted("messaging_destination_name", "messaging.destination.name", Word, Span),
    promoted("error_type", "error.type", Word, Span),
    promoted("exception_type", "exception.type", Word, ExceptionEvent),
    promoted("exception_message", "exception.message", Text, ExceptionEvent),
    promoted("k8s_pod_name", "k8s.pod.name", Word, SpanOrResource),
    promoted("k8s_namespace_name", "k8s.namespace.name", Word, SpanOrResource),
    promoted("gen_ai_operation_name", "gen_ai.operation.name", Word, Span),
    promoted("gen_ai_provider_name", "gen_ai.provider.name", Word, Span),
    promoted("gen_ai_request_model", "gen_ai.request.model", Word, Span),
    promoted("gen_ai_response_model", "gen_ai.response.model", Word, Span),
    promoted("gen_ai_conversation_id", "gen_ai.conversation.id", Text, Span),
    promoted("gen_ai_agent_name", "gen_ai.agent.name", Word, Span),
    promoted("gen_ai_tool_name", "gen_ai.tool.name", Word, Span),
    promoted("gen_ai_usage_input_tokens", "gen_ai.usage.input_tokens", Integer, Span),
    promoted("gen_ai_usage_output_tokens", "gen_ai.usage.output_tokens", Integer, Span),
    promoted("session_id", "session.id", Text, Span),
    promoted("user_id", "user.id", Text, Span),
];

/// Indexes of the columns that are taken from exception events.
pub(super) const EXCEPTION_TYPE: usize = 11;
pub(super) const EXCEPTION_MESSAGE: usize = 12;

/// Indexes of the columns that OpenInference's attributes fill as well.
pub(super) const OPERATION_NAME: usize = 15;
pub(super) const PROVIDER_NAME: usize = 16;
pub(super) const REQUEST_MODEL: usize = 17;
pub(super) const AGENT_NAME: usize = 20;
pub(super) const TOOL_NAME: usize = 21;
pub(super) const INPUT_TOKENS: usize = 22;
pub(super) const OUTPUT_TOKENS: usize = 23;

/// Whether a column holds what OpenInference says where the span has no attribute of the column's name.
pub(super) fn is_filled_in(index: usize) -> bool {
    [OPERATION_NAME, PROVIDER_NAME, REQUEST_MODEL, AGENT_NAME, TOOL_NAME, INPUT_TOKENS, OUTPUT_TOKENS].contains(&index)
}

const NONE: u8 = u8::MAX;
const LENGTHS: usize = 64;

/// The first promoted key of each length, and after each key the next of the same length.
const CHAINS: ([u8; LENGTHS], [u8; COUNT]) = {
    let (mut first, mut next) = ([NONE; LENGTHS], [NONE; COUNT]);
    let mut index = COUNT;
    while index > 0 {
        index -= 1;
        let length = SET[index].key.len();
        next[index] = first[length];
        first[length] = index as u8;
    }
    (first, next)
};

static FIRST: [u8; LENGTHS] = CHAINS.0;
static NEXT: [u8; COUNT] = CHAINS.1;

/// The index in [`PROMOTED`] of an attribute key. Most keys are refused by their length or one comparison.
#[inline]
pub(super) fn find(key: &[u8]) -> Option<usize> {
    let mut index = *FIRST.get(key.len())?;
    while index != NONE {
        if PROMOTED[usize::from(index)].key.as_bytes() == key {
            return Some(usize::from(index));
        }
        index = NEXT[usize::from(index)];
    }
    None
}

/// The index of a key that is promoted from a resource.
pub(super) fn find_in_resource(key: &[u8]) -> Option<usize> {
    find(key).filter(|index| PROMOTED[*index].source == Source::SpanOrResource)
}
