//! Kafka as the log of several servers, in the place of a log on each one's disk.
//!
//! ```text
//! door ─▶ ingest ─▶ writer: one message a request ─▶ topic, all replicas in sync ─▶ ANSWER
//!                                                     │ of each partition one server
//!                                                     ▼
//!                           reader: judge ─▶ hot rows ─▶ Parquet, Delta commit with the offset ─▶ offset of the group
//! ```
//!
//! What clients and Collectors write to the topic themselves comes the same way. The tables lie in an object store; a server keeps nothing
//! that another one could not go on with.
//!
//! Invariants:
//! - A request is answered when its messages are held by all replicas in sync.
//! - A row is in the tables once: a commit says how far it brings the table in each partition, and is made only if nobody else brought it
//!   further ([`scouter_storage::store::Store::offer`]).
//! - The group's offset of a partition is committed when everything before it is in the tables, or with the dead. It says where the next owner
//!   begins to read, not what he stores: that the tables say.
//! - A request that is sent again has the same key, so it is in the same partition, whose reader recognises it.

mod envelope;
mod ledger;
mod member;
mod reader;
mod recent;
mod writer;

pub use reader::LogReader;
pub use writer::{KafkaLog, LogError};
