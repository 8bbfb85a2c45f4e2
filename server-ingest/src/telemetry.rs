//! What the server says of itself: log lines on stderr and Prometheus metrics.

use std::sync::Arc;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use scouter_storage::{log::Door, store::Store};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{error::IngestError, ingest::Accepted};

/// Sends log lines to stderr; `RUST_LOG` filters them, `LOG_JSON=true` makes each a JSON object.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_json = std::env::var("LOG_JSON").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // A second call in one process keeps the first subscriber, which is what a test wants.
    let _ = if is_json { registry.with(lines.json()).try_init() } else { registry.with(lines).try_init() };
}

#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq, EncodeLabelValue)]
enum DoorLabel {
    ScouterGrpc,
    OtlpGrpc,
    OtlpHttp,
    ScouterHttp,
}

#[derive(Debug, Clone, Copy, Hash, PartialEq, Eq, EncodeLabelValue)]
enum Outcome {
    Stored,
    Duplicate,
    Refused,
    Later,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DoorLabels {
    door: DoorLabel,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    door: DoorLabel,
    outcome: Outcome,
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
    store: StoreGauges,
}

#[derive(Default)]
struct StoreGauges {
    hot_rows: Gauge,
    hot_bytes: Gauge,
    durable_position: Gauge,
    applied_position: Gauge,
    commits: Gauge,
    commit_failures: Gauge,
    files_written: Gauge,
    bytes_written: Gauge,
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Arc<Self> {
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
        let store = StoreGauges::default();
        registry.register("store_hot_rows", "Rows not yet in the tables", store.hot_rows.clone());
        registry.register_with_unit("store_hot", "Memory of rows not yet in the tables", Unit::Bytes, store.hot_bytes.clone());
        registry.register("store_durable_position", "Newest log position on disk", store.durable_position.clone());
        registry.register("store_applied_position", "Newest log position visible to queries", store.applied_position.clone());
        registry.register("store_commits", "Table commits since the start", store.commits.clone());
        registry.register("store_commit_failures", "Failed table commits since the start", store.commit_failures.clone());
        registry.register("store_files_written", "Parquet files written since the start", store.files_written.clone());
        registry.register_with_unit("store_written", "Parquet bytes written since the start", Unit::Bytes, store.bytes_written.clone());
        Arc::new(Self { registry, requests, bytes, spans, records, rejected_spans, rejected_records, unauthenticated, store })
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
                    Outcome::Duplicate
                } else {
                    self.spans.get_or_create(&labels).inc_by(receipt.spans.into());
                    self.records.get_or_create(&labels).inc_by(receipt.records.into());
                    Outcome::Stored
                }
            }
            Err(error) if error.answer().retry_after.is_some() => Outcome::Later,
            Err(_) => Outcome::Refused,
        };
        self.requests.get_or_create(&RequestLabels { door, outcome }).inc();
    }

    pub(crate) fn count_unauthenticated(&self) {
        self.unauthenticated.inc();
    }

    /// The text of `/metrics`, the store's state read at this moment.
    pub fn render(&self, store: &Store) -> String {
        let stats = store.stats();
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.store.hot_rows, stats.hot_rows as u64);
        set(&self.store.hot_bytes, stats.hot_bytes as u64);
        set(&self.store.durable_position, stats.durable.0);
        set(&self.store.applied_position, stats.applied.0);
        set(&self.store.commits, stats.commits);
        set(&self.store.commit_failures, stats.commit_failures);
        set(&self.store.files_written, stats.files_written);
        set(&self.store.bytes_written, stats.bytes_written);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

fn door_label(door: Door) -> DoorLabel {
    match door {
        Door::ScouterGrpc => DoorLabel::ScouterGrpc,
        Door::OtlpGrpc => DoorLabel::OtlpGrpc,
        Door::OtlpHttp => DoorLabel::OtlpHttp,
        Door::ScouterHttp => DoorLabel::ScouterHttp,
    }
}
