//! RabbitMQ: a durable queue, a bounded number of messages at once, an acknowledgement for each that is stored.
//!
//! A message that cannot be stored goes to the queue `NAME.dead`, with the reason in a header, and is acknowledged once the broker has confirmed
//! it there: it never takes the place of another one.

mod dead;

use std::sync::{Arc, OnceLock};

use amqprs::{
    Ack, BasicProperties, Cancel, Close, CloseChannel, Nack, Return,
    callbacks::{ChannelCallback, ConnectionCallback},
    channel::{BasicAckArguments, BasicConsumeArguments, BasicQosArguments, Channel, ConsumerMessage, QueueDeclareArguments},
    connection::{Connection, OpenConnectionArguments},
    error::Error,
    security::SecurityCredentials,
    tls::TlsAdaptor,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use rustls::{ClientConfig, RootCertStore};
use scouter_storage::log::Door;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use self::dead::DeadLetters;
use super::{Consumer, ConsumerError, Fate, Message, Running, Taker, in_time, unless_stopped};
use crate::{admission::Share, config::RabbitMq};

/// One consumer of a queue; the number tells this server's consumers apart.
pub(super) struct RabbitMqSource(pub(super) RabbitMq, pub(super) usize);

impl Consumer for RabbitMqSource {
    fn name(&self) -> String {
        format!("rabbitmq queue {} {}", self.0.queue, self.1)
    }

    fn run<'a>(&'a self, taker: &'a Taker, stop: &'a CancellationToken) -> Running<'a> {
        Box::pin(consume(&self.0, self.1, taker, stop))
    }
}

impl From<Error> for ConsumerError {
    fn from(error: Error) -> Self {
        Self(format!("rabbitmq: {error}"))
    }
}

/// A connection that consumes.
struct Open {
    connection: Connection,
    channel: Channel,
    dead: DeadLetters,
    /// No more than the prefetch: the broker sends the next one when it hears of one.
    messages: UnboundedReceiver<ConsumerMessage>,
    end: End,
}

async fn consume(rabbit: &RabbitMq, number: usize, taker: &Taker, stop: &CancellationToken) -> Result<(), ConsumerError> {
    let opening = in_time("connecting to RabbitMQ", open(rabbit, number));
    let Some(open) = unless_stopped(stop, opening).await else { return Ok(()) };
    let Open { connection, channel, dead, mut messages, end } = open?;
    let share = Arc::new(Share::default());
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(done) = under_way.next(), if !under_way.is_empty() => { let () = done?; }
            message = messages.recv() => match message {
                Some(message) => under_way.push(finish(rabbit, taker, &share, stop, &channel, &dead, message)),
                None => return Err(end.why()),
            },
        }
    }
    while let Some(done) = under_way.next().await {
        let () = done?;
    }
    in_time("closing the connection to RabbitMQ", connection.close()).await
}

async fn open(rabbit: &RabbitMq, number: usize) -> Result<Open, ConsumerError> {
    let mut arguments = OpenConnectionArguments::default();
    let credentials = SecurityCredentials::new_plain(&rabbit.username, rabbit.password.expose());
    arguments.host(&rabbit.host).port(rabbit.port).credentials(credentials).virtual_host(&rabbit.virtual_host).heartbeat(10);
    if rabbit.tls {
        arguments.tls_adaptor(tls(&rabbit.host)?);
    }
    let connection = Connection::open(&arguments).await?;
    let end = End::default();
    connection.register_callback(end.clone()).await?;
    let channel = connection.open_channel(None).await?;
    // Without it the end of the queue goes unnoticed: the broker cancels the consumer, and the messages just stop.
    channel.register_callback(end.clone()).await?;
    let tag = format!("{}-{}-{number}", rabbit.tag, std::process::id());
    let consuming = async {
        channel.queue_declare(QueueDeclareArguments::durable_client_named(&rabbit.queue)).await?;
        channel.basic_qos(BasicQosArguments::new(0, rabbit.prefetch, false)).await?;
        let dead = DeadLetters::open(&connection, &rabbit.queue).await?;
        let (_, messages) = channel.basic_consume_rx(BasicConsumeArguments::new(&rabbit.queue, &tag)).await?;
        Ok((dead, messages))
    };
    let (dead, messages) = consuming.await.map_err(|error: ConsumerError| end.0.get().map_or(error, |why| ConsumerError(why.clone())))?;
    Ok(Open { connection, channel, dead, messages, end })
}

async fn finish(
    rabbit: &RabbitMq,
    taker: &Taker,
    share: &Arc<Share>,
    stop: &CancellationToken,
    channel: &Channel,
    dead: &DeadLetters,
    message: ConsumerMessage,
) -> Result<(), ConsumerError> {
    let Some(tag) = message.deliver.as_ref().map(|deliver| deliver.delivery_tag()) else { return Ok(()) };
    let properties = message.basic_properties.unwrap_or_default();
    let payload = Bytes::from(message.content.unwrap_or_default());
    let message = Message { door: Door::RabbitMq, content_type: properties.content_type().cloned(), payload };
    match taker.take(&message, share, stop).await {
        Fate::Left => return Ok(()),
        Fate::Stored => {}
        Fate::Dead(reason) => {
            tracing::warn!(queue = rabbit.queue, reason, "a message cannot be stored; it is with the dead ones");
            in_time("a dead message's confirmation", dead.bury(&properties, &message.payload, &reason)).await?;
        }
    }
    in_time("an acknowledgement", channel.basic_ack(BasicAckArguments::new(tag, false))).await
}

/// Why the broker ended the consumption, if it said so.
#[derive(Clone, Default)]
struct End(Arc<OnceLock<String>>);

impl End {
    fn why(&self) -> ConsumerError {
        ConsumerError(self.0.get().cloned().unwrap_or_else(|| "rabbitmq: the connection ended".to_owned()))
    }

    fn tell(&self, why: String) {
        // The first reason is the cause of the others.
        let _told_before = self.0.set(format!("rabbitmq: {why}"));
    }
}

#[async_trait]
impl ConnectionCallback for End {
    async fn close(&mut self, _connection: &Connection, close: Close) -> Result<(), Error> {
        self.tell(format!("the broker ends the connection: {close}"));
        Ok(())
    }

    async fn blocked(&mut self, _connection: &Connection, _reason: String) {}

    async fn unblocked(&mut self, _connection: &Connection) {}

    async fn secret_updated(&mut self, _connection: &Connection) {}
}

#[async_trait]
impl ChannelCallback for End {
    async fn close(&mut self, _channel: &Channel, close: CloseChannel) -> Result<(), Error> {
        self.tell(format!("the broker ends the channel: {close}"));
        Ok(())
    }

    async fn cancel(&mut self, _channel: &Channel, _cancel: Cancel) -> Result<(), Error> {
        self.tell("the queue was deleted".to_owned());
        Ok(())
    }

    async fn flow(&mut self, _channel: &Channel, _active: bool) -> Result<bool, Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _channel: &Channel, _ack: Ack) {}

    async fn publish_nack(&mut self, _channel: &Channel, _nack: Nack) {}

    async fn publish_return(&mut self, _channel: &Channel, _why: Return, _properties: BasicProperties, _content: Vec<u8>) {}
}

/// Trusts the roots of the operating system, or of `SSL_CERT_FILE`.
fn tls(host: &str) -> Result<TlsAdaptor, ConsumerError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConsumerError(format!("rabbitmq: TLS cannot be set up: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsAdaptor::new(Arc::new(config).into(), host.to_owned()))
}
