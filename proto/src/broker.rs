//! What both sides of a broker know: which message a payload is, by the content type that goes with it.
//!
//! | broker | content type | payload |
//! | --- | --- | --- |
//! | RabbitMQ | property `content_type` | body |
//! | Redis Streams | field `content-type` | field `payload` |
//! | Redis pub/sub | none: JSON only | message |
//!
//! A payload without one that begins with `{` is JSON of Scouter's own clients.

/// `scouter.grpc.v1.InsertMessageRequest`.
pub const SCOUTER_PROTOBUF: &str = "application/x-protobuf;message=scouter.grpc.v1.InsertMessageRequest";
/// OTLP's `ExportTraceServiceRequest`.
pub const OTLP_PROTOBUF: &str = "application/x-protobuf;message=opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest";
/// Scouter's `MessageRecord`.
pub const JSON: &str = "application/json";

/// Name of the field of a stream.
pub const CONTENT_TYPE: &str = "content-type";
/// Field of a stream that holds the message.
pub const PAYLOAD: &str = "payload";
/// Name of a stream or queue, unless another one is given.
pub const DEFAULT_NAME: &str = "scouter_monitoring";
/// What the name of a stream or queue ends with that holds what cannot be stored.
pub const DEAD_SUFFIX: &str = ".dead";
/// Field, header or property of a dead message that says why.
pub const REASON: &str = "scouter-reason";
