//! `GET /scouter/drift/...`: records in bins of time, in the shapes that Scouter's client draws.
//!
//! A window is cut into `max_data_points` bins that lie on whole multiples of their width. Values that are no finite numbers have no mean and
//! are left out here; the tables have them. Bins come latest first, as Scouter gives them.

use std::collections::{BTreeMap, HashMap};

use axum::{
    Extension,
    extract::{Query, State},
    http::StatusCode,
    response::Response,
};
use chrono::{DateTime, Utc};
use scouter_query::QueryError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{HttpDoors, Who, json_response, literal, query_error, refused_space, space_of};
use crate::{
    auth::{Caller, Permission},
    http::error_response,
    ingest::unix_nano_now,
};

const MAX_POINTS: i64 = 10_000;
const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
/// Added to both proportions of a bin, so that an empty one has a logarithm.
const PSI_EPSILON: f64 = 1e-10;

/// The query of all of these routes.
#[derive(Deserialize)]
pub(super) struct DriftRequest {
    uid: String,
    #[serde(default)]
    time_interval: String,
    max_data_points: i64,
    start_custom_datetime: Option<DateTime<Utc>>,
    end_custom_datetime: Option<DateTime<Utc>>,
}

/// What a request asks for.
struct Window {
    uid: String,
    start: i64,
    end: i64,
    width: i64,
}

#[derive(Default, Serialize)]
struct SpcFeature {
    created_at: Vec<DateTime<Utc>>,
    values: Vec<f64>,
}

#[derive(Default, Serialize)]
struct Metric {
    metric: String,
    created_at: Vec<DateTime<Utc>>,
    stats: Vec<Stats>,
}

#[derive(Serialize)]
struct Stats {
    avg: f64,
    lower_bound: f64,
    upper_bound: f64,
}

#[derive(Default, Serialize)]
struct PsiFeature {
    created_at: Vec<DateTime<Utc>>,
    psi: Vec<f64>,
    overall_psi: f64,
    bins: BTreeMap<i64, f64>,
}

#[derive(Serialize)]
struct Features<T> {
    features: BTreeMap<String, T>,
}

#[derive(Serialize)]
struct Metrics {
    metrics: BTreeMap<String, Metric>,
}

/// What of a PSI profile is read: the proportion each bin is expected to have.
#[derive(Deserialize)]
struct PsiProfile {
    features: HashMap<String, PsiProfileFeature>,
}

#[derive(Deserialize)]
struct PsiProfileFeature {
    bins: Vec<PsiProfileBin>,
}

#[derive(Deserialize)]
struct PsiProfileBin {
    id: i64,
    proportion: f64,
}

pub(super) async fn spc(State(doors): State<HttpDoors>, Extension(caller): Who, Query(request): Query<DriftRequest>) -> Response {
    let window = match window(&doors, &caller, request) {
        Ok(window) => window,
        Err(response) => return *response,
    };
    let rows = match averages(&doors, &window, "spc_drift", "feature", "value").await {
        Ok(rows) => rows,
        Err(error) => return query_error(error),
    };
    let mut features: BTreeMap<String, SpcFeature> = BTreeMap::new();
    for (name, at, average, _) in rows {
        let feature = features.entry(name).or_default();
        feature.created_at.push(at);
        feature.values.push(average);
    }
    json_response(&Features { features })
}

pub(super) async fn custom(doors: State<HttpDoors>, caller: Who, request: Query<DriftRequest>) -> Response {
    metrics(doors, caller, request, "custom_drift", "metric", "value").await
}

pub(super) async fn tasks(doors: State<HttpDoors>, caller: Who, request: Query<DriftRequest>) -> Response {
    metrics(doors, caller, request, "agent_eval_task", "task_id", "value").await
}

pub(super) async fn workflows(doors: State<HttpDoors>, caller: Who, request: Query<DriftRequest>) -> Response {
    metrics(doors, caller, request, "agent_eval_workflow", "'workflow'", "pass_rate").await
}

