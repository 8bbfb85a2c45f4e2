//! The Collector's own Kafka exporter before a server, and its Kafka receiver behind our client, with a real Kafka between them
//! (`examples/interop/collector/to-kafka.yaml` and `from-kafka.yaml`).

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::Headers as _,
    metadata::MetadataPartition,
    producer::{FutureProducer, FutureRecord},
};
use scouter_exporter::{
    KafkaConfig, MonitoringRecord, Pipeline, QueueConfig,
    encode::{EncodedEnvelope, EncodedResource, LinkRef, ScopeRef, SpanHead, SpanWriter, StatusRef, ValueRef},
    message::{CustomMetricRecord, monitoring_record::Record},
    opentelemetry::trace::SpanKind,
    opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    ARRIVAL_TIMEOUT, BEGIN_UNIX_NANO, CLIENT_TIMEOUT, Collector, REMOTE_SPAN, Sdk, Told, assert_stored, available_sdks, is_available, tell,
    trace_id, unfolded,
};
use crate::{
    brokers::{Broker, Kind},
    server::{Addresses, Server, create_key},
};

/// What the Collector calls it.
const COLLECTORS_TOPIC: &str = "otlp_spans";
/// What Scouter calls it.
const OUR_TOPIC: &str = "scouter_monitoring";

/// The writer below Scouter's Rust exporter and its Python tracer. It can say all of the story.
const OURS: Sdk = Sdk { name: "rust", protocols: &[], sampled_flag: 1, sends_link_state: true, has_nested_attributes: true };

#[tokio::test]
#[ignore = "scripts/interop.sh builds its clients and runs it"]
async fn interop_what_the_collectors_kafka_exporter_writes_is_stored_as_it_was_told() {
    if !is_available("collector") {
        return;
    }
    let broker = Broker::start(Kind::Kafka).await;
    let brokers = broker.plain_address();
    let folder = TempDir::new().expect("a folder for the test");
    let server = server_that_takes(&folder, &brokers, &format!("{OUR_TOPIC},{COLLECTORS_TOPIC}")).await;
    let mut services = Vec::new();
    // As the exporter does it by default, and as the kept configuration says.
    for settings in [&["exporters::kafka::partition_traces_by_id: false", "exporters::kafka::producer::compression: none"][..], &[]] {
        let collector = Collector::to_kafka(folder.path(), &brokers, settings).await;
        for sdk in available_sdks() {
            let service = format!("{} by a Collector with {} more settings", sdk.name, settings.len());
            let told = tell(sdk, &collector.destination, sdk.protocols[0], "gzip", &service).await;
            assert_stored(&server, sdk, &service, &told).await;
            services.push(service);
        }
    }
    assert_eq!(server.count("SELECT count(*) FROM spans").await, 3 * services.len() as u64, "nothing is there twice");

    let written = records(&brokers, COLLECTORS_TOPIC).await;
    assert!(written.iter().all(|record| record.headers == 0), "a Collector does not say what a message is");
    let (by_trace, whole): (Vec<_>, Vec<_>) = written.into_iter().partition(|record| record.key.is_some());
    assert!(!whole.is_empty() && by_trace.len() >= services.len() / 2, "{} and {}", whole.len(), by_trace.len());
    // Our client gives these traces the same keys, and the same homes.
    let pipeline = our_pipeline(&brokers, COLLECTORS_TOPIC);
    services.iter().for_each(|service| drop(tell_ourselves(&pipeline, service)));
    flush(&pipeline).await;
    let ours = records(&brokers, COLLECTORS_TOPIC).await.into_iter().filter(|record| record.headers > 0);
    let homes: HashMap<_, _> = ours.flat_map(|record| record.traces().into_iter().map(move |trace| (trace, record.partition))).collect();
    for record in by_trace {
        let key = record.key.as_deref().expect("it has one");
        assert_eq!(record.traces().join(" "), key, "the key is the trace's id, and the trace is alone");
        assert_eq!(homes.get(key), Some(&record.partition), "{key}");
    }
}

