//! Questions to a real store in a temporary folder, filled with OTLP payloads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod hostile;
mod limits;
mod merged;
mod refusals;
mod stored;
mod trace_labels;
mod trace_spans;
mod traces;
mod while_flushing;
