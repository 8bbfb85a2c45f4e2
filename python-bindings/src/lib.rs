//! The extension module `scouter._scouter`. Nothing here but registration; each topic has its file.
//!
//! Invariants: no wait happens with the interpreter's lock held, no Rust lock is held while Python code runs, and delivery
//! never takes the interpreter's lock.

mod capture;
mod config;
mod envelope;
mod error;
mod exporter;
mod log;
mod otlp;
mod processor;
mod queue;
mod report;
mod scratch;
mod span;
mod tracer;
mod transport;
mod value;
mod wait;

use pyo3::prelude::*;

#[pymodule]
fn _scouter(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<config::GrpcConfig>()?;
    module.add_class::<config::HttpConfig>()?;
    module.add_class::<config::RedisConfig>()?;
    module.add_class::<config::KafkaConfig>()?;
    module.add_class::<config::RabbitMqConfig>()?;
    module.add_class::<config::TransportType>()?;
    module.add_class::<processor::SpanProcessor>()?;
    module.add_class::<exporter::SpanExporter>()?;
    module.add_class::<otlp::OtlpTarget>()?;
    module.add_class::<tracer::TracerCore>()?;
    module.add_class::<tracer::TracerSetup>()?;
    module.add_class::<tracer::SpanSinks>()?;
    module.add_class::<tracer::SpanCore>()?;
    module.add_class::<tracer::CurrentSpan>()?;
    module.add_class::<queue::RecordQueue>()?;
    module.add_class::<queue::Queue>()?;
    module.add_class::<queue::EntityType>()?;
    module.add_class::<queue::Feature>()?;
    module.add_class::<queue::Features>()?;
    module.add_class::<queue::Metric>()?;
    module.add_class::<queue::Metrics>()?;
    module.add_class::<queue::EvalRecord>()?;
    module.add_function(wrap_pyfunction!(processor::flush_together, module)?)?;
    module.add_function(wrap_pyfunction!(processor::shut_down_together, module)?)?;
    module.add_function(wrap_pyfunction!(capture::captured_json, module)?)?;
    module.add_function(wrap_pyfunction!(exporter::encode_spans, module)?)
}
