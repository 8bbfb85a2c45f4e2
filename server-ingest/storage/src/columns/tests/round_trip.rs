//! What is read back equals what was sent, with prost as the judge of what was sent.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;
use prost::Message;
use scouter_tonic::limits::MAX_ATTRIBUTE_DEPTH;

use super::against_prost::{assert_same, check, check_legal, normal_form, read_back};
use super::generate::request;
use super::scramble::{Dice, Kind, damage, scramble};
use super::{append, span, spans_of, text};
use crate::columns::{Columns, span_to_otlp};
use crate::otlp::{Envelope, judge};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn spans_read_back_equal_the_ones_sent(requests in prop::collection::vec(request(), 1..4)) {
        let mut columns = Columns::new();
        // Two batches from the same builders, so that nothing of the first is seen in the second.
        for _ in 0..2 {
            let mut sent = Vec::new();
            for request in &requests {
                append(&mut columns, &request.encode_to_vec(), Envelope::Otlp);
                sent.extend(normal_form(request.clone()));
            }
            assert_eq!(columns.rows(), sent.len());
            assert_same(&read_back(&mut columns), &sent);
        }
    }

    #[test]
    fn fields_in_any_order_repeated_and_in_pieces_mean_what_prost_says(request in request(), seed in any::<u64>()) {
        let payload = scramble(Kind::Request, &request.encode_to_vec(), &mut Dice(seed));
        check_legal(&payload);
    }

    #[test]
    fn damaged_bytes_never_panic_and_what_is_accepted_is_stored(request in request(), seed in any::<u64>()) {
        let mut payload = request.encode_to_vec();
        damage(&mut payload, &mut Dice(seed));
        check(&payload);
        // Nor do bytes that were never judged.
        let mut columns = Columns::new();
        columns.append(&payload, Envelope::Otlp, &[], &[]);
        columns.append(&payload, Envelope::Scouter, &[], &[]);
        columns.finish();
    }

    #[test]
    fn noise_never_panics(payload in prop::collection::vec(any::<u8>(), 0..300)) {
        for envelope in [Envelope::Otlp, Envelope::Scouter] {
            if judge(&payload, envelope).is_ok() {
                append(&mut Columns::new(), &payload, envelope);
            }
        }
    }
}

#[test]
fn only_the_rejected_spans_are_left_out() {
    let mut spans: Vec<Span> = (0..10).map(|index| span(&index.to_string(), Vec::new())).collect();
    for index in [0, 3, 4, 9] {
        spans[index].trace_id.clear();
    }
    let request = super::request(vec![text("service.name", "shop")], spans);
    let names: Vec<String> = span_to_otlp(&spans_of(&request)).unwrap().into_iter().map(|stored| stored.span.name).collect();
    assert_eq!(names, ["1", "2", "5", "6", "7", "8"]);
}

#[test]
fn the_deepest_accepted_value_reads_back() {
    for leaf in [Value::BytesValue(vec![1, 2, 3]), Value::DoubleValue(f64::NEG_INFINITY), Value::StringValueStrindex(3)] {
        let mut value = AnyValue { value: Some(leaf) };
        for level in 1..MAX_ATTRIBUTE_DEPTH {
            value = AnyValue {
                value: Some(if level % 2 == 0 {
                    Value::ArrayValue(ArrayValue { values: vec![value] })
                } else {
                    Value::KvlistValue(KeyValueList { values: vec![KeyValue { key: "$".to_owned(), value: Some(value), key_strindex: 0 }] })
                }),
            };
        }
        let attributes = vec![KeyValue { key: "deep".to_owned(), value: Some(value), key_strindex: 0 }];
        let request = super::request(Vec::new(), vec![span("deep", attributes)]);
        assert_same(&span_to_otlp(&spans_of(&request)).unwrap(), &normal_form(request));
    }
}

#[test]
fn a_batch_is_sealed_before_a_column_overflows() {
    // Control characters take six bytes as JSON: 40 MiB of them a span, 12 spans, would make a column of 2.8 GiB.
    let big = "\u{1}".repeat(40 * 1024 * 1024);
    let payload = super::request(Vec::new(), vec![span("big", vec![text("k", &big)])]).encode_to_vec();
    let mut columns = Columns::new();
    for _ in 0..12 {
        append(&mut columns, &payload, Envelope::Otlp);
    }
    let batches = columns.finish();
    assert!(batches.len() > 1);
    assert_eq!(batches.iter().map(|(_, batch)| batch.num_rows()).sum::<usize>(), 12);
}

#[test]
fn repeated_words_are_held_once() {
    use arrow::array::{Array, AsArray};
    let mut columns = Columns::new();
    for index in 0..100 {
        let request = super::request(vec![text("service.name", "shop")], vec![span(["read", "write"][index % 2], Vec::new())]);
        append(&mut columns, &request.encode_to_vec(), Envelope::Otlp);
    }
    let (_, batch) = columns.finish().remove(0);
    for (column, distinct) in [("name", 2), ("service_name", 1), ("resource_attributes", 1), ("scope_attributes", 1), ("kind", 1)] {
        let values = batch.column_by_name(column).unwrap().as_any_dictionary().values().len();
        // The empty string is always the first value.
        assert_eq!(values, distinct + 1, "{column}");
    }
}

#[test]
fn the_estimate_of_bytes_follows_the_rows() {
    let request = super::request(vec![text("service.name", "shop")], vec![span("work", vec![text("key", "value")]); 1000]);
    let mut columns = Columns::new();
    let empty = columns.bytes();
    append(&mut columns, &request.encode_to_vec(), Envelope::Otlp);
    let estimate = columns.bytes() - empty;
    assert!((50_000..1_000_000).contains(&estimate), "{estimate}");
    columns.finish();
    assert_eq!(columns.bytes(), empty);
}
