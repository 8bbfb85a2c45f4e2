//! What the configurations of brokers have in common.

use std::{net::IpAddr, time::Duration};

use scouter_tonic::client::ConfigFault;

const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What is wrong with the bounds of requests.
pub(super) fn bounds_faults(timeout: Duration, max_request_bytes: usize) -> Vec<ConfigFault> {
    let mut faults = Vec::new();
    if timeout < Duration::from_millis(1) || timeout > MAX_TIMEOUT {
        faults.push(ConfigFault::Setting { name: "timeout", expected: "between 1 ms and one day" });
    }
    if max_request_bytes < 1024 || max_request_bytes > u32::MAX as usize {
        faults.push(ConfigFault::Setting { name: "max_request_bytes", expected: "between 1024 and 4294967295" });
    }
    faults
}

/// A variable that is true or false; false when it is not set.
pub(super) fn truth(name: &'static str, value: Option<String>, faults: &mut Vec<ConfigFault>) -> bool {
    match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => {
            faults.push(ConfigFault::Variable { name, value: value.unwrap_or_default(), expected: "true or false" });
            false
        }
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An address without user and password.
pub(super) fn without_user_info(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let end = rest.find('/').unwrap_or(rest.len());
    let rest = rest[..end].rfind('@').map_or(rest, |at| &rest[at + 1..]);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}
