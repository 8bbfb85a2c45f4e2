use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value as Any},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use prost::Message;
use scouter_tonic::{
    grpc::InsertMessageRequest,
    message::{
        AgentTaskRecord, AgentWorkflowRecord, CustomMetricRecord, EvalRecord, MonitoringRecord, ObservabilityRecord, PsiRecord,
        RecordGroup, SpcRecord, TagRecord, monitoring_record::Record, record_group::Kind,
    },
};
use serde_json::Value;

use super::{EvalNames, JsonMessages, rfc3339, to_json};
use crate::encode::{EncodedRecords, RecordSubject};

/// What a client of Scouter 0.25.0 sent.
fn captured(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/scouter-0.25");
    std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap().trim().to_owned()
}

fn json_of(request: &InsertMessageRequest, names: EvalNames) -> JsonMessages {
    to_json(&request.encode_to_vec(), names).unwrap()
}

fn texts(messages: &JsonMessages) -> Vec<&str> {
    messages.messages.iter().map(|message| std::str::from_utf8(&message.json).unwrap()).collect()
}

fn of_records(records: impl IntoIterator<Item = Record>) -> InsertMessageRequest {
    let records = records.into_iter().map(|record| MonitoringRecord { record: Some(record) }).collect();
    InsertMessageRequest { records, ..InsertMessageRequest::default() }
}

fn nanos(text: &Value) -> u64 {
    let text = text.as_str().unwrap();
    let (date, time) = text.trim_end_matches('Z').split_once('T').unwrap();
    let parts: Vec<u64> = date.split('-').map(|part| part.parse().unwrap()).collect();
    // Only the dates of the captured messages.
    assert_eq!((parts[0], parts[1]), (2026, 11));
    let (clock, fraction) = time.split_once('.').unwrap();
    let clock: Vec<u64> = clock.split(':').map(|part| part.parse().unwrap()).collect();
    let days = 20_758 + parts[2] - 1;
    ((days * 24 + clock[0]) * 3600 + clock[1] * 60 + clock[2]) * 1_000_000_000 + format!("{fraction:0<9}").parse::<u64>().unwrap()
}

/// The numbers behind `"value":`, read by the standard library: what `serde_json` reads may be off by the last bit.
fn values(captured: &str) -> Vec<f64> {
    captured.split("\"value\":").skip(1).map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect()
}

/// Reads a record of a captured message.
fn record(value: &Value, number: Option<f64>) -> Record {
    let (kind, fields) = value.as_object().unwrap().iter().next().unwrap();
    let text = |key: &str| fields[key].as_str().unwrap().to_owned();
    let created_at_unix_nano = nanos(&fields["created_at"]);
    match kind.as_str() {
        "Psi" => Record::Psi(PsiRecord {
            created_at_unix_nano,
            entity_uid: text("uid"),
            feature: text("feature"),
            bin_id: fields["bin_id"].as_i64().unwrap(),
            bin_count: fields["bin_count"].as_i64().unwrap(),
        }),
        "Spc" => Record::Spc(SpcRecord { created_at_unix_nano, entity_uid: text("uid"), feature: text("feature"), value: number.unwrap() }),
        "Custom" => Record::Custom(CustomMetricRecord {
            created_at_unix_nano,
            entity_uid: text("uid"),
            metric: text("metric"),
            value: number.unwrap(),
        }),
        other => panic!("{other}"),
    }
}

#[test]
fn records_are_written_byte_for_byte_as_a_client_of_today_writes_them() {
    for name in ["queue_psi_full", "queue_spc", "queue_custom"] {
        let captured = captured(name);
        let message: Value = serde_json::from_str(&captured).unwrap();
        let values = values(&captured);
        let records = message["records"].as_array().unwrap().iter().enumerate();
        let records: Vec<Record> = records.map(|(index, value)| record(value, values.get(index).copied())).collect();
        assert!(!records.is_empty());
        let gathered = gathered(&records);
        assert_eq!(texts(&json_of(&of_records(records), EvalNames::GenAi)), [captured.as_str()], "{name}");
        assert_eq!(texts(&to_json(&gathered, EvalNames::GenAi).unwrap()), [captured], "{name}, as a queue gathers them");
    }
}

