//! One connection with one channel in confirm mode, and who waits for which confirmation.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use amqprs::{
    Ack, BasicProperties, Cancel, Close, CloseChannel, Nack, Return,
    callbacks::{ChannelCallback, ConnectionCallback},
    channel::{BasicPublishArguments, Channel, ConfirmSelectArguments, QueueDeclareArguments},
    connection::{Connection, OpenConnectionArguments},
    error::Error,
};
use async_trait::async_trait;
use bytes::Bytes;
use scouter_tonic::client::{CallError, CallErrorKind};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::Code;

use super::waiting::{Outcome, Waiting};

/// What was found out about the broker, over all connections to it.
#[derive(Debug)]
pub(super) struct Broker {
    /// It accepted user and password once.
    has_logged_in: AtomicBool,
    /// The largest message it said to take; it closes the channel, under everybody who uses it, for a larger one.
    max_message_bytes: AtomicUsize,
}

impl Default for Broker {
    fn default() -> Self {
        Self { has_logged_in: AtomicBool::new(false), max_message_bytes: AtomicUsize::new(usize::MAX) }
    }
}

impl Broker {
    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_message_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn note_login(&self) {
        self.has_logged_in.store(true, Ordering::Relaxed);
    }

    pub(super) fn note_max_message_bytes(&self, bytes: usize) {
        self.max_message_bytes.fetch_min(bytes, Ordering::Relaxed);
    }
}

pub(super) struct Link {
    /// `None` once it is closed.
    ends: Mutex<Option<Ends>>,
    waiting: Arc<Waiting>,
    /// Held from taking a number to handing the message over: the broker counts in the order that it gets.
    order: Arc<tokio::sync::Mutex<()>>,
    home: Home,
}

struct Ends {
    connection: Connection,
    channel: Channel,
}

