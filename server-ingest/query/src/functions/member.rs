//! One member of a JSON object, found without building the others.
//!
//! Most objects that are asked do not have the key, so its name is searched as plain text first; only where it stands
//! somewhere are the members walked, to tell a key from a value and the outer object from an inner one.

use memchr::memmem::Finder;

/// A key to look for. Keys are compared as canonical attribute text writes them: escapes only where JSON demands them.
pub(crate) struct Member {
    quoted: String,
    finder: Finder<'static>,
}

impl Member {
    pub(crate) fn new(key: &str) -> Self {
        let quoted = serde_json::Value::from(key).to_string();
        Self { finder: Finder::new(quoted.as_bytes()).into_owned(), quoted }
    }

    /// The text of the first member with this key: a string's content, another value as it is written; none for `null`.
    pub(crate) fn text_in(&self, json: &str) -> Option<String> {
        let value = self.value_in(json)?;
        match value.as_bytes().first()? {
            b'"' if !value.contains('\\') => Some(value[1..value.len() - 1].to_owned()),
            b'"' => serde_json::from_str(value).ok(),
            b'n' => None,
            _ => Some(value.to_owned()),
        }
    }

    /// The JSON of the value of the first member with this key, as it is written.
    pub(crate) fn value_in<'a>(&self, json: &'a str) -> Option<&'a str> {
        self.finder.find(json.as_bytes())?;
        let bytes = json.as_bytes();
        let mut at = skip_space(bytes, 0);
        if bytes.get(at) != Some(&b'{') {
            return None;
        }
        loop {
            at = skip_space(bytes, at + 1);
            let key_end = end_of_string(bytes, at)?;
            let is_it = bytes[at..key_end] == *self.quoted.as_bytes();
            at = skip_space(bytes, key_end);
            if bytes.get(at) != Some(&b':') {
                return None;
            }
            let start = skip_space(bytes, at + 1);
            let end = end_of_value(bytes, start)?;
            if is_it {
                return json.get(start..end);
            }
            at = skip_space(bytes, end);
            if bytes.get(at) != Some(&b',') {
                return None;
            }
        }
    }
}

fn skip_space(bytes: &[u8], at: usize) -> usize {
    at + bytes.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// After the closing quote of the string that begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut at = at + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// After the value that begins at `at`. Brackets are counted, so that depth costs no stack.
fn end_of_value(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = end_of_string(bytes, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth > 0 => at += 1,
            _ => {
                let rest = &bytes[at..];
                let literal = rest.iter().position(|byte| matches!(byte, b',' | b':' | b'}' | b']' | b'"') || byte.is_ascii_whitespace());
                let literal = literal.unwrap_or(rest.len());
                if literal == 0 {
                    return None;
                }
                at += literal;
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}
