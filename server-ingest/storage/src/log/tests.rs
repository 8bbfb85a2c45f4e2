//! Tests that look into the files or put another disk in place of the real one. What the public interface shows is tested in
//! `tests/log.rs`, the death of the process in `tests/log_crash.rs`.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use super::*;

mod damage;
mod failing_disk;
mod golden;
mod power_cut;
mod resting;

/// Segments of 16 KiB: three blocks for commits.
const SEGMENT_BYTES: u64 = 4 * 4096;

fn small_options() -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES, max_bytes: 64 * SEGMENT_BYTES, spare_segments: 8, ..LogOptions::default() }
}

/// A frame that can be told from every other by `number`.
fn frame(number: u64, payload_bytes: usize) -> Frame {
    let mut payload = vec![number as u8 ^ 0xa5; payload_bytes];
    let head = payload.len().min(8);
    payload[..head].copy_from_slice(&number.to_le_bytes()[..head]);
    Frame {
        door: Door::OtlpGrpc,
        envelope: Envelope::Otlp,
        received_unix_nano: 1_000_000_000 * number,
        batch_id: BatchId(u128::from(number).to_be_bytes()),
        rejected_spans: (0..number as u32 % 4).collect(),
        rejected_records: Vec::new(),
        payload: payload.into(),
    }
}

fn no_sink() -> Sink {
    Box::new(|_, _| {})
}

fn open(dir: &Path) -> (Log, Opened) {
    try_open(dir).expect("the log opens")
}

fn try_open(dir: &Path) -> Result<(Log, Opened), LogError> {
    Log::open_on(Arc::new(QuickDisk), dir, small_options(), no_sink())
}

/// The real disk without waiting for it: for tests that open a log thousands of times and lose no power.
struct QuickDisk;

impl Disk for QuickDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }

    fn write_all_at(&self, file: &File, path: &Path, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        RealDisk.write_all_at(file, path, offset, parts)
    }

    fn sync(&self, _file: &File, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_folder(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn append(log: &Log, frame: Frame) -> Result<Position, LogError> {
    futures::executor::block_on(log.append_durable(frame))
}

/// Appends frames of `payload_bytes` one commit each; frame `n` gets position `n`.
fn append_numbers(log: &Log, numbers: std::ops::RangeInclusive<u64>, payload_bytes: usize) {
    for number in numbers {
        let position = append(log, frame(number, payload_bytes)).expect("the frame is appended");
        assert_eq!(position, Position(number));
    }
}

/// Positions and payload sizes are right when every frame is the one made from its position.
fn check_numbers(log: &Log, after: u64, last: u64) {
    let read: Vec<(Position, Frame)> = log.replay(Position(after)).collect::<Result<_, _>>().expect("the log replays");
    let positions: Vec<u64> = read.iter().map(|(position, _)| position.0).collect();
    assert_eq!(positions, (after + 1..=last).collect::<Vec<_>>());
    for (position, read) in read {
        assert_eq!(read, frame(position.0, read.payload.len()));
    }
}

/// The folder as a killed process would leave it: the log is not closed.
fn copy_folder(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("a temporary folder");
    for entry in fs::read_dir(from).expect("the folder is listed") {
        let entry = entry.expect("an entry");
        match fs::copy(entry.path(), to.path().join(entry.file_name())) {
            // A spare was finished, and renamed, meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && entry.file_name().to_string_lossy().starts_with("spare") => {}
            copied => drop(copied.expect("the file is copied")),
        }
    }
    to
}

fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("the folder is listed").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    files.sort();
    files
}

#[test]
fn frames_of_one_commit_share_a_sync_and_are_all_read_back() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    // The first frame blocks the sink, so that the others gather in the queue and become one commit.
    let (release, held) = mpsc::sync_channel::<()>(0);
    let (reached, blocked) = mpsc::sync_channel::<()>(1);
    let sink: Sink = Box::new(move |position, _| {
        if position == Position(1) {
            reached.send(()).expect("the test waits for the sink");
            held.recv().expect("the test releases the sink");
        }
    });
    let options = LogOptions { segment_bytes: 1024 * 1024, max_bytes: 8 * 1024 * 1024, ..LogOptions::default() };
    let (log, _) = Log::open(dir.path(), options.clone(), sink).expect("the log opens");
    append(&log, frame(1, 100)).expect("the frame is appended");
    blocked.recv().expect("the sink is reached");
    let log = Arc::new(log);
    let appenders: Vec<_> = (2..=50)
        .map(|number| {
            let log = Arc::clone(&log);
            thread::spawn(move || append(&log, frame(number, 100 + number as usize)))
        })
        .collect();
    while log.shared.queue.pending() < 49 {
        thread::yield_now();
    }
    release.send(()).expect("the sink waits");
    for appender in appenders {
        appender.join().expect("the appender ends").expect("the frame is appended");
    }
    assert_eq!((log.stats().commits, log.stats().frames), (2, 50));
    let log = Arc::into_inner(log).expect("all appenders are gone");
    drop(log);
    let (log, opened) = Log::open(dir.path(), options, no_sink()).expect("the log opens again");
    assert_eq!((opened.last, opened.torn_bytes), (Position(50), 0));
    let mut numbers: Vec<u64> = Vec::new();
    for read in log.replay(Position(0)) {
        let (_, read) = read.expect("a frame is read");
        let number = u128::from_be_bytes(read.batch_id.0) as u64;
        let payload_bytes = read.payload.len();
        assert_eq!(read, frame(number, payload_bytes));
        numbers.push(number);
    }
    numbers.sort();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>());
}

