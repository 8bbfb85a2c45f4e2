//! What the server says of itself: log lines on stderr and Prometheus metrics.

use std::{
    fmt,
    io::IsTerminal,
    sync::{Arc, Weak},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
    },
    registry::{Registry, Unit},
};
use scouter_storage::{
    log::Door,
    store::{Store, StoreStats},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{error::IngestError, ingest::Accepted};

/// Sends log lines to stderr; `RUST_LOG` filters them, `LOG_JSON=true` makes each a JSON object.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_json = std::env::var("LOG_JSON").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let stderr = std::io::stderr;
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    let registry = tracing_subscriber::registry().with(filter);
    // A second call in one process keeps the first subscriber, which is what a test wants.
    let _ = if is_json { registry.with(lines.json()).try_init() } else { registry.with(lines).try_init() };
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DoorLabels {
    door: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    door: &'static str,
    outcome: &'static str,
}

/// The server's counters.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    bytes: Family<DoorLabels, Counter>,
    spans: Family<DoorLabels, Counter>,
    records: Family<DoorLabels, Counter>,
    rejected_spans: Family<DoorLabels, Counter>,
    rejected_records: Family<DoorLabels, Counter>,
    unauthenticated: Counter,
}

impl Metrics {
    /// All counters at zero; the figures of `store` are read whenever the metrics are.
    pub fn new(store: &Arc<Store>) -> Arc<Self> {
        let mut registry = Registry::with_prefix("scouter");
        let requests = Family::default();
        registry.register("ingest_requests", "Requests by door and outcome", requests.clone());
        let bytes = Family::default();
        registry.register_with_unit("ingest_received", "Decompressed request bytes by door", Unit::Bytes, bytes.clone());
        let spans = Family::default();
        registry.register("ingest_spans", "Spans made durable, by door", spans.clone());
        let records = Family::default();
        registry.register("ingest_records", "Monitoring records made durable, by door", records.clone());
        let rejected_spans = Family::default();
        registry.register("ingest_rejected_spans", "Spans refused for ever, by door", rejected_spans.clone());
        let rejected_records = Family::default();
        registry.register("ingest_rejected_records", "Monitoring records refused for ever, by door", rejected_records.clone());
        let unauthenticated = Counter::default();
        registry.register("unauthenticated_requests", "Requests without a valid token", unauthenticated.clone());
        registry.register_collector(Box::new(StoreCollector(Arc::downgrade(store))));
        Arc::new(Self { registry, requests, bytes, spans, records, rejected_spans, rejected_records, unauthenticated })
    }

    pub(crate) fn count_submission(&self, door: Door, bytes: usize, outcome: &Result<Accepted, IngestError>) {
        let door = door_label(door);
        let labels = DoorLabels { door };
        self.bytes.get_or_create(&labels).inc_by(bytes as u64);
        let outcome = match outcome {
            Ok(Accepted { receipt, .. }) => {
                self.rejected_spans.get_or_create(&labels).inc_by(receipt.rejected_spans.into());
                self.rejected_records.get_or_create(&labels).inc_by(receipt.rejected_records.into());
                if receipt.duplicate {
                    "duplicate"
                } else {
                    self.spans.get_or_create(&labels).inc_by(receipt.spans.into());
                    self.records.get_or_create(&labels).inc_by(receipt.records.into());
                    "stored"
                }
            }
            Err(error) if error.answer().retry_after.is_some() => "retry_later",
            Err(_) => "refused",
        };
        self.requests.get_or_create(&RequestLabels { door, outcome }).inc();
    }

    pub(crate) fn count_unauthenticated(&self) {
        self.unauthenticated.inc();
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

fn door_label(door: Door) -> &'static str {
    match door {
        Door::ScouterGrpc => "scouter_grpc",
        Door::OtlpGrpc => "otlp_grpc",
        Door::OtlpHttp => "otlp_http",
        Door::ScouterHttp => "scouter_http",
    }
}

/// Reads the store's figures at each scrape.
struct StoreCollector(Weak<Store>);

impl fmt::Debug for StoreCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreCollector")
    }
}

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(store) = self.0.upgrade() else { return Ok(()) };
        let stats = store.stats();
        for (name, help, unit, value) in gauges(&stats) {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        for (name, help, unit, value) in counters(&stats) {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?)?;
        }
        Ok(())
    }
}

type Figure = (&'static str, &'static str, Option<Unit>, u64);

fn gauges(stats: &StoreStats) -> [Figure; 10] {
    [
        ("store_hot_rows", "Rows not yet in the tables", None, stats.hot_rows as u64),
        ("store_hot", "Memory of rows not yet in the tables", Some(Unit::Bytes), stats.hot_bytes as u64),
        ("store_durable_position", "Newest log position on disk", None, stats.durable.0),
        ("store_applied_position", "Newest log position visible to queries", None, stats.applied.0),
        ("store_committed_position", "Log position up to which everything is in the tables", None, stats.committed.0),
        ("store_files", "Files of all tables", None, stats.tables.iter().map(|table| table.files as u64).sum()),
        ("store_tables", "Files of all tables", Some(Unit::Bytes), stats.tables.iter().map(|table| table.bytes).sum()),
        ("log_disk", "Segment files of the log, spares included", Some(Unit::Bytes), stats.log.disk_bytes),
        ("log_queued_frames", "Requests waiting for the log's writer", None, stats.log.queued_frames),
        ("log_queued", "Request bytes waiting for the log's writer", Some(Unit::Bytes), stats.log.queued_bytes),
    ]
}

fn counters(stats: &StoreStats) -> [Figure; 20] {
    let maintenance = &stats.maintenance;
    [
        ("store_commits", "Table commits", None, stats.commits),
        ("store_commit_failures", "Table commits that failed and are tried again", None, stats.commit_failures),
        ("store_checkpoint_failures", "Table checkpoints that failed", None, stats.checkpoint_failures),
        ("store_files_written", "Parquet files written", None, stats.files_written),
        ("store_rows_written", "Rows written to Parquet files", None, stats.rows_written),
        ("store_written", "Parquet bytes written", Some(Unit::Bytes), stats.bytes_written),
        ("compaction_commits", "Merges of small table files", None, maintenance.merges),
        ("compaction_files", "Table files taken out by merges", None, maintenance.files_merged),
        ("compaction_rows", "Rows read by merges", None, maintenance.rows_merged),
        ("compaction_read", "Table files taken out by merges", Some(Unit::Bytes), maintenance.merged_bytes_read),
        ("compaction_written", "Table files written by merges", Some(Unit::Bytes), maintenance.merged_bytes_written),
        ("compaction_duplicates", "Spans that were stored twice and left out by merges", None, maintenance.duplicates_removed),
        ("retention_files", "Table files of dates past their retention", None, maintenance.files_expired),
        ("retention_rows", "Rows of dates past their retention", None, maintenance.rows_expired),
        ("vacuum_files", "Files deleted that no table names", None, maintenance.files_deleted),
        ("vacuum_deleted", "Files deleted that no table names", Some(Unit::Bytes), maintenance.bytes_deleted),
        ("maintenance_failures", "Merges, expiries and deletions that failed and are tried again", None, maintenance.failures),
        ("log_frames", "Requests made durable", None, stats.log.frames),
        ("log_payload", "Request bytes made durable", Some(Unit::Bytes), stats.log.payload_bytes),
        ("log_commits", "Writes to the log, each with one sync", None, stats.log.commits),
    ]
}
