//! Apache Kafka in KRaft mode: broker and controller in one process.

use std::{path::Path, process::Stdio, time::Duration};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, Producer as _},
};
use tokio::process::Command;

use super::{PASSWORD, Settings, installed};

/// As in examples/kafka/pom.xml.
const VERSION: &str = "4.1.1";

/// Who has the password.
pub(crate) const USER: &str = "scouter";

/// What a server is told, before the address.
pub(super) const FLAGS: [&str; 9] = [
    "--kafka-username",
    USER,
    "--kafka-password",
    PASSWORD,
    "--kafka-security-protocol",
    "SASL_PLAINTEXT",
    "--kafka-session-timeout-seconds",
    "6",
    "--kafka-brokers",
];

/// What starts the broker in `folder`, which is made ready for it before the first time. A password is asked for at `port` alone.
pub(super) async fn command(folder: &Path, port: u16, tls: u16, [plain, controller]: [u16; 2], settings: Settings) -> Command {
    let (data, properties) = (folder.join("data"), folder.join("server.properties"));
    let host = |port: u16| format!("127.0.0.1:{port}");
    let listeners = format!("PLAIN://{},SASL://{}", host(plain), host(port));
    let store = folder.join("store.pem");
    let login = format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";");
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@{}", host(controller)),
        format!("listeners={listeners},TLS://{},CONTROLLER://{}", host(tls), host(controller)),
        format!("advertised.listeners={listeners},TLS://localhost:{tls}"),
        "listener.security.protocol.map=PLAIN:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,CONTROLLER:PLAINTEXT".to_owned(),
        "ssl.keystore.type=PEM".to_owned(),
        format!("ssl.keystore.location={}", store.display()),
        "controller.listener.names=CONTROLLER".to_owned(),
        "inter.broker.listener.name=PLAIN".to_owned(),
        "sasl.enabled.mechanisms=PLAIN".to_owned(),
        format!("listener.name.sasl.plain.sasl.jaas.config={login}"),
        format!("log.dirs={}", data.display()),
        format!("num.partitions={}", if settings.has_one_partition || settings.max_message_bytes.is_some() { 1 } else { 3 }),
        "offsets.topic.num.partitions=1".to_owned(),
        "offsets.topic.replication.factor=1".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "group.initial.rebalance.delay.ms=0".to_owned(),
        "log.index.size.max.bytes=1048576".to_owned(),
        "num.network.threads=2".to_owned(),
        "num.io.threads=2".to_owned(),
    ];
    lines.extend(settings.max_message_bytes.map(|bytes| format!("message.max.bytes={bytes}")));
    std::fs::write(&properties, lines.join("\n")).expect("the folder is writable");
    if !data.exists() {
        let mut format = java("kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", "4L6g3nShT-eMCtK--X86sw", "--config"]).arg(&properties);
        let output = format.output().await.expect("there is a Java; scripts/setup.sh installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut command = java("kafka.Kafka");
    command.arg(&properties);
    command
}

fn java(class: &str) -> Command {
    let jars = installed("SCOUTER_KAFKA", &format!("kafka-{VERSION}"));
    assert!(jars.is_dir(), "there is no Kafka in {}; scripts/setup.sh gets it", jars.display());
    let mut command = Command::new("java");
    // A small one: it has little to do, and other tests have the machine too.
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(jars.join("*")).arg(class).stdin(Stdio::null());
    command
}

pub(super) async fn is_ready(address: String) -> bool {
    let asked = tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", address).create().expect("good settings");
        producer.client().fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|metadata| !metadata.brokers().is_empty())
    });
    asked.await.expect("no panic")
}
