//! The queue of messages that cannot be stored, in confirm mode.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, FieldTable, FieldValue, Nack, Return,
    callbacks::ChannelCallback,
    channel::{BasicPublishArguments, Channel, ConfirmSelectArguments, QueueDeclareArguments},
    connection::Connection,
    error::Error,
};
use async_trait::async_trait;
use scouter_tonic::broker::{DEAD_SUFFIX, REASON};
use tokio::sync::oneshot;

use super::super::ConsumerError;

/// A reason is a short sentence; AMQP's texts have limits.
const MAX_REASON_BYTES: usize = 1024;
/// Headers go in one frame, of which a broker takes 128 KiB. A message whose headers fill it is buried without them.
const MAX_HEADERS_BYTES: usize = 32 * 1024;
/// Headers that stay behind: orders to a broker to send copies elsewhere, and why it died before.
const LEFT_BEHIND: [&str; 3] = ["CC", "BCC", REASON];

/// Where dead messages go.
pub(super) struct DeadLetters {
    queue: String,
    /// Held from taking a number to handing the message over: the broker counts in the order that it gets.
    channel: tokio::sync::Mutex<Channel>,
    burials: Arc<Burials>,
}

/// Messages that the broker has not confirmed yet, by the number that it gives them.
#[derive(Default)]
struct Burials(Mutex<State>);

#[derive(Default)]
struct State {
    last: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    /// Why nothing is confirmed any more.
    ended: Option<String>,
}

impl DeadLetters {
    pub(super) async fn open(connection: &Connection, queue: &str) -> Result<Self, ConsumerError> {
        let queue = format!("{queue}{DEAD_SUFFIX}");
        let channel = connection.open_channel(None).await?;
        let burials = Arc::new(Burials::default());
        channel.register_callback(Confirmations(Arc::clone(&burials))).await?;
        channel.queue_declare(QueueDeclareArguments::durable_client_named(&queue)).await?;
        channel.confirm_select(ConfirmSelectArguments::default()).await?;
        Ok(Self { queue, channel: tokio::sync::Mutex::new(channel), burials })
    }

    /// Comes back when the broker has the message in the queue. One who stops waiting has to end the connection.
    pub(super) async fn bury(&self, properties: &BasicProperties, payload: &[u8], reason: &str) -> Result<(), ConsumerError> {
        let properties = buried(properties, reason)?;
        let mut arguments = BasicPublishArguments::new("", &self.queue);
        // Somebody may have deleted the queue: a message without one is confirmed as well, unless it must come back.
        arguments.mandatory(true);
        let (sender, confirmed) = oneshot::channel();
        {
            let channel = self.channel.lock().await;
            self.burials.expect(sender)?;
            channel.basic_publish(properties, payload.to_vec(), arguments).await?;
        }
        confirmed.await.map_err(|_| self.burials.why())
    }
}

/// What a dead message says of itself: what it said when it lived, and why it died. Not how long it is kept, and not who sent it, which the broker
/// would compare with who sends it now.
fn buried(properties: &BasicProperties, reason: &str) -> Result<BasicProperties, ConsumerError> {
    let mut headers = FieldTable::default();
    // Each name once: the client counts the bytes of a name that is written over twice, and the broker then ends the connection.
    for (name, value) in properties.headers().map(AsRef::as_ref).into_iter().flatten() {
        if !LEFT_BEHIND.contains(&name.as_ref().as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    if format!("{headers:?}").len() > MAX_HEADERS_BYTES {
        headers = FieldTable::default();
    }
    let end = reason.floor_char_boundary(MAX_REASON_BYTES);
    let text = reason[..end].to_owned().try_into().map_err(|_| ConsumerError("the reason is no text of AMQP".to_owned()))?;
    let name = REASON.try_into().map_err(|_| ConsumerError("the header's name is too long".to_owned()))?;
    headers.insert(name, FieldValue::S(text));
    let mut dead = BasicProperties::default();
    dead.with_headers(headers).with_persistence(true);
    type With = fn(&mut BasicProperties, &str);
    let texts: [(Option<&String>, With); 7] = [
        (properties.content_type(), |dead, text| _ = dead.with_content_type(text)),
        (properties.content_encoding(), |dead, text| _ = dead.with_content_encoding(text)),
        (properties.correlation_id(), |dead, text| _ = dead.with_correlation_id(text)),
        (properties.reply_to(), |dead, text| _ = dead.with_reply_to(text)),
        (properties.message_id(), |dead, text| _ = dead.with_message_id(text)),
        (properties.message_type(), |dead, text| _ = dead.with_message_type(text)),
        (properties.app_id(), |dead, text| _ = dead.with_app_id(text)),
    ];
    for (text, with) in texts {
        if let Some(text) = text {
            with(&mut dead, text);
        }
    }
    if let Some(timestamp) = properties.timestamp() {
        dead.with_timestamp(timestamp);
    }
    Ok(dead)
}

impl Burials {
    fn expect(&self, sender: oneshot::Sender<()>) -> Result<(), ConsumerError> {
        let mut state = self.state();
        if state.ended.is_some() {
            drop(state);
            return Err(self.why());
        }
        state.last += 1;
        let number = state.last;
        state.waiting.insert(number, sender);
        Ok(())
    }

    /// The broker has one message, or all up to it.
    fn confirm(&self, number: u64, and_before: bool) {
        let mut state = self.state();
        let confirmed: Vec<oneshot::Sender<()>> = if and_before {
            let later = state.waiting.split_off(&number.saturating_add(1));
            std::mem::replace(&mut state.waiting, later).into_values().collect()
        } else {
            state.waiting.remove(&number).into_iter().collect()
        };
        drop(state);
        for sender in confirmed {
            // The connection may have been given up.
            let _nobody = sender.send(());
        }
    }

    /// Nothing that waits is confirmed, nor is what comes: the consumer starts again, and what it did not acknowledge comes again.
    fn end(&self, why: String) {
        let mut state = self.state();
        state.ended.get_or_insert(why);
        state.waiting.clear();
    }

    fn why(&self) -> ConsumerError {
        let why = self.state().ended.clone().unwrap_or_else(|| "the connection ended".to_owned());
        ConsumerError(format!("rabbitmq: a dead message was not taken: {why}"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Confirmations(Arc<Burials>);

impl Drop for Confirmations {
    /// The client drops it with the channel, however that ends.
    fn drop(&mut self) {
        self.0.end("the connection ended".to_owned());
    }
}

#[async_trait]
impl ChannelCallback for Confirmations {
    async fn close(&mut self, _channel: &Channel, close: CloseChannel) -> Result<(), Error> {
        self.0.end(close.to_string());
        Ok(())
    }

    async fn cancel(&mut self, _channel: &Channel, _cancel: Cancel) -> Result<(), Error> {
        Ok(())
    }

    async fn flow(&mut self, _channel: &Channel, _active: bool) -> Result<bool, Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _channel: &Channel, ack: Ack) {
        self.0.confirm(ack.delivery_tag(), ack.mutiple());
    }

    async fn publish_nack(&mut self, _channel: &Channel, _nack: Nack) {
        // Of which message it is the client does not tell.
        self.0.end("the broker could not take it".to_owned());
    }

    async fn publish_return(&mut self, _channel: &Channel, why: Return, _properties: BasicProperties, _content: Vec<u8>) {
        // It comes before the confirmation, which a message without a queue gets too.
        self.0.end(format!("there is no such queue: {why}"));
    }
}

#[cfg(test)]
mod tests;
