use std::collections::HashSet;

use serde_json::json;

use super::tree::{Node, order};
use super::*;

fn id(number: u64) -> SpanId {
    SpanId(number.to_be_bytes())
}

fn node(number: u64, parent: Option<u64>, start: i64) -> Node {
    Node { id: id(number), parent: parent.map(id), start_unix_nano: start, duration_nano: 1 }
}

/// The order as (id, depth, id of the parent above it).
fn placed(nodes: &[Node]) -> Vec<(u64, usize, Option<u64>)> {
    let number = |index: usize| u64::from_be_bytes(nodes[index].id.0);
    let order = order(nodes);
    order.iter().map(|(index, place)| (number(*index), place.depth, place.parent.map(|at| number(order[at].0)))).collect()
}

#[test]
fn children_follow_their_parent_in_the_order_they_start() {
    let nodes = [node(4, Some(2), 40), node(3, Some(1), 30), node(2, Some(1), 20), node(5, Some(2), 35), node(1, None, 10)];
    assert_eq!(placed(&nodes), [(1, 0, None), (2, 1, Some(1)), (5, 2, Some(2)), (4, 2, Some(2)), (3, 1, Some(1))]);
}

#[test]
fn a_child_that_starts_before_its_parent_still_hangs_on_it() {
    assert_eq!(placed(&[node(2, Some(1), 5), node(1, None, 10)]), [(1, 0, None), (2, 1, Some(1))]);
}

#[test]
fn orphans_and_self_parents_are_roots_after_true_roots() {
    let nodes = [node(1, Some(99), 1), node(2, Some(2), 2), node(3, None, 3), node(4, Some(1), 4), node(5, None, 0)];
    assert_eq!(placed(&nodes), [(5, 0, None), (3, 0, None), (1, 0, None), (4, 1, Some(1)), (2, 0, None)]);
}

#[test]
fn a_circle_is_cut_at_its_earliest_span_and_nothing_is_lost() {
    // 7 hangs on the circle 1 → 2 → 3 → 1 and starts before all of it.
    let nodes = [node(1, Some(3), 30), node(2, Some(1), 10), node(3, Some(2), 20), node(7, Some(1), 1), node(9, None, 50)];
    assert_eq!(placed(&nodes), [(9, 0, None), (2, 0, None), (3, 1, Some(2)), (1, 2, Some(3)), (7, 3, Some(1))]);
    // Issue D2 of the interface notes: the same id once as a root and once as its own child.
    assert_eq!(placed(&[node(1, None, 1), node(1, Some(1), 1)]), [(1, 0, None)]);
}

#[test]
fn a_span_that_came_often_stands_once() {
    // Issue D3: a chain delivered three times.
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.extend((1..=20).map(|n| node(n, (n > 1).then(|| n - 1), n as i64)));
    }
    assert_eq!(placed(&nodes), (1..=20).map(|n| (n, n as usize - 1, (n > 1).then(|| n - 1))).collect::<Vec<_>>());
    let longest = [Node { duration_nano: 1, ..node(1, None, 5) }, Node { duration_nano: 9, ..node(1, None, 5) }, node(1, None, 6)];
    assert_eq!(order(&longest)[0].0, 1, "the one that starts first, of those the longest");
}

#[test]
fn any_graph_gives_every_span_once_with_its_parent_before_it() {
    let mut state = 11u64;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..3000 {
        let count = 1 + next(12);
        let nodes: Vec<Node> = (0..count).map(|_| node(next(8), (next(4) > 0).then(|| next(10)), next(5) as i64)).collect();
        let order = order(&nodes);
        let ids: HashSet<SpanId> = nodes.iter().map(|node| node.id).collect();
        let placed_ids: HashSet<SpanId> = order.iter().map(|(index, _)| nodes[*index].id).collect();
        assert_eq!((order.len(), &placed_ids), (ids.len(), &ids), "{nodes:?}");
        for (at, (index, place)) in order.iter().enumerate() {
            match place.parent {
                None => assert_eq!(place.depth, 0),
                Some(parent) => {
                    assert!(parent < at && place.depth == order[parent].1.depth + 1);
                    assert_eq!(nodes[*index].parent, Some(nodes[order[parent].0].id));
                }
            }
        }
    }
}

#[test]
fn a_hundred_thousand_levels_and_a_hundred_thousand_children_are_linear() {
    let chain: Vec<Node> = (1..=100_000).rev().map(|n| node(n, (n > 1).then(|| n - 1), n as i64)).collect();
    assert_eq!(order(&chain).last().unwrap().1.depth, 99_999);
    let circle: Vec<Node> = (0..100_000).map(|n| node(n, Some((n + 1) % 100_000), n as i64)).collect();
    assert_eq!(order(&circle).last().unwrap().1.depth, 99_999);
    let star: Vec<Node> = (0..100_000).map(|n| node(n, (n > 0).then_some(0), n as i64)).collect();
    assert_eq!(order(&star).last().unwrap().1, tree::Place { depth: 1, parent: Some(0) });
}

fn span(number: u64, parent: Option<u64>, start: i64) -> TimedSpan {
    let span = TraceSpan {
        trace_id: TraceId([1; 16]),
        span_id: id(number),
        parent_span_id: parent.map(id),
        span_name: format!("span {number}"),
        span_kind: Some("INTERNAL".to_owned()),
        start_time: String::new(),
        end_time: String::new(),
        duration_ms: 0,
        duration_nano: 1500,
        status_code: 0,
        status_message: None,
        attributes: Vec::new(),
        events: Vec::new(),
        links: Vec::new(),
        depth: 0,
        path: Vec::new(),
        root_span_id: id(number),
        service_name: "service".to_owned(),
        span_order: 0,
        input: Value::Null,
        output: Value::Null,
    };
    TimedSpan { start_unix_nano: start, span }
}

