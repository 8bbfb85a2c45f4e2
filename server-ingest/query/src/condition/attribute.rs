//! The test of one attribute in a canonical JSON object (`docs/storage-columns.md`).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::functions::member::Member;

/// What is asked of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttributeTest {
    /// Its key.
    pub key: String,
    /// What it must be.
    pub wanted: Wanted,
}

/// What an attribute must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// There, whatever it is.
    Present,
    /// Not there.
    Absent,
    /// A string with this text in it, in any case.
    Contains(String),
    /// There, and comparing this way.
    Compare {
        /// How.
        operator: Operator,
        /// With what.
        operand: Operand,
    },
}

/// How values compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// What a value is compared with. But for `Untyped`, values of another type never compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Operand {
    /// With a value of any type whose text or number it is.
    Untyped(String),
    /// With a string.
    Text(String),
    /// With an int.
    Int(i64),
    /// With a double.
    Double(Double),
    /// With a bool.
    Bool(bool),
}

/// A double that is equal to itself, bit by bit.
#[derive(Debug, Clone, Copy)]
pub struct Double(pub f64);

impl PartialEq for Double {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Double {}

impl Hash for Double {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// What a test finds in one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No such key.
    Nothing,
    /// The key, and its value does not pass.
    Other,
    /// A value that passes.
    It,
}

impl Found {
    /// Whether the row passes, if this is what its last object says.
    pub(super) fn passes(self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Absent => self == Self::Nothing,
            _ => self == Self::It,
        }
    }
}

/// A test made ready for many objects.
pub(super) struct Prepared<'a> {
    member: Member,
    wanted: &'a Wanted,
    contains: Option<AnyCase>,
    number: Option<Number>,
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Int(i64),
    Double(f64),
}

/// A value as it stands in canonical JSON.
enum Value<'a> {
    Text(Cow<'a, str>),
    Bool(bool),
    Number(Number),
    Null,
    Bytes(&'a str),
    Nested,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(test: &'a AttributeTest) -> Self {
        let contains = if let Wanted::Contains(text) = &test.wanted { Some(AnyCase::new(text)) } else { None };
        let number = match &test.wanted {
            Wanted::Compare { operand: Operand::Untyped(text), .. } => Number::parse(text),
            _ => None,
        };
        Self { member: Member::new(&test.key), wanted: &test.wanted, contains, number }
    }

    pub(super) fn find_in(&self, json: &str) -> Found {
        let Some(raw) = self.member.value_in(json) else { return Found::Nothing };
        let is_it = match self.wanted {
            Wanted::Present | Wanted::Absent => true,
            Wanted::Contains(_) => match Value::read(raw) {
                Value::Text(text) => self.contains.as_ref().is_some_and(|wanted| wanted.is_in(&text)),
                _ => false,
            },
            Wanted::Compare { operator, operand } => {
                let ordering = self.compare(&Value::read(raw), operand);
                match (operator, ordering) {
                    // A value that does not compare is another one, if its type was not asked for.
                    (Operator::NotEqual, None) => matches!(operand, Operand::Untyped(_)),
                    (_, None) => false,
                    (operator, Some(ordering)) => operator.accepts(ordering),
                }
            }
        };
        if is_it { Found::It } else { Found::Other }
    }

    fn compare(&self, value: &Value<'_>, operand: &Operand) -> Option<Ordering> {
        match (operand, value) {
            (Operand::Text(wanted), Value::Text(text)) => Some(text.as_ref().cmp(wanted)),
            (Operand::Int(wanted), Value::Number(Number::Int(value))) => Some(value.cmp(wanted)),
            (Operand::Double(wanted), Value::Number(Number::Double(value))) => value.partial_cmp(&wanted.0),
            (Operand::Bool(wanted), Value::Bool(value)) => Some(value.cmp(wanted)),
            (Operand::Untyped(wanted), value) => match (value, self.number) {
                (Value::Number(value), Some(wanted)) => value.compare(wanted),
                (Value::Text(text), Some(wanted)) => match Number::parse(text) {
                    Some(value) => value.compare(wanted),
                    None => None,
                },
                (Value::Text(text), None) => Some(text.as_ref().cmp(wanted)),
                (Value::Bool(value), None) => Some(if *value { "true" } else { "false" }.cmp(wanted.as_str())),
                (Value::Bytes(base64), None) => Some((*base64).cmp(wanted.as_str())),
                (Value::Null, None) if wanted == "null" => Some(Ordering::Equal),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Operator {
    fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::AtMost => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::AtLeast => ordering.is_ge(),
        }
    }
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(int) => Some(Self::Int(int)),
            Err(_) => text.parse().ok().filter(|_| text.bytes().any(|byte| byte.is_ascii_digit())).map(Self::Double),
        }
    }

    fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(left), Self::Int(right)) => Some(left.cmp(&right)),
            (left, right) => left.double().partial_cmp(&right.double()),
        }
    }

    fn double(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }
}

impl<'a> Value<'a> {
    fn read(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            Some(b'"') if !raw.contains('\\') => Self::Text(Cow::Borrowed(&raw[1..raw.len() - 1])),
            Some(b'"') => serde_json::from_str::<String>(raw).map_or(Self::Null, |text| Self::Text(Cow::Owned(text))),
            Some(b't') => Self::Bool(true),
            Some(b'f') => Self::Bool(false),
            Some(b'n') | None => Self::Null,
            Some(b'{') => match marked(raw) {
                Some(("$bytes", base64)) => Self::Bytes(base64),
                Some(("$double", text)) => text.parse().map_or(Self::Nested, |value| Self::Number(Number::Double(value))),
                _ => Self::Nested,
            },
            Some(b'[') => Self::Nested,
            Some(_) => Number::parse(raw).map_or(Self::Nested, Self::Number),
        }
    }
}

/// The marker and the text in an object such as `{"$bytes":"AQID"}`.
fn marked(raw: &str) -> Option<(&str, &str)> {
    let (marker, text) = raw.strip_prefix("{\"")?.strip_suffix("\"}")?.split_once("\":\"")?;
    (!text.contains('"')).then_some((marker, text))
}

/// A text to find in others, in any case of its letters.
#[derive(Debug)]
pub(super) struct AnyCase {
    lower: String,
}

impl AnyCase {
    pub(super) fn new(text: &str) -> Self {
        Self { lower: text.to_lowercase() }
    }

    pub(super) fn is_in(&self, text: &str) -> bool {
        let wanted = self.lower.as_bytes();
        let Some(&first) = wanted.first() else { return true };
        if !self.lower.is_ascii() {
            return text.to_lowercase().contains(&self.lower);
        }
        // Most bytes of most texts are passed over without being compared.
        let text = text.as_bytes();
        memchr::memchr2_iter(first, first.to_ascii_uppercase(), text)
            .any(|at| text.get(at..at + wanted.len()).is_some_and(|part| part.eq_ignore_ascii_case(wanted)))
    }
}