async fn metrics(
    State(doors): State<HttpDoors>,
    Extension(caller): Who,
    Query(request): Query<DriftRequest>,
    table: &str,
    name: &str,
    value: &str,
) -> Response {
    let window = match window(&doors, &caller, request) {
        Ok(window) => window,
        Err(response) => return *response,
    };
    let rows = match averages(&doors, &window, table, name, value).await {
        Ok(rows) => rows,
        Err(error) => return query_error(error),
    };
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for (name, at, avg, deviation) in rows {
        let metric = metrics.entry(name.clone()).or_insert_with(|| Metric { metric: name, ..Metric::default() });
        metric.created_at.push(at);
        metric.stats.push(Stats { avg, lower_bound: avg - deviation, upper_bound: avg + deviation });
    }
    json_response(&Metrics { metrics })
}

pub(super) async fn psi(State(doors): State<HttpDoors>, Extension(caller): Who, Query(request): Query<DriftRequest>) -> Response {
    let window = match window(&doors, &caller, request) {
        Ok(window) => window,
        Err(response) => return *response,
    };
    let Some(profile) = doors.profiles.by_uid(&window.uid) else {
        return error_response(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "no profile with this uid is registered, so no proportions are expected",
        );
    };
    let expected: PsiProfile = match serde_json::from_str(&profile.profile) {
        Ok(profile) => profile,
        Err(error) => {
            let text = format!("the profile with this uid expects no proportions: {error}");
            return error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &text);
        }
    };
    let sql = format!(
        "SELECT feature, created_at_unix_nano / {width} * {width} AS bin, bin_id, sum(bin_count) FROM psi_drift WHERE {condition} \
         GROUP BY feature, bin, bin_id ORDER BY feature, bin DESC, bin_id",
        width = window.width,
        condition = window.condition(),
    );
    let counts = match doors.engine.sql(&sql).await {
        Ok(answer) => answer.rows.iter().filter_map(|row| count_of(row)).collect::<Vec<_>>(),
        Err(error) => return query_error(error),
    };
    json_response(&Features { features: psi_features(&counts, &expected) })
}

/// Feature, bin of time, bin of values, how many.
type Count = (String, i64, i64, i64);

fn psi_features(counts: &[Count], expected: &PsiProfile) -> BTreeMap<String, PsiFeature> {
    let mut features = BTreeMap::new();
    for of_feature in counts.chunk_by(|left, right| left.0 == right.0) {
        let Some(profile) = expected.features.get(&of_feature[0].0) else { continue };
        let mut feature = PsiFeature::default();
        for of_time in of_feature.chunk_by(|left, right| left.1 == right.1) {
            let proportions = proportions(of_time.iter().map(|count| (count.2, count.3)));
            feature.created_at.push(DateTime::from_timestamp_nanos(of_time[0].1));
            feature.psi.push(psi_of(&proportions, profile));
        }
        feature.bins = proportions(of_feature.iter().map(|count| (count.2, count.3)));
        feature.overall_psi = psi_of(&feature.bins, profile);
        features.insert(of_feature[0].0.clone(), feature);
    }
    features
}

fn proportions(counts: impl Iterator<Item = (i64, i64)>) -> BTreeMap<i64, f64> {
    let mut sums: BTreeMap<i64, f64> = BTreeMap::new();
    for (bin, count) in counts {
        *sums.entry(bin).or_default() += count as f64;
    }
    let total: f64 = sums.values().sum();
    sums.into_iter().map(|(bin, count)| (bin, if total > 0.0 { count / total } else { 0.0 })).collect()
}

/// The population stability index: the sum of (observed - expected) * ln(observed / expected) over the bins.
fn psi_of(observed: &BTreeMap<i64, f64>, expected: &PsiProfileFeature) -> f64 {
    let term = |bin: &PsiProfileBin| {
        let expected = bin.proportion + PSI_EPSILON;
        let observed = observed.get(&bin.id).copied().unwrap_or(0.0) + PSI_EPSILON;
        (observed - expected) * (observed / expected).ln()
    };
    expected.bins.iter().map(term).sum()
}

