//! Readers who ask for too much, and who go away before the answer, at a running server.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use prost::Message;
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use serde_json::json;
use support::{TestServer, grpc, otlp_request, resident_bytes, wait_until};

/// Each would go on for hours.
const ENDLESS: [&str; 4] = [
    "SELECT count(*) FROM spans a, spans b, spans c, spans d, spans e, spans f, spans g, spans h, spans i",
    "SELECT count(*) FROM spans a CROSS JOIN spans b JOIN spans c ON a.start_unix_nano / 2 + b.start_unix_nano / 2 + c.start_unix_nano / 2 < 0",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i > 0) SELECT max(i) FROM n WHERE i < 0",
    "SELECT a.name, count(DISTINCT c.span_id) FROM spans a, spans b, spans c, spans d, spans e GROUP BY a.name ORDER BY 2",
];

async fn filled() -> TestServer {
    let server = TestServer::start().await;
    let header = format!("Bearer {}", server.token);
    for trace in 1..=10 {
        let body = otlp_request(trace, 1000).encode_to_vec();
        grpc::<opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse>(
            &server,
            "otlp-grpc",
            OTLP_TRACE_EXPORT,
            &header,
            body,
            None,
        )
        .await
        .unwrap();
    }
    server
}

async fn is_idle(server: &TestServer) -> bool {
    server.metric("scouter_questions_running").await == 0.0 && server.metric("scouter_questions_used_bytes").await == 0.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_whose_client_left_stops_and_gives_back_turn_and_memory() {
    let server = filled().await;
    for client in [reqwest::Client::builder().http1_only(), reqwest::Client::builder().http2_prior_knowledge()] {
        let client = client.build().unwrap();
        for query in ENDLESS {
            // As many as there are turns.
            let asked: Vec<_> = (0..4)
                .map(|_| {
                    let request = client.post(server.url("http", "/api/v1/sql")).bearer_auth(&server.token);
                    tokio::spawn(request.json(&json!({ "query": query })).send())
                })
                .collect();
            wait_until("all have their turn", async || server.metric("scouter_questions_running").await == 4.0).await;
            asked.iter().for_each(tokio::task::JoinHandle::abort);
            wait_until("all have stopped", async || is_idle(&server).await).await;
            assert_eq!(server.count("spans").await, 10_000, "{query}");
        }
    }
}

/// On a terminal of its own, as a person has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_says_that_it_waits_and_control_c_stops_the_work() {
    let server = filled().await;
    let storage = server.folder.path().join("storage");
    // Whoever runs the tests in the background has them ignore the signal.
    let typed =
        format!("env --default-signal=INT {} sql --storage {} '{}'", env!("CARGO_BIN_EXE_scouter-server"), storage.display(), ENDLESS[0]);
    let mut terminal = Command::new("script");
    let terminal = terminal.args(["-qefc", &typed, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut asking = terminal.spawn().unwrap();
    let (mut keys, mut screen) = (asking.stdin.take().unwrap(), asking.stdout.take().unwrap());
    let shown = tokio::task::spawn_blocking(move || {
        let (mut shown, mut byte) = (Vec::new(), [0]);
        while !String::from_utf8_lossy(&shown).contains("asking for 2 s; Ctrl-C stops it") && screen.read(&mut byte).unwrap() == 1 {
            shown.push(byte[0]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let shown = shown.await.unwrap();
    assert!(shown.contains("asking for 2 s"), "{shown}");
    assert_eq!(server.metric("scouter_questions_running").await, 1.0);
    keys.write_all(b"\x03").unwrap();
    wait_until("it ends", async || asking.try_wait().unwrap().is_some()).await;
    wait_until("its question has stopped", async || is_idle(&server).await).await;
    let answer = server.command(&["sql", "SELECT name, count(*) AS n FROM spans WHERE name = \'span 7\' GROUP BY name"]);
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "name    n\n------  --\nspan 7  10\n(1 row)\n");
}

/// What becomes of a hostile statement.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Refused before it runs, with these words: a typing error would be refused as well, and prove nothing.
    Refused(&'static str),
    /// It runs, and is answered, ended by its limits, or left by its author.
    Runs,
}

/// Statements of a reader who means harm.
fn hostile() -> Vec<(String, End)> {
    use End::{Refused, Runs};
    const JOINED: End = Refused("texts joined into one");
    const READS: End = Refused("queries only read");
    let doubled = |step: &str| (1..=40).map(|n| format!(", c{n} AS (SELECT {step} AS x FROM c{})", n - 1)).collect::<String>();
    vec![
        ("SELECT count(*) FROM generate_series(1, 9000000000000000000)".to_owned(), Runs),
        ("SELECT * FROM spans a, spans b ORDER BY a.name, b.name, a.attributes".to_owned(), Runs),
        ("SELECT array_agg(a.attributes || b.attributes) FROM spans a, spans b".to_owned(), Runs),
        (
            "SELECT string_agg(a.attributes, ',') OVER (ORDER BY start_unix_nano) FROM spans a".to_owned(),
            Refused("not computed OVER a window"),
        ),
        (format!("WITH c0 AS (SELECT attributes AS x FROM spans){} SELECT max(length(x)) FROM c40", doubled("x || x")), JOINED),
        (format!("WITH c0 AS (SELECT attributes AS x FROM spans){} SELECT max(length(x)) FROM c40", doubled("concat(x, x)")), JOINED),
        (
            format!("WITH c0 AS (SELECT ARRAY[1] AS x FROM spans){} SELECT max(array_length(x)) FROM c40", doubled("array_concat(x, x)")),
            JOINED,
        ),
        (format!("WITH c0 AS (SELECT attributes AS x FROM spans){} SELECT max(length(x)) FROM c40", doubled("replace(x, 'e', x)")), JOINED),
        (format!("SELECT max(length(replace(attributes, 'e', '{}'))) FROM spans", "x".repeat(60_000)), Runs),
        (format!("SELECT max(length(regexp_replace(attributes, '', '{}', 'g'))) FROM spans", "x".repeat(60_000)), Runs),
        ("WITH RECURSIVE n(s) AS (SELECT 'a' UNION ALL SELECT s || s FROM n) SELECT max(length(s)) FROM n".to_owned(), Runs),
        ("WITH RECURSIVE n(s) AS (SELECT 'aa' UNION ALL SELECT replace(s, 'a', s) FROM n) SELECT max(length(s)) FROM n".to_owned(), Runs),
        ("SELECT count(*) FROM spans WHERE attributes ~ '(((\\w{50}){50}){50})'".to_owned(), Refused("compiled regular expression")),
        ("SELECT count(*) FROM spans WHERE regexp_like(attributes, '(a*)*(b|c*)*$(x+x+)+y')".to_owned(), Runs),
        ("SELECT count(*) FROM spans a, spans b WHERE a.attributes ~ b.attributes".to_owned(), Refused("a pattern has to be written out")),
        (format!("SELECT count(*) FROM spans WHERE attributes LIKE '{}'", "%a".repeat(20_000)), Refused("bytes in a pattern")),
        ("COPY spans TO '/tmp/scouter-hostile.parquet'".to_owned(), READS),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'".to_owned(), READS),
        ("SET datafusion.execution.batch_size = 1".to_owned(), READS),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_sql_leaves_the_server_well() {
    let server = filled().await;
    let client = reqwest::Client::new();
    for (query, end) in hostile() {
        let shown: String = query.chars().take(80).collect();
        let request = client.post(server.url("http", "/api/v1/sql")).bearer_auth(&server.token).json(&json!({ "query": query }));
        // Its author has little patience.
        match request.timeout(std::time::Duration::from_secs(3)).send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                let text = response.text().await.unwrap();
                match end {
                    End::Refused(words) => assert!(status == 400 && text.contains(words), "{shown}: {status} {text}"),
                    // 422: it needed more than there is for it.
                    End::Runs => assert!(matches!(status, 200 | 422), "{shown}: {status} {text}"),
                }
            }
            Err(error) => assert!(error.is_timeout() && matches!(end, End::Runs), "{shown}: {end:?}, {error}"),
        }
        wait_until(&shown, async || is_idle(&server).await).await;
    }
    assert_eq!(server.count("spans").await, 10_000);
    assert!(resident_bytes(&server) < 2 << 30, "{} bytes", resident_bytes(&server));
    assert!(!std::path::Path::new("/tmp/scouter-hostile.parquet").exists());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