/// The request of records of one kind, as a queue makes it.
fn gathered(records: &[Record]) -> bytes::Bytes {
    let mut encoded = EncodedRecords::default();
    for record in records {
        match record {
            Record::Psi(psi) => {
                let subject = RecordSubject::new(&psi.entity_uid, &psi.feature);
                encoded.push_psi(&subject, psi.created_at_unix_nano, psi.bin_id, psi.bin_count.cast_unsigned());
            }
            Record::Spc(spc) => encoded.push_spc(&RecordSubject::new(&spc.entity_uid, &spc.feature), spc.created_at_unix_nano, spc.value),
            Record::Custom(custom) => {
                encoded.push_custom(&RecordSubject::new(&custom.entity_uid, &custom.metric), custom.created_at_unix_nano, custom.value);
            }
            other => panic!("{other:?}"),
        }
    }
    let [request] = <[_; 1]>::try_from(encoded.requests(usize::MAX, usize::MAX).0).unwrap();
    assert!(matches!(InsertMessageRequest::decode(&*request.body).unwrap().records[0].record, Some(Record::Group(_))));
    request.body
}

fn bytes(hex: &Value) -> Vec<u8> {
    hex.as_str().unwrap().as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn number(text: &Value) -> u64 {
    text.as_str().unwrap().parse().unwrap()
}

fn any_value(value: &Value) -> AnyValue {
    let (kind, content) = value.as_object().unwrap().iter().next().unwrap();
    let any = match kind.as_str() {
        "stringValue" => Any::StringValue(text(content)),
        "intValue" => Any::IntValue(text(content).parse().unwrap()),
        "boolValue" => Any::BoolValue(content.as_bool().unwrap()),
        "doubleValue" => Any::DoubleValue(content.as_f64().unwrap()),
        "arrayValue" => Any::ArrayValue(ArrayValue { values: list(&content["values"], any_value) }),
        other => panic!("{other}"),
    };
    AnyValue { value: Some(any) }
}

fn attributes(attributes: &Value) -> Vec<KeyValue> {
    let attribute =
        |attribute: &Value| KeyValue { key: text(&attribute["key"]), value: Some(any_value(&attribute["value"])), ..KeyValue::default() };
    list(attributes, attribute)
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(read).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn span_of(value: &Value) -> Span {
    let event = |event: &Value| span::Event {
        time_unix_nano: number(&event["timeUnixNano"]),
        name: text(&event["name"]),
        attributes: attributes(&event["attributes"]),
        ..span::Event::default()
    };
    Span {
        trace_id: bytes(&value["traceId"]),
        span_id: bytes(&value["spanId"]),
        parent_span_id: bytes(&value["parentSpanId"]),
        flags: u32::try_from(value["flags"].as_u64().unwrap()).unwrap(),
        name: text(&value["name"]),
        kind: i32::try_from(value["kind"].as_i64().unwrap()).unwrap(),
        start_time_unix_nano: number(&value["startTimeUnixNano"]),
        end_time_unix_nano: number(&value["endTimeUnixNano"]),
        attributes: attributes(&value["attributes"]),
        events: list(&value["events"], event),
        status: Some(Status {
            message: text(&value["status"]["message"]),
            code: i32::try_from(value["status"]["code"].as_i64().unwrap()).unwrap(),
        }),
        ..Span::default()
    }
}

fn resource_spans(value: &Value) -> ResourceSpans {
    let scope = |scope: &Value| ScopeSpans {
        scope: Some(InstrumentationScope {
            name: text(&scope["scope"]["name"]),
            version: text(&scope["scope"]["version"]),
            ..InstrumentationScope::default()
        }),
        spans: list(&scope["spans"], span_of),
        ..ScopeSpans::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes: attributes(&value["resource"]["attributes"]), ..Resource::default() }),
        scope_spans: list(&value["scopeSpans"], scope),
        ..ResourceSpans::default()
    }
}

