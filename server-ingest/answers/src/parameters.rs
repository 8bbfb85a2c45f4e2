//! Parameters as they are written in a URL: each is read once, and one that nobody read is refused.

use chrono::DateTime;

use crate::error::AnswerError;

const SECOND: i64 = 1_000_000_000;

/// Units of durations, those that end like others first.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("d", 86_400 * SECOND),
];

/// The parameters of one question.
#[derive(Debug, Clone)]
pub struct Parameters {
    pairs: Vec<(String, String)>,
    now_unix_nano: i64,
    /// A number for what was asked, without where in the answer to go on and how far.
    fingerprint: u64,
}

impl Parameters {
    /// Parameters in the order in which they were written. Relative moments are relative to `now_unix_nano`.
    pub fn new(pairs: Vec<(String, String)>, now_unix_nano: i64) -> Self {
        let mut sorted: Vec<&(String, String)> = pairs.iter().filter(|(name, _)| name != "cursor" && name != "limit").collect();
        sorted.sort();
        let mut fingerprint = Fnv::default();
        for (name, value) in sorted {
            fingerprint.add(name);
            fingerprint.add(value);
        }
        let fingerprint = fingerprint.0;
        Self { pairs, now_unix_nano, fingerprint }
    }

    pub(crate) fn now_unix_nano(&self) -> i64 {
        self.now_unix_nano
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Every value of a parameter.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.pairs).into_iter().partition(|(of, _)| of == name);
        self.pairs = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The only value of a parameter. One that is empty is none.
    pub(crate) fn one(&mut self, name: &str) -> Result<Option<String>, AnswerError> {
        let mut values = self.all(name);
        if values.len() > 1 {
            return Err(AnswerError::parameter(format!("{name} is given {} times", values.len()), format!("give {name} once")));
        }
        Ok(values.pop().filter(|value| !value.is_empty()))
    }

    pub(crate) fn moment(&mut self, name: &str) -> Result<Option<i64>, AnswerError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let moment = moment(&text, self.now_unix_nano);
        moment.map(Some).ok_or_else(|| {
            AnswerError::parameter(
                format!("{name} is not a moment: {text:?}"),
                "write RFC 3339 such as 2026-01-02T03:04:05Z, Unix nanoseconds, or now-15m",
            )
        })
    }

    pub(crate) fn duration(&mut self, name: &str) -> Result<Option<i64>, AnswerError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        duration(&text).map(Some).ok_or_else(|| {
            AnswerError::parameter(format!("{name} is not a duration: {text:?}"), "write a number with a unit, such as 10ms or 1.5s")
        })
    }

    /// A number from 1 to `most`.
    pub(crate) fn count(&mut self, name: &str, otherwise: usize, most: usize) -> Result<usize, AnswerError> {
        let Some(text) = self.one(name)? else { return Ok(otherwise) };
        text.parse().ok().filter(|count| (1..=most).contains(count)).ok_or_else(|| {
            AnswerError::parameter(
                format!("{name} is not a number from 1 to {most}: {text:?}"),
                format!("write such a number, or leave {name} out"),
            )
        })
    }

    pub(crate) fn flag(&mut self, name: &str) -> Result<Option<bool>, AnswerError> {
        match self.one(name)?.as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(AnswerError::parameter(format!("{name} is neither true nor false: {other:?}"), "write true or false")),
        }
    }

    /// The only parameter of a question that has no other.
    ///
    /// # Errors
    /// It is given twice, or there is another.
    pub fn only(mut self, name: &str) -> Result<Option<String>, AnswerError> {
        let value = self.one(name)?;
        self.end(&[name])?;
        Ok(value)
    }

    /// Refuses what nobody asked for.
    pub(crate) fn end(self, known: &[&str]) -> Result<(), AnswerError> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(AnswerError::parameter(
                format!("there is no parameter {name:?} here"),
                format!("the parameters are {}", known.join(", ")),
            )),
        }
    }
}

/// FNV-1a, which gives the same number in every process.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Nanoseconds since 1970 of a moment in text.
pub(crate) fn moment(text: &str, now_unix_nano: i64) -> Option<i64> {
    if let Some(rest) = text.strip_prefix("now") {
        return match rest.as_bytes().first() {
            None => Some(now_unix_nano),
            Some(b'-') => now_unix_nano.checked_sub(duration(&rest[1..])?),
            // A plus sign in a URL is a space.
            Some(b'+' | b' ') => now_unix_nano.checked_add(duration(&rest[1..])?),
            Some(_) => None,
        };
    }
    if let Ok(nanos) = text.parse() {
        return Some(nanos);
    }
    // The plus of a time zone that was not percent-encoded.
    let text = text.replacen(' ', "+", 1);
    DateTime::parse_from_rfc3339(&text).ok()?.timestamp_nanos_opt()
}

/// Nanoseconds of a duration in text.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let text = text.trim();
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit))).unwrap_or((text, 1));
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(unit);
    }
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-');
    let nanos = number.parse::<f64>().ok().filter(|_| is_plain)? * unit as f64;
    (nanos.abs() < i64::MAX as f64).then(|| nanos.round() as i64)
}

#[cfg(test)]
mod tests;
