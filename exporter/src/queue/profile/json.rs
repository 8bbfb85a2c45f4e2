//! A JSON document read field by field, each knowing its path, so that what is wrong can be named.

use std::{collections::HashMap, fmt, fmt::Write};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Longest piece of a document that a message repeats.
const MAX_FOUND_CHARS: usize = 60;

/// A document as far down as a profile is. Numbers are kept as they are written: serde_json reads some of them wrong by the last bit, and a value
/// that equals a bin's limit would be counted beside it.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Box<str>),
    Text(String),
    List(Vec<Json>),
    Object(Object),
    /// A list or an object below what is looked at.
    Deep,
}

/// The fields in the order in which they were written. Of two with the same name the last one counts.
#[derive(Debug, Default)]
pub(super) struct Object {
    fields: Vec<(String, Json)>,
    places: HashMap<String, usize>,
}

impl Json {
    pub(super) fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        Self::below(serde_json::from_slice(json)?, 0)
    }

    fn below(raw: &RawValue, depth: usize) -> Result<Self, serde_json::Error> {
        let text = raw.get();
        Ok(match text.as_bytes().first() {
            Some(b'{' | b'[') if depth > MAX_DEPTH => Self::Deep,
            Some(b'{') => {
                let Fields(raw) = serde_json::from_str(text)?;
                let mut object = Object::default();
                for (name, value) in raw {
                    object.set(name, Self::below(value, depth + 1)?);
                }
                Self::Object(object)
            }
            Some(b'[') => {
                let raw: Vec<&RawValue> = serde_json::from_str(text)?;
                Self::List(raw.into_iter().map(|value| Self::below(value, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Self::Text(serde_json::from_str(text)?),
            Some(b't' | b'f') => Self::Bool(text == "true"),
            Some(b'n') => Self::Null,
            _ => Self::Number(text.into()),
        })
    }

    fn get(&self, key: &str) -> Option<&Self> {
        let Self::Object(object) = self else { return None };
        object.places.get(key).map(|place| &object.fields[*place].1)
    }

    fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn as_number<T: std::str::FromStr>(&self) -> Option<T> {
        if let Self::Number(text) = self { text.parse().ok() } else { None }
    }
}

impl Object {
    fn set(&mut self, name: String, value: Json) {
        match self.places.get(&name) {
            Some(place) => self.fields[*place].1 = value,
            None => {
                self.places.insert(name.clone(), self.fields.len());
                self.fields.push((name, value));
            }
        }
    }
}

/// The fields of an object, not yet read.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        impl<'de> Visitor<'de> for All {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(All).map(Fields)
    }
}

/// What is wrong with which field.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) expected: String,
    pub(super) found: String,
}

/// A place in the document, and what is there.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    value: Option<&'a Json>,
    /// Outermost first. Documents are as deep as a profile is; what is below is not looked at.
    path: [Step<'a>; MAX_DEPTH],
    depth: usize,
}

const MAX_DEPTH: usize = 6;

#[derive(Clone, Copy)]
enum Step<'a> {
    None,
    Key(&'a str),
    Index(usize),
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Json) -> Self {
        Self { value: Some(value), path: [Step::None; MAX_DEPTH], depth: 0 }
    }

    fn below(&self, value: Option<&'a Json>, step: Step<'a>) -> Self {
        let mut path = self.path;
        if let Some(place) = path.get_mut(self.depth) {
            *place = step;
        }
        Self { value, path, depth: self.depth + 1 }
    }

    /// The field of an object; nothing when there is none, or no object.
    pub(super) fn key(&self, key: &'a str) -> Self {
        self.below(self.value.and_then(|value| value.get(key)), Step::Key(key))
    }

    /// `None` when the field is absent or null.
    pub(super) fn given(self) -> Option<Self> {
        self.value.is_some_and(|value| !matches!(value, Json::Null)).then_some(self)
    }

    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        self.value.and_then(Json::as_text).ok_or_else(|| self.fault("a text"))
    }

    /// A text that is not empty.
    pub(super) fn name(&self) -> Result<&'a str, Fault> {
        self.value.and_then(Json::as_text).filter(|text| !text.is_empty()).ok_or_else(|| self.fault("a text that is not empty"))
    }

    pub(super) fn integer(&self) -> Result<i64, Fault> {
        self.value.and_then(Json::as_number).ok_or_else(|| self.fault("a whole number"))
    }

    /// A number; infinities are written as text.
    pub(super) fn number(&self) -> Result<f64, Fault> {
        let number = match self.value {
            Some(Json::Text(text)) => match text.to_ascii_lowercase().trim_start_matches('+') {
                "inf" | "infinity" => Some(f64::INFINITY),
                "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            value => value.and_then(Json::as_number).filter(|number: &f64| number.is_finite()),
        };
        number.ok_or_else(|| self.fault("a number, \"inf\" or \"-inf\""))
    }

    pub(super) fn entries(self) -> Result<impl Iterator<Item = (&'a str, Node<'a>)>, Fault> {
        let Some(Json::Object(object)) = self.value else { return Err(self.fault("an object")) };
        Ok(object.fields.iter().map(move |(key, value)| (key.as_str(), self.below(Some(value), Step::Key(key)))))
    }

    pub(super) fn items(self) -> Result<impl Iterator<Item = Node<'a>>, Fault> {
        let Some(Json::List(list)) = self.value else { return Err(self.fault("a list")) };
        Ok(list.iter().enumerate().map(move |(index, value)| self.below(Some(value), Step::Index(index))))
    }

    pub(super) fn fault(&self, expected: &str) -> Fault {
        let mut field = String::new();
        for step in self.path.iter().take(self.depth) {
            match step {
                Step::Key(key) if field.is_empty() => field.push_str(&shortened(key)),
                Step::Key(key) => field.extend([".", &shortened(key)]),
                // Writing to a string cannot fail.
                Step::Index(index) => _ = write!(field, "[{index}]"),
                Step::None => {}
            }
        }
        let found = match self.value {
            None => "missing".to_owned(),
            Some(Json::List(items)) => format!("a list of {}", items.len()),
            Some(Json::Object(object)) => format!("an object of {}", object.fields.len()),
            Some(Json::Deep) => "a list or an object".to_owned(),
            Some(Json::Null) => "null".to_owned(),
            Some(Json::Bool(value)) => value.to_string(),
            Some(Json::Number(text)) => shortened(text),
            Some(Json::Text(text)) => shortened(&format!("{text:?}")),
        };
        Fault { field, expected: expected.to_owned(), found }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_FOUND_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
