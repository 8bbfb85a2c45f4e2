//! What Linux says of the time and memory of this process.

use std::{fs, thread, time::Duration};

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    // Linux brings a thread's account up to date when it gives way, else only at its clock's ticks.
    thread::yield_now();
    nanos(&fs::read_to_string("/proc/thread-self/schedstat").unwrap())
}

/// CPU time of all threads of this process that live, but those whose name starts with `except`.
pub(crate) fn cpu_of_threads(except: &str) -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap().filter_map(Result::ok);
    threads
        .filter(|thread| fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| !name.starts_with(except)))
        .filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        .map(|schedstat| nanos(&schedstat))
        .sum()
}

/// Memory of this process that is in RAM.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
}

/// The machine's load average over a minute.
pub(crate) fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap_or_default().to_owned()
}

/// Median, smallest and largest.
pub(crate) fn median(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
}

fn nanos(schedstat: &str) -> Duration {
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}
