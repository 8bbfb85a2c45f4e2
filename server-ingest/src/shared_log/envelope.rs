//! Requests as messages: spans as OTLP, which Collectors read too, records as Scouter's.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field};
use scouter_storage::otlp::Envelope;
use scouter_tonic::broker::{OTLP_PROTOBUF, SCOUTER_PROTOBUF};

const RESOURCE_SPANS_OF_OTLP: u32 = 1;

/// The value of a message and what it is.
pub(super) struct Part {
    pub(super) content_type: &'static str,
    pub(super) value: Bytes,
}

/// The parts of a request that was judged, at least one: spans before records.
pub(super) fn parts(envelope: Envelope, payload: &Bytes) -> Vec<Part> {
    let whole = |content_type| vec![Part { content_type, value: payload.clone() }];
    if envelope == Envelope::Otlp {
        return whole(OTLP_PROTOBUF);
    }
    match split(envelope, payload) {
        Some((spans, records)) => {
            let parts = [Part { content_type: OTLP_PROTOBUF, value: spans }, Part { content_type: SCOUTER_PROTOBUF, value: records }];
            parts.into_iter().filter(|part| !part.value.is_empty()).collect()
        }
        // It cannot be, since judging read the same fields.
        None => whole(SCOUTER_PROTOBUF),
    }
}

/// The spans under OTLP's number, and the records. Both keep their order; whatever else there is was read already.
fn split(envelope: Envelope, payload: &Bytes) -> Option<(Bytes, Bytes)> {
    let (mut spans, mut records) = (Vec::new(), Vec::new());
    let mut rest = payload.clone();
    while rest.has_remaining() {
        let (field, wire_type) = decode_key(&mut rest).ok()?;
        let is_spans = field == envelope.resource_spans_field();
        if wire_type != WireType::LengthDelimited || !(is_spans || Some(field) == envelope.records_field()) {
            skip_field(wire_type, field, &mut rest, DecodeContext::default()).ok()?;
            continue;
        }
        let length = decode_varint(&mut rest).ok()?;
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.remaining())?;
        let value = rest.split_to(length);
        let (field, into) = if is_spans { (RESOURCE_SPANS_OF_OTLP, &mut spans) } else { (field, &mut records) };
        encode_key(field, WireType::LengthDelimited, into);
        encode_varint(length as u64, into);
        into.extend_from_slice(&value);
    }
    Some((spans.into(), records.into()))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };
    use prost::Message as _;
    use scouter_tonic::{
        grpc::InsertMessageRequest,
        message::{CustomMetricRecord, MonitoringRecord, monitoring_record::Record},
    };

    use super::*;

    #[test]
    fn spans_become_otlp_and_records_stay() {
        let named = |name: &str| ResourceSpans {
            scope_spans: vec![ScopeSpans { spans: vec![Span { name: name.to_owned(), ..Span::default() }], ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        };
        let spans = vec![named("a"), named("b")];
        let custom = CustomMetricRecord { entity_uid: "uid".to_owned(), ..CustomMetricRecord::default() };
        let record = MonitoringRecord { record: Some(Record::Custom(custom)) };
        let mut request = InsertMessageRequest { resource_spans: spans.clone(), batch_id: vec![1; 16], ..InsertMessageRequest::default() };
        let otlp = ExportTraceServiceRequest { resource_spans: spans };

        let [only] = &parts(Envelope::Scouter, &request.encode_to_vec().into())[..] else { panic!("spans alone are one message") };
        assert_eq!((only.content_type, &only.value[..]), (OTLP_PROTOBUF, &otlp.encode_to_vec()[..]));

        request.records = vec![record.clone(), record];
        let [first, second] = &parts(Envelope::Scouter, &request.encode_to_vec().into())[..] else { panic!("two messages") };
        assert_eq!((first.content_type, &first.value[..]), (OTLP_PROTOBUF, &otlp.encode_to_vec()[..]));
        let records = InsertMessageRequest { records: request.records, ..InsertMessageRequest::default() };
        assert_eq!((second.content_type, &second.value[..]), (SCOUTER_PROTOBUF, &records.encode_to_vec()[..]));

        let whole: Bytes = otlp.encode_to_vec().into();
        let [only] = &parts(Envelope::Otlp, &whole)[..] else { panic!("one message") };
        assert_eq!((only.content_type, &only.value), (OTLP_PROTOBUF, &whole));
    }
}
