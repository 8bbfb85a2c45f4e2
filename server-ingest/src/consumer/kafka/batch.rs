//! Messages of Kafka that are stored at once.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::BATCH;
use crate::{
    admission::Share,
    consumer::{ConsumerError, Fate, Taker},
    kafka::{DeadLetters, Fetched, Partition},
};

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The offset after the last message of a partition before which all have their fate.
    pub(super) offsets: HashMap<Partition, i64>,
    /// The others, in order: some of them may be stored.
    pub(super) left: Vec<Fetched>,
    pub(super) error: Option<ConsumerError>,
}

/// One that is under way.
pub(super) struct Batch {
    stop: CancellationToken,
    done: mpsc::Receiver<Vec<(Fetched, Result<bool, ConsumerError>)>>,
}

impl Batch {
    pub(super) fn begin(
        messages: Vec<Fetched>,
        taker: &Taker,
        share: &Arc<Share>,
        dead: &Arc<DeadLetters>,
        stop: &CancellationToken,
        runtime: &Handle,
    ) -> Self {
        let stop = stop.child_token();
        let (sender, done) = mpsc::sync_channel(1);
        let (taker, share, dead, its_stop) = (taker.clone(), Arc::clone(share), Arc::clone(dead), stop.clone());
        runtime.spawn(async move {
            let (taker, share, dead, stop) = (&taker, &share, &dead, &its_stop);
            let fates = stream::iter(messages).map(|message| async move {
                let fate = fate(&message, taker, share, dead, stop).await;
                (message, fate)
            });
            let _nobody_waits_after_a_panic_of_theirs = sender.send(fates.buffered(BATCH).collect().await);
        });
        Self { stop, done }
    }

    /// What waits for room is left.
    pub(super) fn interrupt(&self) {
        self.stop.cancel();
    }

    /// `None` when it is not done by then.
    pub(super) fn wait(&self, patience: Duration) -> Option<Done> {
        match self.done.recv_timeout(patience) {
            Ok(fates) => Some(summary(fates)),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Some(Done { error: Some(ConsumerError("kafka: a batch ended without an outcome".to_owned())), ..Done::default() })
            }
        }
    }
}

/// True when the message has its fate.
async fn fate(
    message: &Fetched,
    taker: &Taker,
    share: &Arc<Share>,
    dead: &DeadLetters,
    stop: &CancellationToken,
) -> Result<bool, ConsumerError> {
    match taker.take_known(&message.carried(), message.id, share, stop).await {
        Fate::Left => Ok(false),
        Fate::Stored => Ok(true),
        Fate::Dead(reason) => {
            let (topic, number) = &message.partition;
            tracing::warn!(
                topic,
                partition = number,
                offset = message.offset,
                reason,
                "a message cannot be stored; it is with the dead ones"
            );
            Ok(dead.bury(message, &reason).await.map(|()| true)?)
        }
    }
}

pub(super) fn summary(fates: Vec<(Fetched, Result<bool, ConsumerError>)>) -> Done {
    let mut done = Done::default();
    for (message, fate) in fates {
        let is_after_a_gap = done.left.iter().any(|left| left.partition == message.partition);
        match fate {
            Ok(true) if !is_after_a_gap => {
                done.offsets.insert(message.partition, message.offset + 1);
                continue;
            }
            Ok(_) => {}
            Err(error) => done.error = Some(error),
        }
        done.left.push(message);
    }
    done
}
