//! Scouter's GenAI spans, conversations and dashboards.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span};
use scouter_answers::scouter::{self, DashboardQuestion, GenAiSpanFilters};
use scouter_query::hex_text;
use serde_json::{Value, json};

use super::asking::each;
use super::stored::{START, Stored, attribute, plain_span, request, store, text, trace_id, value};

const MINUTE: u64 = 60_000_000_000;

fn chat(trace: u128, id: u64, minute: u64, tokens: i64, more: Vec<KeyValue>) -> Span {
    let mut span = plain_span(trace, id, 0, "chat m", minute * MINUTE, id * 1_000_000);
    span.attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", "m"),
        text("gen_ai.conversation.id", "c/1"),
        text("gen_ai.agent.name", "planner"),
        attribute("gen_ai.usage.input_tokens", Any::IntValue(tokens)),
        attribute("gen_ai.usage.output_tokens", Any::IntValue(1)),
    ];
    span.attributes.extend(more);
    span
}

fn tool(trace: u128, id: u64, minute: u64, is_failed: bool) -> Span {
    let mut span = plain_span(trace, id, 0, "execute_tool search", minute * MINUTE, 4_000_000);
    span.attributes = vec![text("gen_ai.operation.name", "execute_tool"), text("gen_ai.tool.name", "search")];
    if is_failed {
        span.status = Some(Status { code: 2, message: "slow".into() });
        span.events = vec![span::Event {
            time_unix_nano: START,
            name: "exception".into(),
            attributes: vec![text("exception.type", "Timeout")],
            ..Default::default()
        }];
    }
    span
}

async fn talks() -> Stored {
    let stored = store();
    let reasons = ArrayValue { values: value(Any::StringValue("stop".into())).into_iter().collect() };
    let mut first = chat(
        1,
        2,
        1,
        100,
        vec![
            text("gen_ai.system", "p"),
            attribute("gen_ai.request.temperature", Any::DoubleValue(0.5)),
            attribute("gen_ai.response.finish_reasons", Any::ArrayValue(reasons)),
            attribute("gen_ai.usage.cache_read.input_tokens", Any::IntValue(7)),
            attribute("server.port", Any::IntValue(443)),
            text("gen_ai.input.messages", "[{\"role\":\"user\"}]"),
            text("scouter.entity", "0196b6a0-0000-7000-8000-000000000001"),
        ],
    );
    first.events = vec![span::Event {
        time_unix_nano: START,
        name: "gen_ai.evaluation.result".into(),
        attributes: vec![text("gen_ai.evaluation.name", "relevance"), attribute("gen_ai.evaluation.score.value", Any::DoubleValue(0.9))],
        ..Default::default()
    }];
    stored.put(&request("a", vec![plain_span(1, 1, 0, "request", 0, 10), first])).await;
    stored.store.flush().await.unwrap();
    stored.put(&request("a", vec![chat(2, 4, 7, 50, vec![text("gen_ai.response.model", "m-2")]), tool(2, 5, 8, true)])).await;
    stored.put(&request("b", vec![tool(3, 6, 9, false)])).await;
    stored
}

async fn spans(stored: &Stored, filters: Value) -> Value {
    let filters: GenAiSpanFilters = serde_json::from_value(filters).unwrap();
    serde_json::to_value(scouter::genai_spans(&stored.engine, filters).await.unwrap()).unwrap()["spans"].clone()
}

