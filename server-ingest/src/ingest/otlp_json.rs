//! OTLP's JSON, turned into protobuf.
//!
//! Read by OTLP's rules: ids in hexadecimal of either case, 64-bit numbers as text or number, enumerations as numbers, bytes in
//! base64, names in lowerCamelCase, unknown names ignored, what is missing or null has its default. A span whose ids
//! or enumerations cannot be read is left out and named; the others go on.

use std::borrow::Cow;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use super::RefusedBefore;

/// With or without padding; the alphabet of URLs is tried when the standard one does not fit.
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);
const ANY_PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// Of what a client sent as an id, this much is repeated to it.
const QUOTED_CHARS: usize = 40;

/// Reads a request; spans that cannot be read are left out and counted.
pub(super) fn read(json: &[u8]) -> Result<(ExportTraceServiceRequest, RefusedBefore), serde_json::Error> {
    let request: JsonRequest = serde_json::from_slice(json)?;
    let mut refused = RefusedBefore::default();
    let mut index = 0;
    let resource_spans = list(request.resource_spans, |resource| ResourceSpans {
        resource: resource.resource.map(JsonResource::into_proto),
        schema_url: resource.schema_url.unwrap_or_default(),
        scope_spans: list(resource.scope_spans, |scope| ScopeSpans {
            scope: scope.scope.map(JsonScope::into_proto),
            schema_url: scope.schema_url.unwrap_or_default(),
            spans: scope.spans.unwrap_or_default().into_iter().filter_map(|span| keep(span, &mut index, &mut refused)).collect(),
        }),
    });
    if refused.spans > 1 {
        refused.words = format!("{} spans cannot be read, the first is {}", refused.spans, refused.words);
    }
    Ok((ExportTraceServiceRequest { resource_spans }, refused))
}

fn keep(span: JsonSpan, index: &mut u64, refused: &mut RefusedBefore) -> Option<Span> {
    let outcome = span.into_proto();
    if let Err(fault) = &outcome {
        refused.spans += 1;
        if refused.spans == 1 {
            refused.words = format!("span {index}: {fault}");
        }
    }
    *index += 1;
    outcome.ok()
}

