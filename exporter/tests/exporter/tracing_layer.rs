//! The one call for applications that use `tracing`.

use scouter_exporter::init_tracing;
use tracing_subscriber::prelude::*;

use super::server::{Insert, Server};

#[test]
fn spans_of_tracing_arrive_with_their_service_and_without_those_of_the_transport() {
    let server = Server::start();
    let telemetry = init_tracing("scorer", server.config()).unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("score", model = "m").in_scope(|| {
            tracing::info_span!(target: "h2::client", "not ours").in_scope(|| {});
            tracing::info_span!(target: "tower_control", "ours").in_scope(|| tracing::info!("done"));
            tracing::debug_span!("too detailed").in_scope(|| {});
        });
    });
    drop(telemetry);
    let inserts = server.inserts();
    let spans: Vec<_> = inserts.iter().flat_map(Insert::spans).collect();
    let mut names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["ours", "score"]);
    let by_name = |name| spans.iter().find(|span| span.name == name).unwrap();
    assert_eq!(by_name("ours").parent_span_id, by_name("score").span_id);
    let keys: Vec<&str> = by_name("score").attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert!(keys.contains(&"model") && !keys.iter().any(|key| key.starts_with("code.") || key.starts_with("thread.")), "{keys:?}");
    let resource = inserts[0].request().resource_spans[0].resource.clone().unwrap();
    assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.name" && format!("{attribute:?}").contains("scorer")));
}
