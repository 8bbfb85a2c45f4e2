use super::*;

#[test]
fn readers_pass() {
    for sql in [
        "SELECT 1",
        "select * from spans;",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1), (2)",
        "(SELECT 1) UNION (SELECT 2) ORDER BY 1",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE SELECT 1",
        "EXPLAIN VERBOSE SELECT 1",
        "SHOW TABLES",
        "SHOW COLUMNS FROM spans",
        "DESCRIBE spans",
        "DESC spans",
        "SELECT name FROM spans ORDER BY name DESC, kind DESC",
        "-- a comment\nSELECT 1",
    ] {
        assert!(parse(sql).is_ok(), "{sql}: {:?}", parse(sql));
    }
}

#[test]
fn a_refusal_names_the_kind_of_statement_and_quotes_no_data() {
    for (sql, words) in [
        ("INSERT INTO spans VALUES ('secret')", "INSERT"),
        ("drop table spans", "DROP TABLE"),
        ("SET a = 'secret'", "SET"),
        ("UPDATE spans SET name = 'secret'", "UPDATE"),
    ] {
        match parse(sql) {
            Err(QueryError::NotReadOnly { statement }) => assert_eq!(statement, words),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn length_is_bounded() {
    let longest = format!("SELECT '{}'", "a".repeat(MAX_SQL_BYTES - 9));
    assert_eq!(longest.len(), MAX_SQL_BYTES);
    assert!(parse(&longest).is_ok());
    assert!(matches!(parse(&format!("{longest} ")), Err(QueryError::TooComplex { .. })));
}

fn doubling(levels: usize) -> String {
    let named = (1..=levels).map(|n| format!(", c{n} AS (SELECT * FROM c{} UNION ALL SELECT * FROM \"c{}\")", n - 1, n - 1));
    format!("WITH c0 AS (SELECT name FROM spans){} SELECT count(*) FROM C{levels}", named.collect::<String>())
}

#[test]
fn what_a_name_stands_for_counts_at_each_use() {
    assert!(parse(&doubling(8)).is_ok());
    assert!(matches!(parse(&doubling(9)), Err(QueryError::TooComplex { limit: MAX_EXPANDED_RELATIONS, .. })));
    assert!(matches!(parse(&doubling(49)), Err(QueryError::TooComplex { limit: MAX_EXPANDED_RELATIONS, .. })));
    let hidden = doubling(9).replace("SELECT count(*)", "SELECT (WITH c0 AS (SELECT 1) SELECT 1), count(*)");
    assert!(matches!(parse(&hidden), Err(QueryError::TooComplex { .. })), "another scope does not make a name smaller");
    let chain = (1..400).map(|n| format!(", c{n} AS (SELECT * FROM c{})", n - 1)).collect::<String>();
    assert!(parse(&format!("WITH c0 AS (SELECT 1){chain} SELECT * FROM c399")).is_ok());
}
