//! Questions to a real store in a temporary folder, filled with OTLP payloads.

mod answers;
mod limits;
mod refusals;
mod stored;
mod traces;
mod while_flushing;
