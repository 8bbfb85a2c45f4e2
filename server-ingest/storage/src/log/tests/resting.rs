//! A log to which nothing is appended takes little of the disk, and loses nothing by it.

use super::*;

const USUAL_BYTES: u64 = 1 << 20;
const RESTING_BYTES: u64 = USUAL_BYTES / 16;

fn usual_options() -> LogOptions {
    LogOptions { segment_bytes: USUAL_BYTES, max_bytes: 8 * USUAL_BYTES, ..LogOptions::default() }
}

fn open_usual(dir: &Path) -> (Log, Opened) {
    Log::open_on(Arc::new(QuickDisk), dir, usual_options(), no_sink()).expect("the log opens")
}

fn bytes_on_disk(dir: &Path) -> u64 {
    let sizes = files(dir, ".log").into_iter().chain(files(dir, ".free")).map(|path| fs::metadata(path).expect("the file is there").len());
    sizes.sum()
}

/// Until the writer, which is asked and not waited for, has done its part.
fn rest_until_small(log: &Log, up_to: u64) {
    while log.stats().disk_bytes > RESTING_BYTES {
        log.rest(Position(up_to)).expect("the log rests");
        thread::yield_now();
    }
}

#[test]
fn a_resting_log_is_small_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open_usual(dir.path());
    // A log that was never used rests too.
    rest_until_small(&log, 0);
    assert_eq!(bytes_on_disk(dir.path()), RESTING_BYTES);
    let mut number = 0;
    for round in 0..5 {
        // More than the small segment holds, and in the last rounds more than a usual one.
        for _ in 0..10 + 15 * round {
            number += 1;
            append_numbers(&log, number..=number, 20_000);
        }
        assert!(log.stats().disk_bytes >= USUAL_BYTES);
        rest_until_small(&log, number);
        assert_eq!((bytes_on_disk(dir.path()), files(dir.path(), ".log").len()), (RESTING_BYTES, 1), "round {round}");
        let copy = copy_folder(dir.path());
        let (reopened, opened) = open_usual(copy.path());
        assert_eq!((opened.last, opened.trimmed, opened.torn_bytes), (Position(number), Position(number), 0));
        assert_eq!(opened.recent_batches.len() as u64, number, "batches stay known");
        append_numbers(&reopened, number + 1..=number + 1, 100);
    }
    // What the small segment holds outlives an opening, also with the next segment behind it.
    append_numbers(&log, number + 1..=number + 1, 100);
    let copy = copy_folder(dir.path());
    check_numbers(&open_usual(copy.path()).0, number, number + 1);
    append_numbers(&log, number + 2..=number + 9, 20_000);
    assert!(log.stats().segments > 1);
    let copy = copy_folder(dir.path());
    check_numbers(&open_usual(copy.path()).0, number, number + 9);
    check_numbers(&log, number, number + 9);
}

#[test]
fn a_log_with_frames_that_are_needed_does_not_rest() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (log, _) = open_usual(dir.path());
    append_numbers(&log, 1..=5, 20_000);
    for up_to in [0, 1, 4] {
        log.rest(Position(up_to)).expect("nothing is done");
    }
    log.close().expect("the log closes");
    assert_eq!(files(dir.path(), ".log").len(), 1);
    assert!(bytes_on_disk(dir.path()) >= USUAL_BYTES);
    drop(log);
    check_numbers(&open_usual(dir.path()).0, 0, 5);
}

#[test]
fn without_room_for_a_small_segment_the_large_one_stays_in_use() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let options = LogOptions { max_bytes: 2 * USUAL_BYTES, ..usual_options() };
    let disk = failing_disk::SmallDisk::new(USUAL_BYTES + RESTING_BYTES / 2);
    let (log, _) = Log::open_on(disk, dir.path(), options, no_sink()).expect("the log opens");
    append_numbers(&log, 1..=1, 100);
    for _ in 0..20 {
        log.rest(log.durable()).expect("the log stays as it is");
        let next = log.durable().0 + 1;
        append_numbers(&log, next..=next, 100);
    }
    assert!(log.failed().is_none());
    assert_eq!(log.stats().disk_bytes, USUAL_BYTES);
    check_numbers(&log, 0, 21);
}
