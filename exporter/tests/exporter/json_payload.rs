//! The same spans and records, for servers that read JSON alone.

use scouter_exporter::{
    GrpcConfig, HttpConfig, MonitoringRecord, OtlpProtocol, Payload, Pipeline, QueueConfig,
    message::{CustomMetricRecord, EvalRecord, TagRecord, monitoring_record::Record},
};
use serde_json::Value;
use tonic::Code;

use super::{
    otlp_server::{Collector, Reply as HttpReply},
    server::{PATIENCE, Reply, Server},
    spans::{assert_balanced, batch, block_on, pipeline},
};

fn custom(value: f64) -> MonitoringRecord {
    let custom = CustomMetricRecord { created_at_unix_nano: 1, metric: "mae".to_owned(), value, ..CustomMetricRecord::default() };
    MonitoringRecord { record: Some(Record::Custom(custom)) }
}

fn eval() -> MonitoringRecord {
    MonitoringRecord { record: Some(Record::Eval(EvalRecord { context_json: "{}".to_owned(), ..EvalRecord::default() })) }
}

/// What arrived as JSON; nothing arrived as anything else.
fn messages(server: &Server) -> Vec<Value> {
    let read = |insert: &super::server::Insert| {
        let request = insert.request();
        assert!(request.resource_spans.is_empty() && request.records.is_empty(), "{request:?}");
        serde_json::from_slice(&request.message_record).unwrap()
    };
    server.inserts().iter().map(read).collect()
}

#[test]
fn a_server_that_does_not_read_typed_messages_gets_json() {
    let server = Server::start();
    server.state().is_old_scouter = true;
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..2))).unwrap();
    block_on(pipeline.send_records(vec![custom(0.5), custom(2.0)])).unwrap();
    let messages = messages(&server);
    let spans = messages[0]["request"]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!((spans.len(), &spans[1]["name"]), (2, &Value::from("span 1")));
    assert_eq!(messages[1]["records"][1]["Custom"]["value"], 2.0);
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.records.exported, server.state().logins), (2, 2, 1));
    assert_balanced(&stats);
}

#[test]
fn json_is_sent_to_any_server_when_the_configuration_says_so() {
    let server = Server::start();
    let pipeline = Pipeline::new(GrpcConfig { payload: Payload::Json, ..server.config() }, QueueConfig::default()).unwrap();
    block_on(pipeline.send(batch(0..1))).unwrap();
    let tag = Record::Tag(TagRecord { key: "env".to_owned(), ..TagRecord::default() });
    block_on(pipeline.send_records(vec![custom(1.0), MonitoringRecord { record: Some(tag) }])).unwrap();
    let messages = messages(&server);
    assert_eq!((messages.len(), &messages[2]["key"]), (3, &Value::from("env")));
}

#[test]
fn a_record_that_json_cannot_carry_is_told_as_rejected() {
    let server = Server::start();
    server.state().is_old_scouter = true;
    let pipeline = pipeline(&server);
    let error = block_on(pipeline.send_records(vec![custom(f64::NAN), custom(1.0)])).unwrap_err().to_string();
    assert!(error.contains("NaN"), "{error}");
    let stats = pipeline.stats();
    assert_eq!((stats.records.exported, stats.records.rejected), (1, 1));
    assert_balanced(&stats);
}

#[test]
fn evaluations_are_tried_under_their_later_names_and_the_right_ones_are_remembered() {
    let server = Server::start();
    server.state().is_old_scouter = true;
    let pipeline = pipeline(&server);
    server.script([Reply::Fail(Code::InvalidArgument, "Invalid message format")]);
    block_on(pipeline.send_records(vec![eval()])).unwrap();
    block_on(pipeline.send_records(vec![eval()])).unwrap();
    let names: Vec<String> =
        messages(&server).iter().map(|message| message["records"][0].as_object().unwrap().keys().next().unwrap().to_owned()).collect();
    assert_eq!(names, ["GenAIEval", "AgentEval", "AgentEval"]);
    server.script([Reply::Fail(Code::InvalidArgument, "no"), Reply::Fail(Code::InvalidArgument, "no")]);
    block_on(pipeline.send_records(vec![eval()])).unwrap_err();
    assert_eq!(pipeline.stats().records.exported, 2);
}

#[test]
fn a_busy_server_of_today_is_asked_again() {
    let server = Server::start();
    server.state().is_old_scouter = true;
    let pipeline = pipeline(&server);
    server.script([Reply::Fail(Code::ResourceExhausted, "Service busy, retry later")]);
    block_on(pipeline.send(batch(0..200))).unwrap();
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.retries), (200, 1));
}

#[test]
fn a_server_that_learns_to_read_typed_messages_gets_them_from_its_next_login_on() {
    let mut server = Server::start();
    server.state().is_old_scouter = true;
    let pipeline = pipeline(&server);
    block_on(pipeline.send(batch(0..1))).unwrap();
    server.state().is_old_scouter = false;
    server.state().valid_token = None;
    server.state().refresh_fails = true;
    server.restart();
    block_on(pipeline.send(batch(1..2))).unwrap();
    block_on(pipeline.send(batch(2..3))).unwrap();
    pipeline.flush(PATIENCE).unwrap();
    let last = server.inserts().pop().unwrap();
    assert_eq!(last.spans().len(), 1);
    assert_eq!(pipeline.stats().spans.exported, 3);
}

#[test]
fn json_that_an_http_server_finds_too_large_is_halved() {
    let server = Collector::start(OtlpProtocol::HttpProtobuf);
    server.script([HttpReply::Http(413), HttpReply::Ok, HttpReply::Http(413)]);
    let server_uri = server.config().endpoint.replace("/v1/traces", "");
    let config = HttpConfig { server_uri, username: String::new(), payload: Payload::Json, ..HttpConfig::default() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    block_on(pipeline.send(batch(0..400))).unwrap();
    let names: Vec<Vec<String>> = server
        .received()
        .iter()
        .map(|received| {
            let json: Value = serde_json::from_slice(&received.body).unwrap();
            let spans = json["request"]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
            spans.iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect()
        })
        .collect();
    let numbered = |range: std::ops::Range<u32>| range.map(|number| format!("span {number}")).collect::<Vec<_>>();
    assert_eq!(names, [numbered(0..400), numbered(0..200), numbered(200..400), numbered(200..300), numbered(300..400)]);
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.spans.lost()), (400, 0));
    assert_balanced(&stats);
}
