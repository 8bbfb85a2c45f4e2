//! Records in PostgreSQL, with a real one that comes, goes and dies.
#![allow(clippy::unwrap_used)]

mod support;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use support::{TestServer, postgres::Postgres, wait_until};

const TIME: &str = "2026-04-25T21:18:24.123456789Z";

async fn server_with(postgres: &Postgres) -> TestServer {
    TestServer::start_with(&["--database-uri", &postgres.uri()]).await
}

fn spc(uid: &str, values: std::ops::Range<u32>) -> Value {
    let record = |value| json!({ "Spc": { "created_at": TIME, "uid": uid, "feature": "f", "value": f64::from(value), "entity_id": 0 } });
    json!({ "records": values.map(record).collect::<Vec<_>>() })
}

fn profile(kind: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scouter-0.25/profiles");
    std::fs::read_to_string(folder.join(format!("profile_{kind}.json"))).unwrap()
}

async fn register(server: &TestServer, drift_type: &str, kind: &str) -> String {
    let body = json!({ "space": "cap", "drift_type": drift_type, "profile": profile(kind), "version_request": null, "active": true });
    let (status, answer) = server.http("POST", "/scouter/profile", &server.token, Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer["uid"].as_str().unwrap().to_owned()
}

async fn has_rows(postgres: &Postgres, table: &str, count: i64) {
    wait_until(&format!("{table} has {count} rows"), async || postgres.count(table).await == count).await;
}

/// All records of every kind that a client can send, one of each.
fn one_of_each(uid: &str) -> Value {
    let eval = json!({ "record_id": "r", "session_id": "s", "created_at": TIME, "uid": "e1", "context": { "input": "hi" }, "id": 0, "updated_at": null,
        "processing_started_at": null, "processing_ended_at": null, "processing_duration": null, "entity_id": 0, "entity_uid": uid, "status": "Pending",
        "entity_type": "Agent", "retry_count": 0, "trace_id": "0af7651916cd43dd8448eb211c80319c", "record_source": "TraceDispatch", "tags": ["env=prod", "a b"] });
    let task = json!({ "created_at": TIME, "start_time": TIME, "end_time": TIME, "record_uid": "e1", "entity_id": 0, "task_id": "t1", "task_type": "Assertion",
        "passed": true, "value": 1.0, "assertion": { "FieldPath": "response.len" }, "operator": "Equals", "expected": 3, "actual": null, "message": "ok",
        "entity_uid": uid, "condition": false, "stage": 2 });
    let workflow = json!({ "created_at": TIME, "record_uid": "e1", "entity_id": 0, "total_tasks": 2, "passed_tasks": 1, "failed_tasks": 1, "pass_rate": 0.5,
        "duration_ms": 12, "entity_uid": uid, "execution_plan": { "stages": [["t1"]] }, "id": 0 });
    let routes = json!([{ "route_name": "/predict" }]);
    json!({ "records": [
        { "Psi": { "created_at": TIME, "uid": uid, "feature": "f1", "bin_id": 3, "bin_count": 120, "entity_id": 0 } },
        { "Spc": { "created_at": TIME, "uid": uid, "feature": "f1", "value": null, "entity_id": 0 } },
        { "Custom": { "created_at": TIME, "uid": uid, "metric": "mae", "value": 10.25, "entity_id": 0 } },
        { "Observability": { "uid": uid, "request_count": 10, "error_count": 1, "route_metrics": routes, "entity_id": 0 } },
        { "AgentEval": { "record": eval } },
        { "AgentTaskRecord": task },
        { "AgentWorkflowRecord": workflow },
    ] })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_record_is_a_row_of_scouters_table() {
    let postgres = Postgres::start().await;
    let server = server_with(&postgres).await;
    let uid = register(&server, "Custom", "custom").await;
    server.message(&one_of_each(&uid)).await;
    server.message(&json!({ "entity_type": "trace", "entity_id": "0af7", "key": "env", "value": "prod" })).await;
    has_rows(&postgres, "tags", 1).await;

    let client = postgres.client().await;
    let entity = client.query_one("SELECT * FROM scouter.drift_entities WHERE uid = $1", &[&uid]).await.unwrap();
    assert_eq!(
        (entity.get::<_, &str>("space"), entity.get::<_, &str>("name"), entity.get::<_, &str>("drift_type")),
        ("cap", "custom", "Custom")
    );
    let id: i32 = entity.get("id");
    for table in
        ["psi_drift", "spc_drift", "custom_drift", "observability_metric", "agent_eval_record", "agent_eval_task", "agent_eval_workflow"]
    {
        let of_entity = format!("SELECT count(*) FROM scouter.{table} WHERE entity_id = {id}");
        assert_eq!(postgres.number(&of_entity).await, 1, "{table}");
    }
    let as_text = async |query: &str| client.query_one(query, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(
        as_text("SELECT (created_at AT TIME ZONE 'UTC')::text || value::text FROM scouter.spc_drift").await,
        "2026-04-25 21:18:24.123456NaN"
    );
    assert_eq!(as_text("SELECT bin_id || ' ' || bin_count FROM scouter.psi_drift").await, "3 120");
    assert_eq!(
        as_text("SELECT context::text || encode(trace_id, 'hex') || tags::text || record_source || status FROM scouter.agent_eval_record")
            .await,
        "{\"input\": \"hi\"}0af7651916cd43dd8448eb211c80319c{env=prod,\"a b\"}trace_dispatchpending"
    );
    assert_eq!(
        as_text("SELECT assertion::text || expected::text || actual::text || stage FROM scouter.agent_eval_task").await,
        "{\"FieldPath\": \"response.len\"}3null2"
    );
    let profile = client.query_one("SELECT * FROM scouter.drift_profile WHERE uid = $1", &[&uid]).await.unwrap();
    assert_eq!((profile.get::<_, i32>("entity_id"), profile.get::<_, bool>("active"), profile.get::<_, i32>("minor")), (id, true, 1));
    assert!(profile.get::<_, std::time::SystemTime>("next_run") > std::time::SystemTime::now());
    assert_eq!(as_text("SELECT profile -> 'metrics' ->> 'acc' FROM scouter.drift_profile").await, "0.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_uid_that_nobody_registered_wait_for_it() {
    let postgres = Postgres::start().await;
    let server = server_with(&postgres).await;
    let uid = "01a20603-d2ce-73d1-b525-01f0f442aa12";
    server.message(&spc(uid, 0..3)).await;
    has_rows(&postgres, "spc_drift", 3).await;
    let of_space = "SELECT count(*) FROM scouter.spc_drift JOIN scouter.drift_entities ON id = entity_id WHERE space = ";
    assert_eq!(postgres.number(&format!("{of_space} '__unregistered__'")).await, 3);
    assert_eq!(register(&server, "Spc", "spc").await, uid);
    wait_until("the entity is registered", async || postgres.number(&format!("{of_space} 'cap'")).await == 3).await;
    server.message(&spc(uid, 3..5)).await;
    wait_until("later records go there too", async || postgres.number(&format!("{of_space} 'cap'")).await == 5).await;
    assert_eq!(postgres.count("drift_entities").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn distinct_records_of_one_moment_are_rows_and_a_repeated_one_is_not() {
    let postgres = Postgres::start().await;
    let server = server_with(&postgres).await;
    let metric =
        |name: &str, value: f64| json!({ "Custom": { "created_at": TIME, "uid": "u", "metric": name, "value": value, "entity_id": 0 } });
    server.message(&json!({ "records": [metric("mae", 1.0), metric("mse", 1.0), metric("mae", 1.0)] })).await;
    // The same two in another request: Scouter's client repeats what it is not sure of.
    server.message(&json!({ "records": [metric("mse", 1.0), metric("mae", 1.0), metric("last", 1.0)] })).await;
    wait_until("both are written", async || postgres.number("SELECT count(*) FROM scouter.custom_drift WHERE metric = 'last'").await == 1)
        .await;
    assert_eq!(postgres.count("custom_drift").await, 4);
    assert_eq!(server.count("custom_drift").await, 6, "the table keeps what came");
}

/// Some of Scouter's own tables, as its migrations leave them, but for the extension that makes its partitions.
const MADE_BY_SCOUTER: &str = "
CREATE SCHEMA scouter;
CREATE TABLE scouter.drift_entities (id SERIAL PRIMARY KEY, uid TEXT UNIQUE DEFAULT gen_random_uuid(), space TEXT NOT NULL, name TEXT NOT NULL,
    version TEXT NOT NULL, drift_type TEXT, created_at TIMESTAMPTZ DEFAULT now(), UNIQUE (space, name, version, drift_type));
INSERT INTO scouter.drift_entities (uid, space, name, version, drift_type) VALUES ('known', 's', 'n', '1', 'Custom');
CREATE TABLE scouter.custom_drift (created_at TIMESTAMPTZ NOT NULL, metric TEXT NOT NULL, value DOUBLE PRECISION NOT NULL,
    updated_at TIMESTAMPTZ DEFAULT now(), archived BOOLEAN DEFAULT false, entity_id INTEGER NOT NULL, UNIQUE (created_at, entity_id))
    PARTITION BY RANGE (created_at);
CREATE TABLE scouter.custom_drift_default PARTITION OF scouter.custom_drift DEFAULT;
INSERT INTO scouter.custom_drift (created_at, metric, value, entity_id) VALUES (now(), 'old', 1.0, 1);
CREATE TABLE scouter.agent_eval_workflow (id BIGINT NOT NULL, created_at TIMESTAMPTZ NOT NULL, record_uid TEXT NOT NULL, entity_id INTEGER NOT NULL
    REFERENCES scouter.drift_entities (id), total_tasks INTEGER NOT NULL, passed_tasks INTEGER NOT NULL, failed_tasks INTEGER NOT NULL,
    pass_rate DOUBLE PRECISION NOT NULL, duration_ms BIGINT, execution_plan JSONB NOT NULL, updated_at TIMESTAMPTZ DEFAULT now() NOT NULL,
    archived BOOLEAN DEFAULT false, PRIMARY KEY (created_at, id)) PARTITION BY RANGE (created_at);
CREATE TABLE scouter.agent_eval_workflow_default PARTITION OF scouter.agent_eval_workflow DEFAULT;";

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_scouter_made_keeps_its_rows_and_makes_no_two_records_one() {
    let postgres = Postgres::start().await;
    postgres.client().await.batch_execute(MADE_BY_SCOUTER).await.unwrap();
    let server = server_with(&postgres).await;
    let metric = |name: &str| json!({ "Custom": { "created_at": TIME, "uid": "known", "metric": name, "value": 1.0, "entity_id": 0 } });
    server.message(&json!({ "records": [metric("mae"), metric("mse")] })).await;
    server.message(&one_of_each("known")).await;
    has_rows(&postgres, "custom_drift", 4).await;
    has_rows(&postgres, "agent_eval_workflow", 1).await;
    assert_eq!(postgres.number("SELECT count(DISTINCT entity_id) FROM scouter.custom_drift").await, 1, "the entity that was there");
    assert_eq!(postgres.count("refused_record").await, 0);
    // A job of Scouter's inserts as it always did.
    let insert =
        "INSERT INTO scouter.custom_drift (created_at, metric, value, entity_id) VALUES (now(), 'job', 1.0, 1) ON CONFLICT DO NOTHING";
    assert_eq!(postgres.client().await.execute(insert, &[]).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_delays_and_loses_nothing() {
    let mut postgres = Postgres::stopped();
    let server = server_with(&postgres).await;
    server.message(&spc("u", 0..10)).await;
    wait_until("the outage is seen", async || server.metric("scouter_postgres_failures_total").await > 0.0).await;
    assert_eq!(server.metric("scouter_postgres_connected").await as i64, 0);
    assert_eq!(server.metric("scouter_postgres_waiting_requests").await as i64, 1);
    assert_eq!(server.count("spc_drift").await, 10, "the tables do not wait");
    postgres.run().await;
    has_rows(&postgres, "spc_drift", 10).await;
    assert_eq!(server.metric("scouter_postgres_connected").await as i64, 1);

    // In mid-stream: it dies while records come, and comes back.
    for round in 1..=6 {
        server.message(&spc("u", round * 10..round * 10 + 10)).await;
        match round {
            2 => postgres.crash(),
            5 => postgres.run().await,
            _ => {}
        }
    }
    has_rows(&postgres, "spc_drift", 70).await;
    assert_eq!(postgres.number("SELECT count(DISTINCT value) FROM scouter.spc_drift").await, 70);
    wait_until("nothing waits", async || server.metric("scouter_postgres_waiting_requests").await as i64 == 0).await;
    let log = server.log();
    assert!(log.contains("PostgreSQL is away") && !log.contains(support::postgres::PASSWORD), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_log_and_postgres_every_record_is_there_once() {
    let postgres = Postgres::start().await;
    let uri = postgres.uri();
    let flags = ["--database-uri", uri.as_str()];
    let mut server = server_with(&postgres).await;
    server.message(&spc("u", 0..1)).await;
    has_rows(&postgres, "spc_drift", 1).await;
    let mut next = 1;
    for _ in 0..5 {
        // Its transaction waits at the table when the server dies: PostgreSQL then undoes it, or has it, and the server does not know.
        let holder = postgres.client().await;
        holder.batch_execute("BEGIN; LOCK TABLE scouter.spc_drift IN EXCLUSIVE MODE").await.unwrap();
        for _ in 0..4 {
            server.message(&spc("u", next..next + 25)).await;
            next += 25;
        }
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%spc_drift%'";
        wait_until("the server waits for the table", async || postgres.number(waiting).await > 0).await;
        server = server.crash_and_restart_with(&flags).await;
        holder.batch_execute("ROLLBACK").await.unwrap();
        // Again, in the middle of its writing or right after.
        server = server.crash_and_restart_with(&flags).await;
    }
    has_rows(&postgres, "spc_drift", i64::from(next)).await;
    assert_eq!(postgres.number("SELECT count(DISTINCT value) FROM scouter.spc_drift").await, i64::from(next));
    assert_eq!(server.count("spc_drift").await, u64::from(next));
    assert_eq!(server.terminate(), Some(0));
    assert_eq!(postgres.count("spc_drift").await, i64::from(next));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_postgres_cannot_hold_is_kept_whole_and_holds_nothing_up() {
    let postgres = Postgres::start().await;
    let server = server_with(&postgres).await;
    let psi = |feature: &str, count: i64| json!({ "Psi": { "created_at": TIME, "uid": "u\u{0}", "feature": feature, "bin_id": 1, "bin_count": count, "entity_id": 0 } });
    server.message(&json!({ "records": [psi("a", 1), psi("large", 3_000_000_000), psi("nul\u{0}", 2)] })).await;
    let eval = |uid: &str, context: Value| json!({ "GenAIEval": { "record": { "created_at": TIME, "uid": uid, "context": context, "entity_uid": "u", "trace_id": null } } });
    let huge = serde_json::from_str::<Value>("1e308").unwrap();
    server
        .message(&json!({ "records": [eval("nul", json!({ "a": "x\u{0}y" })), eval("number", huge), eval("plain", json!("text"))] }))
        .await;
    has_rows(&postgres, "agent_eval_record", 3).await;
    has_rows(&postgres, "psi_drift", 2).await;
    let client = postgres.client().await;
    let kept = client.query_one("SELECT kind, reason, record FROM scouter.refused_record", &[]).await.unwrap();
    assert_eq!((kept.get::<_, &str>(0), kept.get::<_, &str>(1)), ("psi", "bin_count is 3000000000, and its column has 32 bits"));
    let record: scouter_tonic::message::MonitoringRecord = prost::Message::decode(kept.get::<_, &[u8]>(2)).unwrap();
    assert!(format!("{record:?}").contains("3000000000"));
    assert_eq!(server.metric("scouter_postgres_refused_records_total").await as i64, 1);
    assert_eq!(postgres.number("SELECT count(*) FROM scouter.psi_drift WHERE feature = 'nul\u{fffd}'").await, 1);

    // A uid that no index has room for, and that cannot be packed.
    let long: String = (0..8000).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
    server.message(&spc(&long, 0..1)).await;
    server.message(&spc("after", 0..2)).await;
    has_rows(&postgres, "spc_drift", 2).await;
    assert_eq!(postgres.count("refused_record").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_and_hostile_records_are_the_same_number_of_rows_in_both() {
    use rand::{Rng, SeedableRng, seq::IndexedRandom};
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let pieces = [
        "", "a", "\u{0}", "\u{feff}", "\\u0000", "\\", "'", "\"", "{\"a\":", "]", "\n", "é", "😀", "%s", "$1", "NaN", "--", "\u{202e}",
        "1e400",
    ];
    let text =
        |random: &mut rand::rngs::StdRng| (0..random.random_range(0..6)).map(|_| *pieces.choose(random).unwrap()).collect::<String>();
    let postgres = Postgres::start().await;
    let server = server_with(&postgres).await;
    for batch in 0..10 {
        let mut records = Vec::new();
        for index in 0..40 {
            let time = format!("2026-04-25T21:18:{batch:02}.{:06}{index:03}Z", random.random_range(0..3));
            let uid = format!("u{}", text(&mut random));
            let (name, value) = (text(&mut random), random.random::<f64>());
            records.push(match index % 4 {
                0 => json!({ "Custom": { "created_at": time, "uid": uid, "metric": name, "value": value } }),
                1 => json!({ "Spc": { "created_at": time, "uid": uid, "feature": name, "value": null } }),
                2 => json!({ "AgentEval": { "record": { "created_at": time, "uid": name, "context": { text(&mut random): [text(&mut random), value] },
                    "entity_uid": uid, "session_id": text(&mut random), "tags": [text(&mut random), text(&mut random)], "trace_id": null } } }),
                _ => json!({ "AgentTaskRecord": { "created_at": time, "start_time": time, "end_time": time, "record_uid": name, "task_id": text(&mut random),
                    "task_type": text(&mut random), "passed": true, "value": value, "assertion": text(&mut random), "operator": text(&mut random),
                    "expected": text(&mut random), "actual": { text(&mut random): null }, "message": text(&mut random), "entity_uid": uid } }),
            });
        }
        server.message(&json!({ "records": records })).await;
    }
    for table in ["custom_drift", "spc_drift", "agent_eval_record", "agent_eval_task"] {
        assert_eq!(server.count(table).await, 100, "{table}");
        has_rows(&postgres, table, 100).await;
    }
    assert_eq!(postgres.count("refused_record").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_baggage_and_entities_of_spans_are_rows_too() {
    let postgres = Postgres::start().await;
    let server = server_with(&postgres).await;
    let uid = "01a20603-d2ce-73d1-b525-01f0f442aa12";
    let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let span = |id: &str, attributes: Vec<Value>| {
        json!({ "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": id, "name": "op", "kind": 1, "startTimeUnixNano": "1777151904123456789",
            "endTimeUnixNano": "1777151904133456789", "attributes": attributes })
    };
    let spans = vec![
        span("b7ad6b7169203331", vec![attribute("scouter.tracing.tag.env", "prod"), attribute("baggage.user", "ada")]),
        span("b7ad6b7169203332", vec![attribute("scouter.tracing.tag.env", "prod"), attribute(&format!("scouter.entity.{uid}"), uid)]),
        span("b7ad6b7169203333", vec![attribute("baggage.scouter.tracing.tag.team", "blue"), attribute("baggage.user", "bob")]),
    ];
    server.message(&json!({ "request": { "resourceSpans": [{ "scopeSpans": [{ "scope": { "name": "shop" }, "spans": spans }] }] } })).await;
    has_rows(&postgres, "trace_entities", 1).await;
    has_rows(&postgres, "tags", 2).await;
    has_rows(&postgres, "trace_baggage", 3).await;
    let client = postgres.client().await;
    let rows = client.query("SELECT scope || ' ' || key || '=' || value FROM scouter.trace_baggage ORDER BY 1", &[]).await.unwrap();
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, ["shop scouter.tracing.tag.team=blue", "shop user=ada", "shop user=bob"]);
}

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

/// An authority of the test's own, and its certificate in a file.
fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), issuer.pem()).unwrap();
    Authority { issuer, file }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_goes_only_to_a_database_whose_certificate_is_good() {
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ours.issuer).unwrap();
    let postgres = Postgres::start_with_tls(&certificate.pem(), &key.serialize_pem()).await;
    let uid = "01a20603-d2ce-73d1-b525-01f0f442aa12";
    let verified = |host: &str| postgres.uri_at(host) + "?sslmode=verify-full";

    // The certificate of another authority, and one that names another host.
    for (host, roots) in [("localhost", &other), ("127.0.0.1", &ours)] {
        let variables = [("SSL_CERT_FILE", roots.file.path().as_os_str())];
        let mut server = TestServer::start_with_variables(&["--database-uri", &verified(host)], &variables);
        server.token = server.login("guest", "guest").await.unwrap();
        server.message(&spc(uid, 0..2)).await;
        wait_until("the server says why", async || server.log().contains("certificate")).await;
        assert!(!server.log().contains(support::postgres::PASSWORD));
        assert_eq!(postgres.number("SELECT count(*) FROM pg_namespace WHERE nspname = 'scouter'").await, 0, "{host}");
    }

    let variables = [("SSL_CERT_FILE", ours.file.path().as_os_str())];
    let mut server = TestServer::start_with_variables(&["--database-uri", &verified("localhost")], &variables);
    server.token = server.login("guest", "guest").await.unwrap();
    server.message(&spc(uid, 0..2)).await;
    has_rows(&postgres, "spc_drift", 2).await;
    let by_tls = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND application_name = 'scouter-server'";
    assert!(postgres.number(by_tls).await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_is_said_at_the_start_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_scouter-server"));
    command.args(["serve", "--check-config", "--storage"]).arg(folder.path()).env("DATABASE_URI", "postgres://a:s3cret@/?nonsense=1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("--database-uri") && !said.contains("s3cret"), "{said}");
}
