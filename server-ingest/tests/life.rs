//! A server's life: its configuration, its readiness, its end, and the files it is deployed with.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashMap,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use support::{TestServer, grpc, grpc_over, otlp_request, wait_until};

/// `serve` with no variables but these; what it printed and whether it went well.
fn serve(variables: &[(&str, &str)], flags: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scouter-server"));
    command.env_clear().envs(variables.iter().copied()).arg("serve").args(flags);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

async fn export(server: &TestServer, trace: u128, count: u64) -> Result<ExportTraceServiceResponse, tonic::Status> {
    let body = otlp_request(trace, count).encode_to_vec();
    grpc(server, "otlp-grpc", OTLP_TRACE_EXPORT, &format!("Bearer {}", server.token), body, None).await
}

#[test]
fn a_flag_wins_over_a_variable_that_over_the_file_and_that_over_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scouter.toml");
    std::fs::write(&file, "max-connections = 10\nmax-streams = 11\nbody_timeout_seconds = \"12\"\ndefault-password = \"hunter2\"\ndefault-username = \"ada\"\n").unwrap();
    let file = file.to_str().unwrap();
    let (is_good, text) = serve(&[("SCOUTER_MAX_STREAMS", "20")], &["--config", file, "--max-connections=30", "--print-config"]);
    assert!(is_good, "{text}");
    for line in [
        "max-connections = \"30\"",
        "max-streams = \"20\"",
        "body-timeout-seconds = \"12\"",
        "header-timeout-seconds = \"15\"",
        "default-password = \"***\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
    let printed = folder.path().join("printed.toml");
    std::fs::write(&printed, &text).unwrap();
    let (is_good, again) = serve(&[], &["--config", printed.to_str().unwrap(), "--check-config"]);
    assert!(is_good && again.contains("can be used"), "what is printed can be read: {again}");

    let secrets = [
        ("SCOUTER_DEFAULT_PASSWORD", "hunter2"),
        ("DATABASE_URI", "postgres://a:hunter2@localhost/x"),
        ("REDIS_ADDR", "redis://a:hunter2@localhost"),
        ("RABBITMQ_ADDR", "amqp://a:hunter2@localhost"),
        ("KAFKA_PASSWORD", "hunter2"),
    ];
    let (_, text) = serve(&secrets, &["--print-config"]);
    assert!(text.matches("= \"***\"").count() == secrets.len() && !text.contains("hunter2"), "{text}");
}

#[test]
fn all_faults_of_file_flags_and_variables_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scouter.toml");
    std::fs::write(&file, "max-conections = 10\nmax-streams = [1]\nhttp-addr = \"here\"\n").unwrap();
    let flags = ["--config", file.to_str().unwrap(), "--durability=maybe", "--check-config"];
    let (is_good, text) = serve(&[("SCOUTER_TLS_CERT", "none.pem")], &flags);
    assert!(!is_good);
    for words in ["\"max-conections\"", "\"max-streams\"", "--http-addr is \"here\"", "--durability is \"maybe\"", "--tls-key is not"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
}

#[test]
fn an_open_address_is_refused_without_users_and_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    let storage = format!("--storage={}", folder.path().display());
    let (is_good, text) = serve(&[], &[&storage, "--http-addr=0.0.0.0:0"]);
    assert!(!is_good && text.contains("guest is not allowed") && text.contains("clear text"), "{text}");
    assert!(!folder.path().join("tables").exists(), "nothing was begun");
}

