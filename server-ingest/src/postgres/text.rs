//! Text and JSON as PostgreSQL can hold them.
//!
//! It has no character NUL, and its JSONB no half of a surrogate pair. Both become U+FFFD. What is no JSON becomes a JSON string of the whole
//! text. The tables have what was sent.

use std::borrow::Cow;

use serde::de::IgnoredAny;

const ESCAPED_REPLACEMENT: &str = "\\ufffd";

/// Text without NUL.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// Text that PostgreSQL reads as JSONB; `null` for none.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return "null".into();
    }
    if serde_json::from_str::<IgnoredAny>(text).is_err() {
        let string = serde_json::Value::from(text.replace('\0', "\u{fffd}")).to_string();
        return mended(&string).into_owned().into();
    }
    mended(text)
}

/// Valid JSON with escapes that JSONB does not take replaced.
fn mended(json: &str) -> Cow<'_, str> {
    if !json.contains("\\u") {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match code_unit(rest) {
            None => {
                // An escape of one character, which may be a backslash.
                let length = rest[1..].chars().next().map_or(1, |character| 1 + character.len_utf8());
                out.push_str(&rest[..length]);
                length
            }
            Some(0xD800..0xDC00) if code_unit(&rest[6..]).is_some_and(|low| (0xDC00..0xE000).contains(&low)) => {
                out.push_str(&rest[..12]);
                12
            }
            Some(0 | 0xD800..0xE000) => {
                out.push_str(ESCAPED_REPLACEMENT);
                6
            }
            Some(_) => {
                out.push_str(&rest[..6]);
                6
            }
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    out.into()
}

/// The number in `\uXXXX` at the beginning.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
