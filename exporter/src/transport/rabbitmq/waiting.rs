//! Messages that the broker has not confirmed, by the numbers that both sides count.

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use scouter_tonic::client::{CallError, CallErrorKind};
use tokio::sync::oneshot;
use tonic::Code;

use super::link::{Broker, may_not, refused_access};

pub(super) type Outcome = Result<(), CallError>;

/// The code of an error that another message brought about: sent again, this one may go through at once.
pub(super) const BY_ANOTHER: Code = Code::Aborted;

pub(super) struct Waiting {
    broker: Arc<Broker>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    by_number: BTreeMap<u64, Message>,
    /// Why nothing more will be confirmed.
    ended: Option<CallError>,
}

struct Message {
    bytes: usize,
    sender: oneshot::Sender<Outcome>,
}

impl Waiting {
    pub(super) fn new(broker: Arc<Broker>) -> Self {
        Self { broker, state: Mutex::default() }
    }

    /// The number of the message that is published next. Who holds the other end of `sender` hears what became of it.
    ///
    /// # Errors
    /// Why nothing can be published any more.
    pub(super) fn expect(&self, bytes: usize, sender: oneshot::Sender<Outcome>) -> Result<u64, CallError> {
        let mut state = self.state();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        state.last += 1;
        let number = state.last;
        state.by_number.insert(number, Message { bytes, sender });
        Ok(number)
    }

    /// Why nothing more will be confirmed; `None` while things may be.
    pub(super) fn ended(&self) -> Option<CallError> {
        self.state().ended.clone()
    }

    /// The broker has told of one message, or of all up to it.
    pub(super) fn settle(&self, number: u64, and_before: bool, outcome: &Outcome) {
        let mut state = self.state();
        let settled = if and_before {
            let later = state.by_number.split_off(&number.saturating_add(1));
            std::mem::replace(&mut state.by_number, later)
        } else {
            state.by_number.remove_entry(&number).into_iter().collect()
        };
        drop(state);
        for message in settled.into_values() {
            tell(message, outcome.clone());
        }
    }

    /// Nothing more will be confirmed. The first who says so knows why.
    pub(super) fn end(&self, error: &CallError) {
        self.end_for_each(error, |_| error.clone());
    }

    /// The broker closed the channel. One message brings that about, and all the others wait for nothing: so whoever is not to blame is told
    /// that he may come again.
    pub(super) fn channel_closed(&self, text: &str) {
        if may_not(text) {
            return self.end(&refused_access(text));
        }
        let words = format!("RabbitMQ closed the channel: {text}");
        if !text.contains("larger than") {
            return self.end(&CallError::new(CallErrorKind::Retryable, Code::Unavailable, words));
        }
        // "message size 300 is larger than configured max size 200"
        let max = text.rsplit_once("max size ").and_then(|(_, number)| {
            let digits = number.bytes().take_while(u8::is_ascii_digit).count();
            number[..digits].parse().ok()
        });
        let largest = self.state().by_number.values().map(|message| message.bytes).max().unwrap_or_default();
        let fits = max.unwrap_or(largest.saturating_sub(1));
        if let Some(max) = max {
            self.broker.note_max_message_bytes(max);
        }
        let too_large = CallError::new(CallErrorKind::Refused, Code::ResourceExhausted, words.as_str());
        let others = CallError::new(CallErrorKind::Retryable, BY_ANOTHER, words);
        self.end_for_each(&others, |bytes| if bytes > fits { too_large.clone() } else { others.clone() });
    }

    fn end_for_each(&self, reason: &CallError, error: impl Fn(usize) -> CallError) {
        let mut state = self.state();
        state.ended.get_or_insert_with(|| reason.clone());
        let waiting = std::mem::take(&mut state.by_number);
        drop(state);
        for message in waiting.into_values() {
            let error = error(message.bytes);
            tell(message, Err(error));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(message: Message, outcome: Outcome) {
    // The caller may have stopped waiting.
    let _nobody = message.sender.send(outcome);
}
