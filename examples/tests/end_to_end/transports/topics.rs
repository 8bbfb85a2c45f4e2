//! Kafka as tests see it beside transport and server, and what is promised of it alone.

use std::{collections::HashMap, time::Duration};

use prost::Message as _;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Header, Headers as _, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use scouter_examples::spans::{Envelope, Size, SpanSource};
use scouter_exporter::{
    KafkaCompression, KafkaConfig, KafkaSecurity, Pipeline, QueueConfig,
    opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::ResourceSpans},
};
use scouter_tonic::client::CallErrorKind;
use tokio::time::{Instant, timeout};

use super::{
    PATIENCE, Route, START_UNIX_NANO,
    brokered::{Brokered, Kafka},
    built,
    consumers::{Side, server_of},
    contract::{push_spans, until_taken},
    direct::Receiver,
    request, soon,
};
use crate::brokers::{Broker, Kind, Settings};

const TOPIC: &str = "scouter_monitoring";

/// A record of a topic.
struct Record {
    partition: i32,
    key: Option<Vec<u8>>,
    headers: HashMap<String, Vec<u8>>,
    value: Vec<u8>,
}

fn settings(broker: &Broker) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", broker.plain_address()).set("group.id", "scouter").set("enable.auto.commit", "false");
    settings
}

/// All records of a topic, from its beginning to where its end is now.
async fn records(broker: &Broker, topic: &'static str) -> Vec<Record> {
    let mut settings = settings(broker);
    settings.set("group.id", "onlooker").set("enable.partition.eof", "true");
    let read = move || {
        let consumer: BaseConsumer = settings.create().expect("good settings");
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("Kafka is there");
        let mut list = TopicPartitionList::new();
        let partitions = metadata.topics()[0].partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
        partitions.for_each(|id| list.add_partition_offset(topic, id, Offset::Beginning).expect("a good offset"));
        consumer.assign(&list).expect("there are partitions");
        let (mut records, mut ends) = (Vec::new(), 0);
        while ends < list.count() {
            match consumer.poll(PATIENCE).expect("the topic ends") {
                Ok(message) => {
                    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
                    records.push(Record {
                        partition: message.partition(),
                        key: message.key().map(<[u8]>::to_vec),
                        headers: headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect(),
                        value: message.payload().unwrap_or_default().to_vec(),
                    });
                }
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ends += 1,
                Err(error) => panic!("{error}"),
            }
        }
        records
    };
    tokio::task::spawn_blocking(read).await.expect("no panic")
}

async fn put_at(broker: &Broker, topic: &str, payload: &[u8], content_type: Option<&str>) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", broker.plain_address()).create().expect("good settings");
    let headers = content_type.map(|value| OwnedHeaders::new().insert(Header { key: "content-type", value: Some(value) }));
    let record = FutureRecord::<(), [u8]> { payload: Some(payload), headers, ..FutureRecord::to(topic) };
    producer.send(record, PATIENCE).await.expect("it is sent");
}

impl Side for Kafka {
    async fn put(&self, payload: &[u8], content_type: Option<&str>) {
        put_at(self.broker(), TOPIC, payload, content_type).await;
    }

    async fn dead(&self) -> Vec<(Vec<u8>, String)> {
        let records = records(self.broker(), "scouter_monitoring.dead").await;
        let reason = |record: &Record| String::from_utf8(record.headers["scouter-reason"].clone()).expect("it is text");
        records.into_iter().map(|record| (record.value.clone(), reason(&record))).collect()
    }

