//! What merging small files costs and gains, and how far it moves the time to an acknowledgement.
//!
//! `cargo bench -p scouter-storage --bench compaction`. First a number of flushes is merged at full speed: rows a second of CPU time,
//! bytes a span before and after. Then spans come in at a fixed rate, in turns with and without a merge beside them at its usual pace.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scouter_storage::columns::Table;
use scouter_storage::store::{MaintenanceOptions, Store, StoreOptions};

#[path = "shared/spans.rs"]
mod spans;

use spans::{SPANS_A_REQUEST, frame};

const FLUSHES: u64 = 24;
const SPANS_A_FLUSH: u64 = 131_072;

/// 51,200 spans a second.
const REQUESTS_A_SECOND: u64 = 100;
const TURN: Duration = Duration::from_secs(8);
const TURNS: usize = 3;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    // Below the folder named, which can be on the disk that is to be measured.
    let parent = std::env::var_os("SCOUTER_BENCH_FOLDER").unwrap_or_else(|| std::env::temp_dir().into());
    for measure in [1, 2] {
        let folder = tempfile::tempdir_in(&parent).expect("a folder for temporary files");
        runtime.block_on(async { if measure == 1 { merge(folder.path()).await } else { acknowledge(folder.path()).await } });
    }
}

fn eager(rest: f64) -> MaintenanceOptions {
    MaintenanceOptions {
        interval: Duration::ZERO,
        merge_min_files: 2,
        merge_min_age: Duration::ZERO,
        delete_grace: Duration::ZERO,
        rest,
        ..MaintenanceOptions::default()
    }
}

async fn merge(folder: &Path) {
    let hour = Duration::from_secs(3600);
    let big = 4 << 30;
    let options = StoreOptions {
        flush_interval: hour,
        flush_rows: usize::MAX,
        flush_bytes: big,
        hot_max_bytes: big,
        maintenance: eager(0.0),
        ..StoreOptions::default()
    };
    let (store, _) = Store::open(folder, options).expect("a store");
    for flush in 0..FLUSHES {
        for request in 0..SPANS_A_FLUSH / SPANS_A_REQUEST {
            store.append(frame(flush * SPANS_A_FLUSH + request * SPANS_A_REQUEST)).await.expect("appended");
        }
        store.flush().await.expect("flushed");
    }
    let rows = FLUSHES * SPANS_A_FLUSH;
    let bytes = |store: &Store| store.stats().tables[Table::Spans as usize].bytes as f64 / rows as f64;
    let files = |store: &Store| store.stats().tables[Table::Spans as usize].files;
    let before = (files(&store), bytes(&store), cpu());
    let started = Instant::now();
    store.maintain().await.expect("maintained");
    let (took, used) = (started.elapsed(), cpu() - before.2);
    let stats = store.stats().maintenance;
    let merged = stats.rows_merged as f64;
    println!("{rows} spans: {} files of {:.1} bytes a span become {} of {:.1}", before.0, before.1, files(&store), bytes(&store));
    println!(
        "{} merges read {} rows in {took:?}, {used:?} of CPU: {:.0} rows a second, {:.0} a second of CPU, {:.2} µs of CPU a row",
        stats.merges,
        stats.rows_merged,
        merged / took.as_secs_f64(),
        merged / used.as_secs_f64(),
        used.as_secs_f64() * 1e6 / merged,
    );
    let indexes = fs::read_dir(folder.join("tables/spans/_trace_index")).expect("indexes");
    let index_bytes: u64 = indexes.filter_map(|entry| entry.ok()?.metadata().ok()).map(|metadata| metadata.len()).sum();
    println!("trace indexes: {:.2} bytes a span", index_bytes as f64 / rows as f64);
    println!("most memory used: {} MiB", peak_memory_kib() / 1024);
    store.shutdown(hour).await.expect("shut down");
}

/// Half of the spans are there before, so that there is something to merge in each turn.
async fn acknowledge(folder: &Path) {
    let options = StoreOptions { maintenance: eager(MaintenanceOptions::default().rest), ..StoreOptions::default() };
    let (store, _) = Store::open(folder, options).expect("a store");
    let mut next = 0;
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..2 * TURNS {
        let beside = turn % 2;
        // Files to merge, in both kinds of turns.
        for _ in 0..12 {
            for _ in 0..64 {
                store.append(frame(next)).await.expect("appended");
                next += SPANS_A_REQUEST;
            }
            store.flush().await.expect("flushed");
        }
        let merging = (beside == 1).then(|| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                loop {
                    store.maintain().await.expect("maintained");
                }
            })
        });
        let merged = store.stats().maintenance.rows_merged;
        let started = Instant::now();
        let mut waiting = Vec::new();
        let mut number = 0;
        while started.elapsed() < TURN {
            let due = started + Duration::from_secs(number) / REQUESTS_A_SECOND as u32;
            tokio::time::sleep_until(due.into()).await;
            let (store, request) = (Arc::clone(&store), frame(next));
            // From when it was due, so that a stall is not left out of the figures of those that come after it.
            waiting.push(tokio::spawn(async move {
                store.append(request).await.expect("appended");
                due.elapsed()
            }));
            next += SPANS_A_REQUEST;
            number += 1;
        }
        for waiting in waiting {
            times[beside].push(waiting.await.expect("appended"));
        }
        if let Some(merging) = merging {
            println!("rows merged in this turn: {}", store.stats().maintenance.rows_merged - merged);
            merging.abort();
        }
    }
    for (name, times) in ["alone", "beside merges"].iter().zip(&mut times) {
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!("{name}: acknowledged after {:?} (median), {:?} (p99), {:?} (longest) of {}", at(0.5), at(0.99), at(1.0), times.len());
    }
    store.shutdown(Duration::from_secs(60)).await.expect("shut down");
}

/// CPU time of this process.
fn cpu() -> Duration {
    // SAFETY: `getrusage` fills the structure it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec.unsigned_abs(), time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}
