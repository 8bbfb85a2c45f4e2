//! Redis: a consumer group on a stream, and, for existing deployments, a listener on the channel of the same name.
//!
//! Entries that are stored are deleted from the stream, so it holds what no server has yet. What a consumer took and did not finish, because
//! its process died, is claimed by another one after [`ABANDONED`]. Pub/sub has neither acknowledgements nor a second chance: what is published
//! while no server listens is gone, and each server that listens gets all of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::redis::{
    AsyncConnectionConfig, Client, RedisError, Value,
    aio::MultiplexedConnection,
    streams::{StreamAutoClaimReply, StreamId, StreamReadReply},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use scouter_storage::log::Door;
use scouter_tonic::broker::{CONTENT_TYPE, DEAD_SUFFIX, PAYLOAD, REASON};
use tokio_util::sync::CancellationToken;

use super::{Consumer, ConsumerError, Fate, Message, Running, Taker};
use crate::{admission::Share, config::Redis};

/// Most entries fetched at once, and taken at once: the log writes them with one sync.
const BATCH: usize = 64;
/// Fewer are fetched when entries of the size of the last ones would together be larger than this.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How long Redis may keep the answer back when there is nothing, which is how long a stop may go unnoticed.
const BLOCK: Duration = Duration::from_millis(500);
/// No answer for this long: the connection is dead.
const ANSWER: Duration = Duration::from_secs(30);
/// An entry that its consumer has not finished for this long is another one's.
const ABANDONED: Duration = Duration::from_secs(30);

/// Which part of Redis.
pub(super) enum RedisSource {
    /// The stream, as a consumer of this name, which nobody else has.
    Stream(Redis, String),
    /// The channel.
    PubSub(Redis),
}

impl Consumer for RedisSource {
    fn name(&self) -> String {
        match self {
            Self::Stream(redis, consumer) => format!("redis stream {} {consumer}", redis.channel),
            Self::PubSub(redis) => format!("redis channel {}", redis.channel),
        }
    }

    fn run<'a>(&'a self, taker: &'a Taker, stop: &'a CancellationToken) -> Running<'a> {
        match self {
            Self::Stream(redis, consumer) => Box::pin(consume_stream(redis, consumer, taker, stop)),
            Self::PubSub(redis) => Box::pin(listen(redis, taker, stop)),
        }
    }
}

impl From<RedisError> for ConsumerError {
    fn from(error: RedisError) -> Self {
        Self(format!("redis: {error}"))
    }
}

async fn consume_stream(redis: &Redis, consumer: &str, taker: &Taker, stop: &CancellationToken) -> Result<(), ConsumerError> {
    let client = Client::open(redis.address.expose())?;
    let limits = AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER));
    let mut connection = client.get_multiplexed_async_connection_with_config(&limits).await?;
    create_group(&mut connection, redis).await?;
    let share = Arc::new(Share::default());
    // First what it took and did not finish when it ran before.
    let mut from = "0".to_owned();
    let mut claimed_at = Instant::now();
    let mut count = 4;
    while !stop.is_cancelled() {
        let ids = if from == ">" && claimed_at.elapsed() >= ABANDONED / 2 {
            claimed_at = Instant::now();
            claim(&mut connection, redis, consumer, count).await?
        } else {
            read(&mut connection, redis, consumer, &from, count).await?
        };
        match ids.last() {
            None => from = ">".to_owned(),
            Some(last) if from != ">" => from.clone_from(&last.id),
            Some(_) => {}
        }
        count = next_count(count, ids.iter().map(size));
        let (share, link) = (&share, &connection);
        let done: Vec<Result<(), ConsumerError>> =
            stream::iter(ids).map(|entry| finish(redis, taker, share, stop, link.clone(), entry)).buffer_unordered(BATCH).collect().await;
        done.into_iter().collect::<Result<(), _>>()?;
    }
    retire(&mut connection, redis, consumer).await
}

/// Takes the consumer out of the group's list, unless there are entries that it did not finish: they would be nobody's.
async fn retire(connection: &mut MultiplexedConnection, redis: &Redis, consumer: &str) -> Result<(), ConsumerError> {
    let mut pending = ::redis::cmd("XPENDING");
    pending.arg(&redis.channel).arg(&redis.group).arg("-").arg("+").arg(1).arg(consumer);
    if pending.query_async::<Vec<Value>>(connection).await?.is_empty() {
        let mut command = ::redis::cmd("XGROUP");
        command.arg("DELCONSUMER").arg(&redis.channel).arg(&redis.group).arg(consumer);
        command.query_async::<Value>(connection).await?;
    }
    Ok(())
}

