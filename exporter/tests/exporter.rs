//! The exporter against a scripted server: names carry the ids of the conformance checklist where they match one.
#![allow(clippy::unwrap_used)]

#[path = "exporter/authentication.rs"]
mod authentication;
#[path = "exporter/connections.rs"]
mod connections;
#[path = "exporter/json_payload.rs"]
mod json_payload;
#[path = "exporter/lifecycle.rs"]
mod lifecycle;
#[path = "exporter/otlp.rs"]
mod otlp;
#[path = "exporter/otlp_server.rs"]
mod otlp_server;
#[path = "exporter/otlp_tls.rs"]
mod otlp_tls;
#[path = "exporter/outcomes.rs"]
mod outcomes;
#[path = "exporter/record_queue.rs"]
mod record_queue;
#[path = "exporter/records.rs"]
mod records;
#[path = "exporter/runtimes.rs"]
mod runtimes;
#[path = "exporter/server.rs"]
mod server;
#[path = "exporter/sizes.rs"]
mod sizes;
#[path = "exporter/spans.rs"]
mod spans;
#[path = "exporter/tls.rs"]
mod tls;
#[path = "exporter/token_provider.rs"]
mod token_provider;
#[path = "exporter/tracing_layer.rs"]
mod tracing_layer;
