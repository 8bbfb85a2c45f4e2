use std::time::Instant;

use rdkafka::{
    ClientConfig,
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

/// A member of a group that has the one partition of a topic.
fn member(cluster: &MockCluster<'_, DefaultProducerContext>) -> BaseConsumer<Member> {
    cluster.create_topic("topic", 1, 1).expect("it is made");
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "group").set("enable.auto.commit", "false");
    let consumer: BaseConsumer<Member> = settings.create_with_context(Member::default()).expect("good settings");
    consumer.subscribe(&["topic"]).expect("it is subscribed");
    let begun = Instant::now();
    while consumer.assignment().expect("it is known").count() == 0 {
        assert!(begun.elapsed() < PATIENCE, "it has no partition");
        assert!(consumer.poll(Duration::from_millis(50)).is_none());
    }
    consumer
}

fn committed(consumer: &BaseConsumer<Member>) -> Offset {
    let offsets = consumer.committed(Duration::from_secs(5)).expect("the cluster answers");
    offsets.find_partition("topic", 0).expect("it has the partition").offset()
}

#[test]
fn an_offset_that_the_brokers_did_not_take_is_committed_again() {
    let cluster = MockCluster::new(1).expect("a cluster");
    let consumer = member(&cluster);
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 3];
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    let member = consumer.context();
    member.state().offsets.insert(("topic".to_owned(), 0), 7);
    member.commit_done(&consumer, &[]);
    assert_eq!(committed(&consumer), Offset::Invalid);
    let begun = Instant::now();
    while !member.state().offsets.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it is not committed");
        consumer.poll(Duration::from_millis(10));
        member.commit_again(&consumer);
    }
    assert_eq!(committed(&consumer), Offset::Offset(7));
}

#[test]
fn what_is_given_away_takes_no_other_offset_with_it() {
    let cluster = MockCluster::new(1).expect("a cluster");
    let consumer = member(&cluster);
    cluster.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    let member = consumer.context();
    member.state().offsets.extend([(("topic".to_owned(), 0), 7), (("other".to_owned(), 0), 3)]);
    let mut gone = TopicPartitionList::new();
    gone.add_partition("other", 0);
    member.give_away(&consumer, &gone);
    assert_eq!(member.take_gone(), [("other".to_owned(), 0)]);
    assert_eq!(member.state().offsets.iter().collect::<Vec<_>>(), [(&("topic".to_owned(), 0), &7)]);
    member.commit_all(&consumer);
    assert_eq!(committed(&consumer), Offset::Offset(7));
    assert!(member.state().offsets.is_empty());
}
