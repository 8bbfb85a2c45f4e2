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

/// An address as it may be shown: without user and password, and without what may be a part of them.
///
/// A password that nobody encoded may hold any character. So nothing in front of the last `@` is shown, no query, and nothing that is not
/// plainly a host with its port.
pub(super) fn without_user_info(address: &str) -> String {
    const HIDDEN: &str = "***";
    let (scheme, rest) = address.split_once("://").map_or((None, address), |(scheme, rest)| (Some(scheme), rest));
    let shown = match rest.rsplit_once('@') {
        // Which of them is the password's is not known.
        Some((before, _)) if before.contains('?') => HIDDEN,
        Some((_, host)) => host,
        None => rest,
    };
    let shown = shown.split(['?', '#']).next().unwrap_or_default();
    let authority = shown.split('/').next().unwrap_or_default();
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let shown = match authority.rsplit_once(':') {
        Some((host, port)) if host.is_empty() || !is_port(port) && !authority.ends_with(']') => HIDDEN,
        _ => shown,
    };
    scheme.map_or(shown.to_owned(), |scheme| format!("{scheme}://{shown}"))
}