#[test]
fn spans_are_written_byte_for_byte_as_a_client_of_today_writes_them() {
    for name in ["spans_simple", "spans_genai", "spans_exception", "queue_genai"] {
        let captured = captured(name);
        let message: Value = serde_json::from_str(&captured).unwrap();
        let resource_spans = list(&message["request"]["resourceSpans"], resource_spans);
        let request = InsertMessageRequest { resource_spans, ..InsertMessageRequest::default() };
        assert_eq!(texts(&json_of(&request, EvalNames::GenAi)), [captured], "{name}");
    }
}

/// Laid out as scouter-ml 0.25.0's `EvalRecord.model_dump_json()` is, with the same fields in the same order.
#[test]
fn an_evaluation_is_written_under_the_names_of_either_version() {
    let eval = EvalRecord {
        created_at_unix_nano: 1_795_732_739_385_601_686,
        entity_uid: "profile".to_owned(),
        uid: "record".to_owned(),
        record_id: "rid".to_owned(),
        session_id: "session".to_owned(),
        context_json: r#"{"a":1,"b":[1,2.5,null]}"#.to_owned(),
        trace_id: (0..16).collect(),
        tags: vec!["env=prod".to_owned(), "a\"b".to_owned()],
        record_source: "User".to_owned(),
        status: "Pending".to_owned(),
    };
    let expected = |kind: &str, entity: &str, source: &str| {
        format!(
            r#"{{"records":[{{"{kind}":{{"record":{{"record_id":"rid","session_id":"session","created_at":"2026-11-26T22:38:59.385601686Z","uid":"record","context":{{"a":1,"b":[1,2.5,null]}},"id":0,"updated_at":null,"processing_started_at":null,"processing_ended_at":null,"processing_duration":null,"entity_id":0,"entity_uid":"profile","status":"Pending","entity_type":"{entity}","retry_count":0,"trace_id":"000102030405060708090a0b0c0d0e0f",{source}"tags":["env=prod","a\"b"]}}}}}}]}}"#
        )
    };
    let request = of_records([Record::Eval(eval)]);
    assert_eq!(texts(&json_of(&request, EvalNames::GenAi)), [expected("GenAIEval", "GenAI", "")]);
    let of_today = json_of(&request, EvalNames::Agent);
    assert_eq!(texts(&of_today), [expected("AgentEval", "Agent", "\"record_source\":\"User\",")]);
    assert!(of_today.messages[0].has_evaluations);
}

#[test]
fn a_record_that_json_cannot_carry_is_left_out_and_its_neighbours_are_not() {
    let spc = |value: f64| Record::Spc(SpcRecord { created_at_unix_nano: 1, feature: format!("f{value}"), value, ..SpcRecord::default() });
    let broken = Record::Eval(EvalRecord { context_json: "{".to_owned(), ..EvalRecord::default() });
    let rate = Record::AgentWorkflow(AgentWorkflowRecord { pass_rate: f64::NAN, ..AgentWorkflowRecord::default() });
    let records = [spc(f64::NAN), spc(1.0), spc(f64::INFINITY), broken, rate, spc(-0.0), spc(f64::NEG_INFINITY)];
    let messages = json_of(&of_records(records), EvalNames::GenAi);
    let message: Value = serde_json::from_slice(&messages.messages[0].json).unwrap();
    let features: Vec<&str> = message["records"].as_array().unwrap().iter().map(|r| r["Spc"]["feature"].as_str().unwrap()).collect();
    assert_eq!((features, messages.left_out), (vec!["f1", "f-0"], 5));
    let of_group = to_json(&gathered(&[spc(f64::NAN), spc(2.0), spc(f64::INFINITY)]), EvalNames::GenAi).unwrap();
    assert_eq!((texts(&of_group)[0].matches("Spc").count(), of_group.left_out), (1, 2));
    let none = json_of(&of_records([spc(f64::NAN)]), EvalNames::GenAi);
    assert!(none.messages.is_empty() && none.left_out == 1, "{none:?}");
}

