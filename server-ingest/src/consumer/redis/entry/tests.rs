use super::*;

fn bytes(text: &[u8]) -> Value {
    Value::BulkString(text.to_vec())
}

fn fields(fields: &[&[u8]]) -> Value {
    Value::Array(fields.iter().map(|field| bytes(field)).collect())
}

fn entry(id: &str, fields: Value) -> Value {
    Value::Array(vec![bytes(id.as_bytes()), fields])
}

#[test]
fn names_and_values_are_any_bytes_and_arrive_in_both_protocols() {
    let entries = || {
        let deleted = entry("2-0", Value::Nil);
        Value::Array(vec![entry("1-0", fields(&[b"\xff\xfe", b"\x00", b"payload", b"\xc3\x28"])), deleted])
    };
    let old = Value::Array(vec![Value::Array(vec![bytes(b"stream"), entries()])]);
    let new = Value::Map(vec![(bytes(b"stream"), entries())]);
    for reply in [old, new] {
        let read = of_read(reply).expect("it is a reply");
        assert_eq!(read.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["1-0", "2-0"]);
        assert_eq!(read[0].field("payload").as_deref(), Some(&b"\xc3\x28"[..]));
        assert_eq!((read[0].field("content-type"), read[0].bytes()), (None, 12));
        assert!(read[1].fields.is_empty());
    }
    let map = Value::Map(vec![(bytes(b"payload"), bytes(b"x"))]);
    let read = of_read(Value::Map(vec![(bytes(b"stream"), Value::Array(vec![entry("1-0", map)]))])).expect("it is a reply");
    assert_eq!(read[0].field("payload").as_deref(), Some(&b"x"[..]));
}

#[test]
fn nothing_to_read_is_no_entries() {
    assert_eq!(of_read(Value::Nil).expect("none"), []);
    assert_eq!(of_read(Value::Array(vec![])).expect("none"), []);
}

#[test]
fn claimed_entries_are_those_that_are_still_there() {
    let entries = Value::Array(vec![Value::Nil, entry("5-1", fields(&[b"payload", b"x"]))]);
    let reply = Value::Array(vec![bytes(b"0-0"), entries, Value::Array(vec![bytes(b"4-0")])]);
    let (next, claimed) = of_claim(reply).expect("it is a reply");
    assert_eq!(next, "0-0");
    assert_eq!(claimed.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["5-1"]);
}

#[test]
fn what_is_no_reply_is_an_error() {
    let odd = entry("1-0", fields(&[b"payload"]));
    let odd = Value::Array(vec![Value::Array(vec![bytes(b"stream"), Value::Array(vec![odd])])]);
    for reply in [Value::Int(1), Value::Array(vec![bytes(b"stream")]), odd] {
        of_read(reply).expect_err("it is none");
    }
    for reply in [Value::Int(1), Value::Array(vec![bytes(b"0-0")])] {
        of_claim(reply).expect_err("it is none");
    }
}
