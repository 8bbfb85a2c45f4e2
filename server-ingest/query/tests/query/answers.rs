//! What is answered, wherever the rows lie.

use prost::Message;
use scouter_storage::otlp::Envelope;
use serde_json::{Value, json};

use super::stored::{START, Stored, store, trace_id, varied_requests};

const SPANS: u64 = 300;

/// Questions whose answers must not depend on whether rows are hot or stored. Each is sorted or one row.
const QUESTIONS: &[&str] = &[
    "SELECT count(*) FROM spans",
    "SELECT * FROM spans ORDER BY span_id",
    "SELECT trace_id, span_id, service_name, name, start_time, duration_nano FROM spans ORDER BY start_unix_nano LIMIT 17",
    "SELECT service_name, count(*), sum(duration_nano), min(start_time), max(start_time) FROM spans GROUP BY service_name ORDER BY 1",
    "SELECT count(*) FROM spans WHERE service_name = 'scorer'",
    "SELECT count(*) FROM spans WHERE service_name <> 'scorer' AND name LIKE 'operation%'",
    "SELECT name FROM spans WHERE service_name IN ('scorer', 'nobody') AND status_code = 2 ORDER BY span_id",
    "SELECT span_id FROM spans WHERE trace_id = unhex('00000000000000000000000000000005') ORDER BY 1",
    "SELECT span_id FROM spans WHERE trace_id = X'00000000000000000000000000000005' ORDER BY 1",
    "SELECT span_id FROM spans WHERE hex(trace_id) = '00000000000000000000000000000005' ORDER BY 1",
    "SELECT encode(span_id, 'hex') FROM spans WHERE trace_id = decode('00000000000000000000000000000005', 'hex') ORDER BY 1",
    "SELECT count(*) FROM spans WHERE start_time >= '2026-04-25T21:30:00Z' AND start_time < '2026-04-25T21:40:00Z'",
    "SELECT count(*) FROM spans WHERE start_unix_nano > 1777238304000000000",
    "SELECT date, count(*) FROM spans GROUP BY date ORDER BY date",
    "SELECT count(*) FROM spans WHERE date = '2026-04-26'",
    "SELECT count(*) FROM spans WHERE date > DATE '2026-04-25' AND start_time > '2026-04-26T21:20:00Z'",
    "SELECT date_trunc('minute', start_time) AS minute, count(*) FROM spans GROUP BY minute ORDER BY minute",
    "SELECT attr(attributes, 'number'), attr(attributes, 'ratio'), attr(attributes, 'bytes') FROM spans ORDER BY span_id",
    "SELECT attr(attributes, 'http.route') AS route, count(*) FROM spans GROUP BY route ORDER BY route",
    "SELECT count(*) FROM spans WHERE attr(attributes, 'http.route') = http_route",
    "SELECT count(*) FROM spans WHERE attr(resource_attributes, 'service.name') = service_name",
    "SELECT DISTINCT attr(resource_attributes, 'k8s.pod.name'), k8s_pod_name FROM spans",
    "SELECT gen_ai_request_model, sum(gen_ai_usage_input_tokens) FROM spans GROUP BY 1 ORDER BY 1",
    "SELECT events[1]['name'], count(*) FROM spans GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM spans WHERE parent_span_id IS NULL",
    "SELECT p.name, c.name, count(*) FROM spans p JOIN spans c ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id GROUP BY 1, 2 ORDER BY 1, 2",
    "WITH slow AS (SELECT * FROM spans WHERE duration_nano > 100000000) SELECT kind, count(*) FROM slow GROUP BY kind ORDER BY kind",
    "SELECT name FROM spans WHERE duration_nano = (SELECT max(duration_nano) FROM spans)",
    "SELECT service_name, approx_percentile_cont(duration_nano, 0.5) > 0 FROM spans GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM spans WHERE 1 = 0",
    "SELECT count(*) FROM scouter.public.spans",
    "SELECT count(*) FROM (SELECT service_name FROM spans LIMIT 5)",
];

async fn filled(flush_after: &[u64]) -> Stored {
    let stored = store();
    let mut from = 0;
    for &to in flush_after {
        put(&stored, from..to).await;
        stored.store.flush().await.unwrap();
        from = to;
    }
    put(&stored, from..SPANS).await;
    stored
}

async fn put(stored: &Stored, range: std::ops::Range<u64>) {
    for request in varied_requests(range) {
        stored.put(&request).await;
    }
}