#[test]
fn paths_lead_from_the_root_and_keep_the_nearest_ids() {
    let spans = in_tree_order((1..=300).rev().map(|n| span(n, (n > 1).then(|| n - 1), n as i64)).collect());
    assert_eq!(spans[0].path, [id(1)]);
    assert_eq!(spans[2].path, [id(1), id(2), id(3)]);
    assert_eq!(spans[MAX_PATH - 1].path.len(), MAX_PATH);
    assert_eq!(spans[MAX_PATH - 1].path[0], id(1));
    let last = &spans[299];
    assert_eq!((last.path.len(), last.path[MAX_PATH - 1], last.path[0]), (MAX_PATH, id(300), id(301 - MAX_PATH as u64)));
    assert_eq!((last.depth, last.span_order, last.root_span_id), (299, 299, id(1)));
}

#[test]
fn attributes_lose_their_markers_and_keep_their_order() {
    let text = r#"{"b":1,"a":{"$bytes":"AQID"},"b":{"$double":"NaN"},"$x":{"$$x":[{"$double":"-Infinity"}],"y":{}},"n":null,"f":1.0}"#;
    let parsed: Vec<(String, Value)> = attributes::parse(text).into_iter().map(|attribute| (attribute.key, attribute.value)).collect();
    let expected = [
        ("b", json!(1)),
        ("a", json!("AQID")),
        ("b", json!("NaN")),
        ("$x", json!({ "$x": ["-Infinity"], "y": {} })),
        ("n", Value::Null),
        ("f", json!(1.0)),
    ];
    assert_eq!(parsed, expected.map(|(key, value)| (key.to_owned(), value)));
    assert!(attributes::parse("{}").is_empty() && attributes::parse("[1]").is_empty() && attributes::parse("").is_empty());
}

#[test]
fn ids_are_hexadecimal() {
    assert_eq!(serde_json::to_value(id(0xab)).unwrap(), json!("00000000000000ab"));
    assert_eq!(serde_json::from_value::<SpanId>(json!("00000000000000AB")).unwrap(), id(0xab));
    assert!(serde_json::from_value::<SpanId>(json!("ab")).is_err());
    assert!(serde_json::from_value::<TraceId>(json!("zz".repeat(16))).is_err());
    assert_eq!(SpanId::present(&[]), None);
    assert_eq!(SpanId::present(&[0; 8]), None);
}

fn drawn(spans: Vec<TimedSpan>) -> String {
    trace_tree(&Trace { spans: in_tree_order(spans) })
}

#[test]
fn the_tree_is_drawn_with_its_branches() {
    let spans = vec![
        span(1, None, 1),
        span(2, Some(1), 2),
        span(3, Some(2), 3),
        span(4, Some(2), 4),
        span(5, Some(1), 5),
        span(6, Some(5), 6),
        span(7, Some(99), 7),
        span(8, Some(7), 8),
    ];
    assert_eq!(
        drawn(spans),
        "service  span 1  1.5 µs\n\
         ├─ service  span 2  1.5 µs\n\
         │  ├─ service  span 3  1.5 µs\n\
         │  └─ service  span 4  1.5 µs\n\
         └─ service  span 5  1.5 µs\n\
         \u{20}  └─ service  span 6  1.5 µs\n\
         service  span 7  1.5 µs\n\
         └─ service  span 8  1.5 µs\n"
    );
    assert_eq!(trace_tree(&Trace::default()), "");
}

#[test]
fn a_drawn_span_tells_its_duration_error_and_model_and_cannot_drive_the_terminal() {
    let mut failed = span(1, None, 1);
    failed.span.status_code = 2;
    failed.span.status_message = Some("bad\u{1b}[31m\nnews\u{202e}".to_owned());
    failed.span.span_name = "x".repeat(200);
    failed.span.attributes = vec![
        Attribute { key: "http.route".to_owned(), value: json!("/") },
        Attribute { key: "gen_ai.request.model".to_owned(), value: json!("m") },
        Attribute { key: "gen_ai.usage.input_tokens".to_owned(), value: json!(3) },
    ];
    let name = "x".repeat(120);
    assert_eq!(
        drawn(vec![failed]),
        format!("service  {name}…  1.5 µs  ERROR bad\\u{{1b}}[31m\\nnews\\u{{202e}}  gen_ai.request.model=m gen_ai.usage.input_tokens=3\n")
    );
    for (nanos, text) in
        [(0, "0 ns"), (-5, "-5 ns"), (999, "999 ns"), (38_200_000, "38.2 ms"), (-38_200_000, "-38.2 ms"), (61_000_000_000, "61.0 s")]
    {
        let mut timed = span(1, None, 1);
        timed.span.duration_nano = nanos;
        assert_eq!(drawn(vec![timed]), format!("service  span 1  {text}\n"));
    }
}

#[test]
fn deep_trees_are_drawn_in_bounded_lines() {
    let text = drawn((1..=10_000).map(|n| span(n, (n > 1).then(|| n - 1), n as i64)).collect());
    assert_eq!(text.lines().count(), 10_000);
    assert!(text.lines().all(|line| line.chars().count() < 200));
    assert!(text.contains("…9999 └─ service  span 10000"));
}
