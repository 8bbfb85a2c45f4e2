//! The canonical JSON text, letter by letter.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use prost::Message;

use super::{attribute, text};
use crate::columns::attributes_from_json;
use crate::columns::json::{end_object, member};
use crate::otlp::key_value;

fn written(attributes: &[KeyValue]) -> String {
    let mut out = Vec::new();
    for (index, attribute) in attributes.iter().enumerate() {
        let bytes = attribute.encode_to_vec();
        let (key, value) = key_value(&bytes);
        member(&mut out, index == 0, key, value);
    }
    end_object(&mut out, attributes.is_empty());
    String::from_utf8(out).unwrap()
}

fn check(value: Value, expected: &str) {
    let attributes = [attribute("k", value)];
    let json = written(&attributes);
    assert_eq!(json, format!("{{\"k\":{expected}}}"));
    assert_eq!(format!("{:?}", attributes_from_json(&json).unwrap()), format!("{attributes:?}"));
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "any JSON reader reads it");
}

fn list(values: Vec<Option<Value>>) -> Value {
    Value::ArrayValue(ArrayValue { values: values.into_iter().map(|value| AnyValue { value }).collect() })
}

fn map(members: Vec<KeyValue>) -> Value {
    Value::KvlistValue(KeyValueList { values: members })
}

#[test]
fn every_type_has_one_text() {
    check(Value::StringValue(String::new()), r#""""#);
    check(Value::BoolValue(true), "true");
    check(Value::BoolValue(false), "false");
    check(Value::IntValue(0), "0");
    check(Value::IntValue(i64::MIN), "-9223372036854775808");
    check(Value::IntValue(i64::MAX), "9223372036854775807");
    check(Value::BytesValue(Vec::new()), r#"{"$bytes":""}"#);
    check(Value::BytesValue(vec![0xff]), r#"{"$bytes":"/w=="}"#);
    check(Value::BytesValue(vec![1, 2, 3]), r#"{"$bytes":"AQID"}"#);
    check(Value::StringValueStrindex(-4), r#"{"$strindex":-4}"#);
    check(list(vec![]), "[]");
    check(list(vec![None, Some(Value::IntValue(1)), Some(list(vec![]))]), "[null,1,[]]");
    check(map(vec![]), "{}");
    assert_eq!(written(&[]), "{}");
    assert_eq!(written(&[KeyValue { key: "k".to_owned(), value: None, key_strindex: 0 }]), r#"{"k":null}"#);
}

#[test]
fn doubles_differ_from_integers_and_keep_their_bits() {
    for (value, expected) in [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (0.1, "0.1"),
        (1e21, "1e+21"),
        (1.5e-9, "1.5e-9"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (f64::NAN, r#"{"$double":"NaN"}"#),
        (f64::INFINITY, r#"{"$double":"Infinity"}"#),
        (f64::NEG_INFINITY, r#"{"$double":"-Infinity"}"#),
    ] {
        check(Value::DoubleValue(value), expected);
    }
}

#[test]
fn strings_escape_what_json_demands_and_nothing_else() {
    check(Value::StringValue("a\"b\\c/d".to_owned()), r#""a\"b\\c/d""#);
    check(Value::StringValue("\n\r\t\u{8}\u{c}\0\u{1f}\u{7f}".to_owned()), "\"\\n\\r\\t\\b\\f\\u0000\\u001f\u{7f}\"");
    check(Value::StringValue("é字🦀\u{202e}\u{2028}".to_owned()), "\"é字🦀\u{202e}\u{2028}\"");
    // An escape at every place of the eight bytes that are looked at together.
    for at in 0..20 {
        for special in ['"', '\\', '\n', '\0', '\u{1f}'] {
            let mut long = "ÿa b!#[]~xyz0123456789".to_owned();
            long.insert(if at < 2 { 0 } else { at }, special);
            let escaped = serde_json::to_string(&long).unwrap();
            check(Value::StringValue(long), &escaped);
        }
    }
}

#[test]
fn keys_of_maps_cannot_be_taken_for_markers() {
    check(map(vec![text("$double", "NaN")]), r#"{"$$double":"NaN"}"#);
    check(map(vec![text("$$bytes", ""), text("a$", "")]), r#"{"$$$bytes":"","a$":""}"#);
    // The keys of the attributes themselves stand where no marker can.
    let attributes = [text("$bytes", "AQID"), text("$", "x"), text("$$", "y")];
    assert_eq!(written(&attributes), r#"{"$bytes":"AQID","$":"x","$$":"y"}"#);
    assert_eq!(attributes_from_json(&written(&attributes)).unwrap(), attributes);
}

#[test]
fn text_that_is_not_canonical_is_refused() {
    for bad in [
        "",
        "[]",
        "{",
        "{}x",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        r#"{"a":01x}"#,
        r#"{"a":9223372036854775808}"#,
        r#"{"a":{"$what":1}}"#,
        r#"{"a":{"$bytes":"?"}}"#,
        r#"{"a":{"$double":"1"}}"#,
        r#"{"a":{"$double":"NaN","b":1}}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\u12"}"#,
        r#"{"a":"\u+123"}"#,
        r#"{"a":"é"#,
        r#"{"a":"\"#,
        r#"{"a":nul}"#,
    ] {
        assert!(attributes_from_json(bad).is_err(), "{bad}");
    }
    assert!(attributes_from_json(&format!("{{\"a\":{}", "[".repeat(1_000_000))).is_err());
    let spaced = attributes_from_json(" { \"a\" : [ 1 , \"\\u00e9\\ud83e\\udd80\\/\" ] } ").unwrap();
    assert_eq!(spaced, [attribute("a", list(vec![Some(Value::IntValue(1)), Some(Value::StringValue("é🦀/".to_owned()))]))]);
}
