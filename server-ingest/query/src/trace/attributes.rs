//! From canonical attribute text (`docs/storage-columns.md`) to keys and values as Scouter shows them.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Attribute;

/// The attributes in canonical text, in order, repeated keys repeated. Text that is no object has none.
pub(crate) fn parse(text: &str) -> Vec<Attribute> {
    if text == "{}" {
        return Vec::new();
    }
    serde_json::from_str::<Members>(text).map_or_else(|_| Vec::new(), |members| members.0)
}

struct Members(Vec<Attribute>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object of attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut attributes = Vec::with_capacity(map.size_hint().unwrap_or(8));
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    attributes.push(Attribute { key, value: shown(value) });
                }
                Ok(Members(attributes))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// A value without the markers of canonical text. Values are at most as deep as requests may nest them.
fn shown(value: Value) -> Value {
    match value {
        Value::Array(elements) => Value::Array(elements.into_iter().map(shown).collect()),
        Value::Object(mut members) => {
            if members.len() == 1
                && let Some(key) = ["$bytes", "$double"].into_iter().find(|key| members.contains_key(*key))
            {
                return members[key].take();
            }
            let unmarked = |key: String| if key.starts_with("$$") { key[1..].to_owned() } else { key };
            Value::Object(members.into_iter().map(|(key, value)| (unmarked(key), shown(value))).collect())
        }
        other => other,
    }
}