async fn places(stored: &Stored) -> (usize, usize) {
    let cut = stored.store.cut(scouter_storage::columns::Table::Spans).await.unwrap();
    (cut.snapshot.files.len(), cut.hot.iter().map(|batch| batch.num_rows()).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_stored_and_mixed_rows_give_the_same_answers() {
    let hot = filled(&[]).await;
    let cold = filled(&[SPANS]).await;
    let mixed = filled(&[50, 120, 121]).await;
    assert_eq!(places(&hot).await, (0, SPANS as usize));
    assert_eq!(places(&cold).await, (2, 0), "two days, two files");
    assert_eq!(places(&mixed).await, (5, 179));

    for sql in QUESTIONS {
        let expected = hot.engine.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        for (name, other) in [("stored", &cold), ("mixed", &mixed)] {
            let answer = other.engine.sql(sql).await.unwrap_or_else(|error| panic!("{name}: {sql}: {error}"));
            assert_eq!(answer, expected, "{name}: {sql}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_what_was_sent() {
    let stored = filled(&[100]).await;
    assert_eq!(stored.value("SELECT count(*) FROM spans").await, json!(SPANS));
    let sql = "SELECT trace_id, span_id, parent_span_id, start_time, start_unix_nano, duration_nano, service_name, kind, status_code, status_message, \
               date, http_route, gen_ai_usage_input_tokens, exception_type, links[1]['span_id'], attr(attributes, 'is_even') FROM spans WHERE span_id = X'0000000000000009'";
    let row = stored.rows(sql).await.remove(0);
    let start = START + 8 * 7_000_000_000 + 8 * 1001;
    assert_eq!(
        row,
        [
            json!("00000000000000000000000000000003"),
            json!("0000000000000009"),
            json!("0000000000000008"),
            json!("2026-04-25T21:19:20.000008Z"),
            json!(start),
            json!(8_000_024),
            json!("scorer"),
            json!("SERVER"),
            json!(0),
            json!(""),
            json!("2026-04-25"),
            json!("/"),
            json!(8),
            Value::Null,
            Value::Null,
            json!("true"),
        ]
    );
    let failed =
        stored.rows("SELECT status_message, exception_type, events FROM spans WHERE span_id = X'0000000000000008'").await.remove(0);
    assert_eq!(failed[0], "broken 1");
    assert_eq!(failed[1], "ValueError");
    assert_eq!(failed[2][0]["name"], "exception");
    assert_eq!(failed[2][0]["attributes"], r#"{"exception.type":"ValueError"}"#);
    assert_eq!(failed[2][0]["dropped_attributes_count"], 1);
}

#[tokio::test]
async fn constants_functions_and_columns_have_their_json() {
    let stored = store();
    for (sql, expected) in [
        ("SELECT hex(unhex('0AfF'))", json!("0aff")),
        ("SELECT unhex('0AfF')", json!("0aff")),
        ("SELECT unhex(NULL)", Value::Null),
        ("SELECT hex(arrow_cast('ab', 'Binary'))", json!("6162")),
        ("SELECT attr('{\"a\":\"b\",\"c\":[1]}', 'a')", json!("b")),
        ("SELECT attr('{\"a\":\"b\",\"c\":[1]}', 'c')", json!("[1]")),
        ("SELECT attr('{\"a\":\"b\"}', NULL)", Value::Null),
        ("SELECT attr(NULL, 'a')", Value::Null),
        ("SELECT attr_int('{\"a\":9007199254740993,\"d\":1.0}', 'a')", json!(9_007_199_254_740_993i64)),
        ("SELECT attr_int('{\"a\":1,\"d\":1.0,\"s\":\"1\"}', 'd')", Value::Null),
        ("SELECT attr_int('{\"s\":\"1\"}', 's')", Value::Null),
        ("SELECT attr_double('{\"a\":1,\"d\":1.5}', 'd') + attr_double('{\"a\":1}', 'a')", json!(2.5)),
        ("SELECT attr_double('{\"d\":{\"$double\":\"Infinity\"}}', 'd')", json!("Infinity")),
        ("SELECT attr_bool('{\"b\":true}', 'b')", json!(true)),
        ("SELECT attr_bool('{\"b\":\"true\"}', 'b')", Value::Null),
        ("SELECT sum(attr_int(j, k)) FROM (VALUES ('{\"a\":1}', 'a'), ('{\"b\":2}', 'b'), ('{}', 'c')) AS t(j, k)", json!(3)),
        ("SELECT attr(j, k) FROM (VALUES ('{\"a\":1}', 'a')) AS t(j, k)", json!("1")),
        ("SELECT 9007199254740993", json!(9_007_199_254_740_993i64)),
        ("SELECT CAST('NaN' AS DOUBLE)", json!("NaN")),
        ("SELECT CAST('-inf' AS DOUBLE)", json!("-Infinity")),
        ("SELECT CAST(1.5 AS DECIMAL(10, 3))", json!("1.500")),
        ("SELECT [1, NULL]", json!([1, null])),
        ("SELECT DATE '2026-01-02'", json!("2026-01-02")),
        ("SELECT TIMESTAMP '2026-01-02T03:04:05.000001Z'", json!("2026-01-02T03:04:05.000001Z")),
        ("SELECT named_struct('a', 1, 'b', 'x')", json!({ "a": 1, "b": "x" })),
        ("SELECT count(*) FROM generate_series(1, 5)", json!(5)),
        ("VALUES (1)", json!(1)),
        ("SELECT count(*) FROM spans", json!(0)),
    ] {
        assert_eq!(stored.value(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn tables_and_columns_can_be_listed() {
    let stored = store();
    let names = stored.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1").await;
    assert_eq!(names.len(), 13, "nine tables and four views");
    assert!(names.contains(&vec![json!("spans")]) && names.contains(&vec![json!("agent_eval_record")]));
    assert!(stored.rows("SHOW TABLES").await.iter().any(|row| row.contains(&json!("psi_drift"))));
    assert!(stored.rows("DESCRIBE spans").await.iter().any(|row| row[0] == "trace_id"));
    assert!(stored.rows("SHOW COLUMNS FROM tags").await.iter().any(|row| row.contains(&json!("entity_id"))));
    for table in scouter_storage::columns::Table::ALL {
        assert_eq!(stored.value(&format!("SELECT count(*) FROM {}", table.name())).await, json!(0));
    }
    assert!(!stored.rows("EXPLAIN SELECT * FROM spans").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookups_are_decided_by_the_files_filters() {
    let stored = filled(&[SPANS]).await;
    let plan = stored.rows("EXPLAIN SELECT name FROM spans WHERE trace_id = unhex('00000000000000000000000000000005')").await;
    let plan = plan.iter().filter_map(|row| row[1].as_str()).collect::<String>();
    assert!(plan.contains("predicate="), "the filter reaches the files: {plan}");
    assert!(!plan.contains("FilterExec"), "no row is tested twice: {plan}");
    assert!(!plan.contains("unhex"), "the id is a constant: {plan}");

    // Between the ids that are there, so that minimum and maximum say nothing: the files' trace indexes do.
    let plan = stored.rows("EXPLAIN SELECT name FROM spans WHERE trace_id = unhex('000000000000000000000000000000050a')").await;
    let plan = plan.iter().filter_map(|row| row[1].as_str()).collect::<String>();
    assert!(!plan.contains(".parquet"), "no file is opened: {plan}");

    // One of the two days is not even opened.
    let plan = stored.rows("EXPLAIN SELECT name FROM spans WHERE date = '2026-04-26'").await;
    let plan = plan.iter().filter_map(|row| row[1].as_str()).collect::<String>();
    assert_eq!(plan.matches(".parquet").count(), 1, "{plan}");
    let plan = stored.rows("EXPLAIN SELECT name FROM spans WHERE start_time < '2026-04-25T22:00:00Z'").await;
    let plan = plan.iter().filter_map(|row| row[1].as_str()).collect::<String>();
    assert_eq!(plan.matches(".parquet").count(), 1, "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_answered_from_their_tables() {
    use scouter_tonic::grpc::InsertMessageRequest;
    use scouter_tonic::message::{CustomMetricRecord, MonitoringRecord, TagRecord, monitoring_record::Record};

    let stored = store();
    let tag = TagRecord {
        created_at_unix_nano: START,
        entity_type: "trace".into(),
        entity_id: "t1".into(),
        key: "env".into(),
        value: "prod".into(),
    };
    let metric = CustomMetricRecord { created_at_unix_nano: START, entity_uid: "profile".into(), metric: "mae".into(), value: 1.5 };
    let records = vec![MonitoringRecord { record: Some(Record::Tag(tag)) }, MonitoringRecord { record: Some(Record::Custom(metric)) }];
    let request = InsertMessageRequest {
        records,
        resource_spans: varied_requests(0..3).into_iter().flat_map(|request| request.resource_spans).collect(),
        ..InsertMessageRequest::default()
    };
    let payload = request.encode_to_vec();
    stored.append(Envelope::Scouter, payload.clone()).await;
    stored.store.flush().await.unwrap();
    stored.append(Envelope::Scouter, payload).await;
    assert_eq!(stored.rows("SELECT entity_type, key, value FROM tags").await, vec![vec![json!("trace"), json!("env"), json!("prod")]; 2]);
    assert_eq!(stored.rows("SELECT metric, sum(value) FROM custom_drift GROUP BY 1").await, [[json!("mae"), json!(3.0)]]);
    let joined = "SELECT count(*) FROM tags, custom_drift, spans";
    assert_eq!(stored.value(joined).await, json!(2 * 2 * 6));
    assert_eq!(stored.engine.trace(trace_id(1)).await.unwrap().spans.len(), 3, "the same three spans came twice");
}
