//! A trace as a tree of text, a line a span.

use std::fmt::Write;

use serde_json::Value;

use super::{Trace, TraceSpan};

/// Levels that are drawn; deeper spans say how deep they are.
const MAX_DRAWN: usize = 40;

/// Characters of a name, a message or a value.
const MAX_CHARS: usize = 120;

const STATUS_ERROR: i32 = 2;

/// The trace as a tree, one line a span: service, name, duration, `ERROR` and the message where it failed, and its `gen_ai.*`
/// attributes.
///
/// ```text
/// gateway  POST /ask  38.2 ms
/// ├─ answerer  chat small-model  21.0 ms  gen_ai.request.model=small-model gen_ai.usage.input_tokens=12
/// └─ scorer  score  4.1 ms  ERROR the answer is empty
/// ```
///
/// Control characters in what applications sent are shown as escapes, so that no span can drive the terminal.
pub fn trace_tree(trace: &Trace) -> String {
    let is_last = last_of_siblings(&trace.spans);
    let mut text = String::new();
    // For each level above the span: whether more of its siblings follow below.
    let mut open: Vec<bool> = Vec::new();
    for (span, is_last) in trace.spans.iter().zip(is_last) {
        let depth = usize::try_from(span.depth).unwrap_or(0);
        open.truncate(depth);
        push_branches(&mut text, &open, is_last, depth);
        open.push(!is_last);
        push_span(&mut text, span);
        text.push('\n');
    }
    text
}

/// Whether a span is the last child of its parent, seen from the end.
fn last_of_siblings(spans: &[TraceSpan]) -> Vec<bool> {
    let mut has_later: Vec<bool> = Vec::new();
    let mut is_last = vec![false; spans.len()];
    for (span, is_last) in spans.iter().zip(&mut is_last).rev() {
        let depth = usize::try_from(span.depth).unwrap_or(0);
        has_later.truncate(depth + 1);
        has_later.resize(depth + 1, false);
        *is_last = !std::mem::replace(&mut has_later[depth], true);
    }
    is_last
}

fn push_branches(text: &mut String, open: &[bool], is_last: bool, depth: usize) {
    if depth == 0 {
        return;
    }
    // Roots stand side by side without branches.
    for is_open in open.iter().skip(1).take(MAX_DRAWN) {
        text.push_str(if *is_open { "│  " } else { "   " });
    }
    if depth > MAX_DRAWN {
        write!(text, "…{depth} ").expect("writing to a string");
    }
    text.push_str(if is_last { "└─ " } else { "├─ " });
}

fn push_span(text: &mut String, span: &TraceSpan) {
    push_clean(text, &span.service_name);
    text.push_str("  ");
    push_clean(text, &span.span_name);
    text.push_str("  ");
    push_duration(text, span.duration_nano);
    if span.status_code == STATUS_ERROR {
        text.push_str("  ERROR");
        if let Some(message) = &span.status_message {
            text.push(' ');
            push_clean(text, message);
        }
    }
    let mut separator = "  ";
    for attribute in span.attributes.iter().filter(|attribute| attribute.key.starts_with("gen_ai.")) {
        text.push_str(separator);
        push_clean(text, &attribute.key);
        text.push('=');
        match &attribute.value {
            Value::String(value) => push_clean(text, value),
            other => push_clean(text, &other.to_string()),
        }
        separator = " ";
    }
}

/// A duration in the unit that leaves one to three digits before the point.
fn push_duration(text: &mut String, nanos: i64) {
    let (unit, name) = match nanos.unsigned_abs() {
        0..1_000 => return write!(text, "{nanos} ns").expect("writing to a string"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    write!(text, "{:.1} {name}", nanos as f64 / unit).expect("writing to a string");
}

fn push_clean(text: &mut String, part: &str) {
    for (count, character) in part.chars().enumerate() {
        if count == MAX_CHARS {
            text.push('…');
            return;
        }
        if is_harmless(character) { text.push(character) } else { text.extend(character.escape_default()) }
    }
}

/// Whether a character is printed as itself: no control character, and none that turns the direction of writing.
fn is_harmless(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