/// The thread that a connection's tasks run on. When it is dropped they end, and with them the socket. The client has no other way to let go of
/// a connection whose broker reads nothing, as one does that is short of memory: it would wait to say goodbye for as long as that lasts.
struct Home {
    handle: Handle,
    /// The thread ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

impl Home {
    fn new() -> Result<Self, CallError> {
        let fault = |error| CallError::new(CallErrorKind::Retryable, Code::Unavailable, format!("no thread for RabbitMQ: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(fault)?;
        let handle = runtime.handle().clone();
        let (alive, ended) = oneshot::channel();
        let live = move || {
            let _dropped = runtime.block_on(ended);
            // A look-up of the broker's name may take its time.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("scouter-rabbitmq".to_owned()).spawn(live).map_err(fault)?;
        Ok(Self { handle, _alive: alive })
    }

    fn run<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(future)
    }
}

impl Link {
    /// Connects, logs in, and sees that the queue is there. Dropping the future closes what it opened.
    pub(super) async fn open(arguments: OpenConnectionArguments, queue: String, broker: Arc<Broker>) -> Result<Self, CallError> {
        let home = Home::new()?;
        let waiting = Arc::new(Waiting::new(Arc::clone(&broker)));
        let opening = connect(arguments, queue, broker, Arc::clone(&waiting));
        let ends = home.run(opening).await.map_err(|_| ended())??;
        Ok(Self { ends: Mutex::new(Some(ends)), waiting, order: Arc::default(), home })
    }

    pub(super) fn is_open(&self) -> bool {
        self.waiting.ended().is_none() && self.channel().is_some()
    }

    /// Publishes a persistent message and waits for the broker's confirmation.
    pub(super) async fn publish(&self, queue: &str, content_type: &'static str, body: Bytes) -> Outcome {
        let mut properties = BasicProperties::default();
        properties.with_content_type(content_type).with_persistence(true);
        let mut arguments = BasicPublishArguments::new("", queue);
        arguments.mandatory(true);
        let (sender, confirmed) = oneshot::channel();
        let channel = self.channel().ok_or_else(|| self.waiting.ended().unwrap_or_else(ended))?;
        let (waiting, order) = (Arc::clone(&self.waiting), Arc::clone(&self.order));
        // In a task of its own: a caller who stops waiting between the number and the message would leave all numbers after it wrong.
        let handed_over = self.home.run(async move {
            let _turn = order.lock().await;
            let number = waiting.expect(body.len(), sender)?;
            properties.with_message_id(&number.to_string());
            if let Err(error) = channel.basic_publish(properties, body.into(), arguments).await {
                waiting.end(&lost(&error));
            }
            Ok(())
        });
        handed_over.await.map_err(|_| ended())??;
        // The connection may have died before anybody could be told.
        if !self.is_open() {
            self.waiting.end(&ended());
        }
        confirmed.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Says goodbye. Who waits for a confirmation hears that there is none.
    pub(super) async fn close(&self) {
        self.waiting.end(&CallError::new(CallErrorKind::Retryable, Code::Unavailable, "the transport is closed"));
        let ends = self.ends().take();
        if let Some(Ends { connection, channel }) = ends {
            let goodbye = self.home.run(async move {
                let _heard = connection.close().await;
                drop(channel);
            });
            let _heard = goodbye.await;
        }
    }

    fn channel(&self) -> Option<Channel> {
        self.ends().as_ref().filter(|ends| ends.connection.is_open() && ends.channel.is_open()).map(|ends| ends.channel.clone())
    }

    fn ends(&self) -> MutexGuard<'_, Option<Ends>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Both begin a task when they are dropped, wherever that is.
        let _inside = self.home.handle.enter();
        drop(self.ends().take());
    }
}

async fn connect(arguments: OpenConnectionArguments, queue: String, broker: Arc<Broker>, waiting: Arc<Waiting>) -> Result<Ends, CallError> {
    let connection = match Connection::open(&arguments).await {
        // A broker that does not accept the password hangs up in the middle of the greeting. So does one that is going down, but not twice,
        // unless somebody else does it who stands in between: what was accepted once is not said to be wrong.
        Err(error) if is_hang_up(&error) && !broker.has_logged_in.load(Ordering::Relaxed) => match Connection::open(&arguments).await {
            Err(error) if is_hang_up(&error) => {
                let words = "RabbitMQ hung up during the login, as it does when it does not accept user and password";
                return Err(CallError::new(CallErrorKind::Credentials, Code::Unauthenticated, words));
            }
            again => again,
        },
        first => first,
    }
    .map_err(|error| if may_not(&error.to_string()) { refused_access(&error.to_string()) } else { lost(&error) })?;
    broker.note_login();
    // What ends the connection or the channel is told to the callbacks; who waits for an answer then only hears that there is none.
    let why = |error: Error| waiting.ended().unwrap_or_else(|| lost(&error));
    connection.register_callback(Callbacks(Arc::clone(&waiting))).await.map_err(why)?;
    let channel = connection.open_channel(None).await.map_err(why)?;
    channel.register_callback(Callbacks(Arc::clone(&waiting))).await.map_err(why)?;
    channel.queue_declare(QueueDeclareArguments::durable_client_named(&queue)).await.map_err(|error| match why(error) {
        // There is a queue of that name and another kind, and there will be.
        error if error.message().contains("PRECONDITION_FAILED") => {
            CallError::new(CallErrorKind::Refused, Code::FailedPrecondition, error.message())
        }
        error => error,
    })?;
    channel.confirm_select(ConfirmSelectArguments::default()).await.map_err(why)?;
    // A connection that breaks is told to no callback.
    let watched = connection.clone();
    tokio::spawn(async move {
        watched.listen_network_io_failure().await;
        waiting.end(&ended());
    });
    Ok(Ends { connection, channel })
}

struct Callbacks(Arc<Waiting>);

#[async_trait]
impl ConnectionCallback for Callbacks {
    async fn close(&mut self, _connection: &Connection, close: Close) -> Result<(), Error> {
        self.0.end(&CallError::new(CallErrorKind::Retryable, Code::Unavailable, format!("RabbitMQ ends the connection: {close}")));
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
        self.0.channel_closed(&close.to_string());
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

    async fn publish_nack(&mut self, _channel: &Channel, nack: Nack) {
        // It says no more than that. The queue has reached a limit of its own, or something inside the broker failed.
        let words = "RabbitMQ did not take the message (basic.nack): its queue is full, or it failed";
        let refused = CallError::new(CallErrorKind::Retryable, Code::Unavailable, words);
        self.0.settle(nack.delivery_tag(), nack.multiple(), &Err(refused));
    }

    async fn publish_return(&mut self, _channel: &Channel, why: Return, properties: BasicProperties, _content: Vec<u8>) {
        // It comes before the confirmation, which a message without a queue gets too.
        let number = properties.message_id().and_then(|number| number.parse().ok());
        if let Some(number) = number {
            let gone = CallError::new(CallErrorKind::Retryable, Code::Unavailable, format!("RabbitMQ gave the message back: {why}"));
            self.0.settle(number, false, &Err(gone));
        }
    }
}

fn is_hang_up(error: &Error) -> bool {
    let text = error.to_string();
    ["peer shutdown", "reset by peer", "early eof"].iter().any(|word| text.contains(word))
}

/// The user is known, and has no right to the virtual host, or to the queue.
pub(super) fn may_not(text: &str) -> bool {
    text.contains("ACCESS_REFUSED") || text.contains("NOT_ALLOWED - access to vhost")
}

pub(super) fn refused_access(text: &str) -> CallError {
    CallError::new(CallErrorKind::Credentials, Code::PermissionDenied, format!("RabbitMQ: {text}"))
}

fn lost(error: &Error) -> CallError {
    CallError::new(CallErrorKind::Retryable, Code::Unavailable, format!("RabbitMQ: {error}"))
}

fn ended() -> CallError {
    CallError::new(CallErrorKind::Retryable, Code::Unavailable, "the connection to RabbitMQ ended")
}
