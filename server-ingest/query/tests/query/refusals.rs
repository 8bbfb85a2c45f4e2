//! What is refused, and in which words.

use scouter_query::QueryError;

use super::stored::{Stored, store};

#[tokio::test]
async fn statements_that_do_more_than_read_are_refused() {
    let stored = store();
    for (sql, words) in [
        ("CREATE TABLE t (a INT)", "CREATE TABLE"),
        ("CREATE TABLE t AS SELECT * FROM spans", "CREATE TABLE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
        ("CREATE SCHEMA s", "CREATE SCHEMA"),
        ("CREATE DATABASE d", "CREATE DATABASE"),
        ("CREATE FUNCTION f(INT) RETURNS INT RETURN $1", "CREATE FUNCTION"),
        ("DROP TABLE spans", "DROP TABLE"),
        ("ALTER TABLE spans ADD COLUMN a INT", "ALTER TABLE"),
        ("TRUNCATE TABLE spans", "TRUNCATE"),
        ("INSERT INTO spans VALUES (1)", "INSERT"),
        ("INSERT INTO spans SELECT * FROM spans", "INSERT"),
        ("UPDATE spans SET name = 'x'", "UPDATE"),
        ("DELETE FROM spans", "DELETE"),
        ("MERGE INTO spans USING spans s ON 1 = 1 WHEN MATCHED THEN DELETE", "MERGE"),
        ("WITH x AS (SELECT 1) INSERT INTO spans SELECT * FROM x", ""),
        ("COPY spans TO '/tmp/out.parquet'", "COPY"),
        ("COPY (SELECT 1) TO '/tmp/out.csv' STORED AS CSV", "COPY"),
        ("EXPLAIN COPY spans TO '/tmp/out.parquet'", "COPY"),
        ("EXPLAIN INSERT INTO spans VALUES (1)", "INSERT"),
        ("EXPLAIN ANALYZE INSERT INTO spans VALUES (1)", "INSERT"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        ("RESET datafusion.execution.batch_size", "RESET"),
        ("SHOW ALL", "SHOW"),
        ("PREPARE p AS SELECT 1", "PREPARE"),
        ("EXECUTE p", "EXECUTE"),
        ("DEALLOCATE p", "DEALLOCATE"),
        ("BEGIN", ""),
        ("START TRANSACTION", "START TRANSACTION"),
        ("COMMIT", "COMMIT"),
        ("USE public", "USE"),
        ("ANALYZE TABLE spans", "ANALYZE"),
        ("SELECT * INTO t FROM spans", "SELECT"),
    ] {
        match stored.error(sql).await {
            QueryError::NotReadOnly { statement } => assert!(statement.starts_with(words), "{sql}: {statement}"),
            error => panic!("{sql}: {error:?}"),
        }
    }
    let error = stored.error("DROP TABLE spans").await.to_string();
    assert!(error.starts_with("queries only read: DROP TABLE is not allowed; SELECT, WITH"), "{error}");
}

#[tokio::test]
async fn files_cannot_be_named() {
    let stored = store();
    // One that is there and could be read: one that is not would be an unknown table either way.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("there.csv");
    std::fs::write(&file, "a\n1\n").unwrap();
    for sql in [
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM \"/etc/passwd\"",
        "SELECT * FROM 'file:///etc/passwd'",
        "SELECT * FROM '/tmp/x.parquet'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM parquet_metadata('/tmp/x.parquet')",
        "TABLE \"/etc/passwd\"",
        "DESCRIBE '/etc/passwd'",
        &format!("SELECT * FROM '{}'", file.display()),
        &format!("SELECT * FROM \"{}\"", file.display()),
    ] {
        match stored.error(sql).await {
            QueryError::UnknownTable { .. } | QueryError::Syntax { .. } | QueryError::Invalid { .. } => {}
            error => panic!("{sql}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn mistakes_are_named() {
    let stored = store();
    assert_eq!(
        stored.error("SELECT * FROM span").await.to_string(),
        "there is no table span; there are spans, psi_drift, spc_drift, custom_drift, agent_eval_record, tags, observability_metric, \
         agent_eval_task, agent_eval_workflow"
    );
    assert!(matches!(stored.error("SELECT * FROM other.spans").await, QueryError::UnknownTable { .. }));
    assert_eq!(
        stored.error("SELECT servicename FROM spans").await.to_string(),
        "there is no column servicename; did you mean service_name?"
    );
    assert!(matches!(stored.error("SELECT x.name FROM spans s").await, QueryError::UnknownColumn { .. } | QueryError::Invalid { .. }));
    for (sql, part) in [
        ("", "it is empty"),
        (" ; ", "it is empty"),
        ("-- nothing", "it is empty"),
        ("SELECT 1; SELECT 2", "there are 2 of them"),
        ("SELEC 1", "SELEC"),
        ("SELECT 'a", "Unterminated"),
        ("SELECT (1", "Expected"),
    ] {
        match stored.error(sql).await {
            QueryError::Syntax { message } => assert!(message.contains(part), "{sql}: {message}"),
            error => panic!("{sql}: {error:?}"),
        }
    }
    assert!(matches!(stored.error("SELECT nothing_like_it(1)").await, QueryError::Invalid { .. }));
    assert!(matches!(stored.error("SELECT unhex('zz')").await, QueryError::Failed { .. } | QueryError::Invalid { .. }));
    assert!(matches!(stored.error("SELECT attr(attributes) FROM spans").await, QueryError::Invalid { .. }));
    assert!(matches!(stored.error("SELECT 1 / 0").await, QueryError::Failed { .. } | QueryError::Invalid { .. }));
    assert!(matches!(stored.error("SELECT repeat('a', 1000000000)").await, QueryError::Invalid { .. }));
    assert!(matches!(stored.error("SELECT range(0, 10000000000)").await, QueryError::Invalid { .. }));
}

fn is_refusal(error: &QueryError) -> bool {
    matches!(
        error,
        QueryError::Syntax { .. } | QueryError::TooComplex { .. } | QueryError::Invalid { .. } | QueryError::UnknownColumn { .. }
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_nesting_brings_the_process_down() {
    let stored = store();
    let refused = [
        format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)),
        format!("SELECT 1{}", "+1".repeat(30_000)),
        format!("SELECT 1 WHERE 1=1{}", " OR 1=1".repeat(8000)),
        format!("SELECT {}TRUE", "NOT ".repeat(10_000)),
        format!("SELECT {}1", "- ".repeat(20_000)),
        format!("SELECT 1{}", "::INT".repeat(10_000)),
        format!("SELECT TRUE{}", " IS NULL".repeat(7000)),
        format!("SELECT {}1{}", "[".repeat(5000), "]".repeat(5000)),
        format!("SELECT {}1{}", "[".repeat(30_000), "]".repeat(30_000)),
        format!("SELECT CAST(NULL AS INT{})", "[]".repeat(30_000)),
        format!("SELECT CAST(NULL AS {}INT{})", "ARRAY<".repeat(8000), ">".repeat(8000)),
        format!("SELECT CAST(NULL AS {}INT{})", "STRUCT<a ".repeat(5000), ">".repeat(5000)),
        format!("SELECT links{} FROM spans", "[1]".repeat(20_000)),
        format!("SELECT a{} FROM spans", ".a".repeat(30_000)),
        format!("SELECT {}1{}", "CASE WHEN 1=1 THEN ".repeat(3000), " END".repeat(3000)),
        format!("SELECT {}1{}", "abs(".repeat(10_000), ")".repeat(10_000)),
        format!("SELECT * FROM {}spans{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}SELECT 1{}", "SELECT * FROM (".repeat(4000), ") AS t".repeat(4000)),
        format!("{}SELECT 1{}", "WITH t AS (".repeat(4000), ") SELECT * FROM t".repeat(4000)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(3000)),
        format!("{}SELECT 1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT 1 FROM spans{}", " JOIN spans ON TRUE".repeat(3000)),
        format!("SELECT 1 FROM spans a0{}", (1..6000).map(|n| format!(", spans a{n}")).collect::<String>()),
        format!("{}SELECT 1", "EXPLAIN ".repeat(8000)),
        format!("{}SELECT 1", "DESCRIBE ".repeat(7000)),
        format!("{}SELECT 1", "DESC ".repeat(12_000)),
        format!("SELECT 'x'{}", " || 'x'".repeat(8000)),
        format!("SELECT 'x'{}", " -> 'x'".repeat(8000)),
        format!("SELECT x'{}'", "a".repeat(100_000)),
        // Each name stands for twice the one before.
        format!(
            "WITH c0 AS (SELECT name FROM spans){} SELECT count(*) FROM c40",
            (1..=40).map(|n| format!(", c{n} AS (SELECT * FROM c{} UNION ALL SELECT * FROM c{})", n - 1, n - 1)).collect::<String>()
        ),
    ];
    for sql in refused {
        let error = stored.error(&sql).await;
        assert!(is_refusal(&error), "{}…: {error:?}", &sql[..60]);
        assert!(error.to_string().len() < 2000, "{}…", &sql[..60]);
    }
    // Whether these are answered is not promised, only that they end.
    let columns = |of: fn(usize) -> String, levels| (1..=levels).map(of).collect::<String>();
    for sql in [
        format!("{}SELECT 1 AS x{}", "SELECT x + x AS x FROM (".repeat(40), ")".repeat(40)),
        format!(
            "WITH c0 AS (SELECT 1 AS x){} SELECT x FROM c200",
            columns(|n| format!(", c{n} AS (SELECT x + x AS x FROM c{})", n - 1), 200)
        ),
        format!(
            "WITH c0 AS (SELECT name AS x FROM spans){} SELECT x FROM c40",
            columns(|n| format!(", c{n} AS (SELECT x || x AS x FROM c{})", n - 1), 40)
        ),
        format!("SELECT count(*) FROM spans a0{}", columns(|n| format!(" JOIN spans a{n} ON a{n}.span_id = a{}.span_id", n - 1), 60)),
        format!("SELECT * FROM spans a0{}", columns(|n| format!(", tags a{n}"), 50)),
    ] {
        let started = std::time::Instant::now();
        let answer = stored.engine.sql(&sql).await;
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "{}…: {:?} {:?}", &sql[..60], started.elapsed(), answer.err());
    }
    // And what people write is not refused.
    let ids = (0..1000).map(|n| format!("X'{n:032x}'")).collect::<Vec<_>>().join(",");
    assert_eq!(stored.value(&format!("SELECT count(*) FROM spans WHERE trace_id IN ({ids})")).await, 0);
    let terms = (0..300).map(|n| format!("name = '{n}'")).collect::<Vec<_>>().join(" OR ");
    assert_eq!(stored.value(&format!("SELECT count(*) FROM spans WHERE {terms}")).await, 0);
    let unions = vec!["SELECT count(*) AS n FROM spans"; 50].join(" UNION ALL ");
    assert_eq!(stored.value(&format!("SELECT sum(n) FROM ({unions})")).await, 0);
    assert_eq!(stored.value(&format!("SELECT {}1{}", "(".repeat(10), ")".repeat(10))).await, 1);
    survives(&stored).await;
}

async fn survives(stored: &Stored) {
    assert_eq!(stored.value("SELECT count(*) FROM spans").await, 0);
}
