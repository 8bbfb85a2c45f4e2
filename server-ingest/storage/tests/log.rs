//! The write-ahead log as its users see it.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use scouter_storage::log::{BatchId, Door, Frame, Log, LogError, LogOptions, MAX_PAYLOAD_BYTES, Opened, Position, Sink};
use scouter_storage::otlp::Envelope;

const SEGMENT_BYTES: u64 = 64 * 1024;
const SECOND: u64 = 1_000_000_000;

fn options() -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES, max_bytes: 16 * SEGMENT_BYTES, ..LogOptions::default() }
}

fn open(dir: &Path) -> (Log, Opened) {
    Log::open(dir, options(), Box::new(|_, _| {})).expect("the log opens")
}

fn frame(number: u64, payload_bytes: usize) -> Frame {
    let doors = [Door::ScouterGrpc, Door::OtlpGrpc, Door::OtlpHttp, Door::ScouterHttp];
    let mut payload = number.to_le_bytes().repeat(payload_bytes.div_ceil(8));
    payload.truncate(payload_bytes);
    Frame {
        door: doors[number as usize % 4],
        envelope: if number.is_multiple_of(2) { Envelope::Otlp } else { Envelope::Scouter },
        received_unix_nano: number * SECOND,
        batch_id: BatchId(u128::from(number).to_be_bytes()),
        rejected_spans: (0..number as u32 % 5).map(|index| index * 3).collect(),
        rejected_records: (0..number as u32 % 3).collect(),
        payload: payload.into(),
    }
}

fn append(log: &Log, frame: Frame) -> Result<Position, LogError> {
    futures::executor::block_on(log.append_durable(frame))
}

fn append_numbers(log: &Log, numbers: std::ops::RangeInclusive<u64>, payload_bytes: usize) {
    for number in numbers {
        assert_eq!(append(log, frame(number, payload_bytes)).expect("the frame is appended"), Position(number));
    }
}

fn segments(dir: &Path) -> usize {
    let names = fs::read_dir(dir).expect("the folder is listed").map(|entry| entry.expect("an entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with("segment-")).count()
}

fn read(replay: impl Iterator<Item = Result<(Position, Frame), LogError>>) -> Vec<(Position, Frame)> {
    replay.collect::<Result<_, _>>().expect("the log replays")
}

#[test]
fn frames_come_back_as_they_were_appended() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("made/by/open");
    let (log, opened) = open(&path);
    assert_eq!((opened.last, opened.torn_bytes, opened.recent_batches.len()), (Position(0), 0, 0));
    let sizes = [0, 1, 7, 8, 9, 4000, 4024, 4025, 60_000, 61_000, 12];
    let frames: Vec<Frame> = (1..).zip(sizes).map(|(number, size)| frame(number, size)).collect();
    for frame in &frames {
        append(&log, frame.clone()).expect("the frame is appended");
    }
    let expected: Vec<_> = (1..).map(Position).zip(frames).collect();
    assert_eq!(read(log.replay(Position(0))), expected);
    assert_eq!(read(log.replay(Position(8))), expected[8..]);
    assert_eq!(read(log.replay(Position(11))), []);
    assert_eq!(read(log.replay(Position(99))), []);
    let log_id = opened.log_id;
    drop(log);
    let (log, opened) = open(&path);
    assert_eq!((opened.log_id, opened.last, opened.torn_bytes), (log_id, Position(11), 0));
    assert_eq!(read(log.replay(Position(0))), expected);
    drop(log);
    let before: Vec<_> = snapshot(&path);
    let (reader, opened) = Log::open_read_only(&path).expect("the log opens");
    assert_eq!((opened.log_id, opened.last), (log_id, Position(11)));
    assert_eq!(read(reader.replay(Position(3))), expected[3..]);
    assert_eq!(snapshot(&path), before, "reading changed the folder");
}

/// Name, content and time of change of every file.
fn snapshot(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>, std::time::SystemTime)> {
    let entries = fs::read_dir(dir).expect("the folder is listed").map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let changed = entry.metadata().expect("metadata").modified().expect("a time");
            (entry.file_name(), fs::read(entry.path()).expect("the file is read"), changed)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn concurrent_appends_get_gapless_positions_and_reach_the_sink_in_order() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&delivered);
    let sink: Sink = Box::new(move |position, frame| seen.lock().expect("not poisoned").push((position, frame)));
    let options = LogOptions { queue_frames: 8, queue_bytes: 64 * 1024, max_bytes: 1024 * SEGMENT_BYTES, ..options() };
    let (log, _) = Log::open(dir.path(), options, sink).expect("the log opens");
    let log = Arc::new(log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let answered = runtime.block_on(async {
        let appenders: Vec<_> = (0..64_u64)
            .map(|appender| {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    for turn in 0..10 {
                        let frame = frame(1 + appender * 10 + turn, 1 + (appender as usize * 131) % 9000);
                        let position = log.append_durable(frame.clone()).await.expect("the frame is appended");
                        assert!(log.durable() >= position, "what is answered is durable");
                        answered.push((position, frame));
                    }
                    answered
                })
            })
            .collect();
        let mut answered = Vec::new();
        for appender in appenders {
            answered.extend(appender.await.expect("the appender ends"));
        }
        answered
    });
    log.close().expect("the log closes");
    assert!(matches!(append(&log, frame(1, 1)), Err(LogError::Closed)));
    let mut answered = answered;
    answered.sort_by_key(|(position, _)| *position);
    assert_eq!(answered.iter().map(|(position, _)| position.0).collect::<Vec<_>>(), (1..=640).collect::<Vec<_>>());
    assert_eq!(*delivered.lock().expect("not poisoned"), answered);
    let log = Arc::into_inner(log).expect("all appenders are gone");
    drop(log);
    assert_eq!(read(open_large(dir.path()).replay(Position(0))), answered);
}

