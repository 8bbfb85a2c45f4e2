//! One connection with one channel in confirm mode, and who waits for which confirmation.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use amqprs::{
    Ack, BasicProperties, Cancel, Close, CloseChannel, Nack, Return,
    callbacks::{ChannelCallback, ConnectionCallback},
    channel::{BasicPublishArguments, Channel, ConfirmSelectArguments, QueueDeclareArguments},
    connection::{Connection, OpenConnectionArguments},
    error::Error,
};
use async_trait::async_trait;
use scouter_tonic::client::{CallError, CallErrorKind};
use tokio::{runtime::Handle, sync::oneshot};
use tonic::Code;

type Outcome = Result<(), CallError>;

pub(super) struct Link {
    /// `None` once it is closed.
    ends: Option<(Connection, Channel)>,
    waiting: Arc<Waiting>,
    /// Held from taking a number to handing the message over: the broker counts in the order that it gets.
    order: Arc<tokio::sync::Mutex<()>>,
}

/// Messages that the broker has not confirmed.
#[derive(Default)]
struct Waiting {
    state: Mutex<State>,
    is_dead: AtomicBool,
}

#[derive(Default)]
struct State {
    last: u64,
    by_number: BTreeMap<u64, oneshot::Sender<Outcome>>,
}

impl Link {
    /// Connects, logs in, and sees that the queue is there.
    pub(super) async fn open(arguments: &OpenConnectionArguments, queue: &str) -> Result<Self, CallError> {
        let connection = match Connection::open(arguments).await {
            // A broker that does not accept the password hangs up in the middle of the greeting. So does one that is going down, but not twice.
            Err(error) if is_hang_up(&error) => match Connection::open(arguments).await {
                Err(error) if is_hang_up(&error) => {
                    let words = "RabbitMQ hung up during the login, as it does when it does not accept user, password or virtual host";
                    return Err(CallError::new(CallErrorKind::Credentials, Code::Unauthenticated, words));
                }
                again => again,
            },
            first => first,
        }
        .map_err(|error| lost(&error))?;
        let waiting = Arc::new(Waiting::default());
        connection.register_callback(Callbacks(Arc::clone(&waiting))).await.map_err(|error| lost(&error))?;
        let channel = connection.open_channel(None).await.map_err(|error| lost(&error))?;
        channel.register_callback(Callbacks(Arc::clone(&waiting))).await.map_err(|error| lost(&error))?;
        channel.queue_declare(QueueDeclareArguments::durable_client_named(queue)).await.map_err(|error| waiting.why(&error))?;
        channel.confirm_select(ConfirmSelectArguments::default()).await.map_err(|error| lost(&error))?;
        Ok(Self { ends: Some((connection, channel)), waiting, order: Arc::default() })
    }

    pub(super) fn is_open(&self) -> bool {
        let is_dead = self.waiting.is_dead.load(Ordering::Acquire);
        !is_dead && self.ends.as_ref().is_some_and(|(connection, channel)| connection.is_open() && channel.is_open())
    }