#[test]
fn a_used_segment_never_gives_old_frames_back() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    let mut number = 0;
    // Frames of all sizes, so that old frames start at every place in the segments that are used again.
    for round in 0..60 {
        for _ in 0..4 {
            number += 1;
            append_numbers(&log, number..=number, 1 + (number as usize * 977) % 9000);
        }
        if round % 2 == 1 {
            log.trim(Position(number)).expect("the log is trimmed");
        }
        let copy = copy_folder(dir.path());
        let (reopened, opened) = open(copy.path());
        assert_eq!((opened.last, opened.torn_bytes), (Position(number), 0), "round {round}");
        let first = reopened.folder.lock().segments[0].header.first;
        check_numbers(&reopened, first - 1, number);
    }
    let state = log.folder.lock();
    assert!(state.segments.iter().any(|segment| segment.header.generation > 3), "segments were used again");
}

#[test]
fn a_torn_commit_of_an_older_session_does_not_come_back_behind_a_newer_frame() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open(dir.path());
    append_numbers(&log, 1..=3, 3000);
    // Frame 2 is torn, frame 3, never answered, is whole: forge that by saying that nothing was synced before frame 3.
    let copy = copy_folder(dir.path());
    let segment = files(copy.path(), ".log").remove(0);
    let mut bytes = fs::read(&segment).expect("the segment is read");
    let seed = format::u32_at(&bytes, 12);
    let third: &[u8; 72] = bytes[3 * 4096..3 * 4096 + 72].try_into().expect("a header");
    let header = format::FrameHeader::decode(third, seed).expect("the third frame");
    assert_eq!((header.position, header.synced), (3, 2));
    bytes[3 * 4096..3 * 4096 + 72].copy_from_slice(&format::FrameHeader { synced: 1, ..header }.encode(seed));
    bytes[2 * 4096 + 100] ^= 1;
    fs::write(&segment, &bytes).expect("the segment is written");
    let read_only = Log::open_read_only(copy.path()).expect("the log opens").1;
    assert_eq!(read_only.last, Position(1));
    assert!(read_only.torn_bytes > 4096, "both frames are counted as torn: {}", read_only.torn_bytes);

    let (log, opened) = open(copy.path());
    assert_eq!((opened.last, opened.torn_bytes), (Position(1), read_only.torn_bytes));
    // Even where the torn frames were not erased, the session keeps them out: put the third frame back.
    append_numbers(&log, 2..=2, 3000);
    log.close().expect("the log closes");
    let erased = fs::read(&segment).expect("the segment is read");
    let mut forged = erased.clone();
    forged[3 * 4096..].copy_from_slice(&bytes[3 * 4096..]);
    fs::write(&segment, forged).expect("the segment is written");
    let (log, opened) = open(copy.path());
    assert_eq!(opened.last, Position(2));
    check_numbers(&log, 0, 2);
}
