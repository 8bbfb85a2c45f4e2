//! RabbitMQ: a durable queue, a bounded number of messages at once, an acknowledgement for each that is stored.
//!
//! A message that cannot be stored goes to the queue `NAME.dead`, with the reason in a header, and is acknowledged once the broker has confirmed
//! it there: it never takes the place of another one.

use std::sync::Arc;

use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, FieldTable, FieldValue, Nack, Return,
    callbacks::ChannelCallback,
    channel::{
        BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel, ConfirmSelectArguments,
        ConsumerMessage, QueueDeclareArguments,
    },
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
use scouter_tonic::broker::{DEAD_SUFFIX, REASON};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Consumer, ConsumerError, Fate, Message, Running, Taker};
use crate::{admission::Share, config::RabbitMq};

/// A reason is a short sentence; AMQP's texts have limits.
const MAX_REASON_BYTES: usize = 1024;

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

async fn consume(rabbit: &RabbitMq, number: usize, taker: &Taker, stop: &CancellationToken) -> Result<(), ConsumerError> {
    let mut arguments = OpenConnectionArguments::default();
    let credentials = SecurityCredentials::new_plain(&rabbit.username, rabbit.password.expose());
    arguments.host(&rabbit.host).port(rabbit.port).credentials(credentials).virtual_host(&rabbit.virtual_host).heartbeat(10);
    if rabbit.tls {
        arguments.tls_adaptor(tls(&rabbit.host)?);
    }
    let connection = Connection::open(&arguments).await?;
    let channel = connection.open_channel(None).await?;
    channel.queue_declare(QueueDeclareArguments::durable_client_named(&rabbit.queue)).await?;
    channel.basic_qos(BasicQosArguments::new(0, rabbit.prefetch, false)).await?;
    let dead = DeadLetters::open(&connection, &rabbit.queue).await?;
    let tag = format!("{}-{}-{number}", rabbit.tag, std::process::id());
    let (_, mut messages) = channel.basic_consume_rx(BasicConsumeArguments::new(&rabbit.queue, &tag)).await?;
    let share = Arc::new(Share::default());
    let mut under_way = FuturesUnordered::new();
    // The broker sends no more than the prefetch before it hears of one.
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(done) = under_way.next(), if !under_way.is_empty() => { let () = done?; }
            message = messages.recv() => match message {
                Some(message) => under_way.push(finish(rabbit, taker, &share, stop, &channel, &dead, message)),
                None => return Err(ConsumerError("rabbitmq: the connection ended".to_owned())),
            },
        }
    }
    while let Some(done) = under_way.next().await {
        let () = done?;
    }
    connection.close().await?;
    Ok(())
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
            dead.bury(properties, &message.payload, &reason).await?;
        }
    }
    Ok(channel.basic_ack(BasicAckArguments::new(tag, false)).await?)
}

/// The queue of messages that cannot be stored.
struct DeadLetters {
    queue: String,
    /// One after the other: the next confirmation is that of the last message.
    channel: Mutex<(Channel, mpsc::Receiver<bool>)>,
}

impl DeadLetters {
    async fn open(connection: &Connection, queue: &str) -> Result<Self, ConsumerError> {
        let queue = format!("{queue}{DEAD_SUFFIX}");
        let channel = connection.open_channel(None).await?;
        let (sender, confirmed) = mpsc::channel(4);
        channel.register_callback(Confirmations(sender)).await?;
        channel.queue_declare(QueueDeclareArguments::durable_client_named(&queue)).await?;
        channel.confirm_select(ConfirmSelectArguments::default()).await?;
        Ok(Self { queue, channel: Mutex::new((channel, confirmed)) })
    }

    async fn bury(&self, mut properties: BasicProperties, payload: &[u8], reason: &str) -> Result<(), ConsumerError> {
        let mut headers: FieldTable = properties.headers().cloned().unwrap_or_default();
        let end = (0..=reason.len().min(MAX_REASON_BYTES)).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        let text = reason[..end].to_owned().try_into().map_err(|_| ConsumerError("the reason is no text of AMQP".to_owned()))?;
        headers.insert(REASON.try_into().map_err(|_| ConsumerError("the header's name is too long".to_owned()))?, FieldValue::S(text));
        properties.with_headers(headers).with_persistence(true);
        let mut channel = self.channel.lock().await;
        channel.0.basic_publish(properties, payload.to_vec(), BasicPublishArguments::new("", &self.queue)).await?;
        match channel.1.recv().await {
            Some(true) => Ok(()),
            _ => Err(ConsumerError("rabbitmq: a dead message was not taken".to_owned())),
        }
    }
}

struct Confirmations(mpsc::Sender<bool>);

#[async_trait]
impl ChannelCallback for Confirmations {
    async fn close(&mut self, _channel: &Channel, _close: CloseChannel) -> Result<(), Error> {
        // Full only if nobody waits.
        let _nobody_waits = self.0.try_send(false);
        Ok(())
    }

    async fn cancel(&mut self, _channel: &Channel, _cancel: Cancel) -> Result<(), Error> {
        Ok(())
    }

    async fn flow(&mut self, _channel: &Channel, _active: bool) -> Result<bool, Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _channel: &Channel, _ack: Ack) {
        let _nobody_waits = self.0.try_send(true);
    }

    async fn publish_nack(&mut self, _channel: &Channel, _nack: Nack) {
        let _nobody_waits = self.0.try_send(false);
    }

    async fn publish_return(&mut self, _channel: &Channel, _why: Return, _properties: BasicProperties, _content: Vec<u8>) {
        let _nobody_waits = self.0.try_send(false);
    }
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