#[tokio::test]
async fn readiness_and_liveness_are_two_things() {
    let mut server = TestServer::start_with(&["--shutdown-delay-seconds", "2"]).await;
    let status = async |path: &str| reqwest::get(server.url("http", path)).await.unwrap().status().as_u16();
    assert_eq!((status("/healthz").await, status("/readyz").await), (200, 200));
    server.signal("TERM");
    wait_until("it is not ready", async || status("/readyz").await == 503).await;
    assert_eq!(status("/healthz").await, 200, "it lives until it ends");
    export(&server, 1, 1).await.expect("and takes what still comes");
    assert_eq!(server.wait(), Some(0));
    let log = server.log();
    let phases: Vec<&str> = ["unready", "drain", "seal", "flush", "end"]
        .into_iter()
        .filter(|phase| log.contains(&format!("phase=\"{phase}\"")) || log.contains(&format!("\"{phase}\"")))
        .collect();
    assert_eq!(phases.len(), 5, "{log}");
    let places: Vec<usize> = phases.iter().map(|phase| log.find(&format!("\"{phase}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_exits_0_within_its_deadline_and_loses_nothing() {
    const SPANS: u64 = 50;
    let mut server = TestServer::start_with(&["--shutdown-timeout-seconds", "30"]).await;
    let acknowledged: Arc<Mutex<Vec<u128>>> = Arc::default();
    let mut clients = tokio::task::JoinSet::new();
    for number in 1..=12_u128 {
        let (acknowledged, bearer) = (Arc::clone(&acknowledged), format!("Bearer {}", server.token));
        let door = ["grpc", "otlp-grpc", "http", "otlp-http"][number as usize % 4];
        let channel = if door.ends_with("grpc") { Some(server.channel(door).await) } else { None };
        let url = server.url(door, "/v1/traces");
        clients.spawn(async move {
            let http = reqwest::Client::new();
            for trace in (number << 64) + 1.. {
                let body = otlp_request(trace, SPANS).encode_to_vec();
                let is_taken = match &channel {
                    Some(channel) => {
                        let sent = grpc_over::<ExportTraceServiceResponse>(channel.clone(), OTLP_TRACE_EXPORT, &bearer, body, None);
                        sent.await.is_ok()
                    }
                    None => {
                        let request = http.post(&url).header("authorization", &bearer).header("content-type", "application/x-protobuf");
                        request.body(body).send().await.is_ok_and(|answer| answer.status() == 200)
                    }
                };
                if !is_taken {
                    return trace - (number << 64);
                }
                acknowledged.lock().unwrap().push(trace);
            }
            0
        });
    }
    wait_until("all are at it", async || acknowledged.lock().unwrap().len() > 300).await;
    server.signal("TERM");
    let begun = Instant::now();
    assert_eq!(tokio::task::block_in_place(|| server.wait()), Some(0), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(30), "{}", server.log());
    let sent: Vec<u128> = clients.join_all().await;
    assert!(sent.iter().all(|requests| *requests > 1), "every door was under load: {sent:?}");

    let output = server.command(&["sql", "--json", "SELECT encode(trace_id, 'hex'), count(*) FROM spans GROUP BY 1"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows: Vec<(String, u64)> = serde_json::from_value(answer["rows"].clone()).unwrap();
    let stored: HashMap<String, u64> = rows.into_iter().collect();
    assert!(stored.values().all(|spans| *spans == SPANS), "a request is stored whole and once");
    for trace in acknowledged.lock().unwrap().iter() {
        assert!(stored.contains_key(&format!("{trace:032x}")), "{trace:032x} was acknowledged");
    }
}

#[tokio::test]
async fn a_client_that_never_ends_does_not_keep_the_server() {
    use tokio::io::AsyncWriteExt;
    let mut server = TestServer::start_with(&["--shutdown-timeout-seconds", "4"]).await;
    export(&server, 1, 10).await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(server.address("otlp-http")).await.unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n",
        server.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    wait_until("it is under way", async || server.metric("scouter_admission_used_bytes").await > 0.0).await;
    assert_eq!(server.terminate(), Some(0), "{}", server.log());
    assert!(server.log().contains("are cut"), "{}", server.log());
    let output = server.command(&["sql", "--json", "SELECT count(*) FROM spans"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("[[10]]"));
}

#[tokio::test]
async fn a_dead_log_stops_the_intake_and_the_process_says_why() {
    let mut server = TestServer::start().await;
    export(&server, 1, 10).await.unwrap();
    // From here on no file can grow past 256 KiB: the next write of the log fails as on a broken disk.
    let limit = Command::new("prlimit").args(["--pid", &server.process_id().to_string(), "--fsize=262144:262144"]).status().unwrap();
    assert!(limit.success());
    let mut acked = 10;
    let refused = loop {
        match export(&server, u128::from(acked), 2000).await {
            Ok(_) => acked += 2000_u64,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
    assert_ne!(server.wait(), Some(0));
    assert!(server.log().contains("the log failed and nothing can be stored any more"), "{}", server.log());
    let output = server.command(&["sql", "--json", "SELECT count(*) FROM spans"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("[[{acked}]]")), "{acked} were acknowledged: {text} {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn log_lines_are_json_and_carry_the_id_of_their_request() {
    let server = TestServer::start_with(&["--log-format", "json", "--log-filter", "info,scouter_ingest=debug"]).await;
    let request = reqwest::Client::new().post(server.url("otlp-http", "/v1/traces")).header("x-request-id", "from-the-client");
    let answer = request.body("x").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "from-the-client");
    wait_until("it is logged", async || server.log().contains("from-the-client")).await;
    // What must not be in it, as it comes: right and wrong, by every scheme.
    let url = server.url("otlp-http", "/v1/traces");
    reqwest::Client::new().post(&url).bearer_auth(&server.token).body("x").send().await.unwrap();
    reqwest::Client::new().post(&url).basic_auth("guest", Some("not guests password")).body("x").send().await.unwrap();
    assert_eq!(server.login("guest", "another wrong password").await, None);
    let key = server.command(&["key", "create", "collector"]);
    let key = String::from_utf8(key.stdout).unwrap();
    reqwest::Client::new().post(&url).bearer_auth(key.trim()).body("x").send().await.unwrap();
    for line in server.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let log = server.log();
    for secret in [server.token.as_str(), "not guests password", "another wrong password", key.trim().rsplit('_').next().unwrap()] {
        assert!(!secret.is_empty() && !log.contains(secret), "{secret} is in {log}");
    }
}

fn deployed(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

#[tokio::test]
async fn the_dashboard_asks_for_metrics_that_are_there() {
    let server = TestServer::start().await;
    export(&server, 1, 1).await.unwrap();
    let mut bad = otlp_request(2, 1);
    bad.resource_spans[0].scope_spans[0].spans[0].trace_id.clear();
    let header = format!("Bearer {}", server.token);
    grpc::<ExportTraceServiceResponse>(&server, "otlp-grpc", OTLP_TRACE_EXPORT, &header, bad.encode_to_vec(), None).await.unwrap();
    reqwest::get(server.url("http", "/scouter/auth/validate")).await.unwrap();
    let metrics = reqwest::get(server.url("http", "/metrics")).await.unwrap().text().await.unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&deployed("grafana-dashboard.json")).unwrap();
    let mut named = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            for name in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("scouter_")) {
                // A reason that did not occur yet has a description and no value.
                let described = name.trim_end_matches("_total").trim_end_matches("_bucket");
                assert!(metrics.contains(&format!("# TYPE {described} ")), "{name} is not in {metrics}");
                named += 1;
            }
        }
    }
    assert!(named >= 15, "{named}");
}

#[test]
fn the_example_of_a_configuration_can_be_used_and_names_every_option() {
    let folder = tempfile::tempdir().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/scouter.toml");
    let storage = format!("--storage={}", folder.path().display());
    let (is_good, text) = serve(&[], &["--config", file.to_str().unwrap(), &storage, "--check-config"]);
    assert!(is_good, "{text}");
    let (_, printed) = serve(&[], &["--print-config"]);
    let example = deployed("scouter.toml");
    for name in printed
        .lines()
        .filter_map(|line| line.trim_start_matches("# ").split_once(" =").map(|(name, _)| name))
        .filter(|name| !name.contains(' '))
    {
        assert!(example.contains(&format!("{name} =")), "{name} is not in deploy/scouter.toml");
    }
}

#[test]
fn what_is_deployed_names_options_and_paths_that_exist() {
    let (_, help) = serve(&[], &["--help"]);
    for file in ["Containerfile", "scouter-server.service", "kubernetes.yaml"] {
        let text = deployed(file);
        for word in text.split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(|word| word.starts_with("SCOUTER_")) {
            assert!(help.contains(word), "{file} names {word}");
        }
    }
    for path in ["/healthz", "/readyz"] {
        assert!(deployed("kubernetes.yaml").contains(path));
    }
}

/// Where systemd is; elsewhere it says that this was not tried.
#[test]
fn systemd_understands_the_unit_and_finds_it_closed() {
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).output();
    if analyze(&["--version"]).is_err() {
        eprintln!("systemd-analyze is not on this machine: the unit was not tried");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("scouter-server.service");
    let text = deployed("scouter-server.service");
    assert!(text.contains("ExecStart=/usr/local/bin/scouter-server serve"));
    std::fs::write(&unit, text.replace("/usr/local/bin/scouter-server", env!("CARGO_BIN_EXE_scouter-server"))).unwrap();
    let unit = unit.to_str().unwrap();
    // Threshold: of 100, which is a service that may do everything.
    for arguments in [&["verify", unit][..], &["security", "--offline=true", "--threshold=20", unit]] {
        let output = analyze(arguments).unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && words.trim().is_empty(), "{arguments:?}: {words}{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// Documents name the test of each of their claims.
#[test]
fn tests_named_in_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    let mut folders = ["server-ingest", "proto", "exporter", "examples/tests"].map(|folder| root.join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    for document in ["docs/otlp-conformance.md", "docs/threat-model.md", "docs/transports.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        // Of the tables with a column for it.
        let mut names_tests = false;
        let mut rows = Vec::new();
        for line in text.lines() {
            names_tests = line.starts_with("| ") && (names_tests || line.ends_with("| test |"));
            if names_tests && !line.starts_with("| ---") && !line.ends_with("| test |") {
                rows.push(line);
            }
        }
        assert!(rows.len() > 14, "{document}");
        for row in rows {
            let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
            let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "{document}: {row} names no test");
            for name in names {
                assert!(sources.contains(&format!("fn {name}(")), "{document} names {name}");
            }
        }
    }
}
