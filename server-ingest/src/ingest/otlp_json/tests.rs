use super::*;

fn read_span(fields: &str) -> Result<(Option<Span>, RefusedBefore), serde_json::Error> {
    let json = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#);
    let (mut request, refused) = read(json.as_bytes())?;
    Ok((request.resource_spans.remove(0).scope_spans.remove(0).spans.pop(), refused))
}

fn span(fields: &str) -> Span {
    read_span(fields).expect("JSON").0.expect("a span")
}

#[test]
fn what_our_encoder_of_json_writes_comes_back() {
    let text = |text: &str| AnyValue { value: Some(Value::StringValue(text.to_owned())) };
    let pair = |key: &str, value| KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() };
    let span = Span {
        trace_id: vec![0xab; 16],
        span_id: vec![1; 8],
        parent_span_id: vec![2; 8],
        trace_state: "a=b".to_owned(),
        flags: 257,
        name: "wörk".to_owned(),
        kind: 3,
        start_time_unix_nano: u64::MAX,
        end_time_unix_nano: 2,
        attributes: vec![
            pair("int", Value::IntValue(i64::MIN)),
            pair("double", Value::DoubleValue(1.5)),
            pair("bool", Value::BoolValue(true)),
            pair("list", Value::ArrayValue(ArrayValue { values: vec![text("x"), AnyValue { value: None }] })),
            pair("map", Value::KvlistValue(KeyValueList { values: vec![pair("k", Value::StringValue("v".to_owned()))] })),
        ],
        dropped_attributes_count: 1,
        events: vec![span::Event { time_unix_nano: 9, name: "e".to_owned(), ..Default::default() }],
        dropped_events_count: 2,
        links: vec![span::Link { trace_id: vec![3; 16], span_id: vec![4; 8], flags: 1, ..Default::default() }],
        dropped_links_count: 3,
        status: Some(Status { message: "no".to_owned(), code: 2 }),
    };
    let scope = InstrumentationScope { name: "s".to_owned(), version: "1".to_owned(), ..Default::default() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans: vec![span], schema_url: "u".to_owned() };
    let resource = Resource { attributes: vec![pair("service.name", Value::StringValue("x".to_owned()))], ..Default::default() };
    let resource_spans = ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], schema_url: "v".to_owned() };
    let request = ExportTraceServiceRequest { resource_spans: vec![resource_spans] };
    let json = serde_json::to_vec(&request).expect("serializable");
    assert_eq!(read(&json).expect("JSON"), (request, RefusedBefore::default()));
}

#[test]
fn integers_are_numbers_or_text() {
    for (text, expected) in [("\"18446744073709551615\"", u64::MAX), ("18446744073709551615", u64::MAX), ("0", 0), ("1.5e3", 1500)] {
        assert_eq!(span(&format!(r#""startTimeUnixNano":{text}"#)).start_time_unix_nano, expected, "{text}");
    }
    for text in ["-1", "1.5", "\"x\"", "true", "[]"] {
        assert!(read_span(&format!(r#""startTimeUnixNano":{text}"#)).is_err(), "{text}");
    }
    let value = |text: &str| {
        let span = span(&format!(r#""attributes":[{{"key":"k","value":{{{text}}}}}]"#));
        span.attributes[0].value.clone().and_then(|value| value.value)
    };
    assert_eq!(value(r#""intValue":"-9223372036854775808""#), Some(Value::IntValue(i64::MIN)));
    assert_eq!(value(r#""intValue":7"#), Some(Value::IntValue(7)));
    assert_eq!(value(r#""doubleValue":"-Infinity""#), Some(Value::DoubleValue(f64::NEG_INFINITY)));
    assert_eq!(value(r#""doubleValue":3"#), Some(Value::DoubleValue(3.0)));
    assert_eq!(value(r#""bytesValue":"-_8""#), Some(Value::BytesValue(vec![0xfb, 0xff])));
    assert_eq!(value(r#""bytesValue":"+/8=""#), Some(Value::BytesValue(vec![0xfb, 0xff])));
    assert_eq!(value(""), None);
}

#[test]
fn ids_are_hexadecimal_of_either_case_and_null_is_none() {
    let span =
        span(r#""traceId":"0AF7651916cd43dd8448eb211c80319C","spanId":"b7ad6b7169203331","parentSpanId":null,"name":null,"events":null"#);
    assert_eq!((span.trace_id[0], span.trace_id[15], span.parent_span_id.len()), (0x0a, 0x9c, 0));
}

#[test]
fn a_span_that_cannot_be_read_is_left_out_and_named() {
    for (fields, words) in [
        (r#""traceId":"zzzzzzzzzzzzzzzz""#, "span 0: traceId \"zzzzzzzzzzzzzzzz\" is not hexadecimal"),
        (r#""traceId":"abc""#, "span 0: traceId \"abc\" is not hexadecimal"),
        (r#""kind":"SPAN_KIND_SERVER""#, "span 0: kind is \"SPAN_KIND_SERVER\", where OTLP has a number"),
        (r#""status":{"code":"STATUS_CODE_OK"}"#, "span 0: status code is \"STATUS_CODE_OK\", where OTLP has a number"),
        (r#""links":[{"spanId":"-"}]"#, "span 0: spanId of a link \"-\" is not hexadecimal"),
    ] {
        let (span, refused) = read_span(fields).expect("JSON");
        assert_eq!((span, refused.spans, refused.words.as_str()), (None, 1, words));
    }
}

#[test]
fn unknown_names_are_ignored_on_every_level() {
    let json = r#"{"x":1,"resourceSpans":[{"x":{},"resource":{"x":[],"attributes":[]},"scopeSpans":[{"x":null,"scope":{"x":1},
        "spans":[{"x":"y","name":"kept","events":[{"x":1}],"links":[{"x":1}],"status":{"x":1},"attributes":[{"key":"k","x":1,"value":{"x":1}}]}]}]}]}"#;
    let (request, refused) = read(json.as_bytes()).expect("JSON");
    assert_eq!(request.resource_spans[0].scope_spans[0].spans[0].name, "kept");
    assert_eq!(refused, RefusedBefore::default());
}

#[test]
fn doubles_are_read_to_the_last_bit_and_what_is_none_is_refused() {
    let double = |json: &str| {
        let attribute = format!(
            r#""traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","attributes":[{{"key":"d","value":{{"doubleValue":{json}}}}}]"#
        );
        read_span(&attribute).map(|(span, _)| match span.expect("a span").attributes[0].value.clone().and_then(|value| value.value) {
            Some(Value::DoubleValue(value)) => value,
            other => panic!("{json}: {other:?}"),
        })
    };
    let mut bits = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        bits = bits.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let value = f64::from_bits(bits);
        if value.is_finite() {
            assert_eq!(double(&format!("{value:?}")).expect("a number").to_bits(), value.to_bits(), "{value:?}");
        }
    }
    assert_eq!(double("7").expect("a number"), 7.0);
    assert_eq!(double("\"2.5\"").expect("a number as text"), 2.5);
    assert_eq!(double("\"-Infinity\"").expect("an infinity"), f64::NEG_INFINITY);
    assert!(double("\"N\\u0061N\"").expect("NaN, escaped").is_nan());
    for wrong in ["1e400", "\"many\"", "true", "[1]"] {
        assert!(double(wrong).is_err(), "{wrong}");
    }
}
