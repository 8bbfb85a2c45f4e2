//! Questions that would take hours, ended by their time; and those that are refused for what they would cost.

use std::time::{Duration, Instant};

use scouter_query::{Limits, QueryError};
use serde_json::json;

use super::stored::{Stored, store, store_with, varied_requests};

async fn stopped(stored: &Stored) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while (stored.engine.running(), stored.engine.memory_used()) != (0, 0) {
        assert!(Instant::now() < deadline, "{} run, {} bytes", stored.engine.running(), stored.engine.memory_used());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_without_end_are_ended_by_their_time_and_give_back_what_they_had() {
    let stored = store_with(Duration::from_secs(3600), Limits { timeout: Duration::from_millis(400), ..Limits::default() });
    for request in varied_requests(0..60_000) {
        stored.put(&request).await;
    }
    for sql in [
        // Much comes out of one batch, and whoever reads it is not asked to wait.
        "SELECT count(*) FROM spans a, spans b, spans c, spans d, spans e, spans f, spans g, spans h, spans i",
        "SELECT count(a.name) FROM spans a, spans b, spans c WHERE a.name < b.name",
        // Nothing ever comes out.
        "SELECT count(*) FROM spans a JOIN spans b ON a.duration_nano * b.duration_nano = -1",
        "SELECT count(*) FROM spans a LEFT JOIN spans b ON a.duration_nano * b.duration_nano = -1",
        "SELECT count(*) FROM spans a FULL JOIN spans b ON a.duration_nano * b.duration_nano = -1 AND a.name || b.name = 'x'",
        "SELECT count(*) FROM spans a JOIN spans b ON a.flags % 1 = b.flags % 1 AND a.duration_nano * b.duration_nano = -1",
        "SELECT count(*) FROM spans a WHERE EXISTS (SELECT 1 FROM spans b WHERE a.duration_nano * b.duration_nano = -1)",
        "SELECT count(*) FROM spans a WHERE a.duration_nano NOT IN (SELECT b.duration_nano - 1000000000000000 FROM spans b, spans c)",
        // Windows, sorts and groups above a product.
        "SELECT max(r) FROM (SELECT row_number() OVER (PARTITION BY a.name ORDER BY b.start_unix_nano) AS r FROM spans a, spans b, spans c)",
        "SELECT a.name FROM spans a, spans b, spans c ORDER BY b.span_id, c.span_id LIMIT 1",
        "SELECT DISTINCT a.name FROM spans a, spans b, spans c",
        "SELECT a.name FROM spans a, spans b, spans c WHERE a.name = 'none' UNION ALL SELECT b.name FROM spans b, spans c, spans d",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n, spans WHERE i > 0) SELECT max(i) FROM n",
        "EXPLAIN ANALYZE SELECT count(a.name) FROM spans a, spans b, spans c WHERE a.name < b.name",
    ] {
        match stored.error(sql).await {
            QueryError::Timeout { .. } | QueryError::Memory { .. } | QueryError::TooManyRows { .. } => {}
            error => panic!("{sql}: {error:?}"),
        }
        stopped(&stored).await;
    }
    assert_eq!(
        stored.value("SELECT count(*) FROM spans a JOIN spans b ON a.span_id = b.span_id AND a.flags + b.flags > -1").await,
        json!(60_000)
    );
}

