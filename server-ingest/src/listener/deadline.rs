//! How long the client of a gRPC call waits: the header `grpc-timeout`.

use std::{future::Future, time::Duration};

use http::HeaderMap;
use tonic::Status;

const HEADER: &str = "grpc-timeout";
/// gRPC allows so many digits.
const MAX_DIGITS: usize = 8;

/// What the client says, if anything.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse);
    parsed.map(Some).ok_or_else(|| Status::invalid_argument("grpc-timeout is not 1 to 8 digits and one of the units H, M, S, m, u, n"))
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Answers a call within its time. What was begun is dropped when the time is over; what has no time left is not begun. (A frame on its
/// way to the disk stays there: its repetition is recognised.)
pub(super) async fn within<F: Future>(patience: Result<Option<Duration>, Status>, call: F) -> Result<F::Output, Status> {
    let passed = || Status::deadline_exceeded("the time that grpc-timeout gave the call is over");
    match patience? {
        None => Ok(call.await),
        Some(Duration::ZERO) => Err(passed()),
        Some(patience) => tokio::time::timeout(patience, call).await.map_err(|_| passed()),
    }
}

#[cfg(test)]
mod tests;
