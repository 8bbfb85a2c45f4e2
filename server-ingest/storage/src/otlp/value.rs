//! Attribute values in place, with protobuf's rules for fields that repeat.
//!
//! A field that may occur once can still occur many times on the wire. For plain fields the last one counts; messages
//! merge, which is the same as reading their bytes joined. `AnyValue` is a oneof: the last member counts, and a list or map
//! merges with the same member right before it. Parsers built by prost do the same, which the tests compare.
//!
//! Nothing here checks; the bytes were judged. Unjudged bytes give wrong values, never a panic.

use super::field::{Fields, Readable, Wire};

/// One `AnyValue`. Strings are unchecked bytes here; `judge` saw that they are UTF-8.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnyValue<'a> {
    /// No member is set.
    Empty,
    String(&'a [u8]),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    /// `string_value_strindex`, which OTLP reserves for profiles.
    StringIndex(i32),
    /// The bodies of one `ArrayValue`.
    Array(Parts<'a>),
    /// The bodies of one `KeyValueList`.
    Map(Parts<'a>),
}

/// The key and the value's bytes of a `KeyValue` as nearly all are: the key, then the value, their lengths of one byte, and nothing else.
#[inline(always)]
pub(crate) fn usual_key_value(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = message.split_first_chunk::<2>()?;
    if head[0] != 0x0a || head[1] >= 0x80 {
        return None;
    }
    let (key, rest) = rest.split_at_checked(usize::from(head[1]))?;
    let (head, value) = rest.split_first_chunk::<2>()?;
    (head[0] == 0x12 && value.len() < 0x80 && usize::from(head[1]) == value.len()).then_some((key, value))
}

/// The key and the value of one `KeyValue`; no value field is the same as an empty value.
#[inline]
pub(crate) fn key_value(message: &[u8]) -> (&[u8], AnyValue<'_>) {
    match usual_key_value(message) {
        Some((key, value)) => (key, AnyValue::read(value)),
        None => any_key_value(message),
    }
}

fn any_key_value(message: &[u8]) -> (&[u8], AnyValue<'_>) {
    let mut key: &[u8] = &[];
    let mut value = None;
    let mut repeated = false;
    for field in Fields::new(message).readable() {
        match (field.number, field.wire) {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, Wire::Bytes(bytes)) => repeated |= value.replace(bytes).is_some(),
            _ => {}
        }
    }
    let value = match value {
        None => AnyValue::Empty,
        Some(bytes) if !repeated => AnyValue::read(bytes),
        Some(_) => AnyValue::read_merged(Fields::new(message).readable(), Fields::new(&[]).readable()),
    };
    (key, value)
}

impl<'a> AnyValue<'a> {
    /// Reads the message `AnyValue`.
    #[inline]
    pub(crate) fn read(message: &'a [u8]) -> Self {
        if let [0x0a, length, text @ ..] = message
            && *length < 0x80
            && usize::from(*length) == text.len()
        {
            return Self::String(text);
        }
        let mut fields = Fields::new(message).readable();
        match fields.next() {
            None => Self::Empty,
            Some(field) if fields.is_empty() => Self::member(field.number, field.wire).unwrap_or(Self::Empty),
            Some(_) => Self::read_merged(Fields::new(&[]).readable(), Fields::new(message).readable()),
        }
    }

    /// Reads the members in `inner` and then in every field 2 of `outer`, a `KeyValue`.
    #[cold]
    fn read_merged(mut outer: Readable<'a>, mut inner: Readable<'a>) -> Self {
        let (whole_outer, whole_inner) = (outer, inner);
        let mut last = Self::Empty;
        let mut last_number = 0;
        let mut members = 0;
        let mut run_start = 0;
        loop {
            for field in inner {
                let Some(member) = Self::member(field.number, field.wire) else { continue };
                if field.number != last_number {
                    run_start = members;
                }
                members += 1;
                (last, last_number) = (member, field.number);
            }
            match next_value_field(&mut outer) {
                Some(fields) => inner = fields,
                None => break,
            }
        }
        let run = Parts::Run { outer: whole_outer, inner: whole_inner, number: last_number, skip: run_start };
        match last {
            Self::Array(_) => Self::Array(run),
            Self::Map(_) => Self::Map(run),
            plain => plain,
        }
    }

    #[inline]
    fn member(number: u32, wire: Wire<'a>) -> Option<Self> {
        Some(match (number, wire) {
            (1, Wire::Bytes(bytes)) => Self::String(bytes),
            (2, Wire::Varint(value)) => Self::Bool(value != 0),
            (3, Wire::Varint(value)) => Self::Int(value as i64),
            (4, Wire::Fixed64(bits)) => Self::Double(f64::from_bits(bits)),
            (5, Wire::Bytes(bytes)) => Self::Array(Parts::One(Some(bytes))),
            (6, Wire::Bytes(bytes)) => Self::Map(Parts::One(Some(bytes))),
            (7, Wire::Bytes(bytes)) => Self::Bytes(bytes),
            (8, Wire::Varint(value)) => Self::StringIndex(value as i32),
            _ => return None,
        })
    }
}

/// The pieces of the wire whose joined bytes are one message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parts<'a> {
    One(Option<&'a [u8]>),
    /// All members `number` of a value after its first `skip` members.
    Run {
        outer: Readable<'a>,
        inner: Readable<'a>,
        number: u32,
        skip: usize,
    },
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::One(part) => part.take(),
            Self::Run { outer, inner, number, skip } => loop {
                match inner.next() {
                    Some(field) if AnyValue::member(field.number, field.wire).is_none() => {}
                    Some(_) if *skip > 0 => *skip -= 1,
                    Some(field) => {
                        if let (true, Wire::Bytes(bytes)) = (field.number == *number, field.wire) {
                            return Some(bytes);
                        }
                    }
                    None => *inner = next_value_field(outer)?,
                }
            },
        }
    }
}

/// The fields of the next `value` of a `KeyValue`.
fn next_value_field<'a>(key_value: &mut Readable<'a>) -> Option<Readable<'a>> {
    key_value.find_map(|field| match (field.number, field.wire) {
        (2, Wire::Bytes(bytes)) => Some(Fields::new(bytes).readable()),
        _ => None,
    })
}
