//! What the server says of itself: log lines on stderr and Prometheus metrics.

use std::{
    fmt,
    io::IsTerminal,
    sync::{Arc, Weak},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use scouter_storage::{
    log::Door,
    store::{Store, StoreStats},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    admission::Admission,
    auth::{Denied, LoginError},
    error::IngestError,
    ingest::Accepted,
};

mod connections;
mod questions;

pub use connections::ConnectionMetrics;
pub use questions::QuestionCollector;

/// Sends log lines to stderr, each a JSON object if asked for; `filter` is in the language of `RUST_LOG`.
pub fn start_logging(filter: &str, is_json: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
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

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DeniedLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LossLabels {
    reason: &'static str,
}

/// Why a message that was published, and that no broker keeps, is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Too many are under way.
    NoRoom,
    /// It never can be stored.
    Unreadable,
    /// The server stopped before there was room.
    Stopping,
}

impl Loss {
    const ALL: [Self; 3] = [Self::NoRoom, Self::Unreadable, Self::Stopping];

    fn label(self) -> &'static str {
        match self {
            Self::NoRoom => "no_room",
            Self::Unreadable => "unreadable",
            Self::Stopping => "stopping",
        }
    }
}

/// A quarter of a millisecond to sixteen seconds.
fn request_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 17))
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
    denied: Family<DeniedLabels, Counter>,
    losses: Family<LossLabels, Counter>,
    stages: Family<StageLabels, Histogram>,
}

/// A part of a request's way through the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestStage {
    /// Its body comes in and is inflated.
    Receive,
    /// Its spans are judged.
    Judge,
    /// It is made durable.
    Append,
}

impl RequestStage {
    fn label(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Judge => "judge",
            Self::Append => "append",
        }
    }
}

impl Metrics {
    /// All counters at zero; the figures of `store` and `admission`, and of others, are read whenever the metrics are.
    pub fn new(store: &Arc<Store>, admission: &Admission, connections: &ConnectionMetrics, others: Vec<Box<dyn Collector>>) -> Arc<Self> {
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
        let denied = Family::default();
        registry.register("denied_requests", "Requests and logins that were not let in, by reason", denied.clone());
        let losses = Family::default();
        registry.register("published_losses", "Messages of Redis pub/sub that came and are not stored, by reason", losses.clone());
        let stages = Family::<StageLabels, Histogram>::new_with_constructor(request_seconds);
        registry.register_with_unit("ingest_stage", "Time a request takes in each part of its way", Unit::Seconds, stages.clone());
        connections.register(&mut registry);
        // There from the start, so that a rate begins at zero.
        for door in Door::ALL.map(door_label) {
            for family in [&spans, &records, &rejected_spans, &rejected_records, &bytes] {
                drop(family.get_or_create(&DoorLabels { door }));
            }
        }
        for reason in ["token", "password", "busy", "too_many_failures", "permission", "host"] {
            drop(denied.get_or_create(&DeniedLabels { reason }));
        }
        for loss in Loss::ALL {
            drop(losses.get_or_create(&LossLabels { reason: loss.label() }));
        }
        registry.register_collector(Box::new(StoreCollector(Arc::downgrade(store))));
        registry.register_collector(Box::new(AdmissionCollector(admission.clone())));
        for other in others {
            registry.register_collector(other);
        }
        Arc::new(Self { registry, requests, bytes, spans, records, rejected_spans, rejected_records, denied, losses, stages })
    }

    pub(crate) fn time_stage(&self, stage: RequestStage, took: Duration) {
        self.stages.get_or_create(&StageLabels { stage: stage.label() }).observe(took.as_secs_f64());
    }

    /// A request that was refused before it could be submitted.
    pub(crate) fn count_refused(&self, door: Door, error: &IngestError) {
        let outcome = if error.answer().retry_after.is_some() { "retry_later" } else { "refused" };
        self.requests.get_or_create(&RequestLabels { door: door_label(door), outcome }).inc();
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

    pub(crate) fn count_loss(&self, loss: Loss) {
        self.losses.get_or_create(&LossLabels { reason: loss.label() }).inc();
    }

    pub(crate) fn count_denied(&self, denied: &Denied) {
        let reason = match denied {
            Denied::Token(_) => "token",
            Denied::Login(LoginError::Refused) => "password",
            Denied::Login(LoginError::Busy) => "busy",
            Denied::Login(LoginError::TooMany { .. }) => "too_many_failures",
            Denied::Forbidden { .. } => "permission",
            Denied::Elsewhere { .. } => "host",
        };
        self.denied.get_or_create(&DeniedLabels { reason }).inc();
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
        Door::RabbitMq => "rabbitmq",
        Door::Redis => "redis",
        Door::Kafka => "kafka",
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

/// Reads the memory budget at each scrape.
#[derive(Debug)]
struct AdmissionCollector(Admission);

impl Collector for AdmissionCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, bytes) in [
            ("admission_used", "Memory of requests under way", self.0.used_bytes()),
            ("admission_total", "Memory that requests under way may use", self.0.total_bytes()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), gauge.metric_type())?)?;
        }
        let counter = ConstCounter::new(self.0.refused());
        counter.encode(encoder.encode_descriptor("admission_refusals", "Requests there was no memory for", None, counter.metric_type())?)
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
