//! A process that stores spans is killed at random; what it acknowledged must be there, once.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::frames::{psi_and_spans, read_ids};
use super::{DEADLINE, fast};
use crate::columns::Table;
use crate::store::{MaintenanceOptions, Store, StoreOptions};

const FOLDER: &str = "SCOUTER_TEST_CRASH_FOLDER";
const ROUND: &str = "SCOUTER_TEST_CRASH_ROUND";
const FRAMES: &str = "SCOUTER_TEST_CRASH_FRAMES";
/// How many kills; `SCOUTER_TEST_KILLS=200` for the proof.
fn kills() -> u64 {
    std::env::var("SCOUTER_TEST_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(40)
}
const WRITERS: u64 = 4;
/// Of each writer, in the round that is not killed.
const LAST_FRAMES: u64 = 200;

/// Not a test of its own: what the process below does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by acknowledged_spans_survive_random_kills_once"]
async fn writer_process() {
    let (Some(folder), Ok(round)) = (std::env::var_os(FOLDER).map(PathBuf::from), std::env::var(ROUND)) else { return };
    let round: u64 = round.parse().unwrap();
    let frames = std::env::var(FRAMES).map_or(10_000, |frames| frames.parse().unwrap());
    // Files are merged and deleted all the time.
    let maintenance = MaintenanceOptions { interval: Duration::from_millis(5), ..super::maintenance::eager() };
    let options = StoreOptions { flush_interval: Duration::from_millis(10), flush_rows: 500, maintenance, ..fast() };
    // In every other round the log goes on in a small segment whenever there is a moment without work.
    let options = if round % 2 == 1 { StoreOptions { log_rest_after: Duration::ZERO, log_max_bytes: 4 << 20, ..options } } else { options };
    let (store, _) = Store::open(&folder, options).unwrap();
    say("open".to_owned());
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for frame in 0..frames {
                let first = round * 100_000_000 + writer * 10_000_000 + frame * 100;
                let last = first + 1 + frame % 90;
                // A small budget may be spent while the machine is busy with something else; whoever is refused comes again, and is
                // not refused for ever.
                let patience = Instant::now() + DEADLINE;
                while let Err(error) = store.append(psi_and_spans(first..last)).await {
                    assert!(error.is_retryable() && Instant::now() < patience, "{error}");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                say(format!("acked {first} {last}"));
                if round % 2 == 1 && frame % 8 == 7 {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// One write, so that a killed process never says half a line.
fn say(line: String) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_spans_survive_random_kills_once() {
    let folder = TempDir::new().unwrap();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = seed | 1;
    let mut acked: Vec<(u64, u64)> = Vec::new();
    for round in 0..kills() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let before = acked.len();
        acked.extend(run_writer(folder.path(), round, End::Killed { after: Duration::from_micros(random % 250_000) }));
        println!("round {round}: {} frames acknowledged", acked.len() - before);
        if round % 5 == 4 {
            check(&Store::open_read_only(folder.path()).unwrap(), &acked).await;
        }
    }
    assert!(acked.len() > 100, "the kills left no time to store anything: {}", acked.len());
    // On a folder that was left so often, with a small budget, a writer that is let alone still gets everything stored.
    let last = run_writer(folder.path(), kills() | 1, End::Done { frames: LAST_FRAMES });
    assert_eq!(last.len() as u64, WRITERS * LAST_FRAMES);
    acked.extend(last);
    let (store, _) = Store::open(folder.path(), fast()).unwrap();
    check(&store, &acked).await;
    store.flush().await.unwrap();
    check(&store, &acked).await;
    store.shutdown(DEADLINE).await.unwrap();
}

/// How a writer ends.
enum End {
    /// Some time after its store is open.
    Killed { after: Duration },
    /// By itself, when each of its tasks has stored so many frames.
    Done { frames: u64 },
}

/// Runs the writer to its end, and gives the ranges of numbers it acknowledged.
fn run_writer(folder: &Path, round: u64, end: End) -> Vec<(u64, u64)> {
    let mut writer = Command::new(std::env::current_exe().unwrap());
    if let End::Done { frames } = end {
        writer.env(FRAMES, frames.to_string());
    }
    let mut writer = writer
        .args(["--exact", "store::tests::crash::writer_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "open"), "the writer could not open its store");
    let reader = std::thread::spawn(move || {
        let acked = lines.filter_map(|line| {
            let (first, last) = line.strip_prefix("acked ")?.split_once(' ')?;
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        acked.collect()
    });
    if let End::Killed { after } = end {
        std::thread::sleep(after);
        writer.kill().unwrap();
    }
    let status = writer.wait().unwrap();
    assert!(status.success() || matches!(end, End::Killed { .. }), "the writer ended with {status}");
    reader.join().unwrap()
}

async fn check(store: &Store, acked: &[(u64, u64)]) {
    for table in [Table::Spans, Table::Psi] {
        let mut seen: HashMap<u64, u32> = HashMap::new();
        for id in read_ids(&store.cut(table).await.unwrap(), table) {
            *seen.entry(id).or_default() += 1;
        }
        assert!(seen.values().all(|count| *count == 1), "{table:?}: a row is there more than once");
        for id in acked.iter().flat_map(|(first, last)| *first..*last) {
            assert!(seen.contains_key(&id), "{table:?}: acknowledged row {id} is missing");
        }
    }
}
