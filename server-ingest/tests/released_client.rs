//! The published Python client scouter-ml 0.25.0, as it is, against this server: over gRPC and HTTP, with a `kill -9` of the server in between.
//!
//! It installs the package name that this project's own package has, so it gets a virtual environment of its own, once a build folder.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use support::{TestServer, wait_until};

const RELEASED: &str = "scouter-ml==0.25.0";

/// A Python that has the released client.
fn python() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scouter-ml");
    let (python, installed) = (folder.join("bin/python"), folder.join("installed"));
    if std::fs::read_to_string(&installed).is_ok_and(|what| what == RELEASED) {
        return python;
    }
    let run = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", RELEASED]));
    std::fs::write(installed, RELEASED).unwrap();
    python
}

struct Client {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Client {
    fn start(server: &TestServer, profiles: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released_client/client.py");
        let mut command = Command::new(python());
        command.arg(script).arg(server.url("grpc", "")).arg(server.url("http", "")).arg(profiles);
        let mut child = command.env("LOG_LEVEL", "error").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next thing it says; what its library prints beside is passed over.
    fn hear(&mut self) -> Value {
        loop {
            let line = self.lines.next().expect("the client ended early").unwrap();
            if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                return value;
            }
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_span_and_record_of_the_released_client_is_there_once() {
    let profiles = tempfile::tempdir().unwrap();
    for kind in ["custom", "spc", "psi", "genai"] {
        let name = format!("profile_{kind}.json");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scouter-0.25/profiles").join(&name);
        std::fs::copy(fixture, profiles.path().join(name)).unwrap();
    }
    let (grpc, http) = (free_address(), free_address());
    let flags = ["--grpc-addr", &grpc, "--http-addr", &http];
    let mut server = TestServer::start_with(&flags).await;
    let mut client = tokio::task::block_in_place(|| Client::start(&server, profiles.path()));
    let uids = client.hear()["uids"].clone();
    let mut traces: BTreeMap<String, Vec<String>> = BTreeMap::new();

    // Two queues, each with as many rows as it publishes at once, twice; the server is killed in between and after.
    for round in 0..2 {
        loop {
            let said = client.hear();
            if said["done"] == round {
                break;
            }
            traces.insert(said["trace_id"].as_str().unwrap().to_owned(), serde_json::from_value(said["span_ids"].clone()).unwrap());
        }
        let times = 2 * (round + 1);
        for (table, rows) in
            [("spc_drift", 10 * times), ("custom_drift", 2 * times), ("agent_eval_record", 25 * times), ("spans", 15 * times)]
        {
            wait_until(&format!("{table} has {rows} rows"), async || server.count(table).await == rows).await;
        }
        server = server.crash_and_restart_with(&flags).await;
        client.say("go on");
    }
    assert_eq!(client.hear()["done"], "psi");
    wait_until("the bins of 1000 rows", async || server.count("psi_drift").await == 100).await;
    client.say("go on");

    // Each span and each record once.
    let stored = server.sql("SELECT hex(trace_id), hex(span_id) FROM spans").await;
    let sent: BTreeSet<(&str, &str)> =
        traces.iter().flat_map(|(trace, spans)| spans.iter().map(move |span| (trace.as_str(), span.as_str()))).collect();
    let stored: Vec<(&str, &str)> = stored.iter().map(|row| (row[0].as_str().unwrap(), row[1].as_str().unwrap())).collect();
    assert_eq!((stored.len(), stored.into_iter().collect::<BTreeSet<_>>()), (sent.len(), sent));
    assert_eq!(server.sql("SELECT count(DISTINCT uid) FROM agent_eval_record").await[0][0], 100);
    assert_eq!(server.sql("SELECT sum(bin_count) FROM psi_drift").await[0][0], 10_000);
    let of_uids = server.sql("SELECT DISTINCT entity_uid FROM psi_drift UNION SELECT DISTINCT entity_uid FROM spc_drift").await;
    assert_eq!(of_uids.len(), 2);
    assert!(of_uids.iter().all(|row| row[0] == uids["psi"] || row[0] == uids["spc"]));

    // And its own client sees them.
    let trace = traces.keys().next().unwrap();
    client.say(trace);
    let read = client.hear();
    assert_eq!(read["drift"]["spc"].as_object().unwrap().len(), 10, "{read}");
    let average = read["drift"]["custom"]["acc"][0].as_f64().unwrap();
    assert!((average - 12.0).abs() < 1e-6, "{read}");
    assert_eq!(read["drift"]["psi"]["f1"].as_object().unwrap().len(), 10, "{read}");
    assert_eq!(read["tags"], json!([["env", "prod"], ["team", "blue"]]));
    // Trace by trace, each once, by pages of seven.
    let all: Vec<&String> = traces.keys().collect();
    assert_eq!((&read["listed"], &read["pages"], &read["counted"]), (&json!(all), &json!([7, 7, 6]), &json!(20)), "{read}");
    assert_eq!(read["listed_as"], json!([["released", 3, false]]));
    assert_eq!((&read["filtered"], &read["alerts"]), (&json!(3), &json!(0)));
    assert_eq!(read["baggage"], json!([["scouter.tracing.tag.team", "blue"]]));
    let depths: Vec<i64> = read["spans"].as_array().unwrap().iter().map(|span| span[1].as_i64().unwrap()).collect();
    assert_eq!(depths, [0, 1, 1], "{read}");
    assert_eq!((&read["switched"], &read["profile"]["Custom"]["config"]["uid"]), (&true.into(), &uids["custom"]));
    assert!(client.child.wait().unwrap().success());
}
