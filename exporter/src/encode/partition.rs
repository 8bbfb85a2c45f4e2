//! A finished request as records for the partitions of a topic: no partition has a part of a trace that another one has too.
//!
//! Spans are copied as they are, between copies of their resource and scope. A record of spans is an OTLP `ExportTraceServiceRequest`; monitoring
//! records stay a Scouter request.

use super::wire::{delimited, put_bytes_always, put_nested, read_varint, split_field};

/// Of an OTLP request: `ResourceSpans`.
const OTLP_RESOURCE_SPANS: u8 = delimited(1);
/// Of Scouter's.
const RESOURCE_SPANS: u8 = delimited(2);
const RECORD: u8 = delimited(3);
const BATCH_ID: u8 = delimited(4);
/// Of `ResourceSpans`: its `ScopeSpans`. Of `ScopeSpans`: its spans.
const CHILD: u8 = delimited(2);
/// Of a span.
const TRACE_ID: u8 = delimited(1);

/// A trace id in lower-case hex, which is what an OpenTelemetry Collector takes as a key too.
pub(crate) type Key = [u8; 32];
/// What a record is recognised by.
pub(crate) type Id = [u8; 16];

/// Spans for one partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SpansPart {
    /// Where they go.
    pub(crate) partition: usize,
    /// The trace of the first of them, whose partition it is by the rule of Kafka's own clients.
    pub(crate) key: Key,
    pub(crate) id: Option<Id>,
    /// An `ExportTraceServiceRequest`.
    pub(crate) value: Vec<u8>,
}

/// A request in parts. The same request for as many partitions has the same parts, with the same ids.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) spans: Vec<SpansPart>,
    /// A Scouter request without spans, and the id that is in it too.
    pub(crate) records: Option<(Vec<u8>, Option<Id>)>,
}

/// Cuts a request of Scouter's format for so many partitions. `None` when it is not of our making.
pub(crate) fn parts(request: &[u8], partitions: usize) -> Option<Parts> {
    let mut id = None;
    let mut resources = Vec::new();
    let mut records = Vec::new();
    for field in Fields(request) {
        let Field { tag, payload, whole } = field?;
        match tag {
            RESOURCE_SPANS => resources.push(Children::of(payload)?),
            RECORD => records.extend_from_slice(whole),
            BATCH_ID => id = Some(Id::try_from(payload).ok()?),
            _ => return None,
        }
    }
    let mut spans = Vec::<SpansPart>::new();
    for resource in &resources {
        let scopes = resource.children.iter().map(|scope| Scope::of(scope, partitions)).collect::<Option<Vec<_>>>()?;
        let mut wanted: Vec<(usize, Key)> = Vec::new();
        for (partition, key) in scopes.iter().flat_map(|scope| scope.spans.iter().map(|span| (span.partition, span.key))) {
            if !wanted.iter().any(|(other, _)| *other == partition) {
                wanted.push((partition, key));
            }
        }
        for (partition, key) in wanted {
            let index = spans.iter().position(|part| part.partition == partition).unwrap_or_else(|| {
                spans.push(SpansPart { partition, key, id: None, value: Vec::new() });
                spans.len() - 1
            });
            put_nested(&mut spans[index].value, OTLP_RESOURCE_SPANS, |out| {
                out.extend_from_slice(&resource.own);
                for scope in scopes.iter().filter(|scope| scope.spans.iter().any(|span| span.partition == partition)) {
                    put_nested(out, CHILD, |out| {
                        out.extend_from_slice(&scope.own);
                        scope.spans.iter().filter(|span| span.partition == partition).for_each(|span| out.extend_from_slice(span.whole));
                    });
                }
            });
        }
    }
    let is_whole = spans.len() + usize::from(!records.is_empty()) == 1;
    for part in &mut spans {
        part.id = if is_whole { id } else { id.map(|id| id_of_part(id, part.partition as u32)) };
    }
    let records = (!records.is_empty()).then(|| {
        let id = if is_whole { id } else { id.map(|id| id_of_part(id, u32::MAX - 1)) };
        if let Some(id) = id {
            put_bytes_always(&mut records, BATCH_ID, &id);
        }
        (records, id)
    });
    Some(Parts { spans, records })
}

/// Another id for each part, and never the request's own.
fn id_of_part(mut id: Id, number: u32) -> Id {
    for (byte, other) in id[12..].iter_mut().zip((number + 1).to_le_bytes()) {
        *byte ^= other;
    }
    id
}

struct Field<'a> {
    tag: u8,
    payload: &'a [u8],
    /// With tag and length.
    whole: &'a [u8],
}

/// The fields of a message that has only length-delimited ones with numbers below 16, as ours have here; `None` for what is none.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let tag = *self.0.first()?;
        let Some((payload, len)) = split_field(self.0).filter(|_| tag & 0b111 == 2) else {
            self.0 = &[];
            return Some(None);
        };
        let (whole, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(Some(Field { tag, payload, whole }))
    }
}

/// The bytes of all fields but the children, and the children with tag and length.
struct Children<'a> {
    own: Vec<u8>,
    children: Vec<&'a [u8]>,
}

impl<'a> Children<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let mut children = Self { own: Vec::new(), children: Vec::new() };
        for field in Fields(bytes) {
            let Field { tag, payload, whole } = field?;
            if tag == CHILD {
                children.children.push(payload);
            } else {
                children.own.extend_from_slice(whole);
            }
        }
        Some(children)
    }
}

struct Scope<'a> {
    own: Vec<u8>,
    spans: Vec<Span<'a>>,
}

struct Span<'a> {
    partition: usize,
    key: Key,
    whole: &'a [u8],
}

impl<'a> Scope<'a> {
    fn of(bytes: &'a [u8], partitions: usize) -> Option<Self> {
        let mut scope = Self { own: Vec::new(), spans: Vec::new() };
        for field in Fields(bytes) {
            let Field { tag, payload, whole } = field?;
            if tag == CHILD {
                let key = hex(trace_id(payload)?);
                scope.spans.push(Span { partition: partition_of(&key, partitions), key, whole });
            } else {
                scope.own.extend_from_slice(whole);
            }
        }
        Some(scope)
    }
}

/// Our writers put it first. `None` when a span begins in another way.
fn trace_id(span: &[u8]) -> Option<&[u8; 16]> {
    let (len, len_bytes) = read_varint(span.get(1..)?)?;
    let id = span.get(1 + len_bytes..)?.get(..usize::try_from(len).ok()?)?;
    (span.first() == Some(&TRACE_ID)).then_some(id)?.try_into().ok()
}

fn hex(id: &[u8; 16]) -> Key {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut key = [0; 32];
    for (byte, digits) in id.iter().zip(key.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    key
}

/// The partition that Kafka's Java client, and whoever follows it, gives a key: so they agree with us on where a trace is.
pub(crate) fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions.max(1)
}

/// MurmurHash2 with 32 bits, and the seed that Kafka has.
fn murmur2(bytes: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        word ^= word >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ word.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests;
