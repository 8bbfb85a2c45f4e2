//! Disks that fill up or fail.

use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;

/// A real disk with so much room for new files, and syncs that can be made to fail.
struct SmallDisk {
    room: AtomicU64,
    syncs_fail: AtomicBool,
    syncs: AtomicU64,
}

impl SmallDisk {
    fn new(room: u64) -> Arc<Self> {
        Arc::new(Self { room: AtomicU64::new(room), syncs_fail: AtomicBool::new(false), syncs: AtomicU64::new(0) })
    }
}

impl Disk for SmallDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }

    fn write_all_at(&self, file: &File, path: &Path, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let grows = (offset + bytes as u64).saturating_sub(file.metadata()?.len());
        if grows > 0 && self.room.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |room| room.checked_sub(grows)).is_err() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        RealDisk.write_all_at(file, path, offset, parts)
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        if self.syncs_fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("the device is gone"));
        }
        self.syncs.fetch_add(1, Ordering::SeqCst);
        RealDisk.sync(file, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.room.fetch_add(fs::metadata(path)?.len(), Ordering::SeqCst);
        RealDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = SmallDisk::new(2 * SEGMENT_BYTES + 1000);
    let (log, _) = Log::open_on(disk.clone(), dir.path(), small_options(), no_sink()).expect("the log opens");
    append_numbers(&log, 1..=6, 3000);
    for _ in 0..3 {
        match append(&log, frame(7, 3000)) {
            Err(error @ LogError::DiskFull { .. }) => {
                assert!(error.is_retryable());
                let message = error.to_string();
                assert!(message.contains(&*dir.path().to_string_lossy()) && message.contains("16384"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(files(dir.path(), ".tmp"), Vec::<PathBuf>::new(), "nothing half filled stays");
    assert!(log.failed().is_none());
    disk.room.fetch_add(SEGMENT_BYTES, Ordering::SeqCst);
    append_numbers(&log, 7..=9, 3000);
    assert!(matches!(append(&log, frame(10, 20_000)), Err(LogError::DiskFull { .. })), "a large frame is refused too");
    disk.room.fetch_add(3 * SEGMENT_BYTES, Ordering::SeqCst);
    append_numbers(&log, 10..=10, 20_000);
    check_numbers(&log, 0, 10);
    drop(log);
    let (log, opened) = open(dir.path());
    assert_eq!((opened.last, opened.torn_bytes), (Position(10), 0));
    check_numbers(&log, 0, 10);
}

#[test]
fn a_failed_sync_is_final_for_everybody() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = SmallDisk::new(u64::MAX);
    let (log, _) = Log::open_on(disk.clone(), dir.path(), small_options(), no_sink()).expect("the log opens");
    append_numbers(&log, 1..=2, 100);
    disk.syncs_fail.store(true, Ordering::SeqCst);
    let log = Arc::new(log);
    let appenders: Vec<_> = (3..=10)
        .map(|number| {
            let log = Arc::clone(&log);
            thread::spawn(move || append(&log, frame(number, 100)))
        })
        .collect();
    for appender in appenders {
        match appender.join().expect("the appender ends") {
            Err(error @ LogError::Failed { .. }) => {
                assert!(!error.is_retryable());
                assert!(error.to_string().contains("sync"), "{error}");
                let source = std::error::Error::source(&error).expect("the cause").to_string();
                assert_eq!(source, "the device is gone");
            }
            other => panic!("{other:?}"),
        }
    }
    // A disk that works again changes nothing: what the failed sync covered may be lost.
    disk.syncs_fail.store(false, Ordering::SeqCst);
    assert!(matches!(append(&log, frame(11, 100)), Err(LogError::Failed { .. })));
    assert!(matches!(log.trim(Position(2)), Err(LogError::Failed { .. })));
    assert!(log.failed().is_some());
    assert_eq!(log.durable(), Position(2));
    assert!(matches!(log.close(), Err(LogError::Failed { .. })));
}

#[test]
fn with_durability_os_segments_are_synced_when_full_and_at_the_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = SmallDisk::new(u64::MAX);
    let options = LogOptions { durability: Durability::Os, ..small_options() };
    let (log, _) = Log::open_on(disk.clone(), dir.path(), options, no_sink()).expect("the log opens");
    let at_open = disk.syncs.load(Ordering::SeqCst);
    append_numbers(&log, 1..=1, 100);
    assert_eq!(disk.syncs.load(Ordering::SeqCst), at_open);
    assert_eq!((log.durable(), log.shared.synced.load(Ordering::SeqCst)), (Position(1), 0));
    append_numbers(&log, 2..=4, 3000);
    assert_eq!(log.shared.synced.load(Ordering::SeqCst), 3, "the full segment was synced");
    log.close().expect("the log closes");
    assert_eq!(log.shared.synced.load(Ordering::SeqCst), 4);
}

#[test]
fn a_panicking_sink_fails_the_log_and_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let sink: Sink = Box::new(|position, _| assert!(position < Position(2), "the sink's own fault"));
    let (log, _) = Log::open(dir.path(), small_options(), sink).expect("the log opens");
    append_numbers(&log, 1..=2, 100);
    assert!(matches!(append(&log, frame(3, 100)), Err(LogError::Failed { .. })));
    drop(log);
    assert_eq!(open(dir.path()).1.last, Position(2));
}