#[tokio::test]
#[ignore = "scripts/interop.sh builds its clients and runs it"]
async fn interop_what_our_client_writes_to_kafka_goes_through_the_collectors_receiver_whole() {
    if !is_available("collector") {
        return;
    }
    let broker = Broker::start(Kind::Kafka).await;
    let brokers = broker.plain_address();
    let folders = [(); 2].map(|()| TempDir::new().expect("a folder for the test"));
    let behind = Server::start(&folders[0]).await;
    let key = create_key(&behind, "collector").await;

    let pipeline = our_pipeline(&brokers, OUR_TOPIC);
    let mut services: Vec<String> = (0..8).map(|number| format!("service {number}")).collect();
    let mut told: Vec<Told> = services.iter().map(|service| tell_ourselves(&pipeline, service)).collect();
    // Of the same client, and no spans.
    pipeline.send_records(vec![record()]).await.expect("it is taken");
    flush(&pipeline).await;
    let partitions: Vec<i32> = records(&brokers, OUR_TOPIC).await.iter().map(|record| record.partition).collect();
    for partition in 0..3 {
        assert!(partitions.contains(&partition), "the traces are spread: {partitions:?}");
        put(&brokers, partition, br#"{"what": "an older client may write"}"#).await;
    }
    let collector = Collector::from_kafka(folders[0].path(), &brokers, &behind, &key);
    for (service, told) in services.iter().zip(&told) {
        assert_stored(&behind, OURS, service, told).await;
    }
    // What comes while it runs, and behind what it could not read.
    let late: Vec<String> = (0..8).map(|number| format!("late service {number}")).collect();
    told.extend(late.iter().map(|service| tell_ourselves(&pipeline, service)));
    services.extend(late);
    flush(&pipeline).await;
    for (service, told) in services.iter().zip(&told) {
        assert_stored(&behind, OURS, service, told).await;
    }
    assert!(collector.log().contains("failed to unmarshal message"), "it met what it cannot read:\n{}", collector.log());
    // A server that takes from the topic itself has the same, in every column.
    let beside = server_that_takes(&folders[1], &brokers, OUR_TOPIC).await;
    let deadline = Instant::now() + ARRIVAL_TIMEOUT;
    while spans(&beside).await.len() < 3 * services.len() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (behind, beside) = (spans(&behind).await, spans(&beside).await);
    assert_eq!((behind.len(), beside.len()), (3 * services.len(), 3 * services.len()), "nothing is there twice");
    assert_eq!(behind, beside);
}

async fn server_that_takes(folder: &TempDir, brokers: &str, topics: &str) -> Server {
    let flags = ["--kafka-brokers", brokers, "--kafka-topic", topics].map(str::to_owned);
    Server::start_with(folder, &Addresses::free(), &flags).await
}

/// All columns of all spans, as values that can be compared.
async fn spans(server: &Server) -> Vec<Value> {
    let rows = server.sql("SELECT * FROM spans ORDER BY trace_id, start_unix_nano").await;
    rows.into_iter().map(|row| unfolded(Value::Array(row))).collect()
}

fn our_pipeline(brokers: &str, topic: &str) -> Pipeline {
    let config = KafkaConfig { brokers: brokers.to_owned(), topic: topic.to_owned(), ..KafkaConfig::default() };
    Pipeline::new(config, QueueConfig::default()).expect("good settings")
}

async fn flush(pipeline: &Pipeline) {
    let flushing = pipeline.clone();
    let flushed = tokio::task::spawn_blocking(move || flushing.flush(CLIENT_TIMEOUT)).await.expect("no panic");
    flushed.expect("Kafka has everything");
}

/// The story of `examples/interop/README.md`.
fn tell_ourselves(pipeline: &Pipeline, service: &str) -> Told {
    let trace_id = trace_id(service);
    let trace = u128::from_str_radix(&trace_id, 16).expect("it is hexadecimal").to_be_bytes();
    let remote = u64::from_str_radix(REMOTE_SPAN, 16).expect("it is hexadecimal").to_be_bytes();
    let [order_id, charge_id, audit_id] = rand::random::<[[u8; 8]; 3]>();
    let after = |milliseconds: u64| BEGIN_UNIX_NANO.unsigned_abs() + milliseconds * 1_000_000;
    let head = |name: &'static str, kind, span_id, parent, begins: u64, takes: u64| SpanHead {
        trace_id: trace,
        span_id,
        parent_span_id: Some(parent),
        parent_is_remote: parent == remote,
        trace_flags: 1,
        trace_state: "vendor=opaque",
        name,
        kind,
        start_unix_nano: after(begins),
        end_unix_nano: after(begins + takes),
    };
    let resource = [("service.name", service), ("deployment.environment.name", "test"), ("telemetry.sdk.language", "rust")];
    let resource = EncodedResource::new(resource.map(|(key, value)| (key, ValueRef::Str(value))), None);
    let envelope = EncodedEnvelope::new(resource, &ScopeRef { name: "interop", version: Some("1.2.3"), ..ScopeRef::default() });
    let push = |head: SpanHead<'_>, rest: &dyn Fn(&mut SpanWriter<'_>)| {
        let mut span = Vec::new();
        rest(&mut SpanWriter::begin(&mut span, &head));
        assert!(pipeline.try_push(&envelope, &span), "{:?}", pipeline.stats());
    };

    push(head("order", SpanKind::Server, order_id, remote, 0, 1500), &|span| {
        span.attributes(&[
            ("text", ValueRef::Str("häl\"lo\n✓")),
            ("flag", ValueRef::Bool(true)),
            ("count", ValueRef::I64(4_503_599_627_370_497)),
            ("ratio", ValueRef::F64(0.25)),
            ("texts", ValueRef::Array(&[ValueRef::Str("a"), ValueRef::Str("b")])),
            ("flags", ValueRef::Bools(&[true, false])),
            ("counts", ValueRef::I64s(&[1, -2])),
            ("ratios", ValueRef::F64s(&[0.5, -1.5])),
            ("bytes", ValueRef::Bytes(&[0, 1, 255])),
            ("map", ValueRef::Map(&[("key", ValueRef::Str("value")), ("number", ValueRef::I64(7))])),
            ("http.request.method", ValueRef::Str("POST")),
            ("http.response.status_code", ValueRef::I64(200)),
        ]);
        span.event("cache.miss", after(100), &[("cache.key", ValueRef::Str("basket")), ("size", ValueRef::I64(3))], 0);
        span.link(&LinkRef {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes(),
            span_id: 0xb7ad_6b71_6920_3331_u64.to_be_bytes(),
            trace_state: "linked=yes",
            trace_flags: 1,
            is_remote: true,
            attributes: &[("reason", ValueRef::Str("retry"))],
            dropped_attributes: 0,
        });
        span.status(StatusRef::Ok);
    });
    push(head("charge", SpanKind::Client, charge_id, order_id, 200, 100), &|span| {
        let exception = [("exception.type", ValueRef::Str("CardRefused")), ("exception.message", ValueRef::Str("no funds"))];
        span.event("exception", after(250), &exception, 0);
        span.status(StatusRef::Error("card refused"));
    });
    push(head("audit", SpanKind::Internal, audit_id, charge_id, 260, 10), &|_| {});
    let outgoing = format!("00-{trace_id}-{:016x}-01", u64::from_be_bytes(charge_id));
    Told { trace_id, outgoing }
}

