//! Kafka: a request is a record, or one for each partition that its traces belong to; acknowledged by all replicas in sync before `send` is `Ok`.
//!
//! Spans are `ExportTraceServiceRequest`s, as an OpenTelemetry Collector writes and reads them (`otlp_proto`); monitoring records are Scouter
//! requests. A header says which. All spans of a trace go to one partition: the request is cut between spans, never within one.
//!
//! Each part has an id made of the request's, so a request that is sent again is recognised part by part. Its parts are the same only for as many
//! partitions, so partitions are counted once: those that a topic gets later are found by the next process, or when one is gone.

mod config;
mod link;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use scouter_tonic::{
    broker::{JSON, OTLP_PROTOBUF, SCOUTER_PROTOBUF},
    client::{CallError, CallErrorKind, Payload},
};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

pub use self::config::{KafkaCompression, KafkaConfig, KafkaSasl, KafkaSecurity};
use self::link::{Link, Record, failed};
use super::{Limits, Sent, Transport, TransportFuture, check_length, json::JsonForm, pause::Pause, slot::Slot};
use crate::{ConfigError, encode::parts};

/// Every broker takes records of this size. Above it the largest part of a request goes first and alone: if it is too large, nothing of the
/// request is there.
const ALWAYS_TAKEN_BYTES: usize = 64 * 1024;
/// Between questions for a topic that is about to be there.
const TOPIC_PAUSE: Duration = Duration::from_millis(100);
/// The longest single question; another one follows.
const TOPIC_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct KafkaTransport {
    config: KafkaConfig,
    link: Slot<Link>,
    /// How many there were when they were counted.
    partitions: Mutex<Option<usize>>,
    pause: Pause,
    json: JsonForm,
}

