use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, ListArray, ListBuilder, StringArray, StringBuilder, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};

use super::attribute::{AnyCase, Double, Operand, Operator, Wanted};
use super::*;

fn run(test: Test, columns: Vec<ArrayRef>) -> Vec<Option<bool>> {
    let rows = columns[0].len();
    let args = ScalarFunctionArgs {
        arg_fields: columns.iter().map(|column| Arc::new(Field::new("c", column.data_type().clone(), true))).collect(),
        args: columns.iter().cloned().map(ColumnarValue::Array).collect(),
        number_rows: rows,
        return_field: Arc::new(Field::new("r", DataType::Boolean, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    let answer = RowTest::new(test, columns.len()).invoke_with_args(args).unwrap().into_array(rows).unwrap();
    answer.as_boolean().iter().collect()
}

fn attribute(key: &str, wanted: Wanted) -> Test {
    Test::Attribute(AttributeTest { key: key.into(), wanted })
}

fn texts(texts: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn dictionary(texts: &[&str]) -> ArrayRef {
    Arc::new(texts.iter().copied().collect::<DictionaryArray<Int32Type>>())
}

fn compare(operator: Operator, operand: Operand) -> Wanted {
    Wanted::Compare { operator, operand }
}

/// One object with a value of each type.
const OBJECT: &str = r#"{"s":"Text \"x\"","i":200,"d":0.5,"e":1e+21,"t":true,"n":null,"b":{"$bytes":"AQID"},"nan":{"$double":"NaN"},"inf":{"$double":"Infinity"},"l":[1,"s"],"m":{"s":"inner","$$k":1},"num":"200"}"#;

#[test]
fn values_compare_by_their_types() {
    use Operator::{AtLeast, AtMost, Equal, Greater, Less, NotEqual};
    let untyped = |text: &str| Operand::Untyped(text.into());
    let text = |text: &str| Operand::Text(text.into());
    let double = |value: f64| Operand::Double(Double(value));
    for (key, operator, operand, expected) in [
        ("i", Equal, untyped("200"), true),
        ("i", Equal, untyped("200.0"), true),
        ("num", Equal, untyped("200"), true),
        ("i", Equal, Operand::Int(200), true),
        ("num", Equal, Operand::Int(200), false),
        ("i", Equal, text("200"), false),
        ("num", Equal, text("200"), true),
        ("i", Greater, Operand::Int(199), true),
        ("i", Less, untyped("1e3"), true),
        ("i", AtMost, untyped("199.5"), false),
        ("d", AtLeast, double(0.5), true),
        ("d", Equal, untyped("0.5"), true),
        ("d", Equal, Operand::Int(0), false),
        ("e", Greater, untyped("1000"), true),
        ("t", Equal, Operand::Bool(true), true),
        ("t", Equal, untyped("true"), true),
        ("t", NotEqual, untyped("false"), true),
        ("n", Equal, untyped("null"), true),
        ("b", Equal, untyped("AQID"), true),
        ("nan", Equal, untyped("NaN"), false),
        ("inf", Greater, double(1e300), true),
        ("s", Equal, untyped("Text \"x\""), true),
        ("s", Greater, untyped("Tex"), true),
        ("s", Greater, untyped("5"), false),
        ("s", NotEqual, untyped("other"), true),
        ("s", NotEqual, Operand::Int(1), false),
        ("i", NotEqual, untyped("text"), true),
        ("l", Equal, untyped("1"), false),
        ("missing", NotEqual, untyped("x"), false),
        // Only the outer object's keys count.
        ("$$k", Equal, untyped("1"), false),
    ] {
        let found = run(attribute(key, compare(operator, operand.clone())), vec![texts(&[OBJECT])]);
        assert_eq!(found, [Some(expected)], "{key} {operator:?} {operand:?}");
    }
    for (key, wanted, expected) in [
        ("s", Wanted::Contains("TEXT \"X".into()), true),
        ("i", Wanted::Contains("2".into()), false),
        ("n", Wanted::Present, true),
        ("n", Wanted::Absent, false),
        ("inner", Wanted::Present, false),
        ("inner", Wanted::Absent, true),
    ] {
        assert_eq!(run(attribute(key, wanted.clone()), vec![texts(&[OBJECT])]), [Some(expected)], "{key} {wanted:?}");
    }
}

#[test]
fn the_first_column_that_has_the_key_decides() {
    let spans = texts(&[r#"{"k":"a"}"#, r#"{"k":"b"}"#, "{}", "{}"]);
    let resources = dictionary(&[r#"{"k":"b"}"#, r#"{"k":"a"}"#, r#"{"k":"a"}"#, "{}"]);
    let is_a = || compare(Operator::Equal, Operand::Untyped("a".into()));
    let columns = || vec![Arc::clone(&spans), Arc::clone(&resources)];
    assert_eq!(run(attribute("k", is_a()), columns()), [true, false, true, false].map(Some));
    assert_eq!(run(attribute("k", Wanted::Absent), columns()), [false, false, false, true].map(Some));
    assert_eq!(run(attribute("k", Wanted::Present), columns()), [true, true, true, false].map(Some));
}

#[test]
fn texts_are_found_in_any_case_and_column() {
    let names = dictionary(&["GET /Ask", "other", "x\"y"]);
    let attributes = texts(&["{}", r#"{"sql":"Select \"a\""}"#, "{}"]);
    let find = |text: &str| run(Test::Text(text.into()), vec![Arc::clone(&names), Arc::clone(&attributes)]);
    assert_eq!(find("/ask"), [true, false, false].map(Some));
    assert_eq!(find("SELECT \"A"), [false, true, false].map(Some));
    assert_eq!(find("x\"Y"), [false, false, true].map(Some));
    assert_eq!(find(""), [true, true, true].map(Some));
    for (wanted, text, expected) in [("straße", "STRASSE", false), ("ÄÖ", "xäöx", true), ("aab", "aaab", true), ("ab", "a", false)] {
        assert_eq!(AnyCase::new(wanted).is_in(text), expected, "{wanted} in {text}");
    }
}

#[test]
fn texts_are_found_in_events() {
    let attributes = [r#"{"content":"Is it on its \"way\"?"}"#, "{}", r#"{"k":"v"}"#];
    let fields = [("name", texts(&["gen_ai.user.message", "cache.miss", "other"])), ("attributes", texts(&attributes))];
    let events: Vec<_> = fields.into_iter().map(|(name, column)| (Arc::new(Field::new(name, DataType::Utf8, false)), column)).collect();
    // Four spans: with two events, without, with one, and one of which it is not known.
    let (offsets, known) = (OffsetBuffer::from_lengths([2, 0, 1, 0]), NullBuffer::from(vec![true, true, true, false]));
    let events: ArrayRef = Arc::new(StructArray::from(events));
    let item = Arc::new(Field::new("item", events.data_type().clone(), false));
    let lists: ArrayRef = Arc::new(ListArray::new(item, offsets, events, Some(known)));
    let columns = || vec![texts(&["a", "b", "c", "d"]), texts(&["{}"; 4]), Arc::clone(&lists)];
    let find = |text: &str| run(Test::Text(text.into()), columns());
    assert_eq!(find("ON ITS \"way"), [true, false, false, false].map(Some));
    assert_eq!(find("Miss"), [true, false, false, false].map(Some));
    assert_eq!(find("v"), [false, false, true, false].map(Some));
    assert_eq!(find("d"), [false, false, false, true].map(Some));
    let tail: Vec<ArrayRef> = columns().iter().map(|column| column.slice(1, 2)).collect();
    assert_eq!(run(Test::Text("OTHER".into()), tail), [false, true].map(Some), "a slice");
}

#[test]
fn lists_have_one_of_the_values() {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for elements in [&["a", "b"][..], &[], &["c"]] {
        elements.iter().for_each(|element| lists.values().append_value(element));
        lists.append(true);
    }
    lists.append_null();
    let lists: ArrayRef = Arc::new(lists.finish());
    assert_eq!(run(Test::Lists(vec!["b".into(), "c".into()]), vec![lists]), [true, false, true, false].map(Some));
}

#[test]
fn typed_tests_of_promoted_attributes_are_comparisons_of_columns() {
    let shown = |key: &str, wanted: Wanted| Condition::Attribute(AttributeTest { key: key.into(), wanted }).expression().to_string();
    let equal = |operand| compare(Operator::Equal, operand);
    assert_eq!(shown("http.route", equal(Operand::Text("/a' OR 1=1".into()))), "http_route = Utf8(\"/a' OR 1=1\")");
    assert_eq!(
        shown("http.response.status_code", compare(Operator::AtLeast, Operand::Int(500))),
        "http_response_status_code >= Int64(500)"
    );
    assert_eq!(shown("exception.type", Wanted::Present), "exception_type IS NOT NULL");
    for (key, wanted) in [
        ("http.route", equal(Operand::Untyped("/a".into()))),
        ("http.response.status_code", equal(Operand::Text("500".into()))),
        ("start.time", equal(Operand::Text("x".into()))),
        ("http.route", Wanted::Present),
    ] {
        assert!(shown(key, wanted).starts_with("scouter_attribute_test("), "{key}");
    }
    assert_eq!(Condition::Any(Vec::new()).expression().to_string(), "Boolean(false)");
    assert_eq!(Condition::Traces(Vec::new()).expression().to_string(), "Boolean(false)");
    assert_eq!(Condition::OtherTraces(Vec::new()).expression().to_string(), "Boolean(true)");
}
