//! OpenTelemetry's Collector as a process of a test.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::timeout,
};

use super::{ARRIVAL_TIMEOUT, Destination, built};
use crate::server::Server;

/// A running Collector. Dropping it kills it.
pub(super) struct Collector {
    _child: Child,
    /// Where it listens, if it was told to.
    pub(super) destination: Destination,
    log: PathBuf,
}

impl Collector {
    /// With the configuration of the documentation.
    pub(super) async fn start(folder: &Path, server: &Server, key: &str, exporter: &str) -> Self {
        let destination = free_destination().await;
        let mut yaml = documented_configuration();
        for (documented, real) in [
            ("127.0.0.1:14317", &destination.grpc),
            ("127.0.0.1:14318", &destination.http),
            ("127.0.0.1:4317", &server.addresses.otlp_grpc),
            ("127.0.0.1:4318", &server.addresses.otlp_http),
            ("exporters: [otlp_grpc/scouter]", &format!("exporters: [{exporter}]")),
        ] {
            assert_eq!(yaml.matches(documented).count(), 1, "the documented configuration names {documented} once:\n{yaml}");
            yaml = yaml.replace(documented, real);
        }
        let path = folder.join("collector.yaml");
        std::fs::write(&path, yaml).expect("the test's folder is writable");
        let collector = Self::run(folder, &path, &[], &[("SCOUTER_KEY", key)], destination);
        collector.listens().await;
        collector
    }

    /// From spans that come by OTLP to Kafka, with more settings than are in the file.
    pub(super) async fn to_kafka(folder: &Path, brokers: &str, settings: &[&str]) -> Self {
        let destination = free_destination().await;
        let (grpc, http) = (destination.grpc.clone(), destination.http.clone());
        let variables = [("KAFKA_BROKERS", brokers), ("OTLP_GRPC_ADDRESS", &grpc), ("OTLP_HTTP_ADDRESS", &http)];
        let collector = Self::run(folder, &kept_configuration("to-kafka.yaml"), settings, &variables, destination);
        collector.listens().await;
        collector
    }

    /// From Kafka to a server. It is not waited for: what is in the topic waits for it.
    pub(super) fn from_kafka(folder: &Path, brokers: &str, server: &Server, key: &str) -> Self {
        let nowhere = Destination { grpc: String::new(), http: String::new(), key: None };
        let variables = [("KAFKA_BROKERS", brokers), ("SCOUTER_OTLP_GRPC", &server.addresses.otlp_grpc), ("SCOUTER_KEY", key)];
        Self::run(folder, &kept_configuration("from-kafka.yaml"), &[], &variables, nowhere)
    }

    fn run(folder: &Path, configuration: &Path, settings: &[&str], variables: &[(&str, &str)], destination: Destination) -> Self {
        let log = folder.join("collector.log");
        let stderr = std::fs::File::create(&log).expect("the test's folder is writable");
        let child = Command::new(built("collector").join("collector"))
            .arg(format!("--config=file:{}", configuration.display()))
            // Its own metrics would take a fixed port.
            .arg("--config=yaml:service::telemetry::metrics::level: none")
            .args(settings.iter().map(|setting| format!("--config=yaml:{setting}")))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .expect("the Collector starts");
        Self { _child: child, destination, log }
    }

    /// What it said so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    async fn listens(&self) {
        let ready = async {
            for address in [&self.destination.grpc, &self.destination.http] {
                while TcpStream::connect(address).await.is_err() {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
            }
        };
        assert!(timeout(ARRIVAL_TIMEOUT, ready).await.is_ok(), "the Collector does not listen; its messages:\n{}", self.log());
    }
}

async fn free_destination() -> Destination {
    Destination { grpc: free_address().await, http: free_address().await, key: None }
}

async fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
    listener.local_addr().expect("it has an address").to_string()
}

/// The first block of YAML of docs/opentelemetry-collector.md.
fn documented_configuration() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/opentelemetry-collector.md");
    let text = std::fs::read_to_string(page).expect("the page is there");
    let (_, rest) = text.split_once("```yaml\n").expect("the page has a configuration");
    let (yaml, _) = rest.split_once("```").expect("which ends");
    yaml.to_owned()
}

/// One that is kept beside the Collector, for people to begin with.
fn kept_configuration(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/collector").join(name)
}
