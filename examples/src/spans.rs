//! Seeded spans as request bodies.
//!
//! A pool of spans is encoded once with OTLP's own message types. A body is then made by copying spans of the pool and patching what differs:
//! ids, times and a request id. Making a body costs little more than copying it, so the generator is not what a measurement measures.
//!
//! Everything follows from the seed and the index of a span: two runs with one seed and one start time make the same bytes.
//! Span ids do not repeat within a seed, since [`mix`] is a bijection.

mod template;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;

use template::Template;

/// Spans in one trace: a root and its children, all in one request when the batch size is a multiple of it.
pub const SPANS_PER_TRACE: u64 = 8;

/// Different spans in the pool, each with and without a parent.
const VARIANTS: u64 = 64;

/// How much a span carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// 9 attributes, about 470 bytes.
    Small,
    /// 14 attributes and an event, about 810 bytes.
    Medium,
    /// A conversation with a language model: messages of some kilobytes, about 8 KiB in all.
    Llm,
}

/// Which request message a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// `ExportTraceServiceRequest` of OTLP.
    Otlp,
    /// `InsertMessageRequest` of Scouter, with its `batch_id`.
    Scouter,
}

/// A trace id and a span id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanIds {
    /// 16 bytes, never all zero.
    pub trace_id: [u8; 16],
    /// 8 bytes, never all zero.
    pub span_id: [u8; 8],
}

/// Makes request bodies from a seed.
#[derive(Debug)]
pub struct SpanSource {
    seed: u64,
    start_unix_nano: u64,
    step_nano: u64,
    templates: Vec<[Template; 2]>,
    resources: Vec<Vec<u8>>,
    scope: Vec<u8>,
}

impl SpanSource {
    /// Spans start at `start_unix_nano` and then every `step_nano`.
    pub fn new(seed: u64, size: Size, start_unix_nano: u64, step_nano: u64) -> Self {
        let templates = (0..VARIANTS).map(|variant| [Template::new(variant, size, false), Template::new(variant, size, true)]).collect();
        Self { seed, start_unix_nano, step_nano, templates, resources: template::resources(), scope: template::scope() }
    }

    /// The ids of the span with this index.
    pub fn ids(&self, index: u64) -> SpanIds {
        let trace = index / SPANS_PER_TRACE;
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&mix(self.seed.wrapping_add(0x7472_6163_6500).wrapping_add(trace)).to_be_bytes());
        trace_id[8..].copy_from_slice(&non_zero(mix(mix(self.seed).wrapping_add(trace))).to_be_bytes());
        SpanIds { trace_id, span_id: non_zero(mix(mix(self.seed ^ 0x7370_616e).wrapping_add(index))).to_be_bytes() }
    }

    /// The batch id that goes with the request beginning at span `first`.
    pub fn batch_id(&self, first: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mix(self.seed ^ 0x6261_7463_6800).to_be_bytes());
        id[8..].copy_from_slice(&mix(first.wrapping_add(self.seed)).to_be_bytes());
        id
    }

    /// The request that holds the spans `range`.
    pub fn body(&self, range: Range<u64>, envelope: Envelope) -> Bytes {
        let resource = &self.resources[(mix(self.seed ^ range.start) % self.resources.len() as u64) as usize];
        let spans_len: usize = range.clone().map(|index| field_len(self.template(index).bytes.len())).sum();
        let scope_spans_len = self.scope.len() + spans_len;
        let resource_spans_len = resource.len() + field_len(scope_spans_len);
        let batch_id_len = if envelope == Envelope::Scouter { field_len(16) } else { 0 };

        let mut body = BytesMut::with_capacity(field_len(resource_spans_len) + batch_id_len);
        let resource_spans_field = match envelope {
            Envelope::Otlp => 1,
            Envelope::Scouter => 2,
        };
        put_len_key(&mut body, resource_spans_field, resource_spans_len);
        body.put_slice(resource);
        put_len_key(&mut body, 2, scope_spans_len);
        body.put_slice(&self.scope);
        for index in range.clone() {
            self.put_span(&mut body, index);
        }
        if envelope == Envelope::Scouter {
            put_len_key(&mut body, 4, 16);
            body.put_slice(&self.batch_id(range.start));
        }
        body.freeze()
    }

    fn template(&self, index: u64) -> &Template {
        let has_parent = usize::from(!index.is_multiple_of(SPANS_PER_TRACE));
        &self.templates[(mix(self.seed ^ index) % VARIANTS) as usize][has_parent]
    }

    fn put_span(&self, body: &mut BytesMut, index: u64) {
        let template = self.template(index);
        put_len_key(body, 2, template.bytes.len());
        let at = body.len();
        body.put_slice(&template.bytes);
        let span = &mut body[at..];

        let SpanIds { trace_id, span_id } = self.ids(index);
        let position = index % SPANS_PER_TRACE;
        let start = self.start_unix_nano.wrapping_add(index.wrapping_mul(self.step_nano));
        let noise = mix(self.seed ^ index ^ 0x0064_7572);
        let duration = if position == 0 { 8_000_000 } else { 500 + noise % 7_000_000 };

        span[template.trace_id..][..16].copy_from_slice(&trace_id);
        span[template.span_id..][..8].copy_from_slice(&span_id);
        if let Some(parent_at) = template.parent_span_id {
            let parent = if position < 4 { index - position } else { index - 2 };
            span[parent_at..][..8].copy_from_slice(&self.ids(parent).span_id);
        }
        span[template.start_time..][..8].copy_from_slice(&start.to_le_bytes());
        span[template.end_time..][..8].copy_from_slice(&(start + duration).to_le_bytes());
        if let Some(event_at) = template.event_time {
            span[event_at..][..8].copy_from_slice(&(start + duration / 2).to_le_bytes());
        }
        put_hex(&mut span[template.request_id..][..32], &noise.to_be_bytes(), &span_id);
    }
}

/// A bijection of 64-bit numbers that looks random (the finalizer of SplitMix64).
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn non_zero(value: u64) -> u64 {
    value.max(1)
}

fn put_hex(target: &mut [u8], left: &[u8; 8], right: &[u8; 8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in target.chunks_exact_mut(2).zip(left.iter().chain(right)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Bytes of a length-delimited field whose number is below 16.
fn field_len(content: usize) -> usize {
    1 + prost::length_delimiter_len(content) + content
}

fn put_len_key(target: &mut impl BufMut, field: u8, len: usize) {
    target.put_u8(field << 3 | 2);
    prost::encode_length_delimiter(len, target).expect("the buffer grows");
}

#[cfg(test)]
mod tests;
