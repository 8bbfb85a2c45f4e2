//! What Jaeger's clients are given, read into the types that Jaeger publishes (`examples/interop/jaeger`).

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use super::{BEGIN_UNIX_NANO, CLIENT_TIMEOUT, Destination, PROTOBUF, SDKS, assert_stored, built, is_available, tell};
use crate::server::{Server, create_key};

#[tokio::test]
#[ignore = "scripts/interop.sh builds its clients and runs it"]
async fn interop_jaegers_own_types_read_every_answer_and_lose_nothing() {
    if !is_available("jaeger") {
        return;
    }
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let key = Some(create_key(&server, "interop").await);
    let to = Destination { grpc: server.addresses.otlp_grpc.clone(), http: server.addresses.otlp_http.clone(), key };
    let told = tell(SDKS[0], &to, PROTOBUF, "none", "shop").await;
    assert_stored(&server, SDKS[0], "shop", &told).await;

    let mut reader = Command::new(built("jaeger").join("reader"));
    reader
        .env("SCOUTER_URL", format!("http://{}", server.addresses.http))
        .env("SCOUTER_TOKEN", server.token().await)
        .env("SCOUTER_SERVICE", "shop")
        .env("SCOUTER_END_MILLIS", (BEGIN_UNIX_NANO / 1_000_000 + 60_000).to_string());
    let output = timeout(CLIENT_TIMEOUT, reader.output()).await.expect("it ends").expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counts: Value = serde_json::from_slice(&output.stdout).expect("it prints what it read");
    assert_eq!(counts, json!({"services": 1, "names": 3, "operations": 3, "traces": 1, "dependencies": 0}));
}