fn list<T, U>(items: Option<Vec<T>>, convert: impl FnMut(T) -> U) -> Vec<U> {
    items.unwrap_or_default().into_iter().map(convert).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonRequest {
    resource_spans: Option<Vec<JsonResourceSpans>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonResourceSpans {
    resource: Option<JsonResource>,
    scope_spans: Option<Vec<JsonScopeSpans>>,
    schema_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonResource {
    attributes: Option<Vec<JsonKeyValue>>,
    dropped_attributes_count: Option<Number<u32>>,
    entity_refs: Option<Vec<JsonEntityRef>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonEntityRef {
    schema_url: Option<String>,
    r#type: Option<String>,
    id_keys: Option<Vec<String>>,
    description_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonScopeSpans {
    scope: Option<JsonScope>,
    spans: Option<Vec<JsonSpan>>,
    schema_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonScope {
    name: Option<String>,
    version: Option<String>,
    attributes: Option<Vec<JsonKeyValue>>,
    dropped_attributes_count: Option<Number<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonSpan {
    trace_id: Option<Id>,
    span_id: Option<Id>,
    trace_state: Option<String>,
    parent_span_id: Option<Id>,
    flags: Option<Number<u32>>,
    name: Option<String>,
    kind: Option<Enumeration>,
    start_time_unix_nano: Option<Number<u64>>,
    end_time_unix_nano: Option<Number<u64>>,
    attributes: Option<Vec<JsonKeyValue>>,
    dropped_attributes_count: Option<Number<u32>>,
    events: Option<Vec<JsonEvent>>,
    dropped_events_count: Option<Number<u32>>,
    links: Option<Vec<JsonLink>>,
    dropped_links_count: Option<Number<u32>>,
    status: Option<JsonStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonEvent {
    time_unix_nano: Option<Number<u64>>,
    name: Option<String>,
    attributes: Option<Vec<JsonKeyValue>>,
    dropped_attributes_count: Option<Number<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonLink {
    trace_id: Option<Id>,
    span_id: Option<Id>,
    trace_state: Option<String>,
    attributes: Option<Vec<JsonKeyValue>>,
    dropped_attributes_count: Option<Number<u32>>,
    flags: Option<Number<u32>>,
}

#[derive(Deserialize)]
struct JsonStatus {
    message: Option<String>,
    code: Option<Enumeration>,
}

#[derive(Deserialize)]
struct JsonKeyValue {
    key: Option<String>,
    value: Option<JsonValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonValue {
    string_value: Option<String>,
    bool_value: Option<bool>,
    int_value: Option<Number<i64>>,
    double_value: Option<Double>,
    array_value: Option<JsonArray>,
    kvlist_value: Option<JsonKeyValues>,
    bytes_value: Option<Base64>,
}

#[derive(Deserialize)]
struct JsonArray {
    values: Option<Vec<JsonValue>>,
}

#[derive(Deserialize)]
struct JsonKeyValues {
    values: Option<Vec<JsonKeyValue>>,
}

impl JsonSpan {
    fn into_proto(self) -> Result<Span, String> {
        Ok(Span {
            trace_id: id("traceId", self.trace_id)?,
            span_id: id("spanId", self.span_id)?,
            trace_state: self.trace_state.unwrap_or_default(),
            parent_span_id: id("parentSpanId", self.parent_span_id)?,
            flags: number(self.flags),
            name: self.name.unwrap_or_default(),
            kind: enumeration("kind", self.kind)?,
            start_time_unix_nano: number(self.start_time_unix_nano),
            end_time_unix_nano: number(self.end_time_unix_nano),
            attributes: attributes(self.attributes),
            dropped_attributes_count: number(self.dropped_attributes_count),
            events: list(self.events, JsonEvent::into_proto),
            dropped_events_count: number(self.dropped_events_count),
            links: self.links.unwrap_or_default().into_iter().map(JsonLink::into_proto).collect::<Result<_, _>>()?,
            dropped_links_count: number(self.dropped_links_count),
            status: self.status.map(JsonStatus::into_proto).transpose()?,
        })
    }
}

impl JsonEvent {
    fn into_proto(self) -> span::Event {
        span::Event {
            time_unix_nano: number(self.time_unix_nano),
            name: self.name.unwrap_or_default(),
            attributes: attributes(self.attributes),
            dropped_attributes_count: number(self.dropped_attributes_count),
        }
    }
}

impl JsonLink {
    fn into_proto(self) -> Result<span::Link, String> {
        Ok(span::Link {
            trace_id: id("traceId of a link", self.trace_id)?,
            span_id: id("spanId of a link", self.span_id)?,
            trace_state: self.trace_state.unwrap_or_default(),
            attributes: attributes(self.attributes),
            dropped_attributes_count: number(self.dropped_attributes_count),
            flags: number(self.flags),
        })
    }
}

impl JsonStatus {
    fn into_proto(self) -> Result<Status, String> {
        Ok(Status { message: self.message.unwrap_or_default(), code: enumeration("status code", self.code)? })
    }
}

impl JsonResource {
    fn into_proto(self) -> Resource {
        Resource {
            attributes: attributes(self.attributes),
            dropped_attributes_count: number(self.dropped_attributes_count),
            entity_refs: list(self.entity_refs, |entity| EntityRef {
                schema_url: entity.schema_url.unwrap_or_default(),
                r#type: entity.r#type.unwrap_or_default(),
                id_keys: entity.id_keys.unwrap_or_default(),
                description_keys: entity.description_keys.unwrap_or_default(),
            }),
        }
    }
}

impl JsonScope {
    fn into_proto(self) -> InstrumentationScope {
        InstrumentationScope {
            name: self.name.unwrap_or_default(),
            version: self.version.unwrap_or_default(),
            attributes: attributes(self.attributes),
            dropped_attributes_count: number(self.dropped_attributes_count),
        }
    }
}

impl JsonValue {
    fn into_proto(self) -> AnyValue {
        let value = self
            .string_value
            .map(Value::StringValue)
            .or(self.bool_value.map(Value::BoolValue))
            .or(self.int_value.map(|Number(value)| Value::IntValue(value)))
            .or(self.double_value.map(|Double(value)| Value::DoubleValue(value)))
            .or_else(|| self.array_value.map(|array| Value::ArrayValue(ArrayValue { values: list(array.values, Self::into_proto) })))
            .or_else(|| self.kvlist_value.map(|pairs| Value::KvlistValue(KeyValueList { values: attributes(pairs.values) })))
            .or(self.bytes_value.map(|Base64(bytes)| Value::BytesValue(bytes)));
        AnyValue { value }
    }
}

fn attributes(attributes: Option<Vec<JsonKeyValue>>) -> Vec<KeyValue> {
    list(attributes, |pair| KeyValue {
        key: pair.key.unwrap_or_default(),
        value: pair.value.map(JsonValue::into_proto),
        ..KeyValue::default()
    })
}

fn number<T: Default>(number: Option<Number<T>>) -> T {
    number.map(|Number(value)| value).unwrap_or_default()
}

fn id(what: &str, id: Option<Id>) -> Result<Vec<u8>, String> {
    match id {
        None => Ok(Vec::new()),
        Some(Id::Bytes(bytes)) => Ok(bytes),
        Some(Id::NotHex(text)) => Err(format!("{what} {text:?} is not hexadecimal")),
    }
}

fn enumeration(what: &str, value: Option<Enumeration>) -> Result<i32, String> {
    match value {
        None => Ok(0),
        Some(Enumeration::Number(value)) => Ok(value),
        Some(Enumeration::Name(name)) => Err(format!("{what} is {name:?}, where OTLP has a number")),
    }
}

/// Bytes in hexadecimal; their length is judged with that of protobuf's.
enum Id {
    Bytes(Vec<u8>),
    NotHex(String),
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
        Ok(match digits {
            Some(digits) if digits.len() % 2 == 0 => Self::Bytes(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()),
            _ => Self::NotHex(text.chars().take(QUOTED_CHARS).collect()),
        })
    }
}

enum Enumeration {
    Number(i32),
    Name(String),
}

impl<'de> Deserialize<'de> for Enumeration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i32),
            Name(String),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Number(number) => Self::Number(number),
            Either::Name(name) => Self::Name(name.chars().take(QUOTED_CHARS).collect()),
        })
    }
}

/// An integer as number or text.
struct Number<T>(T);

impl<'de, T> Deserialize<'de> for Number<T>
where
    T: TryFrom<i128> + std::str::FromStr,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<T: TryFrom<i128> + std::str::FromStr> de::Visitor<'_> for Visitor<T> {
            type Value = T;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an integer, as a number or as text")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
                T::try_from(value.into()).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
                T::try_from(value.into()).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<T, E> {
                // JavaScript writes large whole numbers as 1.79e18.
                #[allow(clippy::cast_possible_truncation, reason = "whole and far below 2^127")]
                let whole = (value.fract() == 0.0 && value.abs() < 1e30).then_some(value as i128);
                whole.and_then(|whole| T::try_from(whole).ok()).ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                text.trim().parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor(std::marker::PhantomData)).map(Self)
    }
}

/// A number, or one of the three words for what JSON's numbers cannot say. Its text is read by the standard library, as numbers of records are:
/// serde_json's own reading may be wrong in the last bit.
struct Double(f64);

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = <&RawValue>::deserialize(deserializer)?.get();
        let said = if json.starts_with('"') { serde_json::from_str(json).unwrap_or_default() } else { Cow::Borrowed(json) };
        let value = match (&*said, json.starts_with('"')) {
            ("Infinity", true) => Some(f64::INFINITY),
            ("-Infinity", true) => Some(f64::NEG_INFINITY),
            ("NaN", true) => Some(f64::NAN),
            (number, is_text) => number.parse().ok().filter(|value: &f64| is_text || value.is_finite()),
        };
        let expected = "a number, or \"NaN\", \"Infinity\" or \"-Infinity\"";
        value.map(Self).ok_or_else(|| de::Error::custom(format!("invalid value: {:.40}, expected {expected}", json)))
    }
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(&text).or_else(|_| BASE64_URL.decode(&text));
        bytes.map(Self).map_err(|error| de::Error::custom(format!("a bytesValue is not base64: {error}")))
    }
}

#[cfg(test)]
mod tests;
