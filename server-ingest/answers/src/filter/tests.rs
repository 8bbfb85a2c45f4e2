use scouter_query::{Operand, Operator, Wanted};

use super::test_text::attribute_test;
use super::*;

fn wanted(text: &str) -> Option<(String, Wanted)> {
    attribute_test(text).ok().map(|test| (test.key, test.wanted))
}

fn compared(key: &str, operator: Operator, operand: Operand) -> Option<(String, Wanted)> {
    Some((key.to_owned(), Wanted::Compare { operator, operand }))
}

#[test]
fn tests_of_attributes_are_read_as_documented() {
    let text = |text: &str| Operand::Text(text.to_owned());
    let any = |text: &str| Operand::Untyped(text.to_owned());
    for (written, expected) in [
        ("http.route=/ask?x=1", compared("http.route", Operator::Equal, any("/ask?x=1"))),
        ("a!=b", compared("a", Operator::NotEqual, any("b"))),
        ("a=", compared("a", Operator::Equal, any(""))),
        ("n[int]>=500", compared("n", Operator::AtLeast, Operand::Int(500))),
        ("n[int]<-1", compared("n", Operator::Less, Operand::Int(-1))),
        ("n[double]<=0.5", compared("n", Operator::AtMost, Operand::Double(scouter_query::Double(0.5)))),
        ("b[bool]=true", compared("b", Operator::Equal, Operand::Bool(true))),
        ("s[string]>a]b", compared("s", Operator::Greater, text("a]b"))),
        ("\"odd=key\"=1", compared("odd=key", Operator::Equal, any("1"))),
        ("\"q\\\"\"[string]=x", compared("q\"", Operator::Equal, text("x"))),
        ("error.type?", Some(("error.type".to_owned(), Wanted::Present))),
        ("error.type!?", Some(("error.type".to_owned(), Wanted::Absent))),
        ("sql~SELECT", Some(("sql".to_owned(), Wanted::Contains("SELECT".to_owned())))),
        ("", None),
        ("=1", None),
        ("key", None),
        ("key[int=1", None),
        ("key[int]=x", None),
        ("key[number]=1", None),
        ("\"open=1", None),
    ] {
        assert_eq!(wanted(written), expected, "{written}");
    }
}

#[test]
fn a_filter_takes_its_parameters_and_no_others() {
    let pairs =
        [("service", "a"), ("service", "b"), ("status", "error"), ("kind", "server"), ("root", "true"), ("limit", "3"), ("text", "")];
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let mut parameters = Parameters::new(pairs, 0);
    let filter = SpanFilter::take(&mut parameters).unwrap();
    assert_eq!((filter.services.len(), filter.states.as_slice(), filter.is_root), (2, &[State::Error][..], Some(true)));
    assert_eq!((filter.kinds.as_slice(), filter.text), (&["SERVER".to_owned()][..], None));
    assert_eq!(parameters.count("limit", 1, 5).unwrap(), 3);
    parameters.end(&[]).unwrap();
    for (name, value) in [("status", "bad"), ("kind", "x"), ("trace_id", "12"), ("attr", "x"), ("min_duration", "ten"), ("root", "1")] {
        let mut parameters = Parameters::new(vec![(name.to_owned(), value.to_owned())], 0);
        let refusal = SpanFilter::take(&mut parameters).unwrap_err();
        assert!(refusal.to_string().contains(name) && !refusal.suggested_action().is_empty(), "{refusal}");
    }
}
