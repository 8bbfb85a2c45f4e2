//! The parameters of Jaeger's API. Unknown ones are left alone, as Jaeger does: its clients send more than they mean.

use serde_json::{Map, Value};

use super::of_service;
use crate::error::AnswerError;
use crate::filter::{SpanFilter, State, equal};
use crate::parameters::Parameters;

const MICRO: i64 = 1000;
const MILLI: i64 = 1_000_000;

/// Traces of one answer, if the question does not say; the most.
const DEFAULT_LIMIT: usize = 100;
const MOST_TRACES: usize = 1500;

/// How far back a search goes that does not say: two days, as Jaeger's.
const DEFAULT_LOOKBACK_NANO: i64 = 48 * 3_600 * 1_000 * MILLI;

/// A search for traces.
#[derive(Debug)]
pub(super) enum Search {
    /// These traces.
    Ids(Vec<[u8; 16]>),
    /// So many of those with such a span.
    Filter(Box<SpanFilter>, usize),
}

impl Search {
    pub(super) fn read(mut parameters: Parameters) -> Result<Self, AnswerError> {
        let ids = parameters.all("traceID");
        if !ids.is_empty() {
            return Ok(Self::Ids(ids.iter().map(|id| trace_id(id)).collect::<Result<_, _>>()?));
        }
        let mut filter = of_service(parameters.one("service")?.ok_or_else(service_missing)?);
        filter.operations = parameters.one("operation")?.filter(|name| name != "all").into_iter().collect();
        filter.min_duration_nano = parameters.duration("minDuration")?;
        filter.max_duration_nano = parameters.duration("maxDuration")?;
        // Jaeger's range has its end, of which the whole microsecond is meant.
        let end = integer(&mut parameters, "end")?.map(|micros| micros.saturating_add(1).saturating_mul(MICRO));
        filter.until = Some(end.unwrap_or(parameters.now_unix_nano()));
        filter.from = Some(match integer(&mut parameters, "start")? {
            Some(micros) => micros.saturating_mul(MICRO),
            None => filter.until.unwrap_or_default().saturating_sub(DEFAULT_LOOKBACK_NANO),
        });
        if let Some(json) = parameters.one("tags")? {
            let tags: Map<String, Value> = serde_json::from_str(&json).map_err(|error| {
                AnswerError::parameter(format!("tags is not a JSON object: {error}"), "write {\"http.route\":\"/ask\"}")
            })?;
            for (key, value) in tags {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                add_tag(&mut filter, &key, &text);
            }
        }
        for tag in parameters.all("tag") {
            let (key, value) = tag
                .split_once(':')
                .ok_or_else(|| AnswerError::parameter(format!("tag is not key:value: {tag:?}"), "write tag=http.route:/ask"))?;
            add_tag(&mut filter, key, value);
        }
        // Grafana sends 0 or nothing for no limit of its own.
        let limit = integer(&mut parameters, "limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        Ok(Self::Filter(Box::new(filter), limit.unwrap_or(DEFAULT_LIMIT).min(MOST_TRACES)))
    }
}

/// Tags that [`super::model`] makes of something else are looked for where they come from.
fn add_tag(filter: &mut SpanFilter, key: &str, value: &str) {
    match (key, value) {
        ("error", "true") => filter.states.push(State::Error),
        ("error", "false") => filter.states.extend([State::Unset, State::Ok]),
        ("otel.status_code", "ERROR") => filter.states.push(State::Error),
        ("otel.status_code", "OK") => filter.states.push(State::Ok),
        ("span.kind", kind) => filter.kinds.push(kind.to_uppercase()),
        _ => filter.attributes.push(equal(key, value)),
    }
}

pub(super) fn service_missing() -> AnswerError {
    AnswerError::parameter("parameter 'service' is required", "name a service; /api/services lists them")
}

/// An id in hexadecimal; leading zeros may be missing, as Jaeger writes 64-bit ids.
pub(super) fn trace_id(text: &str) -> Result<[u8; 16], AnswerError> {
    let refusal = || AnswerError::parameter(format!("{text:?} is not a trace id"), "write up to 32 hexadecimal digits");
    let is_hex = !text.is_empty() && text.len() <= 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hex {
        return Err(refusal());
    }
    u128::from_str_radix(text, 16).map(u128::to_be_bytes).map_err(|_| refusal())
}

/// The range of `endTs` and `lookback`, which are in milliseconds.
pub(super) fn lookback(parameters: &mut Parameters) -> Result<(i64, i64), AnswerError> {
    let end = integer(parameters, "endTs")?.map_or(parameters.now_unix_nano(), |millis| millis.saturating_mul(MILLI));
    let lookback = integer(parameters, "lookback")?.map_or(DEFAULT_LOOKBACK_NANO / 2, |millis| millis.saturating_mul(MILLI));
    Ok((end.saturating_sub(lookback), end))
}

fn integer(parameters: &mut Parameters, name: &str) -> Result<Option<i64>, AnswerError> {
    let Some(text) = parameters.one(name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| AnswerError::parameter(format!("{name} is not a whole number: {text:?}"), "write digits alone"))
}