fn open_large(dir: &Path) -> Log {
    Log::open(dir, LogOptions { max_bytes: 1024 * SEGMENT_BYTES, ..options() }, Box::new(|_, _| {})).expect("the log opens").0
}

#[test]
fn numbering_goes_on_after_everything_was_trimmed_and_the_server_was_restarted() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut last = 0;
    for _ in 0..4 {
        let (log, opened) = open(dir.path());
        assert_eq!(opened.last, Position(last));
        append_numbers(&log, last + 1..=last + 5, 20_000);
        last += 5;
        log.trim(Position(last)).expect("the log is trimmed");
        assert_eq!(segments(dir.path()), 1);
    }
    let (log, _) = open(dir.path());
    let kept = read(log.replay(Position(last - 1)));
    assert_eq!(kept, vec![(Position(last), frame(last, 20_000))]);
}

#[test]
fn a_trim_keeps_what_is_above_it_and_says_when_trimmed_frames_are_asked_for() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    append_numbers(&log, 1..=9, 20_000);
    assert_eq!(segments(dir.path()), 3);
    let mut running = log.replay(Position(0));
    log.trim(Position(0)).expect("the log is trimmed");
    log.trim(Position(2)).expect("the log is trimmed");
    assert_eq!(segments(dir.path()), 3, "frame 3 is in the first segment");
    log.trim(Position(5)).expect("the log is trimmed");
    assert_eq!(segments(dir.path()), 2);
    log.trim(Position(u64::MAX)).expect("the log is trimmed");
    assert_eq!(segments(dir.path()), 1, "the one that is written to stays");
    append_numbers(&log, 10..=15, 20_000);
    // A replay that began before goes on over the trimmed segments.
    assert_eq!(running.by_ref().map(|read| read.expect("a frame").0.0).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
    assert_eq!(read(log.replay(Position(6))).len(), 9);
    assert!(matches!(log.replay(Position(5)).next(), Some(Err(LogError::MissingSegment { expected: 6, found: 7, .. }))));
}

#[test]
fn batch_ids_survive_trimming_and_restarts_inside_the_window() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    // One frame a second, a window of ten minutes.
    let mut number = 0;
    let mut log = Some(log);
    for _ in 0..7 {
        let open_log = log.take().unwrap_or_else(|| open(dir.path()).0);
        append_numbers(&open_log, number + 1..=number + 120, 4_000);
        number += 120;
        open_log.trim(Position(number)).expect("the log is trimmed");
    }
    assert_eq!(segments(dir.path()), 1);
    for opened in [Log::open_read_only(dir.path()).expect("the log opens").1, open(dir.path()).1] {
        let ids: Vec<u64> = opened.recent_batches.iter().map(|batch| u128::from_be_bytes(batch.batch_id.0) as u64).collect();
        assert_eq!(ids, (number - 600..=number).collect::<Vec<_>>());
        for batch in &opened.recent_batches {
            let number = batch.received_unix_nano / SECOND;
            assert_eq!(u128::from_be_bytes(batch.batch_id.0), u128::from(number));
            assert_eq!(batch.rejected_records, Some(number as u32 % 3), "batch {number}, trimmed or not");
        }
    }
    let few = LogOptions { dedupe_ids: 5, ..options() };
    let (_, opened) = Log::open(dir.path(), few, Box::new(|_, _| {})).expect("the log opens");
    assert_eq!(opened.recent_batches.len(), 5);
    assert_eq!(opened.recent_batches[4].received_unix_nano, number * SECOND);
}