/// Takes an entry, and tells Redis what became of it.
async fn finish(
    redis: &Redis,
    taker: &Taker,
    share: &Arc<Share>,
    stop: &CancellationToken,
    mut connection: MultiplexedConnection,
    entry: StreamId,
) -> Result<(), ConsumerError> {
    let content_type = entry.get::<String>(CONTENT_TYPE);
    let payload: Option<Vec<u8>> = entry.get(PAYLOAD);
    let fate = match &payload {
        Some(payload) => {
            let message = Message { door: Door::Redis, content_type: content_type.clone(), payload: Bytes::copy_from_slice(payload) };
            taker.take(&message, share, stop).await
        }
        None => Fate::Dead(format!("an entry has no field {PAYLOAD:?}")),
    };
    let mut pipeline = ::redis::pipe();
    match fate {
        Fate::Left => return Ok(()),
        Fate::Stored => {}
        Fate::Dead(reason) => {
            tracing::warn!(stream = redis.channel, id = entry.id, reason, "a message cannot be stored; it is with the dead ones");
            let dead = pipeline.cmd("XADD").arg(format!("{}{DEAD_SUFFIX}", redis.channel)).arg("*").arg(REASON).arg(reason);
            dead.arg(CONTENT_TYPE).arg(content_type.unwrap_or_default()).arg(PAYLOAD).arg(payload.unwrap_or_default()).ignore();
        }
    }
    pipeline.atomic();
    pipeline.cmd("XACK").arg(&redis.channel).arg(&redis.group).arg(&entry.id).ignore();
    pipeline.cmd("XDEL").arg(&redis.channel).arg(&entry.id).ignore();
    Ok(pipeline.query_async::<()>(&mut connection).await?)
}

async fn create_group(connection: &mut MultiplexedConnection, redis: &Redis) -> Result<(), ConsumerError> {
    let mut command = ::redis::cmd("XGROUP");
    command.arg("CREATE").arg(&redis.channel).arg(&redis.group).arg("0").arg("MKSTREAM");
    match command.query_async::<Value>(connection).await {
        Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
        _ => Ok(()),
    }
}

/// How many to fetch after entries of these sizes: up to twice as many, and no more than fit.
fn next_count(count: usize, sizes: impl Iterator<Item = usize>) -> usize {
    let fitting = sizes.max().map_or(BATCH, |largest| BATCH_BYTES / largest.max(1));
    (count * 2).min(fitting).clamp(1, BATCH)
}

fn size(entry: &StreamId) -> usize {
    match entry.map.get(PAYLOAD) {
        Some(Value::BulkString(payload)) => payload.len(),
        _ => 0,
    }
}

async fn read(
    connection: &mut MultiplexedConnection,
    redis: &Redis,
    consumer: &str,
    from: &str,
    count: usize,
) -> Result<Vec<StreamId>, ConsumerError> {
    let mut command = ::redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(&redis.group).arg(consumer).arg("COUNT").arg(count).arg("BLOCK").arg(BLOCK.as_millis() as u64);
    command.arg("STREAMS").arg(&redis.channel).arg(from);
    match command.query_async::<Option<StreamReadReply>>(connection).await {
        Ok(reply) => Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect()),
        // Somebody deleted the stream, and the group with it.
        Err(error) if error.code() == Some("NOGROUP") => create_group(connection, redis).await.map(|()| Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Entries whose consumer is gone.
async fn claim(
    connection: &mut MultiplexedConnection,
    redis: &Redis,
    consumer: &str,
    count: usize,
) -> Result<Vec<StreamId>, ConsumerError> {
    let mut command = ::redis::cmd("XAUTOCLAIM");
    command.arg(&redis.channel).arg(&redis.group).arg(consumer).arg(ABANDONED.as_millis() as u64).arg("0").arg("COUNT").arg(count);
    Ok(command.query_async::<StreamAutoClaimReply>(connection).await?.claimed)
}

async fn listen(redis: &Redis, taker: &Taker, stop: &CancellationToken) -> Result<(), ConsumerError> {
    let client = Client::open(redis.address.expose())?;
    let mut listener =
        tokio::time::timeout(ANSWER, client.get_async_pubsub()).await.map_err(|_| ConsumerError("no connection".to_owned()))??;
    listener.subscribe(&redis.channel).await?;
    let share = Arc::new(Share::default());
    let messages = listener.on_message().take_until(stop.cancelled());
    let took = messages.for_each_concurrent(BATCH, |message| {
        let message = Message { door: Door::Redis, content_type: None, payload: Bytes::copy_from_slice(message.get_payload_bytes()) };
        let share = &share;
        async move {
            if let Fate::Dead(reason) = taker.take(&message, share, stop).await {
                tracing::warn!(channel = redis.channel, reason, "a published message cannot be stored and is lost");
            }
        }
    });
    took.await;
    if stop.is_cancelled() { Ok(()) } else { Err(ConsumerError("redis: the connection ended".to_owned())) }
}

#[cfg(test)]
mod tests;
