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
fn a_record_that_is_none_refuses_itself_alone() {
    let good = r#"{"Spc":{"created_at":"2026-04-25T21:18:24Z","uid":"u","feature":"f","value":1.0,"entity_id":0}}"#;
    let bad = r#"{"Spc":{"created_at":"yesterday","uid":"u","feature":"f","value":1.0,"entity_id":0}}"#;
    let json = format!(r#"{{"records":[{good},{bad},{{"Unknown":{{}}}},7,{good}]}}"#);
    let (bytes, refused) = to_insert_message(json.as_bytes()).expect("a message");
    assert_eq!(InsertMessageRequest::decode(bytes).expect("our own encoding").records.len(), 2);
    assert_eq!(refused.records, 3);
    assert!(refused.words.starts_with("record 1: time \"yesterday\""), "{}", refused.words);
    convert(&format!(r#"{{"records":[{bad}]}}"#)).expect_err("nothing is left");
    convert(&format!(r#"{{"records":[{good},{{"#)).expect_err("no JSON");
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

/// One of each kind, as a client writes it.
fn message_of_every_kind() -> String {
    let time = "2026-04-25T21:18:24.123456789Z";
    let eval = format!(
        r#"{{"record":{{"created_at":"{time}","uid":"e","context":{{"a":[1,{{}}]}},"entity_uid":"u","trace_id":null,"tags":["a=b"]}}}}"#
    );
    let task = format!(
        r#"{{"created_at":"{time}","start_time":"{time}","end_time":"{time}","record_uid":"r","task_id":"t","task_type":"Assertion","passed":true,"value":1.0,
        "assertion":{{"FieldPath":null}},"operator":"Equals","expected":3,"actual":[],"message":"ok","entity_uid":"u","condition":false,"stage":0}}"#
    );
    let workflow = format!(
        r#"{{"created_at":"{time}","record_uid":"r","total_tasks":2,"passed_tasks":2,"failed_tasks":0,"pass_rate":null,"duration_ms":12,"entity_uid":"u",
        "execution_plan":{{"stages":[]}}}}"#
    );
    format!(
        r#"{{"records":[{{"Psi":{{"created_at":"{time}","uid":"u","feature":"f","bin_id":3,"bin_count":120}}}},
        {{"Spc":{{"created_at":"{time}","uid":"u","feature":"f","value":1.25}}}},{{"Custom":{{"created_at":"{time}","uid":"u","metric":"m","value":1e300}}}},
        {{"Observability":{{"uid":"u","request_count":1,"error_count":0,"route_metrics":[]}}}},{{"GenAIEval":{eval}}},{{"AgentEval":{eval}}},
        {{"GenAITaskRecord":{task}}},{{"AgentTaskRecord":{task}}},{{"GenAIWorkflowRecord":{workflow}}},{{"AgentWorkflowRecord":{workflow}}}]}}"#
    )
}

#[test]
fn every_kind_under_every_name_is_taken() {
    assert_eq!(convert(&message_of_every_kind()).expect("a message").records.len(), 10);
}

proptest::proptest! {
    /// Whatever becomes of the text on its way: it is read as far as it can be, or refused, and what was read passes the judge.
    #[test]
    fn spoilt_messages_are_refused_or_read(
        cut in 0..4000_usize, at in 0..4000_usize, with in proptest::sample::select(vec!["", "\"", "{", "}", "[", "]", ",", ":", "null", "-1", "1e999", "\\u0000", "\\ud800", "Psi", "\u{0}"]),
        length in 0..40_usize,
    ) {
        let message = message_of_every_kind();
        let (at, end) = (at.min(message.len()), (at + length).min(message.len()));
        let mut spoilt = format!("{}{with}{}", &message[..at.min(end)], &message[end..]);
        if cut < 400 {
            spoilt.truncate(cut);
        }
        if let Ok((bytes, refused)) = to_insert_message(spoilt.as_bytes()) {
            let verdict = scouter_storage::otlp::judge(&bytes, scouter_storage::otlp::Envelope::Scouter).expect("our own encoding");
            proptest::prop_assert!(verdict.records + refused.records >= 1 || InsertMessageRequest::decode(bytes).expect("ours").records.is_empty());
        }
    }

    /// Numbers, names and times of any value come through as they are.
    #[test]
    fn values_come_through(value in proptest::num::f64::ANY, name in ".*", uid in ".+", nanos in 0..i64::MAX) {
        let time = chrono::DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
        let record = serde_json::json!({ "created_at": time, "uid": uid, "metric": name, "value": value });
        match only_record(&serde_json::json!({ "records": [{ "Custom": record }] }).to_string()) {
            Record::Custom(read) => {
                // JSON has no word for what is no finite number.
                let same = if value.is_finite() { read.value == value } else { read.value.is_nan() };
                proptest::prop_assert!(same, "{value} {}", read.value);
                proptest::prop_assert_eq!((read.entity_uid, read.metric, read.created_at_unix_nano), (uid, name, nanos as u64));
            }
            other => panic!("expected a metric, got {other:?}"),
        }
    }
}