    /// Offsets that the group has not committed.
    async fn waiting(&self) -> u64 {
        let settings = settings(self.broker());
        let ask = move || {
            let consumer: BaseConsumer = settings.create().expect("good settings");
            let metadata = consumer.fetch_metadata(Some(TOPIC), PATIENCE).expect("Kafka is there");
            let mut list = TopicPartitionList::new();
            metadata.topics()[0].partitions().iter().for_each(|partition| {
                list.add_partition(TOPIC, partition.id());
            });
            let committed = consumer.committed_offsets(list, PATIENCE).expect("the group is there");
            let left = committed.elements().into_iter().map(|element| {
                let (low, high) = consumer.fetch_watermarks(TOPIC, element.partition(), PATIENCE).expect("the partition is there");
                high - match element.offset() {
                    Offset::Offset(offset) => offset,
                    _ => low,
                }
            });
            left.sum::<i64>().try_into().expect("nothing is committed before it is there")
        };
        tokio::task::spawn_blocking(ask).await.expect("no panic")
    }

    /// Kafka does not know what a member has fetched.
    async fn held(&self, _sent: u64) -> u64 {
        0
    }

    // Its servers have no room for whole requests, and would have some for parts.
    server_of!(Kafka, Settings { has_one_partition: true, ..Settings::default() });
}

fn resource_spans(record: &Record) -> Vec<ResourceSpans> {
    ExportTraceServiceRequest::decode(&record.value[..]).expect("it is OTLP").resource_spans
}

/// What a Collector's `otlp_proto` receiver gets, and in which partition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_stays_on_a_partition_as_otlp() {
    let broker = Broker::start(Kind::Kafka).await;
    let config = KafkaConfig { brokers: broker.plain_address(), ..KafkaConfig::default() };
    let transport = built(config.clone().into());
    transport.send(request(1, 1_000), soon(PATIENCE)).await.expect("it is taken");
    let once = records(&broker, TOPIC).await;
    assert_eq!(once.len(), 3, "a record a partition");
    let (mut homes, mut spans) = (HashMap::new(), 0);
    for record in &once {
        let content_type = b"application/x-protobuf;message=opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest";
        assert_eq!(record.headers["content-type"], content_type);
        let mut keys = Vec::new();
        for span in resource_spans(record).iter().flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans) {
            let key = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            assert_eq!(*homes.entry(key.clone()).or_insert(record.partition), record.partition);
            keys.push(key.into_bytes());
            spans += 1;
        }
        assert_eq!(record.key.as_ref(), keys.first(), "the key is the trace of the first span");
    }
    assert_eq!(spans, 1_000);
    assert!(homes.len() > 3, "{} traces", homes.len());
    // Sent again, by another process even, it is the same records.
    built(config.into()).send(request(1, 1_000), soon(PATIENCE)).await.expect("it is taken");
    let ids = |records: &[Record]| {
        let mut ids: Vec<_> = records.iter().map(|record| (record.partition, record.headers["scouter-batch-id"].clone())).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let twice = records(&broker, TOPIC).await;
    assert_eq!((twice.len(), ids(&twice)), (6, ids(&once)));
}

/// A record without headers, as the Collector's exporter writes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_a_collector_writes_is_read() {
    let mut side = Kafka::open().await;
    let source = SpanSource::new(1, Size::Small, START_UNIX_NANO, 1_000);
    for _ in 0..2 {
        side.put(&source.body(0..100, Envelope::Otlp), None).await;
    }
    side.put(&source.body(100..150, Envelope::Otlp), None).await;
    side.expect_spans(150).await;
    side.expect_nothing_waits().await;
}

/// Of whichever sender: what a Collector or another client was told about compression is not the server's to know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_read_however_they_are_compressed() {
    use KafkaCompression::{Gzip, Lz4, None, Snappy, Zstd};
    let mut side = Kafka::open().await;
    let brokers = side.broker().plain_address();
    for (seed, compression) in [None, Gzip, Lz4, Snappy, Zstd].into_iter().enumerate() {
        let sender = built(KafkaConfig { brokers: brokers.clone(), compression, ..KafkaConfig::default() }.into());
        sender.send(request(seed as u64, 100), soon(PATIENCE)).await.expect("it is taken");
        side.expect_spans(100 * (seed as u64 + 1)).await;
    }
    side.expect_nothing_waits().await;
    assert!(side.dead().await.is_empty());
}

