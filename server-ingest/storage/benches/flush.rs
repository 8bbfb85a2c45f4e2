//! What a span costs between hot rows and a committed table: sort, Parquet, syncs, Delta commit, trim.
//!
//! `cargo bench -p scouter-storage --bench flush`. Not criterion: one flush takes a tenth of a second and its state is a folder.
//! `SCOUTER_BENCH_FOLDER` keeps the folder, for a look at the table with other programs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use scouter_storage::columns::Table;
use scouter_storage::store::{Store, StoreOptions};

#[path = "shared/spans.rs"]
mod spans;

use spans::{SPANS_A_REQUEST, frame};

const SPANS: u64 = 131_072;
const ROUNDS: u64 = 9;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    match std::env::var_os("SCOUTER_BENCH_FOLDER").map(PathBuf::from) {
        Some(folder) => runtime.block_on(measure(&folder)),
        None => runtime.block_on(measure(tempfile::tempdir().expect("a folder for temporary files").path())),
    }
}

async fn measure(folder: &Path) {
    let hour = Duration::from_secs(3600);
    let big = 4 << 30;
    let options =
        StoreOptions { flush_interval: hour, flush_rows: usize::MAX, flush_bytes: big, hot_max_bytes: big, ..StoreOptions::default() };
    let (store, _) = Store::open(folder, options).expect("a store");
    let mut times = Vec::new();
    let mut cuts = Vec::new();
    for round in 0..ROUNDS {
        for request in 0..SPANS / SPANS_A_REQUEST {
            store.append(frame(round * SPANS + request * SPANS_A_REQUEST)).await.expect("appended");
        }
        let started = Instant::now();
        let cut = store.cut(Table::Spans).await.expect("a cut");
        cuts.push(started.elapsed());
        let hot: usize = cut.hot.iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(hot as u64, SPANS);
        drop(cut);
        let started = Instant::now();
        store.flush().await.expect("flushed");
        times.push(started.elapsed());
    }
    times.sort_unstable();
    cuts.sort_unstable();
    let nanos = |time: Duration| time.as_nanos() as f64 / SPANS as f64;
    let (median, best, worst) = (times[times.len() / 2], times[0], times[times.len() - 1]);
    println!("flush of {SPANS} spans: median {median:?}, {best:?} to {worst:?}");
    println!("ns a span: median {:.0}, {:.0} to {:.0}", nanos(median), nanos(best), nanos(worst));
    println!("cut with as many hot rows: median {:?}", cuts[cuts.len() / 2]);
    let stats = store.stats();
    println!("bytes a span in the files: {:.1}", stats.bytes_written as f64 / stats.rows_written as f64);
    store.shutdown(hour).await.expect("shut down");
}
