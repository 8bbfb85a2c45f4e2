//! otlp

/// Which request message a payload is; the value is the field number of `ResourceSpans` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Envelope {
    /// `ExportTraceServiceRequest`.
    Otlp = 1,
    /// `InsertMessageRequest`: spans in field 2, monitoring records in field 3.
    Scouter = 2,
}
