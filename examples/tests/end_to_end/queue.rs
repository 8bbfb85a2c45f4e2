//! Monitoring records from a queue to the tables.

use std::time::Duration;

use scouter_exporter::{
    GrpcConfig,
    queue::{Metric, Metrics, Profile, RecordQueue, RecordQueueConfig},
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::server::Server;

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_specifications_example_ends_in_the_tables() {
    let folder = TempDir::new().expect("a folder for the test");
    let server = Server::start(&folder).await;
    let output = Command::new(env!("CARGO_BIN_EXE_record_queue"))
        .env("SCOUTER_GRPC_URI", format!("http://{}", server.addresses.grpc))
        .output()
        .await
        .expect("the example's program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "delivered 22 records, 0 not delivered", "{}", String::from_utf8_lossy(&output.stderr));
    let rows = server.sql("SELECT entity_uid, feature, bin_id, bin_count FROM psi_drift WHERE bin_count > 0 ORDER BY feature").await;
    let text = serde_json::to_string(&rows).expect("rows are JSON");
    let uid = "01a21a15-52d8-7b90-adc2-d2a95d3dbfca";
    assert_eq!(text, format!(r#"[["{uid}","region",1,1],["{uid}","requests",10,1],["{uid}","temperature",8,1]]"#));
    assert_eq!(server.count("SELECT count(*) FROM psi_drift").await, 22);
    assert!(server.stop().await.success());
}

#[tokio::test]
async fn records_survive_kill_9_in_mid_stream_and_none_is_there_twice() {
    const WINDOWS: u32 = 3000;
    let folder = TempDir::new().expect("a folder for the test");
    let mut server = Server::start(&folder).await;
    let addresses = server.addresses.clone();
    let profile = serde_json::json!({
        "config": {"sample_size": 2, "space": "s", "name": "n", "version": "1", "uid": "u", "drift_type": "Custom"},
        "metrics": {"number": 0.0},
    });
    let profile = Profile::from_json(profile.to_string()).expect("a profile");
    let config = GrpcConfig { server_uri: format!("http://{}", addresses.grpc), ..GrpcConfig::default() };
    let settings = RecordQueueConfig { schedule_delay: Duration::from_millis(5), ..RecordQueueConfig::default() };
    let queues = RecordQueue::new([("alias", profile)], config, settings).expect("the settings are good");
    let queue = queues.get("alias").expect("the alias given");
    for window in 0..WINDOWS {
        for _ in 0..2 {
            queue.insert(&Metrics::new([Metric::new("number", f64::from(window))])).expect("it is watched");
        }
        if window % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if window == WINDOWS / 3 || window == WINDOWS * 2 / 3 {
            server.kill().await;
            server = Server::start_at(&folder, &addresses).await;
        }
    }
    let flushed = tokio::task::spawn_blocking(move || (queues.flush(PATIENCE), queues.shutdown(PATIENCE))).await;
    let (flushed, report) = flushed.expect("no panic");
    flushed.expect("everything is delivered");
    assert_eq!(report.stats.delivery.records.exported, u64::from(WINDOWS), "{report:?}");
    let rows = server.sql("SELECT count(*), count(DISTINCT value), min(value), max(value) FROM custom_drift").await;
    let last = f64::from(WINDOWS - 1);
    assert_eq!(serde_json::to_value(&rows).expect("JSON"), serde_json::json!([[WINDOWS, WINDOWS, 0.0, last]]));
    assert!(server.stop().await.success());
}
