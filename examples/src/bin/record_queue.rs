//! The specification's example of a queue, in Rust: features of one prediction, to the queue of a profile, over gRPC.
//!
//! `SCOUTER_GRPC_URI` names another server than `http://localhost:50051`.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use scouter_exporter::{
    GrpcConfig,
    queue::{Feature, Features, RecordQueue, RecordQueueConfig},
};

fn main() -> anyhow::Result<()> {
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("queue/profile.json");
    let queues = RecordQueue::from_paths([("model-v1", profile)], GrpcConfig::from_env()?, RecordQueueConfig::from_env()?)?;
    let queue = queues.get("model-v1").context("the alias is the one given above")?;

    let features =
        Features::new([Feature::float("temperature", 23.5), Feature::int("requests", 1200), Feature::string("region", "us-west-2")]);
    queue.insert(&features)?;

    let report = queues.shutdown(Duration::from_secs(5));
    println!("delivered {} records, {} not delivered", report.stats.delivery.records.exported, report.undelivered);
    Ok(())
}
