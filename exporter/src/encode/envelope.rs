//! What stands around spans on the wire, encoded once.

use std::sync::Arc;

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::Resource;

use super::{
    value::{ValueRef, put_attributes},
    wire::{delimited, put_bytes, put_nested},
};

const RESOURCE: u8 = delimited(1);
const RESOURCE_ATTRIBUTES: u8 = delimited(1);
const SCOPE: u8 = delimited(1);
const SCOPE_NAME: u8 = delimited(1);
const SCOPE_VERSION: u8 = delimited(2);
const SCOPE_ATTRIBUTES: u8 = delimited(3);
const SCHEMA_URL: u8 = delimited(3);

/// A resource: the fields of `ResourceSpans` beside its spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedResource {
    pub(super) bytes: Vec<u8>,
}

impl EncodedResource {
    /// Encodes a resource; of repeated keys the last one counts.
    pub fn new<'a>(attributes: impl IntoIterator<Item = (&'a str, ValueRef<'a>)>, schema_url: Option<&str>) -> Arc<Self> {
        let attributes: Vec<_> = attributes.into_iter().collect();
        let mut bytes = Vec::new();
        put_nested(&mut bytes, RESOURCE, |out| put_attributes(out, RESOURCE_ATTRIBUTES, attributes.len(), |index| attributes[index]));
        put_bytes(&mut bytes, SCHEMA_URL, schema_url.unwrap_or_default().as_bytes());
        Arc::new(Self { bytes })
    }

    /// Encodes the SDK's resource, keys in order so that equal resources have equal bytes.
    pub fn from_sdk(resource: &Resource) -> Arc<Self> {
        let mut attributes: Vec<_> = resource.iter().map(|(key, value)| (key.as_str(), ValueRef::from(value))).collect();
        attributes.sort_unstable_by_key(|(key, _)| *key);
        Self::new(attributes, resource.schema_url())
    }
}

/// An instrumentation scope from plain values.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScopeRef<'a> {
    /// The instrumented library.
    pub name: &'a str,
    /// Its version.
    pub version: Option<&'a str>,
    /// Schema of the names its spans use.
    pub schema_url: Option<&'a str>,
    /// Its attributes; of repeated keys the last one counts.
    pub attributes: &'a [(&'a str, ValueRef<'a>)],
}

/// A resource and a scope: all that a span's own bytes leave out. Spans of one envelope share it by pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEnvelope {
    pub(super) resource: Arc<EncodedResource>,
    /// The fields of `ScopeSpans` beside its spans.
    pub(super) scope: Vec<u8>,
}

impl EncodedEnvelope {
    /// Encodes `scope` under `resource`.
    pub fn new(resource: Arc<EncodedResource>, scope: &ScopeRef<'_>) -> Arc<Self> {
        let mut bytes = Vec::new();
        put_nested(&mut bytes, SCOPE, |out| {
            put_bytes(out, SCOPE_NAME, scope.name.as_bytes());
            put_bytes(out, SCOPE_VERSION, scope.version.unwrap_or_default().as_bytes());
            put_attributes(out, SCOPE_ATTRIBUTES, scope.attributes.len(), |index| scope.attributes[index]);
        });
        put_bytes(&mut bytes, SCHEMA_URL, scope.schema_url.unwrap_or_default().as_bytes());
        Arc::new(Self { resource, scope: bytes })
    }

    /// Encodes the SDK's scope under `resource`.
    pub fn from_sdk(resource: Arc<EncodedResource>, scope: &InstrumentationScope) -> Arc<Self> {
        let attributes: Vec<_> = scope.attributes().map(|attribute| (attribute.key.as_str(), ValueRef::from(&attribute.value))).collect();
        let scope = ScopeRef { name: scope.name(), version: scope.version(), schema_url: scope.schema_url(), attributes: &attributes };
        Self::new(resource, &scope)
    }
}
