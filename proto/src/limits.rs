//! Sizes a client keeps to and a server enforces.

/// Largest request body, before and after decompression, in bytes. OTLP recommends 64 MiB.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// Largest answer a client reads, in bytes. OTLP's default.
pub const MAX_RESPONSE_BYTES: usize = 4 * 1024 * 1024;

/// Deepest nesting of lists and maps in an attribute value; a plain value has depth 1.
pub const MAX_ATTRIBUTE_DEPTH: usize = 64;

/// Largest `RecordGroup`, in bytes: its columns unfold to a few times that.
pub const MAX_RECORD_GROUP_BYTES: usize = 1024 * 1024;

/// Length of `InsertMessageRequest.batch_id`, in bytes.
pub const BATCH_ID_BYTES: usize = 16;

/// The port Scouter's gRPC services listen on by default.
pub const DEFAULT_GRPC_PORT: u16 = 50051;
