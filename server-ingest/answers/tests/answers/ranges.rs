//! A range of time has its start and not its end, whatever the question; Jaeger's has its end too, to the microsecond.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use scouter_answers::scouter::{self, DashboardQuestion, GenAiMetrics, GenAiSpanFilters, GenAiTable, TraceFilters, TraceMetricsQuestion};
use scouter_tonic::message::{CustomMetricRecord, monitoring_record::Record};
use serde_json::{Value, json};

use super::asking::{ask, each};
use super::records::put;
use super::stored::{SECOND, START, Stored, attribute, plain_span, request, store, text};

/// Three spans of three traces, and three records, a second apart. The range that is asked for begins at the first and ends at the last.
async fn three() -> Stored {
    let stored = store();
    let spans = (0..3_u64).map(|second| {
        let mut span = plain_span(u128::from(second) + 1, 1, 0, "chat", second * SECOND, 1000);
        span.attributes = vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.request.model", "m"),
            text("gen_ai.conversation.id", "c"),
            text("gen_ai.agent.name", "a"),
            text("gen_ai.tool.name", "t"),
            attribute("gen_ai.usage.input_tokens", Any::IntValue(1)),
        ];
        span
    });
    stored.put(&request("a", spans.collect())).await;
    stored.store.flush().await.unwrap();
    let record = |second: u64| CustomMetricRecord {
        created_at_unix_nano: START + second * SECOND,
        entity_uid: "e".into(),
        metric: "mae".into(),
        value: 1.0,
    };
    put(&stored, (0..3).map(|second| Record::Custom(record(second))).collect()).await;
    stored
}

fn sum(list: &Value, member: &str) -> u64 {
    each(list, member).iter().filter_map(Value::as_u64).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_has_its_start_and_not_its_end() {
    let stored = three().await;
    let range = format!("start={START}&end={}", START + 2 * SECOND);
    let of = async |question: &str| ask(&stored.engine, &format!("{question}{range}")).await;
    for (question, list, member, expected) in [
        ("services?", "services", "span_count", 2),
        ("operations?", "operations", "span_count", 2),
        ("traces?", "traces", "span_count", 2),
        ("series?bucket=1s&", "groups", "total", 0),
        ("service-graph?", "nodes", "span_count", 2),
        ("genai/summary?bucket=1s&", "points", "count", 2),
        ("genai/models?", "models", "span_count", 2),
        ("genai/tools?", "tools", "span_count", 2),
        ("genai/agents?", "agents", "span_count", 2),
        ("genai/conversations?", "conversations", "span_count", 2),
        ("attributes?", "attributes", "count", 16),
        ("attributes/service/values?", "values", "count", 2),
    ] {
        assert_eq!(sum(&of(question).await[list], member), expected, "{question}");
    }
    assert_eq!(of("series?bucket=1s&").await["groups"][0]["total"]["count"], 2);
    assert_eq!(of("records?").await["kinds"][2]["row_count"], 2);
    assert_eq!(sum(&of("records/custom?entity=e&bucket=1s&").await["series"][0]["points"], "count"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_scouters_is_the_same() {
    let stored = three().await;
    let engine = &stored.engine;
    let (start, end) = ("2026-04-25T21:18:24Z".to_owned(), "2026-04-25T21:18:26Z".to_owned());
    let range = json!({"start_time": start, "end_time": end, "bucket_interval": "second"});
    let filters: TraceFilters = serde_json::from_value(range.clone()).unwrap();
    let page = serde_json::to_value(scouter::paginated(engine, filters).await.unwrap()).unwrap();
    assert_eq!(each(&page["items"], "span_count"), [1, 1]);
    let question: TraceMetricsQuestion = serde_json::from_value(range.clone()).unwrap();
    let metrics = serde_json::to_value(scouter::trace_metrics(engine, question).await.unwrap()).unwrap();
    assert_eq!(sum(&metrics["metrics"], "trace_count"), 2);
    let filters: GenAiSpanFilters = serde_json::from_value(range.clone()).unwrap();
    let spans = serde_json::to_value(scouter::genai_spans(engine, filters).await.unwrap()).unwrap();
    assert_eq!(spans["spans"].as_array().unwrap().len(), 2);
    let talk = serde_json::to_value(scouter::genai_conversation(engine, "c", Some(&start), Some(&end)).await.unwrap()).unwrap();
    assert_eq!(talk["spans"].as_array().unwrap().len(), 2);
    for (name, list, member) in [
        ("tokens", "buckets", "span_count"),
        ("operations", "operations", "span_count"),
        ("models", "models", "span_count"),
        ("agents", "agents", "span_count"),
        ("tools", "tools", "call_count"),
    ] {
        let question: GenAiMetrics = serde_json::from_value(range.clone()).unwrap();
        let answer = serde_json::to_value(scouter::genai_metrics(engine, GenAiTable::from_name(name).unwrap(), question).await.unwrap());
        assert_eq!(sum(&answer.unwrap()[list], member), 2, "{name}");
    }
    let question = || serde_json::from_value::<DashboardQuestion>(range.clone()).unwrap();
    let agents = serde_json::to_value(scouter::agent_metrics(engine, question()).await.unwrap()).unwrap();
    assert_eq!(agents["summary"]["total_requests"], 2);
    let tools = serde_json::to_value(scouter::tool_metrics(engine, question()).await.unwrap()).unwrap();
    assert_eq!(sum(&tools["time_series"], "call_count"), 2);
}

/// Jaeger shows microseconds: who asks up to the one that it showed means the whole of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_jaegers_has_its_end() {
    let stored = store();
    let at = |trace, nanos| plain_span(trace, 1, 0, "a", nanos, 1);
    stored.put(&request("a", vec![at(1, 0), at(2, 1999), at(3, 2000), at(4, 2999), at(5, 3000)])).await;
    let start = START / 1000;
    for (first, last, expected) in [(0, 2, vec![4, 3, 2, 1]), (1, 1, vec![2]), (2, 2, vec![4, 3]), (4, 9, vec![])] {
        let answer = ask(&stored.engine, &format!("jaeger/traces?service=a&start={}&end={}", start + first, start + last)).await;
        let expected: Vec<Value> = expected.into_iter().map(|trace: u128| format!("{trace:032x}").into()).collect();
        assert_eq!(each(&answer["data"], "traceID"), expected, "{first} to {last}");
    }
}
