//! What the configurations of all ways to a server check in the same way.

use std::time::Duration;

use super::ConfigFault;

/// Longest time that any setting may name: no limit at all would overflow the clock.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What is wrong with the bounds of requests.
pub fn bounds_faults(timeout: Duration, max_request_bytes: usize) -> Vec<ConfigFault> {
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
pub fn truth(name: &'static str, value: Option<String>, faults: &mut Vec<ConfigFault>) -> bool {
    match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0") => false,
        Some("true" | "1") => true,
        Some(_) => {
            faults.push(ConfigFault::Variable { name, value: value.unwrap_or_default(), expected: "true or false" });
            false
        }
    }
}
