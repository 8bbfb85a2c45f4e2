use scouter_tonic::message::monitoring_record::Record;

use super::*;

fn convert(json: &str) -> Result<InsertMessageRequest, serde_json::Error> {
    to_insert_message(json.as_bytes()).map(|(bytes, _)| InsertMessageRequest::decode(bytes).expect("our own encoding"))
}

fn only_record(json: &str) -> Record {
    let mut request = convert(json).expect("a known message");
    assert_eq!(request.records.len(), 1);
    request.records.remove(0).record.expect("a kind")
}

#[test]
fn spans_keep_ids_times_and_types() {
    let request = convert(
        r#"{"request":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"svc"}}],"droppedAttributesCount":0,"entityRefs":[]},
        "scopeSpans":[{"scope":{"name":"s","version":"","attributes":[],"droppedAttributesCount":0},"spans":[{"traceId":"0af7651916cd43dd8448eb211c80319c",
        "spanId":"b7ad6b7169203331","traceState":"","parentSpanId":"","flags":257,"name":"op","kind":1,"startTimeUnixNano":"1777151904123456789",
        "endTimeUnixNano":"1777151904133456789","attributes":[{"key":"n","value":{"intValue":"9007199254740993"}}],"droppedAttributesCount":0,"events":[],
        "droppedEventsCount":0,"links":[],"droppedLinksCount":0,"status":{"message":"","code":1}}],"schemaUrl":""}],"schemaUrl":""}]}}"#,
    )
    .expect("a known message");
    let span = &request.resource_spans[0].scope_spans[0].spans[0];
    assert_eq!(span.trace_id[..2], [0x0a, 0xf7]);
    assert_eq!(span.start_time_unix_nano, 1_777_151_904_123_456_789);
    let value = span.attributes[0].value.as_ref().and_then(|value| value.value.clone());
    assert_eq!(value, Some(opentelemetry_proto::tonic::common::v1::any_value::Value::IntValue(9_007_199_254_740_993)));
}

#[test]
fn a_null_value_is_not_a_number() {
    let json =
        r#"{"records":[{"Spc":{"created_at":"2026-04-25T21:18:24.123456789Z","uid":"u","feature":"f","value":null,"entity_id":0}}]}"#;
    match only_record(json) {
        Record::Spc(spc) => {
            assert!(spc.value.is_nan());
            assert_eq!(spc.created_at_unix_nano, 1_777_151_904_123_456_789);
        }
        other => panic!("expected an SPC record, got {other:?}"),
    }
}

#[test]
fn both_names_of_an_evaluation_are_taken() {
    for name in ["AgentEval", "GenAIEval"] {
        let json = format!(
            r#"{{"records":[{{"{name}":{{"record":{{"record_id":"","session_id":"s","created_at":"2026-04-25T21:18:24Z","uid":"u","context":{{"a": 1}},
            "id":0,"updated_at":null,"entity_id":0,"entity_uid":"e","status":"Pending","entity_type":"Agent","retry_count":0,
            "trace_id":"0af7651916cd43dd8448eb211c80319c","record_source":"User","tags":["env=prod"]}}}}}}]}}"#
        );
        match only_record(&json) {
            Record::Eval(eval) => {
                assert_eq!(eval.context_json, r#"{"a": 1}"#);
                assert_eq!(eval.trace_id.len(), 16);
            }
            other => panic!("expected an evaluation, got {other:?}"),
        }
    }
}

#[test]
fn a_tag_is_a_record() {
    let json = r#"{"entity_type":"trace","entity_id":"0af7","key":"env","value":"prod"}"#;
    assert!(matches!(only_record(json), Record::Tag(tag) if tag.key == "env" && tag.value == "prod"));
}

#[test]
fn a_report_without_a_time_gets_the_time_of_receipt() {
    let json = r#"{"records":[{"Observability":{"uid":"u","request_count":1,"error_count":0,"route_metrics":[],"entity_id":0}}]}"#;
    let time = || match only_record(json) {
        Record::Observability(observed) => observed.created_at_unix_nano,
        other => panic!("expected a report, got {other:?}"),
    };
    let first = time();
    assert!(first > 1_700_000_000_000_000_000 && time() > first);
}

#[test]
fn what_is_no_message_is_refused_with_the_keys_expected() {
    let error = convert(r#"{"something": 1}"#).expect_err("not a message").to_string();
    assert!(error.contains("`request`, `records` or `entity_type`"), "{error}");
    convert("[1,").expect_err("not JSON");
    convert(r#"{"records":[{"Unknown":{}}]}"#).expect_err("not a kind");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_unfolds_into_too_much_is_refused_before_it_is_built() {
    let spans = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}{{}}]}}]}}]}}"#, "{},".repeat(MAX_OBJECTS));
    let refused = tokio::spawn(async move { otlp_to_protobuf(spans.as_bytes()) }).await.expect("no panic");
    assert!(matches!(refused, Err(IngestError::TooManyObjects { .. })), "{refused:?}");
}
