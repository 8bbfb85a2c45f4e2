//! Cutting a finished request in two, for a server that finds it too large.

use std::sync::Arc;

use super::{
    batch::{EncodedBatch, EncodedRequest, RequestFormat},
    envelope::{EncodedEnvelope, EncodedResource},
    records::halves,
    span::span_name,
    wire::{delimited, split_field},
};

/// Of `ResourceSpans`: its `ScopeSpans`. Of `ScopeSpans`: its spans.
const CHILD: u8 = delimited(2);

impl EncodedRequest {
    /// Two requests with half of the spans, or of the records, each. Scouter's get a `batch_id` of their own, so call this only after an
    /// answer that says that nothing of the whole was stored. `None` when it holds one thing, or is not of our making.
    pub(crate) fn halve(&self, format: RequestFormat) -> Option<[Self; 2]> {
        if self.records > 1 {
            return halves(&self.body, self.records);
        }
        if self.spans < 2 {
            return None;
        }
        let mut halves = [EncodedBatch::default(), EncodedBatch::default()];
        let mut number = 0;
        for resource_spans in fields(&self.body)?.into_iter().filter(|field| field.tag == format.resource_spans()) {
            let (resource, scopes) = envelope_and_children(resource_spans.payload)?;
            let resource = Arc::new(EncodedResource { bytes: resource });
            for scope_spans in scopes {
                let (scope, spans) = envelope_and_children(scope_spans)?;
                let envelope = Arc::new(EncodedEnvelope { resource: Arc::clone(&resource), scope });
                for span in spans {
                    halves[usize::from(number >= self.spans / 2)].push(&envelope, span);
                    number += 1;
                }
            }
        }
        let [left, right] = halves.map(|half| single(half.requests_in(format, usize::MAX).0));
        Some([left?, right?]).filter(|[left, right]| left.spans + right.spans == self.spans)
    }
}

/// The name of the first span, or what a record is called.
pub(crate) fn first_name(request: &EncodedRequest, format: RequestFormat) -> Option<String> {
    if request.records > 0 {
        return Some("a monitoring record".to_owned());
    }
    let resource_spans = fields(&request.body)?.into_iter().find(|field| field.tag == format.resource_spans())?;
    let (_, scopes) = envelope_and_children(resource_spans.payload)?;
    let (_, spans) = envelope_and_children(scopes.first()?)?;
    span_name(spans.first()?).map(str::to_owned)
}

#[derive(Clone, Copy)]
struct Field<'a> {
    tag: u8,
    payload: &'a [u8],
    /// With tag and length.
    whole: &'a [u8],
}

/// All fields of a message that has only length-delimited ones with numbers below 16, as ours have here.
fn fields(mut bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while let Some(&tag) = bytes.first() {
        let (payload, len) = split_field(bytes)?;
        fields.push(Field { tag, payload, whole: &bytes[..len] });
        bytes = &bytes[len..];
    }
    Some(fields)
}

/// The bytes of all fields but the children, and the children.
fn envelope_and_children(bytes: &[u8]) -> Option<(Vec<u8>, Vec<&[u8]>)> {
    let (children, own): (Vec<_>, Vec<_>) = fields(bytes)?.into_iter().partition(|field| field.tag == CHILD);
    Some((own.iter().flat_map(|field| field.whole).copied().collect(), children.iter().map(|field| field.payload).collect()))
}

fn single(requests: Vec<EncodedRequest>) -> Option<EncodedRequest> {
    <[EncodedRequest; 1]>::try_from(requests).ok().map(|[request]| request)
}
