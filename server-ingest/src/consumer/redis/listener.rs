//! Pub/sub, which has neither acknowledgements nor a second chance: what is published while no server listens is gone, and each server that listens
//! gets all of it.
//!
//! Redis does not wait for a listener, and its client keeps all that came. So messages are taken from there as they come, and those for
//! which there is no more place among the ones under way are lost and counted. What comes while the connection is lost, and until those under way
//! have their fate, nobody hears and nobody counts.

use std::{sync::Arc, time::Duration};

use ::redis::{Client, Msg, RedisError, Value, aio::PubSubSink};
use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use scouter_storage::log::Door;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::super::{ConsumerError, Fate, Message, Taker, in_time, unless_stopped};
use crate::{admission::Share, config::Redis, telemetry::Loss};

/// What messages under way take together, each at least one.
const HELD_KIB: u32 = 16 * 1024;
/// How often Redis is asked whether it is there: a connection that is cut in silence is as quiet as a channel on which nothing is said.
const PING: Duration = Duration::from_secs(15);

pub(super) async fn listen(redis: &Redis, taker: &Taker, stop: &CancellationToken) -> Result<(), ConsumerError> {
    let client = Client::open(redis.address.expose())?;
    let subscribing = async {
        let mut connection = client.get_async_pubsub().await?;
        connection.subscribe(&redis.channel).await?;
        Ok::<_, RedisError>(connection.split())
    };
    let Some(subscribed) = unless_stopped(stop, in_time("subscribing to Redis", subscribing)).await else { return Ok(()) };
    let (sink, mut messages) = subscribed?;
    let lost = |message: &Msg| {
        taker.lose(Loss::NoRoom);
        tracing::debug!(channel = redis.channel, bytes = message.get_payload_bytes().len(), "a published message is lost");
    };
    let (place, share) = (Arc::new(Semaphore::new(HELD_KIB as usize)), Arc::new(Share::default()));
    let mut under_way = FuturesUnordered::new();
    let silence = silence(sink);
    tokio::pin!(silence);
    let mut is_losing = false;
    let ended = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            Some(()) = under_way.next(), if !under_way.is_empty() => is_losing &= !under_way.is_empty(),
            error = &mut silence => break Err(error),
            message = messages.next() => match message {
                Some(message) => match place_of(&place, &message) {
                    Some(place) => under_way.push(take(redis, taker, &share, stop, message, place)),
                    None => {
                        if !std::mem::replace(&mut is_losing, true) {
                            tracing::warn!(channel = redis.channel, "published messages come faster than they are stored, and are lost");
                        }
                        lost(&message);
                    }
                },
                None => break Err(ConsumerError("redis: the connection ended".to_owned())),
            },
        }
    };
    while under_way.next().await.is_some() {}
    ended
}

/// For a message, if there is room beside those under way. One that is larger than all of it comes alone.
fn place_of(place: &Arc<Semaphore>, message: &Msg) -> Option<OwnedSemaphorePermit> {
    let kib = message.get_payload_bytes().len().div_ceil(1024).max(1);
    let kib = u32::try_from(kib).unwrap_or(u32::MAX).min(HELD_KIB);
    Arc::clone(place).try_acquire_many_owned(kib).ok()
}

async fn take(redis: &Redis, taker: &Taker, share: &Arc<Share>, stop: &CancellationToken, message: Msg, place: OwnedSemaphorePermit) {
    let payload = Bytes::copy_from_slice(message.get_payload_bytes());
    drop(message);
    match taker.take(&Message { door: Door::Redis, content_type: None, payload }, share, stop).await {
        Fate::Stored => {}
        Fate::Left => taker.lose(Loss::Stopping),
        Fate::Dead(reason) => {
            taker.lose(Loss::Unreadable);
            tracing::warn!(channel = redis.channel, reason, "a published message cannot be stored and is lost");
        }
    }
    drop(place);
}

/// Comes back when Redis answers no more.
async fn silence(mut sink: PubSubSink) -> ConsumerError {
    loop {
        tokio::time::sleep(PING).await;
        if let Err(error) = in_time("a sign of life of Redis", sink.ping::<Value>()).await {
            return error;
        }
    }
}
