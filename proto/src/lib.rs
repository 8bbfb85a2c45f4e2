//! The wire between Scouter's clients and its server.
//!
//! | module | feature | what it holds |
//! | --- | --- | --- |
//! | [`grpc`], [`message`] | always | the messages of `scouter.grpc.v1` and `scouter.message.v1` |
//! | [`broker`] | always | how a broker's message says what it is |
//! | [`codec`] | always | a tonic codec that hands over bytes and builds nothing |
//! | [`group`] | always | the rows of a [`message::RecordGroup`] |
//! | [`limits`] | always | sizes both sides agree on |
//! | [`client`] | `client` | [`client::GrpcClient`]: lazy connection, login, refresh, insert, health |
//! | [`server`] | `server` | [`server::AuthInterceptor`]: who is calling |
//!
//! `all` is `client` and `server`. A build with `client` alone compiles no server code and no server dependency.
//! OTLP's messages are those of the `opentelemetry-proto` crate.

pub mod broker;
#[cfg(feature = "client")]
pub mod client;
pub mod codec;
mod generated;
pub mod group;
pub mod limits;
pub mod path;
#[cfg(feature = "server")]
pub mod server;

pub use generated::scouter::grpc::v1 as grpc;
pub use generated::scouter::message::v1 as message;

/// The compiled descriptors of all messages and services above, OTLP's trace messages included, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!("generated/scouter.descriptor.bin");