#[tokio::test]
async fn what_one_expression_could_cost_is_bounded() {
    let stored = store();
    for request in varied_requests(0..100) {
        stored.put(&request).await;
    }
    let chain = |step: &str| (1..=30).map(|n| format!(", c{n} AS (SELECT {step} AS x FROM c{})", n - 1)).collect::<String>();
    for sql in [
        format!("WITH c0 AS (SELECT name AS x FROM spans){} SELECT max(length(x)) FROM c30", chain("x || x")),
        format!("WITH c0 AS (SELECT name AS x FROM spans){} SELECT max(length(x)) FROM c30", chain("concat(x, '-', x)")),
        format!("WITH c0 AS (SELECT [1] AS x){} SELECT x FROM c30", chain("array_concat(x, x)")),
        format!("WITH c0 AS (SELECT 1 AS x){} SELECT x FROM c30", chain("named_struct('a', x, 'b', x)")),
        format!("WITH c0 AS (SELECT name AS x FROM spans){} SELECT max(length(x)) FROM c30", chain("encode(x, 'hex')")),
        format!("WITH c0 AS (SELECT name AS x FROM spans){} SELECT max(length(x)) FROM c30", chain("hex(arrow_cast(x, 'Binary'))")),
        format!(
            "WITH c0 AS (SELECT name AS x FROM spans){} SELECT max(length(x)) FROM c30",
            chain("array_to_string(string_to_array(x, NULL), '-')")
        ),
        // A separator stands as often as there is something to separate.
        format!("SELECT length(concat_ws(attributes{})) FROM spans", ", ''".repeat(100)),
        format!("SELECT length(concat_ws('{}'{})) FROM spans", "-".repeat(4000), ", ''".repeat(100)),
        format!("SELECT length(array_to_string(string_to_array(attributes, NULL), '{}')) FROM spans", "-".repeat(100)),
        format!("SELECT length(concat({}'')) FROM (SELECT string_agg(attributes, '') AS x FROM spans)", "x, ".repeat(10)),
        format!("SELECT length({}name) FROM spans", "name || ".repeat(100)),
        format!("SELECT count(*) FROM spans WHERE name LIKE '{}'", "%a".repeat(600)),
        "SELECT count(*) FROM spans WHERE name ~ '((\\w{50}){50}){50}'".to_owned(),
        "SELECT count(*) FROM spans WHERE regexp_like(name, '((\\w{50}){50}){50}')".to_owned(),
    ] {
        let error = stored.error(&sql).await;
        assert!(matches!(error, QueryError::TooComplex { .. }), "{}: {error:?}", &sql[..60]);
    }
    for sql in [
        "SELECT count(*) FROM spans a, spans b WHERE a.name LIKE b.name",
        "SELECT count(*) FROM spans WHERE name ~ attributes",
        "SELECT regexp_replace(name, attributes, '') FROM spans",
        "SELECT array_agg(name) OVER (ORDER BY start_unix_nano) FROM spans",
        "SELECT array_to_string(string_to_array(attributes, ','), attributes) FROM spans",
        "SELECT array_to_string(string_to_array(attributes, ','), ',', name) FROM spans",
        "SELECT levenshtein(attributes, resource_attributes) FROM spans",
    ] {
        assert!(matches!(stored.error(sql).await, QueryError::Invalid { .. }), "{sql}");
    }
    let long = "x".repeat(60_000);
    for sql in [
        format!("SELECT length(replace('{}', 'a', '{}'))", "a".repeat(30_000), "x".repeat(30_000)),
        format!("SELECT max(length(regexp_replace(attributes, '', '{long}', 'g'))) FROM spans"),
        // One text, and what is sought in it in a column: the text is replaced in for each of a hundred rows.
        format!("SELECT max(length(replace('{}', left(name, 0) || 'a', '{}'))) FROM spans", "a".repeat(9000), "x".repeat(9000)),
        // The shortest that is sought is found most often.
        format!("SELECT max(length(replace('{}', left('aaaa', status_code), '{}'))) FROM spans", "a".repeat(9000), "x".repeat(9000)),
    ] {
        assert!(matches!(stored.error(&sql).await, QueryError::Memory { .. }), "{}", &sql[..60]);
    }
    // And what people write is answered.
    for (sql, answer) in [
        ("SELECT count(*) FROM spans WHERE name LIKE '%ration 1'", json!(20)),
        ("SELECT count(*) FROM spans WHERE name ~ '^\\w+ [12]$'", json!(40)),
        ("SELECT count(*) FROM spans WHERE regexp_like(attr(attributes, 'http.route'), '^/(ask|score/.+)$', 'i')", json!(67)),
        ("SELECT min(replace(name, 'operation', 'op')) FROM spans", json!("op 0")),
        ("SELECT max(replace('an operation 4', name, 'it')) FROM spans", json!("an operation 4")),
        ("SELECT max(concat_ws(' / ', service_name, name, kind, encode(trace_id, 'hex'))) IS NOT NULL FROM spans", json!(true)),
        ("SELECT array_to_string(array_sort(array_agg(DISTINCT service_name)), ', ') FROM spans", json!("answerer, gateway, scorer")),
        ("SELECT max(array_to_string(entity_ids, ', ')) FROM spans", json!("")),
        ("SELECT max(regexp_replace(name, '(\\w+) (\\d)', '\\2 \\1')) FROM spans", json!("4 operation")),
        (
            "SELECT max(concat(service_name, ' ', name, ' ', hex(trace_id)) || ' ' || coalesce(status_message, '')) IS NOT NULL FROM spans",
            json!(true),
        ),
        ("SELECT count(*) FROM (SELECT struct(name, service_name, kind, status_code, trace_id, span_id) FROM spans)", json!(100)),
        ("SELECT count(*) FROM (SELECT * FROM trace_spans WHERE search_blob LIKE '%http.route=/ask%')", json!(34)),
    ] {
        assert_eq!(stored.value(sql).await, answer, "{sql}");
    }
}
