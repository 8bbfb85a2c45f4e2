//! Ids as OpenTelemetry has them: bytes, written as lower-case hexadecimal.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::functions::{bytes_of_hex, hex_text};

/// The 16 bytes of a trace id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(pub [u8; 16]);

/// The 8 bytes of a span id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpanId(pub [u8; 8]);

impl SpanId {
    /// The id in these bytes; none if they are none or all zero, which is how "no parent" is sent.
    pub(crate) fn present(bytes: &[u8]) -> Option<Self> {
        let id = <[u8; 8]>::try_from(bytes).ok()?;
        (id != [0; 8]).then_some(Self(id))
    }
}

macro_rules! hexadecimal {
    ($id:ident) => {
        impl fmt::Display for $id {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&hex_text(&self.0))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&hex_text(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                let bytes = bytes_of_hex(&text).and_then(|bytes| bytes.try_into().ok());
                bytes.map(Self).ok_or_else(|| D::Error::custom(concat!("not the hexadecimal digits of a ", stringify!($id))))
            }
        }
    };
}

hexadecimal!(TraceId);
hexadecimal!(SpanId);
