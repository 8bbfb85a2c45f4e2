//! What both sides of a broker know: which message a payload is, by the content type that goes with it.
//!
//! | broker | content type | payload |
//! | --- | --- | --- |
//! | Kafka | header `content-type` | value |
//! | RabbitMQ | property `content_type` | body |
//! | Redis Streams | field `content-type` | field `payload` |
//! | Redis pub/sub | none: JSON only | message |
//!
//! A payload without one that begins with `{` is JSON of Scouter's own clients. A value of Kafka without one that does not is
//! [`OTLP_PROTOBUF`], which is what an OpenTelemetry Collector writes as `otlp_proto`.

/// `scouter.grpc.v1.InsertMessageRequest`.
pub const SCOUTER_PROTOBUF: &str = "application/x-protobuf;message=scouter.grpc.v1.InsertMessageRequest";
/// OTLP's `ExportTraceServiceRequest`.
pub const OTLP_PROTOBUF: &str = "application/x-protobuf;message=opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest";
/// Scouter's `MessageRecord`.
pub const JSON: &str = "application/json";

/// Name of the field of a stream, and of the header of a record of Kafka.
pub const CONTENT_TYPE: &str = "content-type";
/// Header of a record of Kafka: the 16 bytes by which it is recognised when it comes again, because [`OTLP_PROTOBUF`] has no field for them.
pub const BATCH_ID: &str = "scouter-batch-id";
/// Field of a stream that holds the message.
pub const PAYLOAD: &str = "payload";
/// Name of a stream, queue or topic, unless another one is given.
pub const DEFAULT_NAME: &str = "scouter_monitoring";
/// What the name of a stream, queue or topic ends with that holds what cannot be stored.
pub const DEAD_SUFFIX: &str = ".dead";
/// Field, header or property of a dead message that says why.
pub const REASON: &str = "scouter-reason";