/// Both are in the group while spans come; then one leaves, in good order. What is in two folders together is everything, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_share_the_partitions_and_hand_them_over() {
    let mut side = Kafka::open().await;
    let pipeline = Pipeline::new(side.config(), QueueConfig { max_batch_spans: 20, ..QueueConfig::default() }).expect("good settings");
    push_spans(&pipeline, 1_000);
    side.expect_spans(1_000).await;
    let second = Receiver::start(&side.broker().flags().iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut sent = 1_000;
    let both_work = async {
        while second.count("spans").await == 0 {
            push_spans(&pipeline, 100);
            sent += 100;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, both_work).await.expect("the second server gets a partition");
    push_spans(&pipeline, 1_000);
    side.stop_server().await;
    push_spans(&pipeline, 1_000);
    sent += 2_000;
    let flushing = pipeline.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.expect("no panic").expect("the broker has everything");
    // After the session timeout the second has all partitions.
    side.expect_empty().await;
    side.revive_server().await;
    let (first, second) = (side.spans().await, second.count("spans").await);
    assert_eq!(first + second, sent, "{first} and {second}");
    assert!(side.dead().await.is_empty());
}

/// Saying goodbye and committing would wait for the session's end, here ten minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_while_a_broker_it_took_from_stands_still() {
    let broker = Broker::start(Kind::Kafka).await;
    let brokers = broker.plain_address();
    let mut server = Receiver::start(&["--kafka-brokers", &brokers, "--kafka-session-timeout-seconds", "600"]).await;
    let transport = built(KafkaConfig { brokers, ..KafkaConfig::default() }.into());
    transport.send(request(0, 10), soon(PATIENCE)).await.expect("it is taken");
    let stored = async {
        while server.count("spans").await < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, stored).await.expect("they are stored");
    broker.signal("STOP").await;
    timeout(PATIENCE, server.stop()).await.expect("it ends");
    broker.signal("CONT").await;
}

/// One that stands still, as under a swap storm: calls end by their deadlines, and everything goes through when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_costs_deadlines() {
    let side = Kafka::open().await;
    let transport = built(side.config());
    transport.send(request(0, 10), soon(PATIENCE)).await.expect("it is taken");
    side.broker().signal("STOP").await;
    let patient = {
        let transport = std::sync::Arc::clone(&transport);
        tokio::spawn(async move { transport.send(request(1, 10), soon(PATIENCE)).await })
    };
    for number in 2..6 {
        let begun = Instant::now();
        let error = transport.send(request(number, 10), soon(Duration::from_millis(500))).await.expect_err("nobody answers");
        assert!(matches!(error.kind(), CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
    side.broker().signal("CONT").await;
    if patient.await.expect("no panic").is_err() {
        until_taken(&*transport, request(1, 10)).await;
    }
    for number in 2..6 {
        until_taken(&*transport, request(number, 10)).await;
    }
    side.expect_spans(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_kafka_is_of_the_authority_that_is_named() {
    let broker = Broker::start(Kind::Kafka).await;
    let brokers = format!("localhost:{}", broker.tls_port);
    let named = KafkaConfig { brokers, security: KafkaSecurity::Tls, ca_file: Some(broker.certificate()), ..KafkaConfig::default() };
    built(named.clone().into()).send(request(1, 10), soon(PATIENCE)).await.expect("it is taken");
    let taken = records(&broker, TOPIC).await.len();
    let stranger = built(KafkaConfig { ca_file: None, ..named }.into());
    let error = stranger.send(request(2, 10), soon(Duration::from_secs(5))).await.expect_err("nobody vouches for it");
    assert!(matches!(error.kind(), CallErrorKind::Retryable | CallErrorKind::DeadlineExceeded), "{error}");
    assert!(error.message().contains("certificate"), "{error}");
    assert_eq!((taken > 0, records(&broker, TOPIC).await.len()), (true, taken));
}
