//! Answers from a real store in a temporary folder, filled with OTLP payloads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asking;
mod broken;
mod genai;
mod jaeger;
mod memory;
mod places;
mod ranges;
mod records;
mod scouter;
mod scouter_genai;
mod search;
mod shapes;
#[path = "../../../query/tests/query/stored.rs"]
#[allow(dead_code, reason = "shared with the tests of scouter-query")]
mod stored;
