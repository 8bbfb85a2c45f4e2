//! What the example programs and the end-to-end tests share.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`spans`] | seeded spans as request bodies: encoded once, then copied and patched |
//! | [`door`] | the ways into a server: Scouter gRPC, OTLP over gRPC, OTLP over HTTP; login |
//! | [`load`] | the run: pace, workers, resending until acknowledged, the ids that were acknowledged |
//! | [`latency`] | a histogram of fixed size |
//! | [`server`] | a server under measurement: on one CPU, with what the operating system says about it |
//! | [`propagation`] | the W3C trace context in the headers of an HTTP request |

pub mod door;
pub mod latency;
pub mod load;
pub mod propagation;
pub mod server;
pub mod spans;