#[test]
fn spans_records_and_each_tag_are_messages_of_their_own_and_all_of_them_are_json() {
    let odd = |value| KeyValue { key: "k".to_owned(), value, ..KeyValue::default() };
    let any = |value| Some(AnyValue { value: Some(value) });
    let map = KeyValueList { values: vec![odd(any(Any::IntValue(i64::MIN)))] };
    let values = [
        None,
        Some(AnyValue::default()),
        any(Any::DoubleValue(f64::NAN)),
        any(Any::DoubleValue(2.0)),
        any(Any::BoolValue(true)),
        any(Any::KvlistValue(map)),
        any(Any::BytesValue(b"any bytes!".to_vec())),
    ];
    let span = Span {
        name: "\u{0}\u{202e}\"\\".to_owned(),
        attributes: values.into_iter().map(odd).collect(),
        links: vec![span::Link { trace_id: vec![255; 16], ..span::Link::default() }],
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let tag = |value: &str| Record::Tag(TagRecord { entity_type: "trace".to_owned(), value: value.to_owned(), ..TagRecord::default() });
    let observability = Record::Observability(ObservabilityRecord { request_count: 10, ..ObservabilityRecord::default() });
    let task = Record::AgentTask(AgentTaskRecord { value: 1.0, expected_json: "3".to_owned(), ..AgentTaskRecord::default() });
    let mut request = of_records([tag("one"), observability, tag("two"), task]);
    request.resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let messages = json_of(&request, EvalNames::Agent);
    let read: Vec<Value> = messages.messages.iter().map(|message| serde_json::from_slice(&message.json).unwrap()).collect();
    assert_eq!(read.len(), 4);
    let span = &read[0]["request"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
    let values: Vec<String> = list(&span["attributes"], |attribute| attribute["value"].to_string());
    assert_eq!(
        values,
        [
            r#"{"stringValue":"null"}"#,
            r#"{"stringValue":"null"}"#,
            r#"{"stringValue":"NaN"}"#,
            r#"{"doubleValue":2.0}"#,
            r#"{"boolValue":true}"#,
            r#"{"kvlistValue":{"values":[{"key":"k","value":{"intValue":"-9223372036854775808"}}]}}"#,
            r#"{"bytesValue":"YW55IGJ5dGVzIQ=="}"#,
        ]
    );
    assert_eq!(span["name"], "\u{0}\u{202e}\"\\");
    assert_eq!(read[1]["records"][0]["Observability"]["request_count"], 10);
    assert_eq!(read[1]["records"][1]["AgentTaskRecord"]["expected"], 3);
    assert_eq!((&read[2]["value"], &read[3]["value"]), (&"one".into(), &"two".into()));
}

#[test]
fn times_have_the_digits_they_need() {
    for (unix_nano, text) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
        (951_868_799_999_999_999, "2000-02-29T23:59:59.999999999Z"),
        (1_709_251_200_120_000_000, "2024-03-01T00:00:00.120Z"),
        (4_107_542_400_000_001_000, "2100-03-01T00:00:00.000001Z"),
        (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
    ] {
        assert_eq!(rfc3339(unix_nano), text);
    }
}

#[test]
fn what_is_no_record_is_left_out_and_counted() {
    let group = RecordGroup {
        kind: Kind::Custom.into(),
        names: vec!["mae".to_owned()],
        name_indexes: vec![0, 7, 0],
        step_nanos: vec![1; 3],
        values: vec![0.5, 0.5, f64::NAN],
        ..RecordGroup::default()
    };
    let unknown = RecordGroup { values: vec![1.0; 5], ..RecordGroup::default() };
    let mut request = of_records([Record::Group(group), Record::Group(unknown)]);
    request.records.push(MonitoringRecord::default());
    let messages = json_of(&request, EvalNames::GenAi);
    let json: Value = serde_json::from_str(texts(&messages)[0]).unwrap();
    // A row without a name, one with NaN, five of no kind, and a record that is empty.
    assert_eq!((json["records"].as_array().unwrap().len(), messages.left_out), (1, 8));
}
