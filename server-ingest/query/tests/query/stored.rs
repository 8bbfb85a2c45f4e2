//! A store in a temporary folder, and spans to put into it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span};
use prost::Message;
use scouter_query::{Engine, Limits, QueryError};
use scouter_storage::log::{BatchId, Door, Durability, Frame};
use scouter_storage::otlp::{Envelope, judge};
use scouter_storage::store::{MaintenanceOptions, Store, StoreOptions};
use serde_json::Value;
use tempfile::TempDir;

/// 2026-04-25T21:18:24Z.
pub(crate) const START: u64 = 1_777_151_904_000_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const DAY: u64 = 86_400 * SECOND;

pub(crate) struct Stored {
    pub(crate) store: Arc<Store>,
    pub(crate) engine: Engine,
    folder: PathBuf,
    /// Goes when this does, unless the folder is another one.
    _temporary: Option<TempDir>,
}

/// A store that commits only when it is told to.
pub(crate) fn store() -> Stored {
    store_with(Duration::from_secs(3600), Limits::default())
}

pub(crate) fn store_with(flush_interval: Duration, limits: Limits) -> Stored {
    open(None, StoreOptions { flush_interval, ..StoreOptions::default() }, limits)
}

/// A store that commits only when it is told to, and treats its files as `maintenance` says.
pub(crate) fn maintained_store(maintenance: MaintenanceOptions) -> Stored {
    open_in(None, maintenance)
}

/// The same in a folder that stays, if one is named.
pub(crate) fn open_in(folder: Option<PathBuf>, maintenance: MaintenanceOptions) -> Stored {
    open(folder, StoreOptions { flush_interval: Duration::from_secs(3600), maintenance, ..StoreOptions::default() }, Limits::default())
}

fn open(folder: Option<PathBuf>, options: StoreOptions, limits: Limits) -> Stored {
    let temporary = folder.is_none().then(|| TempDir::new().unwrap());
    let folder = folder.or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned())).unwrap();
    let options = StoreOptions { durability: Durability::Os, ..options };
    let (store, _) = Store::open(&folder, options).unwrap();
    let engine = Engine::new(Arc::clone(&store) as _, limits);
    Stored { store, engine, folder, _temporary: temporary }
}

impl Stored {
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    pub(crate) async fn put(&self, request: &ExportTraceServiceRequest) {
        self.append(Envelope::Otlp, request.encode_to_vec()).await;
    }

    pub(crate) async fn append(&self, envelope: Envelope, payload: Vec<u8>) {
        let verdict = judge(&payload, envelope).unwrap();
        assert!(verdict.rejected_spans.is_empty() && verdict.rejected_records.is_empty(), "{verdict:?}");
        let frame = Frame {
            door: Door::OtlpGrpc,
            envelope,
            received_unix_nano: START,
            batch_id: BatchId([0; 16]),
            rejected_spans: Vec::new(),
            rejected_records: Vec::new(),
            payload: payload.into(),
        };
        self.store.append(frame).await.unwrap();
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        self.engine.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).rows
    }

    /// The only value of the only row.
    pub(crate) async fn value(&self, sql: &str) -> Value {
        let mut rows = self.rows(sql).await;
        assert_eq!((rows.len(), rows[0].len()), (1, 1), "{sql}");
        rows.remove(0).remove(0)
    }

    pub(crate) async fn error(&self, sql: &str) -> QueryError {
        match self.engine.sql(sql).await {
            Ok(answer) => panic!("{} is answered with {:?}", &sql[..sql.len().min(200)], answer.rows.first()),
            Err(error) => error,
        }
    }
}

/// A request of one resource and one scope.
pub(crate) fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Resource { attributes: vec![text("service.name", service), text("k8s.pod.name", "pod-1")], ..Resource::default() };
    let scope = InstrumentationScope { name: "tests".into(), version: "1".into(), ..InstrumentationScope::default() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], ..ResourceSpans::default() }],
    }
}

pub(crate) fn trace_id(number: u128) -> [u8; 16] {
    number.to_be_bytes()
}

pub(crate) fn span_id(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

pub(crate) fn value(value: Any) -> Option<AnyValue> {
    Some(AnyValue { value: Some(value) })
}

pub(crate) fn attribute(key: &str, any: Any) -> KeyValue {
    KeyValue { key: key.into(), value: value(any), ..KeyValue::default() }
}

pub(crate) fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, Any::StringValue(text.into()))
}

/// A span with nothing special: `parent` 0 is none; it starts `start_nanos` after [`START`].
pub(crate) fn plain_span(trace: u128, id: u64, parent: u64, name: &str, start_nanos: u64, duration_nanos: u64) -> Span {
    Span {
        trace_id: trace_id(trace).to_vec(),
        span_id: span_id(id),
        parent_span_id: if parent == 0 { Vec::new() } else { span_id(parent) },
        name: name.into(),
        kind: span::SpanKind::Internal as i32,
        start_time_unix_nano: START + start_nanos,
        end_time_unix_nano: START + start_nanos + duration_nanos,
        ..Span::default()
    }
}

/// Span number `n` of a varied but repeatable set: 3 spans a trace, over two days, some failed, all kinds of attribute values.
pub(crate) fn varied_span(n: u64) -> Span {
    let start = n * 7 * SECOND + (n % 2) * DAY + n * 1001;
    let mut span = plain_span(
        1 + u128::from(n / 3),
        n + 1,
        if n.is_multiple_of(3) { 0 } else { n },
        &format!("operation {}", n % 5),
        start,
        n * 1_000_003,
    );
    span.kind = i32::try_from(n % 6).unwrap();
    span.attributes = vec![
        attribute("number", Any::IntValue(n as i64 - 10)),
        attribute("ratio", Any::DoubleValue(n as f64 / 8.0)),
        attribute("is_even", Any::BoolValue(n.is_multiple_of(2))),
        attribute("bytes", Any::BytesValue(n.to_be_bytes().to_vec())),
        text("http.route", ["/ask", "/score/{id}", "/"][n as usize % 3]),
    ];
    if n.is_multiple_of(4) {
        span.attributes.push(text("gen_ai.request.model", "small-model"));
        span.attributes.push(attribute("gen_ai.usage.input_tokens", Any::IntValue(n as i64)));
    }
    if n.is_multiple_of(7) {
        span.status = Some(Status { code: 2, message: format!("broken {}", n % 2) });
        span.events.push(span::Event {
            time_unix_nano: START + start + 1,
            name: "exception".into(),
            attributes: vec![text("exception.type", "ValueError")],
            dropped_attributes_count: 1,
        });
    }
    if n.is_multiple_of(11) {
        span.links.push(span::Link { trace_id: trace_id(7).to_vec(), span_id: span_id(8), ..span::Link::default() });
    }
    span
}

/// Requests with the varied spans of a range, each service's in its own.
pub(crate) fn varied_requests(range: std::ops::Range<u64>) -> Vec<ExportTraceServiceRequest> {
    ["gateway", "answerer", "scorer"]
        .iter()
        .enumerate()
        .map(|(index, service)| request(service, range.clone().filter(|n| *n % 3 == index as u64).map(varied_span).collect()))
        .collect()
}
