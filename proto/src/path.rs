//! Paths and metadata keys of the RPCs, for code that works below the generated clients and servers.

/// `MessageService.InsertMessage` of Scouter.
pub const INSERT_MESSAGE: &str = "/scouter.grpc.v1.MessageService/InsertMessage";

/// `TraceService.Export` of OTLP.
pub const OTLP_TRACE_EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Request metadata: `Bearer <token>`.
pub const AUTHORIZATION: &str = "authorization";

/// Response metadata: a token that replaces the one sent.
pub const REFRESHED_TOKEN: &str = "x-refreshed-token";
