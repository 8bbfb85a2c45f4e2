//! What the copying into PostgreSQL says of itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use scouter_storage::{log::Position, store::Store};

/// Figures since the start.
#[derive(Debug, Default)]
pub struct PostgresStats {
    connected: AtomicBool,
    position: AtomicU64,
    rows: AtomicU64,
    refused: AtomicU64,
    failures: AtomicU64,
}

impl PostgresStats {
    pub(super) fn set_connected(&self, is: bool) {
        self.connected.store(is, Ordering::Relaxed);
    }

    pub(super) fn reached(&self, position: Position, rows: u64, refused: u64) {
        self.position.store(position.0, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.refused.fetch_add(refused, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// Shows the figures, and how many requests wait for PostgreSQL.
#[derive(Debug)]
pub(super) struct StatsCollector {
    pub(super) stats: Arc<PostgresStats>,
    pub(super) store: std::sync::Weak<Store>,
}

impl Collector for StatsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let position = self.stats.position.load(Ordering::Relaxed);
        let durable = self.store.upgrade().map_or(position, |store| store.durable().0);
        let connected = i64::from(self.stats.connected.load(Ordering::Relaxed));
        let waiting = i64::try_from(durable.saturating_sub(position)).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("postgres_connected", "Whether PostgreSQL can be written", connected),
            ("postgres_waiting_requests", "Requests in the log that PostgreSQL does not have", waiting),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in [
            ("postgres_rows", "Rows written to PostgreSQL", &self.stats.rows),
            (
                "postgres_refused_records",
                "Records that PostgreSQL cannot hold, kept whole in its table refused_record",
                &self.stats.refused,
            ),
            ("postgres_failures", "Attempts to write to PostgreSQL that failed and were made again", &self.stats.failures),
        ] {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}
