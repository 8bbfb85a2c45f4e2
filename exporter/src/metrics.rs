//! Metrics of a pipeline about itself, by the names of OpenTelemetry's semantic conventions.
//!
//! They are read off the account when a meter collects; ending a span costs nothing more. Only the duration of a request is recorded
//! as it happens, on the worker's thread, once over all its attempts.
//!
//! | instrument | kind | attributes beside those of the component |
//! | --- | --- | --- |
//! | `otel.sdk.exporter.span.inflight` | up-down counter | |
//! | `otel.sdk.exporter.span.exported` | counter | `error.type` of those that failed: `rejected`, or the reason of the drop |
//! | `otel.sdk.exporter.operation.duration` | histogram, seconds | `error.type` of a failed one |
//! | `otel.sdk.processor.span.queue.size` | up-down counter | |
//! | `otel.sdk.processor.span.queue.capacity` | up-down counter | |
//! | `otel.sdk.processor.span.processed` | counter | `error.type` of those that were not taken: `queue_full`, `shutdown` |

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue,
    metrics::{Histogram, Meter},
};

use crate::{Account, DropReason, Pipeline};

/// Seconds; from an answer on the same machine to the longest default deadline.
const DURATION_BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

static COMPONENTS: AtomicU64 = AtomicU64::new(0);

/// Where durations go once a meter is known.
#[derive(Debug, Default)]
pub(crate) struct Durations(OnceLock<(Histogram<f64>, Vec<KeyValue>)>);

impl Durations {
    /// One request, over all its attempts.
    pub(crate) fn record(&self, duration: Duration, error_type: Option<&'static str>) {
        if let Some((histogram, component)) = self.0.get() {
            histogram.record(duration.as_secs_f64(), &with_error(component, error_type));
        }
    }
}

fn with_error(component: &[KeyValue], error_type: Option<&'static str>) -> Vec<KeyValue> {
    component.iter().cloned().chain(error_type.map(|name| KeyValue::new("error.type", name))).collect()
}

/// Spans that never were in the queue: because it was full, and because they came after shutdown.
fn not_taken(spans: &Account) -> (u64, u64) {
    let queue_full = spans.dropped.get(DropReason::QueueFull);
    (queue_full, (spans.ended - spans.accepted).saturating_sub(queue_full))
}

/// The address without what might be secret in it.
fn server(uri: &str) -> (String, Option<i64>) {
    let authority = uri.split_once("://").map_or(uri, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    match authority.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host.to_owned(), Some(port)),
        _ => (authority.to_owned(), None),
    }
}

impl Pipeline {
    /// Makes `meter` observe this pipeline, for as long as the pipeline lives. Call it when the meter provider is there, which may be
    /// after the first span. False when a meter observes it already.
    pub fn register_metrics(&self, meter: &Meter) -> bool {
        let number = COMPONENTS.fetch_add(1, Ordering::Relaxed);
        let (component_type, server_uri) = self.component();
        let (address, port) = server(&server_uri);
        let mut component = vec![
            KeyValue::new("otel.component.type", component_type),
            KeyValue::new("otel.component.name", format!("{component_type}/{number}")),
            KeyValue::new("server.address", address),
        ];
        component.extend(port.map(|port| KeyValue::new("server.port", port)));
        let histogram = meter
            .f64_histogram("otel.sdk.exporter.operation.duration")
            .with_unit("s")
            .with_description("Time of a request over all its attempts.")
            .with_boundaries(DURATION_BOUNDS.to_vec())
            .build();
        if self.durations().0.set((histogram, component.clone())).is_err() {
            return false;
        }
        self.observe(meter, &component);
        true
    }

    fn observe(&self, meter: &Meter, component: &[KeyValue]) {
        let gauge = |name: &'static str, description: &'static str, value: fn(&Pipeline) -> u64| {
            let (pipeline, component) = (self.downgrade(), component.to_vec());
            let instrument = meter.i64_observable_up_down_counter(name).with_unit("{span}").with_description(description);
            let instrument = instrument.with_callback(move |observer| {
                if let Some(pipeline) = pipeline.upgrade() {
                    observer.observe(i64::try_from(value(&pipeline)).unwrap_or(i64::MAX), &component);
                }
            });
            let _observed = instrument.build();
        };
        gauge("otel.sdk.exporter.span.inflight", "Spans in a request.", |pipeline| pipeline.stats().spans.in_flight);
        gauge("otel.sdk.processor.span.queue.size", "Spans that wait for a request.", |pipeline| pipeline.stats().spans.queued);
        gauge("otel.sdk.processor.span.queue.capacity", "Spans that may wait or be in a request.", Pipeline::queue_capacity);

        let (pipeline, attributes) = (self.downgrade(), component.to_vec());
        let exported = meter.u64_observable_counter("otel.sdk.exporter.span.exported").with_unit("{span}");
        let exported = exported.with_description("Spans whose export ended, by outcome.").with_callback(move |observer| {
            let Some(pipeline) = pipeline.upgrade() else { return };
            let spans = pipeline.stats().spans;
            observer.observe(spans.exported, &attributes);
            let (_, not_taken) = not_taken(&spans);
            let dropped = spans.dropped.iter().filter_map(|(reason, count)| match reason {
                DropReason::QueueFull => None,
                DropReason::Shutdown => Some((reason.name(), count.saturating_sub(not_taken))),
                _ => Some((reason.name(), count)),
            });
            for (error_type, count) in dropped.chain([("rejected", spans.rejected)]) {
                if count > 0 {
                    observer.observe(count, &with_error(&attributes, Some(error_type)));
                }
            }
        });
        let _observed = exported.build();

        let (pipeline, attributes) = (self.downgrade(), component.to_vec());
        let processed = meter.u64_observable_counter("otel.sdk.processor.span.processed").with_unit("{span}");
        let processed = processed.with_description("Spans handed over, by whether they were taken.").with_callback(move |observer| {
            let Some(pipeline) = pipeline.upgrade() else { return };
            let spans = pipeline.stats().spans;
            observer.observe(spans.accepted, &attributes);
            let (queue_full, after_shutdown) = not_taken(&spans);
            for (error_type, count) in [(DropReason::QueueFull.name(), queue_full), (DropReason::Shutdown.name(), after_shutdown)] {
                if count > 0 {
                    observer.observe(count, &with_error(&attributes, Some(error_type)));
                }
            }
        });
        let _observed = processed.build();
    }
}
