//! Gauges of the questions that are being answered.

use std::{fmt, sync::Weak};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
    registry::Unit,
};
use scouter_query::Engine;

/// Reads the engine's figures at each scrape.
#[derive(Debug)]
pub struct QuestionCollector(pub Weak<Engine>);

impl Collector for QuestionCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(engine) = self.0.upgrade() else { return Ok(()) };
        for (name, help, unit, value) in [
            ("questions_running", "Questions being answered, or just given up", None, engine.running()),
            ("questions_used", "Memory of questions being answered", Some(Unit::Bytes), engine.memory_used()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        Ok(())
    }
}
