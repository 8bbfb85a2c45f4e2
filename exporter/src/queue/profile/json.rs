//! A JSON document read field by field, each knowing its path, so that what is wrong can be named.

use std::fmt::Write;

use serde_json::Value;

/// Longest piece of a document that a message repeats.
const MAX_FOUND_CHARS: usize = 60;

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
    value: Option<&'a Value>,
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
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value: Some(value), path: [Step::None; MAX_DEPTH], depth: 0 }
    }

    fn below(&self, value: Option<&'a Value>, step: Step<'a>) -> Self {
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
        self.value.is_some_and(|value| !value.is_null()).then_some(self)
    }

    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        self.value.and_then(Value::as_str).ok_or_else(|| self.fault("a text"))
    }

    /// A text that is not empty.
    pub(super) fn name(&self) -> Result<&'a str, Fault> {
        self.value.and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or_else(|| self.fault("a text that is not empty"))
    }

    pub(super) fn integer(&self) -> Result<i64, Fault> {
        self.value.and_then(Value::as_i64).ok_or_else(|| self.fault("a whole number"))
    }

    /// A number; infinities are written as text.
    pub(super) fn number(&self) -> Result<f64, Fault> {
        let number = match self.value {
            Some(Value::String(text)) => match text.to_ascii_lowercase().trim_start_matches('+') {
                "inf" | "infinity" => Some(f64::INFINITY),
                "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            value => value.and_then(Value::as_f64),
        };
        number.ok_or_else(|| self.fault("a number, \"inf\" or \"-inf\""))
    }

    pub(super) fn entries(self) -> Result<impl Iterator<Item = (&'a str, Node<'a>)>, Fault> {
        let object = self.value.and_then(Value::as_object).ok_or_else(|| self.fault("an object"))?;
        Ok(object.iter().map(move |(key, value)| (key.as_str(), self.below(Some(value), Step::Key(key)))))
    }

    pub(super) fn items(self) -> Result<impl Iterator<Item = Node<'a>>, Fault> {
        let list = self.value.and_then(Value::as_array).ok_or_else(|| self.fault("a list"))?;
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
            Some(Value::Array(items)) => format!("a list of {}", items.len()),
            Some(Value::Object(entries)) => format!("an object of {}", entries.len()),
            Some(value) => shortened(&value.to_string()),
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