fn dashboard(more: Value) -> DashboardQuestion {
    let mut question = json!({"start_time": "2026-04-25T21:00:00Z", "end_time": "2026-04-25T22:00:00Z", "bucket_interval": "5 minutes"});
    question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(question).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_genai_span_keeps_the_types_of_what_it_says() {
    let stored = talks().await;
    let found = spans(&stored, json!({"operation_name": "chat", "limit": 10})).await;
    assert_eq!(each(&found, "span_id"), ["0000000000000004", "0000000000000002"].map(Value::from), "newest first");
    let first = &found[1];
    for (member, expected) in [
        ("trace_id", json!(hex_text(&trace_id(1)))),
        ("service_name", json!("a")),
        ("start_time", json!("2026-04-25T21:19:24.000000Z")),
        ("end_time", json!("2026-04-25T21:19:24.002000Z")),
        ("duration_ms", json!(2)),
        ("status_code", json!(0)),
        ("provider_name", json!("p")),
        ("request_model", json!("m")),
        ("response_model", Value::Null),
        ("input_tokens", json!(100)),
        ("cache_read_input_tokens", json!(7)),
        ("finish_reasons", json!(["stop"])),
        ("request_stop_sequences", json!([])),
        ("request_temperature", json!(0.5)),
        ("server_port", json!(443)),
        ("input_messages", json!("[{\"role\":\"user\"}]")),
        ("output_messages", Value::Null),
        ("error_type", Value::Null),
        ("entity_id", json!("0196b6a0-0000-7000-8000-000000000001")),
        ("eval_results", json!([{"name": "relevance", "score_label": null, "score_value": 0.9, "explanation": null, "response_id": null}])),
    ] {
        assert_eq!(first[member], expected, "{member}");
    }
    assert_eq!(first.as_object().unwrap().len(), 47, "Scouter's columns, but for the partition");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn genai_spans_are_found_by_what_they_say() {
    let stored = talks().await;
    for (filters, expected) in [
        (json!({}), &[6, 5, 4, 2][..]),
        (json!({"limit": 1}), &[6]),
        (json!({"service_name": "a"}), &[5, 4, 2]),
        (json!({"tool_name": "search", "service_name": "b"}), &[6]),
        (json!({"model": "m-2"}), &[4]),
        (json!({"model": "m"}), &[4, 2]),
        (json!({"error_type": "Timeout"}), &[5]),
        (json!({"agent_name": "planner", "conversation_id": "c/1"}), &[4, 2]),
        (json!({"conversation_id": "c"}), &[]),
        (json!({"start_time": "2026-04-25T21:25:24Z", "end_time": "2026-04-25T21:26:24Z"}), &[4]),
    ] {
        let expected: Vec<Value> = expected.iter().map(|span| format!("{span:016x}").into()).collect();
        assert_eq!(each(&spans(&stored, filters.clone()).await, "span_id"), expected, "{filters}");
    }
    for filters in [json!({"limit": 0}), json!({"limit": 6000}), json!({"start_time": "x"})] {
        let filters: GenAiSpanFilters = serde_json::from_value(filters).unwrap();
        assert!(scouter::genai_spans(&stored.engine, filters).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conversation_is_all_of_it_whatever_its_age_and_whoever_asked_before() {
    let stored = talks().await;
    let of = async |id: &str, from: Option<&str>| {
        let from = from.map(str::to_owned);
        let answer = scouter::genai_conversation(&stored.engine, id, from.as_ref(), None).await.unwrap();
        each(&serde_json::to_value(answer).unwrap()["spans"], "span_id")
    };
    assert_eq!(of("c/1", Some("2026-04-25T21:20:00Z")).await, ["0000000000000004"].map(Value::from));
    assert_eq!(of("c/1", None).await, ["0000000000000002", "0000000000000004"].map(Value::from));
    // Delivered twice, it is there once.
    stored.put(&request("a", vec![chat(2, 4, 7, 50, vec![]), chat(5, 9, 30, 1, vec![])])).await;
    assert_eq!(of("c/1", None).await, ["0000000000000002", "0000000000000004", "0000000000000009"].map(Value::from));
    assert!(of("nobody's", None).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboards_sum_up_agents_and_tools() {
    let stored = talks().await;
    let price =
        json!({"input_per_million": 2.0, "output_per_million": 10.0, "cache_creation_per_million": 0.0, "cache_read_per_million": 0.0});
    let question = dashboard(json!({"agent_name": "planner", "model_pricing": {"m": price}}));
    let agents = serde_json::to_value(scouter::agent_metrics(&stored.engine, question).await.unwrap()).unwrap();
    let summary = &agents["summary"];
    for (member, expected) in [
        ("total_requests", json!(2)),
        ("avg_duration_ms", json!(3.0)),
        ("overall_error_rate", json!(0.0)),
        ("total_input_tokens", json!(150)),
        ("total_output_tokens", json!(2)),
        ("unique_agent_count", json!(1)),
        ("unique_conversation_count", json!(1)),
    ] {
        assert_eq!(summary[member], expected, "{member}");
    }
    assert_eq!(each(&summary["cost_by_model"], "model"), ["m", "m-2"].map(Value::from));
    assert_eq!(each(&summary["cost_by_model"], "total_cost"), [json!(0.00021), Value::Null]);
    assert_eq!(each(&agents["buckets"], "bucket_start"), ["15", "25"].map(|minute| json!(format!("2026-04-25T21:{minute}:00.000000Z"))));
    assert_eq!(each(&agents["buckets"], "span_count"), [1, 1]);

    let tools = serde_json::to_value(scouter::tool_metrics(&stored.engine, dashboard(json!({}))).await.unwrap()).unwrap();
    let tool = &tools["aggregates"][0];
    assert_eq!(
        (&tool["tool_name"], &tool["call_count"], &tool["avg_duration_ms"], &tool["error_rate"]),
        (&json!("search"), &json!(2), &json!(4.0), &json!(0.5))
    );
    assert_eq!(each(&tools["time_series"], "call_count"), [2]);
    let nobody =
        serde_json::to_value(scouter::agent_metrics(&stored.engine, dashboard(json!({"service_name": "x"}))).await.unwrap()).unwrap();
    assert_eq!((&nobody["summary"]["total_requests"], &nobody["summary"]["p50_duration_ms"]), (&json!(0), &Value::Null));
    assert!(scouter::tool_metrics(&stored.engine, dashboard(json!({"bucket_interval": "fortnight"}))).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_openinference_say_the_same_under_scouters_names() {
    let stored = store();
    let mut span = plain_span(1, 1, 0, "llm", 0, 1_000_000);
    span.attributes = vec![
        text("openinference.span.kind", "LLM"),
        text("session.id", "talk-1"),
        text("llm.provider", "p"),
        text("llm.model_name", "m"),
        attribute("llm.token_count.prompt", Any::IntValue(42)),
        attribute("llm.token_count.completion", Any::IntValue(5)),
        text("llm.output_messages.0.message.role", "assistant"),
        text("llm.output_messages.0.message.content", "Lima."),
    ];
    stored.put(&request("a", vec![span])).await;
    let found = spans(&stored, json!({"operation_name": "chat", "model": "m", "conversation_id": "talk-1"})).await;
    for (member, expected) in [
        ("operation_name", json!("chat")),
        ("provider_name", json!("p")),
        ("request_model", json!("m")),
        ("conversation_id", json!("talk-1")),
        ("input_tokens", json!(42)),
        ("output_tokens", json!(5)),
        ("input_messages", Value::Null),
        ("output_messages", json!("[{\"role\":\"assistant\",\"content\":\"Lima.\"}]")),
    ] {
        assert_eq!(found[0][member], expected, "{member}");
    }
    let talk = scouter::genai_conversation(&stored.engine, "talk-1", None, None).await.unwrap();
    assert_eq!(serde_json::to_value(talk).unwrap()["spans"].as_array().unwrap().len(), 1);
    assert_eq!(found[0].as_object().unwrap().len(), 47, "and no member more");
}
