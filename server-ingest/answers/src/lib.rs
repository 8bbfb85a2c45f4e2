//! The questions people and tools ask of traces and monitoring records, and the shapes of the answers.
//!
//! ```text
//! parameters ─▶ filter ─▶ conditions ─▶ scouter-query: selections from one cut ─▶ batches ─▶ folded here ─▶ a serializable answer
//! ```
//!
//! Three sets of shapes are made from the same rows: this server's own API (`docs/http-api.md`), Jaeger's ([`jaeger`]) and Scouter's
//! ([`scouter`]).
//!
//! Invariants:
//! - what is read for one answer is one cut of each table, however many selections it takes;
//! - rows are folded as they come: what is kept is counted against the memory of queries while it grows ([`groups`]);
//! - nothing recurses over what was stored;
//! - this crate does not know DataFusion, so that it can change without compiling it.

mod attributes;
mod columns;
mod durations;
mod error;
mod filter;
mod genai;
mod graph;
mod groups;
pub mod jaeger;
mod json;
mod parameters;
mod records;
pub mod scouter;
mod search;
mod series;
mod services;
mod span;
mod table;
mod trace;

pub use attributes::{attribute_keys, attribute_values};
pub use error::{AnswerError, sql_position};
pub use filter::{FILTER_PARAMETERS, SpanFilter, trace_id as parse_trace_id};
pub use genai::{conversation, conversations, genai_agents, genai_errors, genai_models, genai_of_trace, genai_summary, genai_tools};
pub use graph::service_graph;
pub use parameters::Parameters;
pub use records::{record_kinds, record_series};
pub use search::search;
pub use series::series;
pub use services::{operations, services};
pub use table::{Format, Int64, sql_answer};
pub use trace::{Detail, span, trace};