/// Name, bin, mean, and sample deviation (0 for one value), by name and latest first.
async fn averages(
    doors: &HttpDoors,
    window: &Window,
    table: &str,
    name: &str,
    value: &str,
) -> Result<Vec<(String, DateTime<Utc>, f64, f64)>, QueryError> {
    let sql = format!(
        "SELECT {name} AS name, created_at_unix_nano / {width} * {width} AS bin, avg({value}), coalesce(stddev({value}), 0.0) FROM {table} \
         WHERE {condition} AND {value} BETWEEN -1.7976931348623157e308 AND 1.7976931348623157e308 GROUP BY name, bin ORDER BY name, bin DESC",
        width = window.width,
        condition = window.condition(),
    );
    let answer = doors.engine.sql(&sql).await?;
    let row = |row: &Vec<Value>| match row.as_slice() {
        [name, bin, average, deviation] => {
            // The mean of very large numbers may be none.
            let finite = |value: &Value| value.as_f64();
            Some((
                name.as_str()?.to_owned(),
                DateTime::from_timestamp_nanos(bin.as_i64()?),
                finite(average)?,
                finite(deviation).unwrap_or(0.0),
            ))
        }
        _ => None,
    };
    Ok(answer.rows.iter().filter_map(row).collect())
}

fn count_of(row: &[Value]) -> Option<Count> {
    match row {
        [name, bin, bin_id, count] => Some((name.as_str()?.to_owned(), bin.as_i64()?, bin_id.as_i64()?, count.as_i64()?)),
        _ => None,
    }
}

impl Window {
    /// Of the rows in it. The timestamp is what files are pruned by.
    fn condition(&self) -> String {
        let micros = |nanos: i64| DateTime::<Utc>::from_timestamp_nanos(nanos).format("%Y-%m-%dT%H:%M:%S%.6fZ");
        format!(
            "entity_uid = {uid} AND created_at >= TIMESTAMP '{start_micros}' AND created_at <= TIMESTAMP '{end_micros}' \
             AND created_at_unix_nano >= {start} AND created_at_unix_nano < {end}",
            uid = literal(&self.uid),
            start_micros = micros(self.start),
            end_micros = micros(self.end),
            start = self.start,
            end = self.end,
        )
    }
}

/// Reads a request, and lets its caller ask for the space of its profile only.
fn window(doors: &HttpDoors, caller: &Caller, request: DriftRequest) -> Result<Window, Box<Response>> {
    let space = space_of(doors, &request.uid);
    if let Some(refused) = refused_space(doors, caller, Permission::Read, space.as_deref()) {
        return Err(Box::new(refused));
    }
    window_of(request, i64::try_from(unix_nano_now()).unwrap_or(i64::MAX))
        .map_err(|text| Box::new(error_response(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", &text)))
}

fn window_of(request: DriftRequest, now: i64) -> Result<Window, String> {
    let DriftRequest { uid, time_interval, max_data_points, start_custom_datetime, end_custom_datetime } = request;
    if !(1..=MAX_POINTS).contains(&max_data_points) {
        return Err(format!("max_data_points is {max_data_points}; it is a number from 1 to {MAX_POINTS}"));
    }
    let nanos = |time: DateTime<Utc>| time.timestamp_nanos_opt().filter(|nanos| *nanos >= 0);
    let (start, end) = match (start_custom_datetime, end_custom_datetime) {
        (Some(start), Some(end)) => match (nanos(start), nanos(end)) {
            (Some(start), Some(end)) if start < end => (start, end),
            _ => return Err("start_custom_datetime comes before end_custom_datetime, and both after 1970".to_owned()),
        },
        (None, None) => {
            // What is being recorded while the question is asked belongs to the last bin.
            let length = interval(&time_interval).ok_or_else(|| format!("time_interval is {time_interval:?}; {INTERVALS}"))?;
            (now.saturating_sub(length).max(0), now.saturating_add(MINUTE))
        }
        _ => return Err("start_custom_datetime and end_custom_datetime come together".to_owned()),
    };
    Ok(Window { uid, start, end, width: ((end - start) / max_data_points).max(SECOND) })
}

const INTERVALS: &str = "it is FifteenMinutes, ThirtyMinutes, OneHour, FourHours, SixHours, TwelveHours, TwentyFourHours or SevenDays, \
                         or start_custom_datetime and end_custom_datetime are given";

fn interval(name: &str) -> Option<i64> {
    let minutes = match name {
        "FifteenMinutes" => 15,
        "ThirtyMinutes" => 30,
        "OneHour" => 60,
        "FourHours" => 4 * 60,
        "SixHours" => 6 * 60,
        "TwelveHours" => 12 * 60,
        "TwentyFourHours" => 24 * 60,
        "SevenDays" => 7 * 24 * 60,
        _ => return None,
    };
    Some(minutes * MINUTE)
}

#[cfg(test)]
mod tests;
