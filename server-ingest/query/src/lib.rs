//! Questions to the tables: read-only SQL, and the spans of one trace. The only crate that links DataFusion.
//!
//! ```text
//! sql ─▶ statement: parse, refuse ─▶ cuts of the tables it names ─▶ table: files ∪ hot rows ─▶ DataFusion ─▶ answer: JSON values
//! trace ──────────────────────────▶ cut of the spans ─────────────▶ one lookup by trace_id ─▶ trace: tree order, Scouter's shape
//! ask ─▶ reader: selections by typed conditions ─▶ cuts ─▶ table ─▶ DataFusion ─▶ batches, to whoever asked
//! ```
//!
//! Terms: a **cut** is all rows of a table at one instant, in files and in memory ([`scouter_storage::store::Cut`]); **hot** rows
//! are those in memory.
//!
//! Invariants:
//! - a query reads one cut of each table, taken before it is planned, so that every mention of a table sees the same rows;
//! - nothing a query says reaches another file, writes, or changes a setting;
//! - an answer is whole or an error: rows, time and memory over the limit are never cut off silently;
//! - queries run on threads of their own, and dropping the future of a question stops it.

mod error;

mod cut_source;

mod engine;

mod threads;

mod stop;

mod statement;

mod condition;
mod reader;

mod table;

mod functions;

mod answer;

mod timestamp;

mod trace;
mod trace_labels;
mod trace_spans;

pub use answer::{SqlAnswer, SqlBatches, json_values};
pub use condition::{AttributeTest, Condition, Double, Operand, Operator, Wanted};
pub use cut_source::CutSource;
pub use engine::{Engine, Limits};
pub use error::QueryError;
pub use functions::{bytes_of_hex, hex_text};
pub use reader::{Direction, MATCHES, Reader, Rows, Selection};
pub use timestamp::micros_text;
pub use trace::{Attribute, MAX_PATH, Node, Place, SpanEvent, SpanId, SpanLink, Trace, TraceId, TraceSpan, trace_tree, tree_order};
