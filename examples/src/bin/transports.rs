//! One program over each transport: a span and a feature go to a Scouter server, and the configuration object alone says how.
//!
//! `transports redis` reads `REDIS_ADDR` and `REDIS_CHANNEL`, `transports rabbitmq` `RABBITMQ_ADDR` and `RABBITMQ_QUEUE`, `transports http`
//! `SCOUTER_SERVER_URI`, `transports grpc` `SCOUTER_GRPC_URI`, `transports kafka` `KAFKA_BROKERS` and `KAFKA_TOPIC`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use scouter_exporter::{
    GrpcConfig, HttpConfig, KafkaConfig, RabbitMqConfig, RedisConfig, TransportConfig, init_tracing,
    queue::{Metric, Metrics, Profile, RecordQueue, RecordQueueConfig},
};
use tracing_subscriber::layer::SubscriberExt as _;

#[derive(Clone, Copy, ValueEnum)]
enum Way {
    Grpc,
    Http,
    Kafka,
    Redis,
    #[value(name = "rabbitmq")]
    RabbitMq,
}

/// Sends a span and a metric.
#[derive(Parser)]
struct Arguments {
    /// How.
    way: Way,
}

fn main() -> anyhow::Result<()> {
    let transport: TransportConfig = match Arguments::parse().way {
        Way::Grpc => GrpcConfig::from_env()?.into(),
        Way::Http => HttpConfig::from_env()?.into(),
        Way::Kafka => KafkaConfig::from_env()?.into(),
        Way::Redis => RedisConfig::from_env()?.into(),
        Way::RabbitMq => RabbitMqConfig::from_env()?.into(),
    };

    let telemetry = init_tracing("transports", transport)?;
    tracing::subscriber::with_default(tracing_subscriber::registry().with(telemetry.layer()), || {
        tracing::info_span!("score", model = "ranker").in_scope(|| tracing::info!("scored"));
    });

    let profile = r#"{"config": {"sample_size": 1, "space": "demo", "name": "ranker", "version": "1", "uid": "transports", "drift_type": "Custom"}, "metrics": {"mae": 0.0}}"#;
    let profiles = [("ranker", Profile::from_json(profile))].map(|(alias, profile)| profile.map(|profile| (alias, profile)));
    let profiles = profiles.into_iter().collect::<Result<Vec<_>, _>>()?;
    let queues = RecordQueue::with_pipeline(profiles, telemetry.pipeline().clone(), RecordQueueConfig::from_env()?)?;
    queues.get("ranker").context("the alias given")?.insert(&Metrics::new([Metric::new("mae", 0.5)]))?;
    queues.flush(Duration::from_secs(10))?;

    let report = telemetry.shutdown(Duration::from_secs(10));
    println!("delivered {} span, {} record", report.stats.spans.exported, report.stats.records.exported);
    ensure!(report.undelivered == 0, "not delivered: {:?}", report.stats);
    Ok(())
}