#[test]
fn a_frame_larger_than_a_segment_gets_one_of_its_own() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let large = LogOptions { max_bytes: 256 * 1024 * 1024, ..options() };
    let (log, _) = Log::open(dir.path(), large.clone(), Box::new(|_, _| {})).expect("the log opens");
    // First of all frames, between others, and twice in a row.
    let sizes = [100_000, 10, 300_000, 300_001, 10, MAX_PAYLOAD_BYTES, 10];
    for (number, size) in (1..).zip(sizes) {
        assert_eq!(append(&log, frame(number, size)).expect("the frame is appended"), Position(number));
    }
    let too_large = append(&log, frame(8, MAX_PAYLOAD_BYTES + 1));
    assert!(matches!(too_large, Err(LogError::TooLarge { .. })), "{too_large:?}");
    drop(log);
    let (log, opened) = Log::open(dir.path(), large, Box::new(|_, _| {})).expect("the log opens");
    assert_eq!((opened.last, opened.torn_bytes), (Position(7), 0));
    for ((position, read), (number, size)) in read(log.replay(Position(0))).into_iter().zip((1..).zip(sizes)) {
        assert_eq!((position, read), (Position(number), frame(number, size)));
    }
    log.trim(Position(7)).expect("the log is trimmed");
    assert_eq!(segments(dir.path()), 1);
    assert!(log.stats().disk_bytes <= 4 * SEGMENT_BYTES, "large segments are not kept: {}", log.stats().disk_bytes);
}

#[test]
fn a_spent_budget_refuses_until_a_trim() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let small = LogOptions { max_bytes: 4 * SEGMENT_BYTES, ..options() };
    let (log, _) = Log::open(dir.path(), small, Box::new(|_, _| {})).expect("the log opens");
    append_numbers(&log, 1..=12, 20_000);
    for _ in 0..2 {
        match append(&log, frame(13, 20_000)) {
            Err(error @ LogError::BudgetExhausted { budget_bytes, used_bytes, need_bytes, .. }) => {
                assert!(error.is_retryable());
                assert_eq!((budget_bytes, used_bytes, need_bytes), (4 * SEGMENT_BYTES, 4 * SEGMENT_BYTES, SEGMENT_BYTES));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(log.stats().disk_bytes <= 4 * SEGMENT_BYTES);
    log.trim(Position(3)).expect("the log is trimmed");
    append_numbers(&log, 13..=15, 20_000);
    assert!(matches!(append(&log, frame(16, 20_000)), Err(LogError::BudgetExhausted { .. })));
    log.trim(Position(15)).expect("the log is trimmed");
    append_numbers(&log, 16..=20, 20_000);
    assert_eq!(read(log.replay(Position(12))).len(), 8);
}

#[test]
fn a_log_whose_budget_became_smaller_than_its_segment_goes_on() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let large = LogOptions { segment_bytes: 16 * SEGMENT_BYTES, max_bytes: 64 * SEGMENT_BYTES, ..options() };
    let (log, _) = Log::open(dir.path(), large, Box::new(|_, _| {})).expect("the log opens");
    append_numbers(&log, 1..=1, 20_000);
    drop(log);
    let small = LogOptions { max_bytes: 4 * SEGMENT_BYTES, ..options() };
    let (log, _) = Log::open(dir.path(), small, Box::new(|_, _| {})).expect("the log opens");
    // The large segment holds some fifty frames; then it is left for a small one, and let go.
    for number in 2..=80 {
        append_numbers(&log, number..=number, 20_000);
        log.trim(Position(number)).expect("the log is trimmed");
    }
    assert!(log.stats().disk_bytes <= 4 * SEGMENT_BYTES, "{}", log.stats().disk_bytes);
}

#[test]
fn a_slow_sink_holds_callers_back_and_cancelled_callers_leave_no_trace() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (hand_over, applied) = std::sync::mpsc::sync_channel::<Position>(1);
    let sink: Sink = Box::new(move |position, _| {
        // Nobody listens any more once the test has seen enough.
        let _ = hand_over.send(position);
    });
    let (log, _) = Log::open(dir.path(), LogOptions { queue_frames: 2, ..options() }, sink).expect("the log opens");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let answered = runtime.block_on(async {
        let mut answered = 0;
        // Nobody takes from the channel: at some point an append waits, and is cancelled.
        for number in 1..=20 {
            match tokio::time::timeout(Duration::from_millis(200), log.append_durable(frame(number, 10))).await {
                Ok(position) => answered = position.expect("the frame is appended").0,
                Err(_) => break,
            }
        }
        answered
    });
    assert!((1..10).contains(&answered), "{answered} appends were answered");
    let deadline = Instant::now() + Duration::from_secs(20);
    while applied.recv_timeout(Duration::from_millis(500)).is_ok() {
        assert!(Instant::now() < deadline, "the sink does not stop");
    }
    assert_eq!(append(&log, frame(99, 10)).expect("the frame is appended"), Position(answered + 1));
    drop(applied);
    log.close().expect("the log closes");
    let numbers: Vec<u64> = read(log.replay(Position(0))).iter().map(|(_, frame)| frame.received_unix_nano / SECOND).collect();
    assert_eq!(numbers, (1..=answered).chain([99]).collect::<Vec<_>>());
}

