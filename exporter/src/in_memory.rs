//! Spans kept in memory, for tests of code that makes them.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, ready},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource as ResourceMessage,
    trace::v1::{ResourceSpans, Span, status::StatusCode},
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use prost::Message;
use scouter_tonic::grpc::InsertMessageRequest;

use crate::encode::{EncodedBatch, EncodedEnvelope, EncodedResource};

/// Spans kept unless told otherwise.
const DEFAULT_MAX_SPANS: usize = 65_536;

/// Keeps spans instead of sending them, as the bytes a server would have received. Clones share what is kept.
///
/// What a test reads went through the encoder, so it sees what a server sees: repeated attribute keys are gone, the resource is there.
/// At most 65,536 spans are kept; beyond that the oldest exports go. Needs neither network nor runtime.
///
/// ```
/// use scouter_exporter::{InMemoryExporter, opentelemetry::trace::{Tracer, TracerProvider}, opentelemetry_sdk::trace::SdkTracerProvider};
///
/// let exporter = InMemoryExporter::new();
/// let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
/// provider.tracer("shop").in_span("charge", |_| ());
///
/// let spans = exporter.finished_spans();
/// assert_eq!(spans[0].name(), "charge");
/// assert!(!spans[0].is_error());
/// ```
#[derive(Clone)]
pub struct InMemoryExporter {
    resource: Arc<EncodedResource>,
    store: Arc<Mutex<Store>>,
}

struct Store {
    /// Oldest first; each an `InsertMessageRequest`.
    exports: VecDeque<Export>,
    spans: usize,
    max_spans: usize,
    is_shut_down: bool,
}

struct Export {
    body: Bytes,
    spans: usize,
}

/// A span as a server reads it, with what stood around it.
#[derive(Clone, Debug, PartialEq)]
pub struct FinishedSpan {
    /// The process that made it.
    pub resource: ResourceMessage,
    /// The library that made it.
    pub scope: InstrumentationScope,
    /// The span itself, as OTLP has it.
    pub span: Span,
}

impl FinishedSpan {
    /// The span's name.
    pub fn name(&self) -> &str {
        &self.span.name
    }

    /// An attribute of the span.
    pub fn attribute(&self, key: &str) -> Option<&Value> {
        find(&self.span.attributes, key)
    }

    /// An attribute of the span, if it is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        text(self.attribute(key)?)
    }

    /// The resource's `service.name`.
    pub fn service_name(&self) -> Option<&str> {
        text(find(&self.resource.attributes, "service.name")?)
    }

    /// True when the span failed.
    pub fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
    }

    /// True when `self` is a child of `parent`.
    pub fn is_child_of(&self, parent: &FinishedSpan) -> bool {
        self.span.trace_id == parent.span.trace_id && self.span.parent_span_id == parent.span.span_id
    }
}

impl Default for InMemoryExporter {
    fn default() -> Self {
        Self::with_max_spans(DEFAULT_MAX_SPANS)
    }
}

impl fmt::Debug for InMemoryExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store();
        f.debug_struct("InMemoryExporter")
            .field("spans", &store.spans)
            .field("max_spans", &store.max_spans)
            .field("is_shut_down", &store.is_shut_down)
            .finish_non_exhaustive()
    }
}

impl InMemoryExporter {
    /// An exporter that has kept nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An exporter that keeps the newest exports: as many as hold `max_spans` spans, and always the last one.
    pub fn with_max_spans(max_spans: usize) -> Self {
        let store = Store { exports: VecDeque::new(), spans: 0, max_spans, is_shut_down: false };
        Self { resource: EncodedResource::new([], None), store: Arc::new(Mutex::new(store)) }
    }

    /// What was exported, oldest export first; in an export, in the order the spans ended within their scope.
    ///
    /// Readable after shutdown as well. With a batch processor, call `force_flush` of the provider first.
    pub fn finished_spans(&self) -> Vec<FinishedSpan> {
        let mut finished = Vec::new();
        for resource_spans in self.resource_spans() {
            let resource = resource_spans.resource.unwrap_or_default();
            for scope_spans in resource_spans.scope_spans {
                let scope = scope_spans.scope.unwrap_or_default();
                let spans = scope_spans.spans.into_iter();
                finished.extend(spans.map(|span| FinishedSpan { resource: resource.clone(), scope: scope.clone(), span }));
            }
        }
        finished
    }

    /// What was exported, in OTLP's own shape.
    pub fn resource_spans(&self) -> Vec<ResourceSpans> {
        // Decoding happens outside of the lock.
        let bodies: Vec<Bytes> = self.store().exports.iter().map(|export| export.body.clone()).collect();
        let requests = bodies.into_iter().map(|body| InsertMessageRequest::decode(body).expect("the encoder writes valid messages"));
        requests.flat_map(|request| request.resource_spans).collect()
    }

    /// Forgets all spans.
    pub fn reset(&self) {
        let mut store = self.store();
        store.exports.clear();
        store.spans = 0;
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode(&self, spans: &[SpanData]) -> EncodedBatch {
        let mut encoded = EncodedBatch::default();
        let mut envelopes: Vec<(&opentelemetry::InstrumentationScope, Arc<EncodedEnvelope>)> = Vec::new();
        for span in spans {
            let scope = &span.instrumentation_scope;
            let index = envelopes.iter().position(|(known, _)| *known == scope).unwrap_or_else(|| {
                envelopes.push((scope, EncodedEnvelope::from_sdk(Arc::clone(&self.resource), scope)));
                envelopes.len() - 1
            });
            encoded.push_span_data(&envelopes[index].1, span);
        }
        encoded
    }
}

impl SpanExporter for InMemoryExporter {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let (requests, _none_is_too_large) = self.encode(&batch).requests(usize::MAX);
        let mut store = self.store();
        if store.is_shut_down {
            return ready(Err(OTelSdkError::AlreadyShutdown));
        }
        for request in requests {
            store.spans += request.spans;
            store.exports.push_back(Export { body: request.body, spans: request.spans });
        }
        while store.spans > store.max_spans && store.exports.len() > 1 {
            store.spans -= store.exports.pop_front().map_or(0, |export| export.spans);
        }
        ready(Ok(()))
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        let was_shut_down = std::mem::replace(&mut self.store().is_shut_down, true);
        if was_shut_down { Err(OTelSdkError::AlreadyShutdown) } else { Ok(()) }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = EncodedResource::from_sdk(resource);
    }
}

fn find<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    attribute.value.as_ref().and_then(|AnyValue { value }| value.as_ref())
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
