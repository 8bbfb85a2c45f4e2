//! Two servers, each with tables of its own, that share what a broker has.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use scouter_exporter::{Pipeline, QueueConfig};

use super::{LONG, PATIENCE, Receiver, Side, push_spans};

/// Every acknowledged span is in the tables, and in those of one server once. Both may have one: a server that dies between storing and
/// acknowledging leaves its message to the other, which cannot know.
pub(super) async fn two_servers_and_a_broker_killed_in_turn_lose_nothing<S: Side>() {
    let mut side = S::open().await;
    let flags = side.broker().flags();
    let mut other = Receiver::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let queue = QueueConfig { max_batch_spans: 20, schedule_delay: Duration::from_millis(5), ..QueueConfig::default() };
    let pipeline = Pipeline::new(side.config(), queue).expect("good settings");
    for turn in 0..6 {
        push_spans(&pipeline, 1_000);
        tokio::time::sleep(Duration::from_millis(60)).await;
        match turn % 3 {
            0 => side.kill_server().await,
            1 => other.kill().await,
            _ => assert!(side.kill().await),
        }
        push_spans(&pipeline, 500);
        match turn % 3 {
            0 => side.revive_server().await,
            1 => other.revive().await,
            _ => side.revive().await,
        }
    }
    let flushing = pipeline.clone();
    tokio::task::spawn_blocking(move || flushing.flush(PATIENCE)).await.expect("no panic").expect("the broker has everything");
    let stats = pipeline.stats();
    assert_eq!((stats.spans.exported, stats.spans.lost()), (9_000, 0), "{stats:?}");

    let deadline = Instant::now() + LONG;
    let (first, second) = loop {
        let (first, second) = (ids(side.server()).await, ids(&other).await);
        let stored = first.union(&second).count();
        if stored == 9_000 {
            break (first, second);
        }
        assert!(stored < 9_000 && Instant::now() < deadline, "{stored} of 9000 acknowledged spans are stored");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert!(!first.is_empty() && !second.is_empty(), "one of them did all the work: {} and {}", first.len(), second.len());
    side.expect_empty().await;
    other.stop().await;
    side.expect_nothing_waits().await;
    assert!(side.dead().await.is_empty());
}

/// Of the spans in a server's tables, each of which must be there once.
async fn ids(receiver: &Receiver) -> BTreeSet<String> {
    let rows = receiver.server().sql("SELECT trace_id, span_id FROM spans").await;
    let count = rows.len();
    let ids: BTreeSet<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    assert_eq!(ids.len(), count, "a server has spans more than once");
    ids
}