impl KafkaTransport {
    pub(crate) fn new(config: KafkaConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, link: Slot::default(), partitions: Mutex::default(), pause: Pause::default(), json: JsonForm::default() })
    }

    async fn send_once(&self, request: Bytes, deadline: Instant) -> Result<Sent, CallError> {
        self.pause.check()?;
        check_length(&request, self.config.max_request_bytes)?;
        let sent = match self.config.payload {
            Payload::Json => self.json.send(&request, |json| async move { self.attempt(JSON, &json, deadline).await.map(drop) }).await,
            Payload::Auto => self.attempt(SCOUTER_PROTOBUF, &request, deadline).await.map(|bytes| Sent { bytes, ..Sent::default() }),
        };
        self.pause.note("kafka", sent)
    }

    /// Ready by the deadline, and sooner when the credentials are refused. `Ok` is how many bytes it became.
    async fn attempt(&self, content_type: &'static str, request: &[u8], deadline: Instant) -> Result<u64, CallError> {
        let work = async |link: &Arc<Link>| match content_type {
            SCOUTER_PROTOBUF => self.send_parts(link, request).await,
            _ => self.deliver(link, &[Record::whole(content_type, request)]).await.map(|()| request.len() as u64),
        };
        let link = timeout_at(deadline, self.connected()).await.unwrap_or_else(|_| Err(CallError::deadline("Kafka")))?;
        let done = tokio::select! {
            error = link.refused() => Err(error),
            done = timeout_at(deadline, work(&link)) => done.unwrap_or_else(|_| {
                let words = link.last_words();
                let after = if words.is_empty() { String::new() } else { format!(": {words}") };
                let words = format!("no answer from Kafka within the deadline{after}");
                Err(CallError::new(CallErrorKind::DeadlineExceeded, Code::DeadlineExceeded, words))
            }),
        };
        if done.as_ref().is_err_and(|error| error.code() != Code::ResourceExhausted) {
            // The library would go on trying to send what nobody waits for, and after some errors sends nothing any more. The next call makes a
            // new one; this one is gone when those who still wait for it have their answers.
            self.link.forget(&link);
        }
        done
    }

    async fn connected(&self) -> Result<Arc<Link>, CallError> {
        let open = || async {
            let config = self.config.clone();
            tokio::task::spawn_blocking(move || Link::open(&config)).await.map_err(|_| ended())?
        };
        self.link.connection(|_| true, open).await
    }

    async fn send_parts(&self, link: &Arc<Link>, request: &[u8]) -> Result<u64, CallError> {
        let partitions = self.count_partitions(link).await?;
        let Some(parts) = parts(request, partitions) else {
            self.deliver(link, &[Record::whole(SCOUTER_PROTOBUF, request)]).await?;
            return Ok(request.len() as u64);
        };
        let mut records: Vec<Record<'_>> = parts
            .spans
            .iter()
            .map(|part| Record {
                partition: Some(part.partition),
                key: Some(&part.key),
                content_type: OTLP_PROTOBUF,
                id: part.id,
                value: &part.value,
            })
            .collect();
        records.extend(parts.records.as_ref().map(|(value, id)| Record {
            partition: None,
            key: None,
            content_type: SCOUTER_PROTOBUF,
            id: *id,
            value,
        }));
        let bytes = records.iter().map(|record| record.value.len() as u64).sum();
        records.sort_by_key(|record| std::cmp::Reverse(record.value.len()));
        let alone = usize::from(records.len() > 1 && records[0].value.len() > ALWAYS_TAKEN_BYTES);
        let (first, rest) = records.split_at(alone);
        self.deliver(link, first).await?;
        self.deliver(link, rest).await.map_err(|error| match error.kind() {
            // Of a request in several parts some may be there.
            CallErrorKind::Refused if records.len() > 1 => CallError::new(CallErrorKind::Retryable, Code::Unavailable, error.message()),
            _ => error,
        })?;
        Ok(bytes)
    }

    /// Until all of them are acknowledged.
    async fn deliver(&self, link: &Link, records: &[Record<'_>]) -> Result<(), CallError> {
        let fault = |error: KafkaError| {
            if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) {
                self.forget_partitions();
            }
            failed(&error)
        };
        let started = records.iter().map(|record| link.start(&self.config.topic, record)).collect::<Result<Vec<_>, _>>();
        for delivery in started.map_err(fault)? {
            delivery.await.map_err(|_| ended())?.map_err(|(error, _)| fault(error))?;
        }
        Ok(())
    }

    async fn count_partitions(&self, link: &Arc<Link>) -> Result<usize, CallError> {
        loop {
            let known = *self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = known {
                return Ok(count);
            }
            let (link, topic, patience) = (Arc::clone(link), self.config.topic.clone(), self.config.timeout.min(TOPIC_PATIENCE));
            let asked = tokio::task::spawn_blocking(move || link.partitions(&topic, patience)).await.map_err(|_| ended())?;
            match asked {
                // Others may have counted meanwhile, and their count is that of requests under way.
                Ok(Some(count)) => {
                    self.partitions.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(count);
                }
                Ok(None) => tokio::time::sleep(TOPIC_PAUSE).await,
                Err(error) if error.kind() == CallErrorKind::Credentials => return Err(error),
                // Until the deadline.
                Err(_) => tokio::time::sleep(TOPIC_PAUSE).await,
            }
        }
    }

    fn forget_partitions(&self) {
        *self.partitions.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn ended() -> CallError {
    CallError::new(CallErrorKind::Retryable, Code::Unavailable, "Kafka: the client ended")
}

impl Transport for KafkaTransport {
    fn send(&self, request: Bytes, deadline: Instant) -> TransportFuture<'_, Result<Sent, CallError>> {
        Box::pin(self.send_once(request, deadline))
    }

    fn close(&self, _deadline: Instant) -> TransportFuture<'_, ()> {
        Box::pin(async { drop(self.link.take()) })
    }

    fn limits(&self) -> Limits {
        let KafkaConfig { timeout, max_request_bytes, .. } = self.config;
        Limits { timeout, flush_timeout: timeout, max_request_bytes }
    }

    fn credentials_pause(&self) -> Option<(Duration, CallError)> {
        self.pause.left()
    }

    fn with_new_connection(&self) -> Arc<dyn Transport> {
        Arc::new(Self {
            config: self.config.clone(),
            link: Slot::default(),
            partitions: Mutex::new(*self.partitions.lock().unwrap_or_else(PoisonError::into_inner)),
            pause: Pause::default(),
            json: self.json.clone(),
        })
    }

    fn component(&self) -> (&'static str, String) {
        ("kafka_span_exporter", self.config.shown_brokers())
    }
}

impl fmt::Debug for KafkaTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kafka").field(&self.config).finish()
    }
}
