//! Searches against what the same spans give when they are looked through one by one.

use std::collections::{BTreeMap, HashSet};

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use scouter_query::hex_text;
use serde_json::{Value, json};

use super::asking::{ask, each, try_ask};
use super::stored::{SECOND, START, Stored, attribute, plain_span, request, store, text, trace_id, varied_requests, varied_span};

const SPANS: u64 = 900;

async fn filled() -> Stored {
    let stored = store();
    for range in [0..400, 400..SPANS] {
        for request in varied_requests(range.clone()) {
            stored.put(&request).await;
        }
        if range.start == 0 {
            stored.store.flush().await.unwrap();
        }
    }
    stored
}

/// The traces in order, by what their spans that pass say.
fn expected(passes: impl Fn(u64, &Span) -> bool, is_slowest: bool) -> Vec<Value> {
    let mut numbers: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for n in 0..SPANS {
        let span = varied_span(n);
        if passes(n, &span) {
            let duration = (span.end_time_unix_nano - span.start_time_unix_nano) as i64;
            let start = span.start_time_unix_nano as i64;
            let number = numbers.entry(span.trace_id).or_insert(if is_slowest { i64::MIN } else { i64::MAX });
            *number = if is_slowest { duration.max(*number) } else { start.min(*number) };
        }
    }
    let mut traces: Vec<(i64, Vec<u8>)> = numbers.into_iter().map(|(trace, number)| (-number, trace)).collect();
    traces.sort();
    traces.into_iter().map(|(_, trace)| hex_text(&trace).into()).collect()
}

