//! A request as the JSON messages of Scouter's own clients, sent one after the other.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
};

use scouter_tonic::client::{CallError, CallErrorKind};
use tonic::Code;

use super::Sent;
use crate::payload::{EvalNames, to_json};

/// Which names of evaluations a receiver knows, as far as it was found out.
#[derive(Debug, Default)]
pub(super) struct JsonForm {
    has_later_names: AtomicBool,
}

impl Clone for JsonForm {
    fn clone(&self) -> Self {
        Self { has_later_names: AtomicBool::new(self.has_later_names.load(Ordering::Relaxed)) }
    }
}

impl JsonForm {
    /// Writes the request anew and gives each message to `send`.
    pub(super) async fn send<F>(&self, request: &[u8], send: impl Fn(Vec<u8>) -> F) -> Result<Sent, CallError>
    where
        F: Future<Output = Result<(), CallError>> + Send,
    {
        let unreadable = |error| CallError::new(CallErrorKind::Refused, Code::Internal, format!("the request is not ours: {error}"));
        let later = self.has_later_names.load(Ordering::Relaxed);
        let names = if later { EvalNames::Agent } else { EvalNames::GenAi };
        let json = to_json(request, names).map_err(unreadable)?;
        let mut bytes = 0;
        for (index, message) in json.messages.into_iter().enumerate() {
            bytes += message.json.len() as u64;
            match send(message.json).await {
                Err(error) if message.has_evaluations && error.code() == Code::InvalidArgument => {
                    // It may be of the version that has the other names.
                    let other = to_json(request, names.other()).map_err(unreadable)?.messages.into_iter().nth(index);
                    send(other.map(|message| message.json).unwrap_or_default()).await?;
                    self.has_later_names.store(!later, Ordering::Relaxed);
                }
                sent => sent?,
            }
        }
        let message =
            if json.left_out > 0 { "a server that reads JSON alone takes no record with NaN, an infinity or broken JSON" } else { "" };
        Ok(Sent { rejected_spans: 0, rejected_records: json.left_out, message: message.to_owned(), bytes })
    }
}
