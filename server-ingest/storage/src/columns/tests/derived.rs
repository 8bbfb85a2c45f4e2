//! Columns that repeat what attributes say.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue};
use opentelemetry_proto::tonic::trace::v1::span::Event;

use super::{attribute, request, span, spans_of, text};
use crate::columns::promoted::{COUNT, EXCEPTION_MESSAGE, EXCEPTION_TYPE, PROMOTED, Shape, Source, find, is_filled_in};

fn strings(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = cast(batch.column_by_name(column).unwrap(), &DataType::Utf8).unwrap();
    column.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn lists(batch: &RecordBatch, column: &str) -> Vec<Vec<String>> {
    let to_strings = |list: ArrayRef| list.as_string::<i32>().iter().flatten().map(str::to_owned).collect();
    batch.column_by_name(column).unwrap().as_list::<i32>().iter().map(|list| to_strings(list.unwrap())).collect()
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn every_promoted_key_is_found_and_no_other() {
    for (index, promoted) in PROMOTED.iter().enumerate() {
        assert_eq!(find(promoted.key.as_bytes()), Some(index));
        assert_eq!(promoted.key.replace('.', "_"), promoted.column);
    }
    for key in ["", "http.request.methods", "http.request.metho_", "x", &"k".repeat(200)] {
        assert_eq!(find(key.as_bytes()), None);
    }
    assert_eq!(PROMOTED[EXCEPTION_TYPE].column, "exception_type");
    assert_eq!(PROMOTED[EXCEPTION_MESSAGE].column, "exception_message");
    let filled_in: Vec<_> = (0..COUNT).filter(|index| is_filled_in(*index)).map(|index| PROMOTED[index].column).collect();
    let expected =
        ["operation_name", "provider_name", "request_model", "agent_name", "tool_name", "usage_input_tokens", "usage_output_tokens"];
    assert_eq!(filled_in, expected.map(|name| format!("gen_ai_{name}")));
}

#[test]
fn a_promoted_column_holds_values_of_its_type_only() {
    let of_type = |shape| match shape {
        Shape::Word | Shape::Text => Value::StringValue("here".to_owned()),
        Shape::Integer => Value::IntValue(42),
    };
    let of_other_type = |shape| match shape {
        Shape::Word | Shape::Text => Value::IntValue(42),
        Shape::Integer => Value::StringValue("42".to_owned()),
    };
    let all =
        |value: &dyn Fn(Shape) -> Value| PROMOTED.iter().map(|promoted| attribute(promoted.key, value(promoted.shape))).collect::<Vec<_>>();
    let exception = Event { name: "exception".to_owned(), attributes: all(&of_type), ..Event::default() };
    let mut full = span("full", all(&of_type));
    full.events.push(exception);
    let spans = vec![span("none", Vec::new()), span("wrong", all(&of_other_type)), full, span("none", Vec::new())];
    let batch = spans_of(&request(Vec::new(), spans));
    for promoted in &PROMOTED {
        let column = batch.column_by_name(promoted.column).unwrap();
        let present: Vec<bool> = (0..4).map(|row| column.is_valid(row)).collect();
        assert_eq!(present, [false, false, true, false], "{}", promoted.column);
        match promoted.shape {
            Shape::Integer => assert_eq!(column.as_primitive::<Int64Type>().value(2), 42),
            Shape::Word | Shape::Text => assert_eq!(strings(&batch, promoted.column)[2], some("here")),
        }
    }
    assert_eq!(COUNT, 26);
}

#[test]
fn openinference_fills_in_what_opentelemetry_did_not_say() {
    let tokens = |key: &str, count| attribute(key, Value::IntValue(count));
    let llm = vec![
        text("llm.system", "openai"),
        tokens("llm.token_count.prompt", 42),
        text("llm.model_name", "small"),
        text("llm.model_name", "another"),
        text("openinference.span.kind", "LLM"),
        tokens("llm.token_count.completion", 5),
        text("llm.provider", "azure"),
    ];
    let tool = vec![text("openinference.span.kind", "tool"), text("tool.name", "search"), text("agent.name", "planner")];
    // Both words at once: OpenTelemetry's count, though they come last.
    let both = vec![
        text("openinference.span.kind", "LLM"),
        text("llm.model_name", "of openinference"),
        tokens("llm.token_count.prompt", 1),
        text("gen_ai.operation.name", "text_completion"),
        text("gen_ai.request.model", "of opentelemetry"),
        tokens("gen_ai.usage.input_tokens", 2),
    ];
    let spans = vec![
        span("llm", llm),
        span("tool", tool),
        span("both", both),
        // Without its kind a span is not OpenInference's, whatever names it uses; numbers that are none are not counted.
        span("other", vec![text("tool.name", "hammer"), text("llm.model_name", "m"), tokens("llm.token_count.prompt", 1)]),
        span("odd", vec![attribute("openinference.span.kind", Value::IntValue(1)), text("agent.name", "a")]),
        span(
            "embedding",
            vec![text("openinference.span.kind", "EMBEDDING"), text("embedding.model_name", "e"), text("llm.token_count.prompt", "1")],
        ),
        span("custom", vec![text("openinference.span.kind", "Prompt")]),
    ];
    let batch = spans_of(&request(Vec::new(), spans));
    let integers = |column: &str| batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
    let none = || None::<String>;
    assert_eq!(
        strings(&batch, "gen_ai_operation_name"),
        [some("chat"), some("execute_tool"), some("text_completion"), none(), none(), some("embeddings"), some("prompt")]
    );
    assert_eq!(
        strings(&batch, "gen_ai_request_model"),
        [some("small"), none(), some("of opentelemetry"), none(), none(), some("e"), none()]
    );
    assert_eq!(strings(&batch, "gen_ai_provider_name"), [some("azure"), none(), none(), none(), none(), none(), none()]);
    assert_eq!(strings(&batch, "gen_ai_tool_name"), [none(), some("search"), none(), none(), none(), none(), none()]);
    assert_eq!(strings(&batch, "gen_ai_agent_name"), [none(), some("planner"), none(), none(), none(), none(), none()]);
    assert_eq!(integers("gen_ai_usage_input_tokens"), [Some(42), None, Some(2), None, None, None, None]);
    assert_eq!(integers("gen_ai_usage_output_tokens"), [Some(5), None, None, None, None, None, None]);
}

#[test]
fn the_first_value_of_a_repeated_key_counts() {
    let attributes = vec![attribute("http.route", Value::IntValue(1)), text("http.route", "/a"), text("http.route", "/b")];
    let batch = spans_of(&request(Vec::new(), vec![span("work", attributes)]));
    assert_eq!(strings(&batch, "http_route"), [some("/a")]);
    assert_eq!(strings(&batch, "attributes"), [some(r#"{"http.route":1,"http.route":"/a","http.route":"/b"}"#)]);
}

#[test]
fn kubernetes_names_come_from_the_span_or_its_resource() {
    let resource = vec![text("k8s.pod.name", "pod-1"), text("service.name", "shop"), text("http.route", "not promoted from here")];
    let spans = vec![span("a", Vec::new()), span("b", vec![text("k8s.pod.name", "pod-2")])];
    let batch = spans_of(&request(resource, spans));
    assert_eq!(strings(&batch, "k8s_pod_name"), [some("pod-1"), some("pod-2")]);
    assert_eq!(strings(&batch, "k8s_namespace_name"), [None, None]);
    assert_eq!(strings(&batch, "http_route"), [None, None]);
    assert!(PROMOTED.iter().filter(|promoted| promoted.source == Source::SpanOrResource).count() == 2);
}

#[test]
fn the_first_exception_event_is_promoted() {
    let event = |name: &str, kind: &str| Event {
        name: name.to_owned(),
        attributes: vec![text("exception.type", kind), text("exception.message", &format!("{kind} happened"))],
        ..Event::default()
    };
    let mut failing = span("work", vec![text("exception.type", "of the span")]);
    failing.events = vec![event("retry", "Retry"), event("exception", "ValueError"), event("exception", "KeyError")];
    let batch = spans_of(&request(Vec::new(), vec![failing]));
    assert_eq!(strings(&batch, "exception_type"), [some("ValueError")]);
    assert_eq!(strings(&batch, "exception_message"), [some("ValueError happened")]);
}

#[test]
fn a_service_without_a_name_is_unknown() {
    let name = |resource| strings(&spans_of(&request(resource, vec![span("work", Vec::new())])), "service_name");
    assert_eq!(name(Vec::new()), [some("unknown_service")]);
    assert_eq!(name(vec![attribute("service.name", Value::IntValue(3))]), [some("unknown_service")]);
    assert_eq!(name(vec![text("service.name", "shop"), text("service.name", "other")]), [some("shop")]);
}

#[test]
fn scouter_attributes_are_derived_and_stay() {
    let attributes = vec![
        text("scouter.tracing.input", r#"{"q":"hi"}"#),
        text("scouter.entity", "uid-1"),
        text("scouter.entity.uid-2", "uid-2"),
        text("scouter.entity.uid-1", "uid-1"),
        attribute("scouter.entity.uid-3", Value::BoolValue(true)),
        text("scouter.tracing.tag.env", "prod"),
        text("baggage.scouter.tracing.tag.team", "core \"a\""),
        text("baggage.other", "x"),
        text("scouter.queue.record", "record-1"),
    ];
    let list = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }] };
    let mut queueing = span("work", attributes);
    queueing.events = vec![Event {
        name: "scouter.queue.event".to_owned(),
        attributes: vec![text("scouter.queue.record", "record-2"), text("scouter.entity", "uid-4")],
        ..Event::default()
    }];
    let other = span("other", vec![attribute("scouter.tracing.output", Value::ArrayValue(list))]);
    let batch = spans_of(&request(Vec::new(), vec![span("plain", Vec::new()), queueing, other]));
    assert_eq!(strings(&batch, "input"), [None, some(r#"{"q":"hi"}"#), None]);
    assert_eq!(strings(&batch, "output"), [None, None, some("[1]")]);
    assert_eq!(lists(&batch, "entity_ids"), [vec![], vec!["uid-1", "uid-2", "uid-3", "uid-4"], vec![]] as [Vec<&str>; 3]);
    assert_eq!(lists(&batch, "queue_ids"), [vec![], vec!["record-1", "record-2"], vec![]] as [Vec<&str>; 3]);
    assert_eq!(strings(&batch, "tags"), [None, some(r#"{"env":"prod","team":"core \"a\""}"#), None]);
    let attributes = strings(&batch, "attributes")[1].clone().unwrap();
    for key in ["scouter.tracing.input", "scouter.entity.uid-2", "scouter.tracing.tag.env", "baggage.scouter.tracing.tag.team"] {
        assert!(attributes.contains(key), "{key} in {attributes}");
    }
}

#[test]
fn kinds_and_times_have_their_columns() {
    let mut early = span("early", Vec::new());
    (early.kind, early.start_time_unix_nano, early.end_time_unix_nano) = (3, u64::MAX, 5_000);
    let mut late = span("late", Vec::new());
    (late.kind, late.start_time_unix_nano, late.end_time_unix_nano) = (77, 86_400_000_000_999, 86_399_999_999_999);
    let batch = spans_of(&request(Vec::new(), vec![early, late, span("zero", Vec::new())]));
    let numbers = |column: &str| {
        let column = cast(batch.column_by_name(column).unwrap(), &DataType::Int64).unwrap();
        column.as_primitive::<Int64Type>().values().to_vec()
    };
    assert_eq!(strings(&batch, "kind"), [some("CLIENT"), some("77"), some("UNSPECIFIED")]);
    assert_eq!(numbers("start_unix_nano"), [-1, 86_400_000_000_999, 0]);
    assert_eq!(numbers("duration_nano"), [5_001, -1_000, 0]);
    assert_eq!(numbers("start_time"), [-1, 86_400_000_000, 0]);
    let dates = cast(batch.column_by_name("date").unwrap(), &DataType::Int32).unwrap();
    assert_eq!(dates.as_primitive::<arrow::datatypes::Int32Type>().values(), &[-1, 1, 0]);
}