/// Every page of a question.
async fn pages(stored: &Stored, question: &str, limit: usize) -> Vec<Value> {
    let (mut traces, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(&stored.engine, &format!("{question}&limit={limit}{cursor}")).await;
        let of_page = each(&page["traces"], "trace_id");
        assert!(of_page.len() <= limit);
        traces.extend(of_page);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return traces,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_in_a_row_are_what_looking_through_all_spans_gives() {
    type Passes = fn(u64, &Span) -> bool;
    let questions: [(&str, Passes); 15] = [
        ("traces?", |_, _| true),
        ("traces?service=scorer", |n, _| n % 3 == 2),
        ("traces?operation=operation 3&operation=operation 4", |n, _| n % 5 >= 3),
        ("traces?status=error", |n, _| n % 7 == 0),
        ("traces?status=unset&root=false", |n, _| n % 7 != 0 && n % 3 != 0),
        ("traces?kind=server&kind=CLIENT", |n, _| matches!(n % 6, 2 | 3)),
        ("traces?min_duration=500ms&max_duration=600ms", |n, _| (500..=599).contains(&n)),
        ("traces?attr=number[int]>=400&attr=is_even[bool]=true", |n, _| n >= 410 && n % 2 == 0),
        ("traces?attr=number=-3", |n, _| n == 7),
        ("traces?attr=ratio<2.5", |n, _| n < 20),
        ("traces?attr=http.route[string]!=/", |n, _| n % 3 != 2),
        ("traces?attr=http.route~SCORE&attr=k8s.pod.name=pod-1", |n, _| n % 3 == 1),
        ("traces?text=valueERROR", |n, _| n % 7 == 0),
        ("traces?attr=gen_ai.request.model!?", |n, _| n % 4 != 0),
        ("traces?attr=exception.type[string]=ValueError&attr=gen_ai.usage.input_tokens?", |n, _| n % 28 == 0),
    ];
    let stored = filled().await;
    // Numbers that the tests above are written for.
    let services = ask(&stored.engine, "services").await;
    assert_eq!(each(&services["services"], "service"), ["answerer", "gateway", "scorer"]);
    assert_eq!(each(&services["services"], "span_count"), [SPANS / 3; 3]);
    for (question, passes) in questions {
        for (sort, is_slowest) in [("&sort=newest", false), ("&sort=slowest", true)] {
            let wanted = expected(passes, is_slowest);
            assert!(!wanted.is_empty(), "{question}");
            for limit in [wanted.len().clamp(1, 200), 41] {
                assert_eq!(pages(&stored, &format!("{question}{sort}"), limit).await, wanted, "{question}{sort}, {limit} a page");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_stay_in_place_while_new_traces_come() {
    let stored = filled().await;
    let first = ask(&stored.engine, "traces?limit=30").await;
    let second = format!("traces?limit=30&cursor={}", first["next_cursor"].as_str().unwrap());
    let before = ask(&stored.engine, &second).await;
    stored.put(&request("later", vec![plain_span(1 << 70, 1, 0, "later", 1_000_000 * SECOND, 1)])).await;
    assert_eq!(ask(&stored.engine, &second).await, before);
    assert_eq!(ask(&stored.engine, "traces?limit=1").await["traces"][0]["root"]["service"], "later");
    for changed in [second.replace("limit=30", "service=later"), second.clone() + "&sort=slowest", "traces?cursor=x".to_owned()] {
        assert!(try_ask(&stored.engine, &changed).await.unwrap_err().to_string().contains("cursor"), "{changed}");
    }
}

/// A trace that started long ago and is still going on stands where it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_trace_does_not_hide_the_others() {
    let stored = store();
    let long = |range: std::ops::Range<u64>| range.map(|n| plain_span(1, n + 1, n.min(1), "long", n * SECOND, 1)).collect::<Vec<_>>();
    for start in (0..9000).step_by(1000) {
        stored.put(&request("long", long(start..start + 1000))).await;
    }
    let others: Vec<Span> = (2..12).map(|trace| plain_span(trace, 1, 0, "short", 100 * trace as u64 * SECOND, 5)).collect();
    stored.put(&request("short", others)).await;
    let page = ask(&stored.engine, "traces?limit=5").await;
    let wanted: Vec<Value> = [11_u128, 10, 9, 8, 7].iter().map(|trace| hex_text(&trace_id(*trace)).into()).collect();
    assert_eq!(each(&page["traces"], "trace_id"), wanted);
    let all = pages(&stored, "traces?sort=newest", 4).await;
    assert_eq!((all.len(), all.last()), (11, Some(&hex_text(&trace_id(1)).into())));
    let last = ask(&stored.engine, "traces?service=long").await;
    assert_eq!((&last["traces"][0]["span_count"], &last["traces"][0]["matched_span_count"]), (&json!(9000), &json!(9000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_tells_what_a_list_shows() {
    let stored = store();
    let mut root = plain_span(9, 1, 0, "POST /ask", 0, 100);
    root.kind = 2;
    root.attributes =
        vec![text("scouter.tracing.tag.env", "prod"), text("scouter.entity", "entity-1"), text("scouter.queue.record", "record-1")];
    let mut chat = plain_span(9, 2, 1, "chat m", 10, 200);
    chat.attributes = vec![
        text("gen_ai.operation.name", "chat"),
        text("gen_ai.request.model", "m"),
        text("gen_ai.response.model", "m-1"),
        text("gen_ai.conversation.id", "c-1"),
        attribute("gen_ai.usage.input_tokens", Any::IntValue(12)),
        attribute("gen_ai.usage.output_tokens", Any::IntValue(3)),
    ];
    let mut failed = plain_span(9, 3, 2, "tool", 20, 5);
    failed.status = Some(Status { code: 2, message: "no answer".into() });
    stored.put(&request("gateway", vec![root.clone()])).await;
    // Delivered twice, it counts once.
    stored.put(&request("answerer", vec![chat.clone(), failed.clone()])).await;
    stored.put(&request("answerer", vec![chat])).await;
    let page = ask(&stored.engine, "traces?tag=env=prod&entity=entity-1&queue=record-1").await;
    let start = START as i64;
    assert_eq!(
        page["traces"],
        json!([{
            "trace_id": "00000000000000000000000000000009",
            "root": {"span_id": "0000000000000001", "service": "gateway", "name": "POST /ask", "kind": "SERVER", "status": "unset"},
            "is_root_missing": false,
            "start_unix_nano": start.to_string(), "start_time": "2026-04-25T21:18:24.000000Z", "duration_nano": "210",
            "span_count": 3, "error_count": 1, "matched_span_count": 1,
            "services": [{"service": "answerer", "span_count": 2, "error_count": 1}, {"service": "gateway", "span_count": 1, "error_count": 0}],
            "first_error": {"span_id": "0000000000000003", "service": "answerer", "name": "tool", "message": "no answer"},
            "genai": {"span_count": 1, "input_tokens": 12, "output_tokens": 3, "models": ["m-1"], "operations": ["chat"], "conversation_ids": ["c-1"]},
            "tags": [{"key": "env", "value": "prod"}], "entity_ids": ["entity-1"], "queue_ids": ["record-1"],
        }])
    );
    for nothing in [
        "traces?tag=env=dev",
        "traces?entity=entity-2",
        "traces?queue=record-2",
        "traces?service=nobody",
        "traces?start=2026-05-01T00:00:00Z",
    ] {
        assert_eq!(ask(&stored.engine, nothing).await, json!({"traces": [], "next_cursor": null}), "{nothing}");
    }
    let ids: HashSet<Value> =
        each(&ask(&stored.engine, "traces?trace_id=00000000000000000000000000000009").await["traces"], "trace_id").into_iter().collect();
    assert_eq!(ids.len(), 1);
}

/// What a user writes is a value, whatever it looks like.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_a_user_writes_becomes_a_query() {
    let stored = filled().await;
    for hostile in ["' OR 1=1 --", "x'; DROP TABLE spans; --", "\\", "\"", "%", "_", "\u{0}", "$1", "{}", "🦀"] {
        for question in [
            format!("traces?service={hostile}"),
            format!("traces?operation={hostile}"),
            format!("traces?entity={hostile}"),
            format!("traces?attr=\"{}\"[string]={hostile}", hostile.replace('\\', "\\\\").replace('"', "\\\"").replace('\u{0}', "\\u0000")),
            format!("traces?tag={hostile}"),
            format!("traces?attr=http.route[string]={hostile}"),
        ] {
            assert_eq!(ask(&stored.engine, &question).await["traces"], json!([]), "{question}");
        }
        let kept = ask(&stored.engine, &format!("attributes/{hostile}/values?q={hostile}")).await;
        assert_eq!(kept["values"], json!([]), "{hostile}");
    }
    assert_eq!(ask(&stored.engine, "services").await["services"].as_array().unwrap().len(), 3);
}

/// So many that no reading at once has them all, and more than are left out by name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traces_of_equal_numbers_come_by_their_ids_without_looking_at_all_of_them() {
    let stored = store();
    let span = |trace: u128, start: u64, duration: u64| plain_span(trace, 1, 0, "equal", start, duration);
    // Ids in another order than they are stored in; every tenth trace has a later span too, and ends later.
    let ids: Vec<u128> = (0..3000).map(|n| (n * 7919) % 3001 + 1).collect();
    for (index, part) in ids.chunks(1000).enumerate() {
        let spans = part.iter().flat_map(|id| {
            let later = id.is_multiple_of(10).then(|| plain_span(*id, 2, 1, "equal", 5 * SECOND, SECOND));
            [Some(span(*id, SECOND, SECOND)), later].into_iter().flatten()
        });
        stored.put(&request("equal", spans.collect())).await;
        if index == 1 {
            stored.store.flush().await.unwrap();
        }
    }
    stored.put(&request("equal", vec![span(9000, 2 * SECOND, 1), span(9001, 1, 2 * SECOND)])).await;
    let mut sorted = ids;
    sorted.sort_unstable();
    let all = |first: u128, last: u128| -> Vec<Value> {
        [first].into_iter().chain(sorted.iter().copied()).chain([last]).map(|id| hex_text(&trace_id(id)).into()).collect()
    };
    for (sort, expected) in [("newest", all(9000, 9001)), ("slowest", all(9001, 9000))] {
        assert_eq!(pages(&stored, &format!("traces?sort={sort}"), 200).await, expected, "{sort}");
    }
}