    /// Publishes a persistent message and waits for the broker's confirmation.
    pub(super) async fn publish(&self, queue: &str, content_type: &'static str, body: Vec<u8>) -> Outcome {
        let mut properties = BasicProperties::default();
        properties.with_content_type(content_type).with_persistence(true);
        let mut arguments = BasicPublishArguments::new("", queue);
        arguments.mandatory(true);
        let (sender, confirmed) = oneshot::channel();
        let ended = || CallError::new(CallErrorKind::Retryable, Code::Unavailable, "the connection to RabbitMQ ended");
        let channel = self.ends.as_ref().map(|(_, channel)| channel.clone()).ok_or_else(ended)?;
        let (waiting, order) = (Arc::clone(&self.waiting), Arc::clone(&self.order));
        // In a task of its own: a caller who stops waiting between the number and the message would leave all numbers after it wrong.
        let handed_over = tokio::spawn(async move {
            let _turn = order.lock().await;
            let number = waiting.expect(sender);
            properties.with_message_id(&number.to_string());
            let sent = channel.basic_publish(properties, body, arguments).await;
            sent.map_err(|error| {
                let error = lost(&error);
                waiting.fail_all(&error);
                error
            })
        });
        handed_over.await.map_err(|_| ended())??;
        // The connection may have died before anybody could be told.
        if !self.is_open() {
            self.waiting.fail_all(&ended());
        }
        confirmed.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Says goodbye. Who waits for a confirmation hears that there is none.
    pub(super) async fn close(mut self) {
        self.waiting.fail_all(&CallError::new(CallErrorKind::Retryable, Code::Unavailable, "the transport is closed"));
        if let Some((connection, _channel)) = self.ends.take() {
            let _heard = connection.close().await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Both say goodbye in a task that their drop begins; where there is no runtime they are left alone.
        if Handle::try_current().is_err() {
            std::mem::forget(self.ends.take());
        }
    }
}

impl Waiting {
    fn expect(&self, sender: oneshot::Sender<Outcome>) -> u64 {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.by_number.insert(number, sender);
        number
    }

    /// The broker has told of one message, or of all up to it.
    fn settle(&self, number: u64, and_before: bool, outcome: &Outcome) {
        let mut state = self.state();
        let settled = if and_before {
            let later = state.by_number.split_off(&(number + 1));
            std::mem::replace(&mut state.by_number, later)
        } else {
            state.by_number.remove_entry(&number).into_iter().collect()
        };
        drop(state);
        for (_, sender) in settled {
            // The caller may have stopped waiting.
            let _nobody = sender.send(outcome.clone());
        }
    }

    fn fail_all(&self, error: &CallError) {
        self.is_dead.store(true, Ordering::Release);
        self.settle(u64::MAX - 1, true, &Err(error.clone()));
    }

    /// A refused operation closes the channel, and the reason comes that way; the operation itself only hears of an end.
    fn why(&self, error: &Error) -> CallError {
        let text = error.to_string();
        let refused = ["PRECONDITION_FAILED", "NOT_ALLOWED", "ACCESS_REFUSED"].iter().any(|word| text.contains(word));
        if refused { CallError::new(CallErrorKind::Refused, Code::FailedPrecondition, format!("RabbitMQ: {text}")) } else { lost(error) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Callbacks(Arc<Waiting>);

#[async_trait]
impl ConnectionCallback for Callbacks {
    async fn close(&mut self, _connection: &Connection, close: Close) -> Result<(), Error> {
        self.0.fail_all(&CallError::new(CallErrorKind::Retryable, Code::Unavailable, format!("RabbitMQ ends the connection: {close}")));
        Ok(())
    }

    async fn blocked(&mut self, _connection: &Connection, reason: String) {
        tracing::debug!(reason, "RabbitMQ takes nothing for now");
    }

    async fn unblocked(&mut self, _connection: &Connection) {}

    async fn secret_updated(&mut self, _connection: &Connection) {}
}

#[async_trait]
impl ChannelCallback for Callbacks {
    async fn close(&mut self, _channel: &Channel, close: CloseChannel) -> Result<(), Error> {
        let text = format!("RabbitMQ: {close}");
        let (kind, code) = match () {
            () if text.contains("larger than") => (CallErrorKind::Refused, Code::ResourceExhausted),
            () if text.contains("ACCESS_REFUSED") => (CallErrorKind::Credentials, Code::PermissionDenied),
            () => (CallErrorKind::Retryable, Code::Unavailable),
        };
        self.0.fail_all(&CallError::new(kind, code, text));
        Ok(())
    }

    async fn cancel(&mut self, _channel: &Channel, _cancel: Cancel) -> Result<(), Error> {
        Ok(())
    }

    async fn flow(&mut self, _channel: &Channel, _active: bool) -> Result<bool, Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _channel: &Channel, ack: Ack) {
        self.0.settle(ack.delivery_tag(), ack.mutiple(), &Ok(()));
    }

    async fn publish_nack(&mut self, _channel: &Channel, _nack: Nack) {
        // Of which message it is the client does not tell; after a failure inside the broker all of them are sent again.
        self.0.fail_all(&CallError::new(CallErrorKind::Retryable, Code::Unavailable, "RabbitMQ could not take a message"));
    }

    async fn publish_return(&mut self, _channel: &Channel, why: Return, properties: BasicProperties, _content: Vec<u8>) {
        // It comes before the confirmation, which a message without a queue gets too.
        let number = properties.message_id().and_then(|number| number.parse().ok());
        if let Some(number) = number {
            let gone = CallError::new(CallErrorKind::Retryable, Code::Unavailable, format!("RabbitMQ has no such queue: {why}"));
            self.0.settle(number, false, &Err(gone));
        }
    }
}

fn is_hang_up(error: &Error) -> bool {
    let text = error.to_string();
    ["peer shutdown", "reset by peer", "early eof", "ACCESS_REFUSED"].iter().any(|word| text.contains(word))
}

fn lost(error: &Error) -> CallError {
    CallError::new(CallErrorKind::Retryable, Code::Unavailable, format!("RabbitMQ: {error}"))
}