fn record() -> MonitoringRecord {
    let record = CustomMetricRecord {
        created_at_unix_nano: BEGIN_UNIX_NANO.unsigned_abs(),
        entity_uid: "interop".to_owned(),
        metric: "number".to_owned(),
        value: 1.0,
    };
    MonitoringRecord { record: Some(Record::Custom(record)) }
}

/// A record of a topic.
struct Written {
    partition: i32,
    key: Option<String>,
    headers: usize,
    value: Vec<u8>,
}

impl Written {
    /// The ids of the traces in it, each once.
    fn traces(&self) -> Vec<String> {
        let request = ExportTraceServiceRequest::decode(&self.value[..]).expect("it is OTLP");
        let scopes = request.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        let ids = scopes.flat_map(|scope| &scope.spans).map(|span| span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids.dedup();
        ids
    }
}

/// All records of a topic, from its beginning to where its end is now.
async fn records(brokers: &str, topic: &'static str) -> Vec<Written> {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers).set("group.id", "onlooker").set("enable.auto.commit", "false");
    settings.set("enable.partition.eof", "true");
    let read = move || {
        let consumer: BaseConsumer = settings.create().expect("good settings");
        let metadata = consumer.fetch_metadata(Some(topic), ARRIVAL_TIMEOUT).expect("Kafka is there");
        let mut list = TopicPartitionList::new();
        let partitions = metadata.topics()[0].partitions().iter().map(MetadataPartition::id);
        partitions.for_each(|id| list.add_partition_offset(topic, id, Offset::Beginning).expect("a good offset"));
        consumer.assign(&list).expect("there are partitions");
        let (mut records, mut ends) = (Vec::new(), 0);
        while ends < list.count() {
            match consumer.poll(ARRIVAL_TIMEOUT).expect("the topic ends") {
                Ok(message) => records.push(Written {
                    partition: message.partition(),
                    key: message.key().map(|key| String::from_utf8(key.to_vec()).expect("it is text")),
                    headers: message.headers().map_or(0, |headers| headers.count()),
                    value: message.payload().unwrap_or_default().to_vec(),
                }),
                Err(KafkaError::PartitionEOF(_)) => ends += 1,
                Err(error) => panic!("{error}"),
            }
        }
        records
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

async fn put(brokers: &str, partition: i32, payload: &[u8]) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().expect("good settings");
    let record = FutureRecord::<(), [u8]> { payload: Some(payload), partition: Some(partition), ..FutureRecord::to(OUR_TOPIC) };
    producer.send(record, ARRIVAL_TIMEOUT).await.expect("it is sent");
}
