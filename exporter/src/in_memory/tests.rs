use std::time::Duration;

use opentelemetry::{
    KeyValue,
    trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_sdk::{Resource, error::OTelSdkError, trace::SdkTracerProvider};

use super::InMemoryExporter;

fn provider(exporter: &InMemoryExporter) -> SdkTracerProvider {
    let resource = Resource::builder_empty().with_service_name("shop").build();
    SdkTracerProvider::builder().with_resource(resource).with_simple_exporter(exporter.clone()).build()
}

fn names(exporter: &InMemoryExporter) -> Vec<String> {
    exporter.finished_spans().iter().map(|span| span.name().to_owned()).collect()
}

#[test]
fn a_test_sees_what_a_server_would_see() {
    let exporter = InMemoryExporter::new();
    let provider = provider(&exporter);
    let tracer = provider.tracer("orders");
    tracer.in_span("order", |context| {
        context.span().set_attributes([KeyValue::new("count", 1), KeyValue::new("count", 2), KeyValue::new("city", "Ulm")]);
        let mut charge = tracer.span_builder("charge").with_kind(SpanKind::Client).start(&tracer);
        charge.set_status(Status::error("card refused"));
        charge.add_event("refused", vec![KeyValue::new("attempt", 3)]);
    });

    let spans = exporter.finished_spans();
    let [charge, order] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((charge.name(), order.name()), ("charge", "order"));
    assert!(charge.is_child_of(order) && !order.is_child_of(charge));
    assert!(charge.is_error() && !order.is_error());
    assert_eq!(charge.span.events[0].name, "refused");
    assert_eq!(order.text("city"), Some("Ulm"));
    assert_eq!(order.text("count"), None, "a number is not text");
    assert_eq!(order.attribute("count"), Some(&Value::IntValue(2)), "a repeated key has its last value");
    assert_eq!(order.span.attributes.len(), 2);
    assert_eq!(order.attribute("missing"), None);
    assert_eq!((order.service_name(), order.scope.name.as_str()), (Some("shop"), "orders"));
}

#[test]
fn spans_of_several_scopes_keep_their_scope() {
    let exporter = InMemoryExporter::new();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter.clone()).build();
    for (scope, name) in [("a", "1"), ("b", "2"), ("a", "3")] {
        provider.tracer(scope).start(name).end();
    }
    provider.force_flush().expect("nothing can fail");
    let mut found: Vec<_> = exporter.finished_spans().into_iter().map(|span| (span.span.name, span.scope.name)).collect();
    found.sort();
    assert_eq!(found, [("1", "a"), ("2", "b"), ("3", "a")].map(|(name, scope)| (name.to_owned(), scope.to_owned())));
    assert!(exporter.resource_spans().iter().all(|resource| resource.scope_spans.iter().all(|scope| !scope.spans.is_empty())));
}

#[test]
fn c_50_export_after_shutdown_of_the_in_memory_exporter_says_so_and_keeps_what_was_there() {
    use opentelemetry_sdk::trace::SpanExporter;

    let exporter = InMemoryExporter::new();
    let provider = provider(&exporter);
    provider.tracer("t").start("kept").end();
    assert!(exporter.shutdown_with_timeout(Duration::ZERO).is_ok());
    assert!(matches!(exporter.shutdown_with_timeout(Duration::ZERO), Err(OTelSdkError::AlreadyShutdown)));
    provider.tracer("t").start("late").end();
    assert_eq!(names(&exporter), ["kept"]);
}

#[test]
fn the_oldest_exports_go_when_there_are_too_many_spans() {
    let exporter = InMemoryExporter::with_max_spans(3);
    let provider = provider(&exporter);
    for name in ["1", "2", "3", "4", "5"] {
        provider.tracer("t").start(name).end();
    }
    assert_eq!(names(&exporter), ["3", "4", "5"]);
    exporter.reset();
    assert!(exporter.finished_spans().is_empty());
    provider.tracer("t").start("6").end();
    assert_eq!(names(&exporter), ["6"]);
}