#[test]
fn a_log_is_opened_once_and_only_where_there_is_one() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    assert!(matches!(Log::open_read_only(dir.path()), Err(LogError::NoLog { .. })));
    assert!(matches!(Log::open_read_only(&dir.path().join("nowhere")), Err(LogError::NoLog { .. })));
    let (log, _) = open(dir.path());
    assert!(matches!(Log::open(dir.path(), options(), Box::new(|_, _| {})), Err(LogError::InUse { .. })));
    log.close().expect("the log closes");
    log.close().expect("closing twice is no error");
    drop(open(dir.path()));
    for wrong in [
        LogOptions { segment_bytes: 5000, ..options() },
        LogOptions { max_bytes: SEGMENT_BYTES, ..options() },
        LogOptions { queue_frames: 0, ..options() },
    ] {
        assert!(matches!(Log::open(dir.path(), wrong, Box::new(|_, _| {})), Err(LogError::Options { .. })));
    }
}

/// A real full disk, where the test may mount one; elsewhere the same is shown by a disk that pretends (`log::tests`).
#[test]
fn a_full_tmpfs_refuses_and_recovers() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(dir.path()).output();
    match mounted {
        Ok(output) if output.status.success() => {}
        refused => {
            eprintln!("no tmpfs could be mounted ({refused:?}); log::tests::failing_disk shows the same with a pretended disk");
            return;
        }
    }
    let _unmount = Unmount(dir.path());
    let path = dir.path().join("log");
    let ballast = dir.path().join("ballast");
    fs::write(&ballast, vec![1; 200 * 1024]).expect("the ballast is written");
    let (log, _) = open(&path);
    let mut last = 0;
    let error = loop {
        match append(&log, frame(last + 1, 20_000)) {
            Ok(position) => last = position.0,
            Err(error) => break error,
        }
        assert!(last < 30, "512 KiB do not hold this");
    };
    assert!(matches!(error, LogError::DiskFull { .. }) && error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    fs::remove_file(&ballast).expect("the ballast is removed");
    append_numbers(&log, last + 1..=last + 3, 20_000);
    drop(log);
    let (log, opened) = open(&path);
    assert_eq!((opened.last, opened.torn_bytes), (Position(last + 3), 0));
    assert_eq!(read(log.replay(Position(0))).len() as u64, last + 3);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        // Lazily: the log of a failed test may still have files open.
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_payload_is_not_copied_into_the_sink() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let payload = Bytes::from(vec![7; 1000]);
    let address = payload.as_ptr() as usize;
    let (hand_over, applied) = std::sync::mpsc::sync_channel(1);
    let sink: Sink = Box::new(move |_, frame| hand_over.send(frame.payload.as_ptr() as usize).expect("the test listens"));
    let (log, _) = Log::open(dir.path(), options(), sink).expect("the log opens");
    append(&log, Frame { payload, ..frame(1, 0) }).expect("the frame is appended");
    assert_eq!(applied.recv().expect("the sink was called"), address);
}
