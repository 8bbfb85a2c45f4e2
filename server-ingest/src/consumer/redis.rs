//! Redis: a consumer group on a stream, and, for existing deployments, a listener on the channel of the same name.
//!
//! Entries that are stored are deleted from the stream, so it holds what no server has yet. What a consumer took and did not finish, because
//! its process died, is claimed by another one after [`ABANDONED`].

mod entry;
mod listener;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::redis::{AsyncConnectionConfig, Client, RedisError, Value, aio::MultiplexedConnection};
use futures::{StreamExt as _, stream};
use scouter_storage::log::Door;
use scouter_tonic::broker::{CONTENT_TYPE, DEAD_SUFFIX, PAYLOAD, REASON};
use tokio_util::sync::CancellationToken;

use self::entry::Entry;
use super::{ANSWER, Consumer, ConsumerError, Fate, Message, Running, Taker, unless_stopped};
use crate::{admission::Share, config::Redis};

/// Most entries fetched at once, and taken at once: the log writes them with one sync. So many are fetched while entries keep coming.
const BATCH: usize = 64;
/// Fewer are fetched when entries of the size of the last ones would together be larger than this.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How long Redis may keep the answer back when there is nothing, which is how long a stop may go unnoticed.
const BLOCK: Duration = Duration::from_millis(500);
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
            Self::PubSub(redis) => Box::pin(listener::listen(redis, taker, stop)),
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
    let connecting = client.get_multiplexed_async_connection_with_config(&limits);
    let Some(connection) = unless_stopped(stop, connecting).await else { return Ok(()) };
    let mut connection = connection?;
    create_group(&mut connection, redis).await?;
    let share = Arc::new(Share::default());
    // First what it took and did not finish when it ran before.
    let mut from = "0".to_owned();
    let mut claimed_at = Instant::now();
    // Where a round of claims goes on: each looks at a few entries only, and is no larger than a fetch.
    let mut claims_from = None;
    let mut count = 1;
    while !stop.is_cancelled() {
        if from == ">" && claimed_at.elapsed() >= ABANDONED / 2 {
            claims_from = Some("0".to_owned());
            claimed_at = Instant::now();
        }
        let entries = if let Some(cursor) = claims_from.take() {
            let (next, entries) = claim(&mut connection, redis, consumer, &cursor, count).await?;
            claims_from = (next != "0-0").then_some(next);
            entries
        } else {
            let entries = read(&mut connection, redis, consumer, &from, count).await?;
            match entries.last() {
                None => from = ">".to_owned(),
                Some(last) if from != ">" => from.clone_from(&last.id),
                Some(_) => {}
            }
            entries
        };
        count = next_count(count, entries.iter().map(Entry::bytes));
        let (share, link) = (&share, &connection);
        let done: Vec<Result<(), ConsumerError>> = stream::iter(entries)
            .map(|entry| finish(redis, taker, share, stop, link.clone(), entry))
            .buffer_unordered(BATCH)
            .collect()
            .await;
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
    entry: Entry,
) -> Result<(), ConsumerError> {
    let fate = match entry.field(PAYLOAD) {
        Some(payload) => {
            // A content type that is no text is none that is known, which is what its replacement is too.
            let content_type = entry.field(CONTENT_TYPE).map(|said| String::from_utf8_lossy(&said).into_owned());
            taker.take(&Message { door: Door::Redis, content_type, payload }, share, stop).await
        }
        // Somebody deleted it; the group still has its id.
        None if entry.fields.is_empty() => Fate::Stored,
        None => Fate::Dead(format!("an entry has no field {PAYLOAD:?}")),
    };
    let mut pipeline = ::redis::pipe();
    match fate {
        Fate::Left => return Ok(()),
        Fate::Stored => {}
        Fate::Dead(reason) => {
            tracing::warn!(stream = redis.channel, id = entry.id, reason, "a message cannot be stored; it is with the dead ones");
            let dead = pipeline.cmd("XADD").arg(format!("{}{DEAD_SUFFIX}", redis.channel)).arg("*").arg(REASON).arg(reason);
            // As it came, but for why it died before.
            for (name, value) in entry.fields.iter().filter(|(name, _)| name != REASON.as_bytes()) {
                dead.arg(&name[..]).arg(&value[..]);
            }
            dead.ignore();
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

/// How many to fetch after entries of these sizes: up to twice as many, and no more than fit. After a silence it is one, for what comes then may be
/// of any size, and Redis sends as many as it was asked for.
fn next_count(count: usize, sizes: impl Iterator<Item = usize>) -> usize {
    sizes.max().map_or(1, |largest| (count * 2).min(BATCH_BYTES / largest.max(1)).clamp(1, BATCH))
}

async fn read(
    connection: &mut MultiplexedConnection,
    redis: &Redis,
    consumer: &str,
    from: &str,
    count: usize,
) -> Result<Vec<Entry>, ConsumerError> {
    let mut command = ::redis::cmd("XREADGROUP");
    command.arg("GROUP").arg(&redis.group).arg(consumer).arg("COUNT").arg(count).arg("BLOCK").arg(BLOCK.as_millis() as u64);
    command.arg("STREAMS").arg(&redis.channel).arg(from);
    match command.query_async::<Value>(connection).await {
        Ok(reply) => entry::of_read(reply),
        // Somebody deleted the stream, and the group with it.
        Err(error) if error.code() == Some("NOGROUP") => create_group(connection, redis).await.map(|()| Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Entries whose consumer is gone, and where to look for more of them: `0-0` when there are none.
async fn claim(
    connection: &mut MultiplexedConnection,
    redis: &Redis,
    consumer: &str,
    from: &str,
    count: usize,
) -> Result<(String, Vec<Entry>), ConsumerError> {
    let mut command = ::redis::cmd("XAUTOCLAIM");
    command.arg(&redis.channel).arg(&redis.group).arg(consumer).arg(ABANDONED.as_millis() as u64).arg(from).arg("COUNT").arg(count);
    entry::of_claim(command.query_async::<Value>(connection).await?)
}

#[cfg(test)]
mod tests;
