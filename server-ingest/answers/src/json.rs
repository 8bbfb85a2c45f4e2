//! Values as this server's JSON writes them: 64-bit integers as text, attributes with their types.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use scouter_storage::columns::attributes_from_json;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A 64-bit integer, written as a text of digits: JavaScript's numbers would round it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Decimal(pub(crate) i64);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// An attribute, or a member of a map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TypedAttribute {
    pub(crate) key: String,
    #[serde(flatten)]
    pub(crate) value: TypedValue,
}

/// A value and its type.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "lowercase")]
pub(crate) enum TypedValue {
    Null(()),
    String(String),
    Bool(bool),
    Int(Decimal),
    Double(Value),
    Bytes(String),
    Array(Vec<TypedValue>),
    Map(Vec<TypedAttribute>),
}

impl TypedValue {
    /// The name of the type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null(()) => "null",
            Self::String(_) => "string",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Double(_) => "double",
            Self::Bytes(_) => "bytes",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
        }
    }

    /// Without types, as ordinary JSON: what Jaeger and Scouter show of lists and maps.
    pub(crate) fn plain(&self) -> Value {
        match self {
            Self::Null(()) => Value::Null,
            Self::String(text) | Self::Bytes(text) => Value::from(text.as_str()),
            Self::Bool(value) => Value::from(*value),
            Self::Int(value) => Value::from(value.0),
            Self::Double(value) => value.clone(),
            Self::Array(values) => values.iter().map(Self::plain).collect(),
            Self::Map(members) => Value::Object(members.iter().map(|member| (member.key.clone(), member.value.plain())).collect()),
        }
    }

    /// The value as one text, for lists of suggestions; none for lists and maps.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Null(()) | Self::Array(_) | Self::Map(_) => None,
            Self::String(text) | Self::Bytes(text) => Some(text.clone()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Int(value) => Some(value.0.to_string()),
            Self::Double(Value::String(text)) => Some(text.clone()),
            Self::Double(number) => Some(number.to_string()),
        }
    }
}

/// The attributes in canonical JSON text, in order. Values are no deeper than requests may nest them. Text that is none has none.
pub(crate) fn typed_attributes(json: &str) -> Vec<TypedAttribute> {
    if json.is_empty() || json == "{}" {
        return Vec::new();
    }
    attributes_from_json(json).map_or_else(|_| Vec::new(), |attributes| attributes.into_iter().map(typed).collect())
}

fn typed(attribute: KeyValue) -> TypedAttribute {
    TypedAttribute { key: attribute.key, value: typed_value(attribute.value) }
}

fn typed_value(value: Option<AnyValue>) -> TypedValue {
    match value.and_then(|value| value.value) {
        None | Some(Any::StringValueStrindex(_)) => TypedValue::Null(()),
        Some(Any::StringValue(text)) => TypedValue::String(text),
        Some(Any::BoolValue(value)) => TypedValue::Bool(value),
        Some(Any::IntValue(value)) => TypedValue::Int(Decimal(value)),
        Some(Any::DoubleValue(value)) => TypedValue::Double(double(value)),
        Some(Any::BytesValue(bytes)) => TypedValue::Bytes(STANDARD.encode(bytes)),
        Some(Any::ArrayValue(list)) => TypedValue::Array(list.values.into_iter().map(|value| typed_value(Some(value))).collect()),
        Some(Any::KvlistValue(members)) => TypedValue::Map(members.values.into_iter().map(typed).collect()),
    }
}

fn double(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(
        || {
            let text = if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            text.into()
        },
        Value::Number,
    )
}

/// JSON where the text is some, else the text; null without one.
pub(crate) fn json_or_text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)))
}
