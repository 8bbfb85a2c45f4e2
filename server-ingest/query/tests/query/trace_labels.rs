//! The views of tags, baggage and profiles of traces.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message;
use scouter_storage::otlp::Envelope;
use scouter_tonic::grpc::InsertMessageRequest;
use scouter_tonic::message::{MonitoringRecord, TagRecord, monitoring_record::Record};
use serde_json::json;

use super::stored::{START, Stored, attribute, plain_span, request, store, text};

const UID: &str = "01a20603-d2ce-73d1-b525-01f0f442aa12";

async fn filled() -> Stored {
    let stored = store();
    let mut first = plain_span(1, 1, 0, "ask", 0, 1);
    first.attributes = vec![
        text("scouter.tracing.tag.env", "prod"),
        text("baggage.user", "ada"),
        attribute("baggage.level", Any::IntValue(3)),
        text("note", "no \"baggage.\" of this"),
        text(&format!("scouter.entity.{UID}"), UID),
    ];
    stored.put(&request("gateway", vec![first])).await;
    stored.store.flush().await.unwrap();
    let mut second = plain_span(2, 2, 0, "score", 1_000, 1);
    second.attributes = vec![text("baggage.scouter.tracing.tag.team", "blue"), text("plain", "value")];
    stored.put(&request("scorer", vec![second, plain_span(3, 3, 0, "bare", 0, 1)])).await;
    let tag = TagRecord {
        created_at_unix_nano: START,
        entity_type: "model".to_owned(),
        entity_id: "m".to_owned(),
        key: "tier".to_owned(),
        value: "1".to_owned(),
    };
    let records = vec![MonitoringRecord { record: Some(Record::Tag(tag)) }];
    stored.append(Envelope::Scouter, InsertMessageRequest { records, ..Default::default() }.encode_to_vec()).await;
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_those_of_spans_and_of_records() {
    let stored = filled().await;
    let (first, second) = (format!("{:032x}", 1), format!("{:032x}", 2));
    let tags = stored.rows("SELECT entity_type, entity_id, key, value FROM trace_tags ORDER BY entity_type, entity_id").await;
    assert_eq!(json!(tags), json!([["model", "m", "tier", "1"], ["trace", first, "env", "prod"], ["trace", second, "team", "blue"]]));
    let of_team =
        stored.rows("SELECT t.entity_id FROM trace_tags t JOIN spans s ON hex(s.trace_id) = t.entity_id WHERE key = 'team'").await;
    assert_eq!(json!(of_team), json!([[second]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn baggage_is_a_row_a_member() {
    let stored = filled().await;
    let baggage = stored.rows("SELECT hex(trace_id), key, value FROM trace_baggage ORDER BY 1, 2").await;
    let (first, second) = (format!("{:032x}", 1), format!("{:032x}", 2));
    let expected = json!([[first, "level", "3"], [first, "user", "ada"], [second, "scouter.tracing.tag.team", "blue"]]);
    assert_eq!(json!(baggage), expected);
    let of_one = format!(
        "SELECT count(*), min(scope) IS NOT NULL, min(created_at) > '1970-01-01' FROM trace_baggage WHERE trace_id = unhex('{first}')"
    );
    assert_eq!(json!(stored.rows(&of_one).await), json!([[2, true, true]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_of_traces_are_rows_too_and_the_views_are_listed() {
    let stored = filled().await;
    let entities = stored.rows("SELECT hex(trace_id), entity_uid FROM trace_entities").await;
    assert_eq!(json!(entities), json!([[format!("{:032x}", 1), UID]]));
    let listed = stored.rows("SHOW TABLES").await;
    for view in ["trace_spans", "trace_tags", "trace_baggage", "trace_entities"] {
        assert!(listed.iter().any(|row| row.contains(&json!(view))), "{view}");
    }
    let error = stored.error("SELECT trace_labels_members(attributes, name) FROM spans").await;
    assert!(error.to_string().contains("one argument"), "{error}");
}
