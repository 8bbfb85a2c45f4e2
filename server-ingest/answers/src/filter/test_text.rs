//! Tests of attributes as they are written: `http.route=/ask`, `http.response.status_code[int]>=500`, `error.type?`.

use scouter_query::{AttributeTest, Double, Operand, Operator, Wanted};

use crate::error::AnswerError;

/// Where an unquoted key ends.
const ENDS_KEY: [char; 7] = ['=', '!', '<', '>', '~', '?', '['];

/// The longest first, so that none is read as the beginning of another.
const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// A test in text.
pub(super) fn attribute_test(text: &str) -> Result<AttributeTest, AnswerError> {
    let refusal = |why: &str| {
        AnswerError::parameter(
            format!("attr cannot be read: {text:?}: {why}"),
            "write key=value, key[int]>=500, key~part, key? or key!?; a key with one of = ! < > ~ ? [ in double quotes",
        )
    };
    let (key, rest) = key(text).ok_or_else(|| refusal("the key in quotes does not end"))?;
    if key.is_empty() {
        return Err(refusal("it has no key"));
    }
    let (type_name, rest) = match rest.strip_prefix('[') {
        None => (None, rest),
        Some(typed) => {
            let (name, rest) = typed.split_once(']').ok_or_else(|| refusal("the type has no end"))?;
            (Some(name), rest)
        }
    };
    let wanted = match rest {
        "?" => Wanted::Present,
        "!?" => Wanted::Absent,
        _ => {
            if let Some(part) = rest.strip_prefix('~') {
                Wanted::Contains(part.to_owned())
            } else {
                let found = OPERATORS.iter().find_map(|(written, operator)| Some((*operator, rest.strip_prefix(written)?)));
                let (operator, value) = found.ok_or_else(|| refusal("nothing is asked of the key"))?;
                let operand = operand(type_name, value).ok_or_else(|| refusal("the value is not of the type, or the type is none"))?;
                Wanted::Compare { operator, operand }
            }
        }
    };
    Ok(AttributeTest { key, wanted })
}

/// `key=value`, or `key` alone.
pub(crate) fn tag_test(text: &str) -> AttributeTest {
    match text.split_once('=') {
        Some((key, value)) => equal(key, value),
        None => AttributeTest { key: text.to_owned(), wanted: Wanted::Present },
    }
}

/// That an attribute of any type has this text.
pub(crate) fn equal(key: &str, value: &str) -> AttributeTest {
    let operand = Operand::Untyped(value.to_owned());
    AttributeTest { key: key.to_owned(), wanted: Wanted::Compare { operator: Operator::Equal, operand } }
}

fn key(text: &str) -> Option<(String, &str)> {
    if text.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
        let key = values.next()?.ok()?;
        return Some((key, &text[values.byte_offset()..]));
    }
    let end = text.find(ENDS_KEY).unwrap_or(text.len());
    Some((text[..end].to_owned(), &text[end..]))
}

fn operand(type_name: Option<&str>, value: &str) -> Option<Operand> {
    Some(match type_name {
        None => Operand::Untyped(value.to_owned()),
        Some("string") => Operand::Text(value.to_owned()),
        Some("int") => Operand::Int(value.parse().ok()?),
        Some("double") => Operand::Double(Double(value.parse().ok()?)),
        Some("bool") => Operand::Bool(value.parse().ok()?),
        Some(_) => return None,
    })
}
