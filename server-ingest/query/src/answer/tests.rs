use arrow::array::*;
use arrow::datatypes::*;
use serde_json::json;

use super::value::values;
use super::*;

fn check(array: impl Array + 'static, expected: Value) {
    let array: ArrayRef = Arc::new(array);
    assert_eq!(Value::Array(values(&array).unwrap()), expected, "{}", array.data_type());
}

#[test]
fn every_type_has_its_json() {
    check(NullArray::new(2), json!([null, null]));
    check(BooleanArray::from(vec![Some(true), None]), json!([true, null]));
    check(Int64Array::from(vec![i64::MIN, i64::MAX, 9_007_199_254_740_993]), json!([i64::MIN, i64::MAX, 9_007_199_254_740_993i64]));
    check(UInt64Array::from(vec![u64::MAX]), json!([u64::MAX]));
    check(Int8Array::from(vec![-1]), json!([-1]));
    check(
        Float64Array::from(vec![Some(0.1), Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), None]),
        json!([0.1, "NaN", "Infinity", "-Infinity", null]),
    );
    check(Float32Array::from(vec![0.1, f32::NAN]), json!([0.1, "NaN"]));
    check(StringArray::from(vec![Some("é"), None]), json!(["é", null]));
    check(StringViewArray::from(vec!["a long enough text not to be inlined"]), json!(["a long enough text not to be inlined"]));
    check(BinaryArray::from(vec![Some(&[0u8, 0xAB][..]), None]), json!(["00ab", null]));
    check(FixedSizeBinaryArray::try_from_iter([[1u8, 2]].into_iter()).unwrap(), json!(["0102"]));
    check(TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("UTC"), json!(["1970-01-01T00:00:00.000001Z", null]));
    check(TimestampMicrosecondArray::from(vec![0]).with_timezone("+02:00"), json!(["1970-01-01T00:00:00.000000Z"]));
    check(
        TimestampSecondArray::from(vec![i64::MIN + 1, 1]),
        json!([crate::timestamp::whole_seconds_text(i64::MIN + 1), "1970-01-01T00:00:01.000000Z"]),
    );
    check(TimestampMillisecondArray::from(vec![1]), json!(["1970-01-01T00:00:00.001000Z"]));
    check(TimestampNanosecondArray::from(vec![1, 1000]), json!(["1970-01-01T00:00:00.000000001Z", "1970-01-01T00:00:00.000001Z"]));
    check(Date32Array::from(vec![Some(0), None]), json!(["1970-01-01", null]));
    check(Date64Array::from(vec![86_400_000]), json!(["1970-01-02"]));
    check(Decimal128Array::from(vec![Some(12345), None]).with_precision_and_scale(10, 2).unwrap(), json!(["123.45", null]));
    check(DurationSecondArray::from(vec![Some(1), None]), json!(["PT1S", null]));
    check(vec![Some("a"), None, Some("a"), Some("b")].into_iter().collect::<DictionaryArray<Int32Type>>(), json!(["a", null, "a", "b"]));
}

#[test]
fn nested_values_keep_their_rows() {
    let rows = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(3)])];
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(rows);
    check(lists.clone(), json!([[1, null], null, [], [3]]));
    check(lists.slice(1, 3), json!([null, [], [3]]));

    let members: Vec<(FieldRef, ArrayRef)> = vec![
        (Arc::new(Field::new("name", DataType::Utf8, true)), Arc::new(StringArray::from(vec![Some("x"), None]))),
        (Arc::new(Field::new("id", DataType::Binary, true)), Arc::new(BinaryArray::from(vec![&[255u8][..], &[]]))),
    ];
    check(StructArray::from(members), json!([{ "name": "x", "id": "ff" }, { "name": null, "id": "" }]));

    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).unwrap();
    map.append(false).unwrap();
    check(map.finish(), json!([{ "k": 1 }, null]));
}

#[test]
fn a_null_list_over_hidden_elements_is_null() {
    let elements: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let offsets = arrow::buffer::OffsetBuffer::new(vec![0, 2, 3].into());
    let nulls = arrow::buffer::NullBuffer::from(vec![false, true]);
    check(ListArray::new(Arc::new(Field::new("item", DataType::Int64, true)), offsets, elements, Some(nulls)), json!([null, [3]]));
}
