//! An acknowledged span is there after `kill -9`, once.

use std::collections::HashMap;

use tempfile::TempDir;

use crate::{
    loadgen::{self, Running},
    server::{Server, sql_on_folder},
};

#[tokio::test]
async fn acked_spans_survive_kill_9_by_scouter_grpc() {
    check("scouter-grpc", 100_000, 40_000).await;
}

#[tokio::test]
async fn acked_spans_survive_kill_9_by_otlp_grpc() {
    check("otlp-grpc", 30_000, 20_000).await;
}

#[tokio::test]
async fn acked_spans_survive_kill_9_by_otlp_http() {
    check("otlp-http", 30_000, 20_000).await;
}

/// The log is trimmed by files of 64 MiB; after that the tables alone have the first spans.
#[tokio::test]
async fn a_server_that_trimmed_its_log_starts_again() {
    const SPANS: u64 = 400_000;
    let folder = TempDir::new().expect("a folder for the test");
    let mut server = Server::start(&folder).await;
    for last_words in ["SIGTERM", "kill -9"] {
        let before = server.count("SELECT count(*) FROM spans").await;
        loadgen::send("scouter-grpc", &server.addresses, SPANS, 512).await;
        assert_eq!(server.count("SELECT count(*) FROM spans").await, before + SPANS, "before {last_words}");
        match last_words {
            "SIGTERM" => assert!(server.stop().await.success(), "the server did not stop in good order"),
            _ => server.kill().await,
        }
        server = Server::start(&folder).await;
        assert_eq!(server.count("SELECT count(*) FROM spans").await, before + SPANS, "after {last_words}");
    }
}

/// Kills the server twice while spans come in, once after a third and once after two.
async fn check(door: &str, spans: u64, rate: u64) {
    let folder = TempDir::new().expect("a folder for the test");
    let mut server = Server::start(&folder).await;
    let addresses = server.addresses.clone();

    let ids = folder.path().join("ids");
    let seed = 0x6b69_6c6c;
    let run = Running::start(
        loadgen::command(
            door,
            &addresses,
            &[
                "--spans",
                &spans.to_string(),
                "--rate",
                &rate.to_string(),
                "--batch",
                "128",
                "--concurrency",
                "4",
                "--seed",
                &seed.to_string(),
            ],
        ),
        ids.clone(),
    );
    for part in 1..=2 {
        run.wait_until_acked(spans * part / 3).await;
        server.kill().await;
        server = Server::start_at(&folder, &addresses).await;
    }
    let report = run.finish().await;
    assert_eq!((report.sent, report.acked, report.rejected, report.failed), (spans, spans, 0, 0), "{door}: {report:?}");
    assert!(report.retries > 0, "{door}: the server's death went unnoticed, so this test showed nothing");

    let acked = loadgen::acknowledged(&ids);
    assert_eq!(acked.len() as u64, spans);
    let mut stored: HashMap<String, u32> = HashMap::new();
    for row in server.sql("SELECT trace_id, span_id FROM spans").await {
        let [trace_id, span_id] = row.as_slice() else { panic!("two columns were asked for") };
        *stored.entry(format!("{} {}", trace_id.as_str().expect("hex"), span_id.as_str().expect("hex"))).or_default() += 1;
    }
    let missing: Vec<&String> = acked.iter().filter(|id| !stored.contains_key(*id)).collect();
    assert!(missing.is_empty(), "{door}: {} acknowledged spans are missing, {:?} for one", missing.len(), missing[0]);
    let repeated: Vec<(&String, &u32)> = stored.iter().filter(|(_, times)| **times > 1).collect();
    assert!(repeated.is_empty(), "{door}: {} spans are there more than once, {:?} for one", repeated.len(), repeated[0]);
    assert_eq!(stored.len() as u64, spans, "{door}: spans are there that nobody sent");

    // The folder alone says the same.
    let storage = server.storage().to_owned();
    assert!(server.stop().await.success(), "{door}: the server did not stop in good order");
    let output = sql_on_folder(&storage, "SELECT count(*) AS n FROM spans").await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(&spans.to_string()), "{door}: {text}{}", String::from_utf8_lossy(&output.stderr));
}
