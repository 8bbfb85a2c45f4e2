//! Appends a second with requests of 240 KiB (512 spans) and 1, 4 and 16 callers at once, beside the bare write and
//! `fdatasync` of the same bytes to a file that was really written before, 1, 4 and 16 requests a sync.
//!
//! `cargo bench -p scouter-storage --bench log`; the folder is made in `SCOUTER_BENCH_DIR`, or the temporary folder, which
//! must be on the disk that is to be measured.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scouter_storage::log::{BatchId, Door, Frame, Log, LogOptions, Position};
use scouter_storage::otlp::Envelope;

const PAYLOAD_BYTES: usize = 240 * 1024;
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

fn folder() -> tempfile::TempDir {
    let parent = std::env::var_os("SCOUTER_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    tempfile::tempdir_in(parent).expect("a temporary folder")
}

fn payload() -> Bytes {
    (0..PAYLOAD_BYTES as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>().into()
}

/// Time that `appends` appends by `callers` take.
async fn append(log: &Arc<Log>, payload: &Bytes, callers: u64, appends: u64) -> Duration {
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let (log, payload) = (Arc::clone(log), payload.clone());
            let own = appends / callers + u64::from(caller < appends % callers);
            tokio::spawn(async move {
                for turn in 0..own {
                    let frame = Frame {
                        door: Door::OtlpGrpc,
                        envelope: Envelope::Otlp,
                        received_unix_nano: turn,
                        batch_id: BatchId((turn as u128).to_le_bytes()),
                        rejected_spans: Vec::new(),
                        rejected_records: Vec::new(),
                        payload: payload.clone(),
                    };
                    log.append_durable(frame).await.expect("the frame is appended");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the caller ends");
    }
    start.elapsed()
}

fn log(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let payload = payload();
    let mut group = criterion.benchmark_group("log");
    group.throughput(Throughput::Bytes(PAYLOAD_BYTES as u64)).sample_size(20).measurement_time(Duration::from_secs(5));
    for callers in [1, 4, 16] {
        let dir = folder();
        let (hand_over, applied) = std::sync::mpsc::sync_channel::<Position>(1024);
        let sink = Box::new(move |position, _| {
            let _ = hand_over.send(position);
        });
        let options = LogOptions { dedupe_ids: 1000, ..LogOptions::default() };
        let (log, _) = Log::open(dir.path(), options, sink).expect("the log opens");
        let log = Arc::new(log);
        // What a store does: every position arrives, and now and then the log is trimmed.
        let trimmer = {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for position in applied {
                    if position.0.is_multiple_of(256) {
                        log.trim(position).expect("the log is trimmed");
                    }
                }
            })
        };
        // Until segments are used again, the disk is written for the first time.
        runtime.block_on(append(&log, &payload, callers, 1500));
        group.bench_function(format!("append_durable, {callers} callers"), |bencher| {
            bencher.iter_custom(|appends| runtime.block_on(append(&log, &payload, callers, appends)));
        });
        let stats = log.stats();
        eprintln!("{callers} callers: {:.2} frames a commit", stats.frames as f64 / stats.commits as f64);
        log.close().expect("the log closes");
        trimmer.join().expect("the trimmer ends");
    }
    for requests in [1, 4, 16] {
        let dir = folder();
        let path = dir.path().join("bare");
        let mut file = File::create(&path).expect("a file");
        for _ in 0..3 * SEGMENT_BYTES / (1024 * 1024) {
            file.write_all(&vec![0; 1024 * 1024]).expect("the file is written");
        }
        file.sync_all().expect("the file is synced");
        let mut offset = 0;
        group.bench_function(format!("bare write and fdatasync, {requests} requests each"), |bencher| {
            bencher.iter_custom(|appends| {
                let start = Instant::now();
                let mut left = appends;
                while left > 0 {
                    let now = left.min(requests);
                    for _ in 0..now {
                        if offset + PAYLOAD_BYTES as u64 > 3 * SEGMENT_BYTES {
                            offset = 0;
                        }
                        file.write_all_at(&payload, offset).expect("the file is written");
                        offset += PAYLOAD_BYTES as u64;
                    }
                    file.sync_data().expect("the file is synced");
                    left -= now;
                }
                start.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, log);
criterion_main!(benches);
