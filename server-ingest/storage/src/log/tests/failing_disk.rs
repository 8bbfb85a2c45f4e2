//! Disks that fill up or fail.

use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;

/// A real disk with so much room for new files, and syncs that can be made to fail.
pub(super) struct SmallDisk {
    room: AtomicU64,
    syncs_fail: AtomicBool,
    syncs: AtomicU64,
}

impl SmallDisk {
    pub(super) fn new(room: u64) -> Arc<Self> {
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
    // Another try may be under way.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !files(dir.path(), ".tmp").is_empty() {
        assert!(std::time::Instant::now() < deadline, "what is half filled stays");
        thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(log.failed().is_none());
    thread::sleep(std::time::Duration::from_millis(1500));
    assert!(matches!(log.obstacle(), Some(LogError::DiskFull { .. })), "it stays while there is no room: {:?}", log.obstacle());
    disk.room.fetch_add(SEGMENT_BYTES, Ordering::SeqCst);
    // Nobody appends, and yet it passes.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while log.obstacle().is_some() {
        assert!(std::time::Instant::now() < deadline, "the log does not notice that there is room");
        thread::sleep(std::time::Duration::from_millis(10));
    }
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

/// A disk whose syncs, once it is slow, take longer than 200 ms; it counts those that ended.
struct SlowDisk {
    slow: AtomicBool,
    done: AtomicU64,
}

const SLOW_SYNC: std::time::Duration = std::time::Duration::from_millis(220);

impl Disk for SlowDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        RealDisk.create(path)
    }

    fn write_all_at(&self, file: &File, path: &Path, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        RealDisk.write_all_at(file, path, offset, parts)
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        let is_segment = path.extension().is_some_and(|extension| extension == "log");
        if !is_segment || !self.slow.load(Ordering::SeqCst) {
            return RealDisk.sync(file, path);
        }
        thread::sleep(SLOW_SYNC);
        RealDisk.sync(file, path)?;
        self.done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync_folder(path)
    }
}

#[test]
fn a_slow_sync_is_waited_for_by_all_and_bounds_what_is_held() {
    const CALLERS: u64 = 64;
    const QUEUE_FRAMES: u64 = 8;
    const QUEUE_BYTES: u64 = 10 * 4096;
    let dir = tempfile::tempdir().expect("a temporary folder");
    let disk = Arc::new(SlowDisk { slow: AtomicBool::new(false), done: AtomicU64::new(0) });
    let options = LogOptions {
        segment_bytes: 1 << 20,
        max_bytes: 8 << 20,
        queue_frames: QUEUE_FRAMES as usize,
        queue_bytes: QUEUE_BYTES as usize,
        ..LogOptions::default()
    };
    let (log, _) = Log::open_on(disk.clone(), dir.path(), options.clone(), no_sink()).expect("the log opens");
    let log = Arc::new(log);
    disk.slow.store(true, Ordering::SeqCst);
    let callers: Vec<_> = (1..=CALLERS)
        .map(|number| {
            let (log, disk) = (Arc::clone(&log), Arc::clone(&disk));
            thread::spawn(move || {
                let before = disk.done.load(Ordering::SeqCst);
                let position = append(&log, frame(number, 3000)).expect("the frame is appended");
                // The sync that covers it began after it was queued, so one more has ended by now than when it was.
                assert!(disk.done.load(Ordering::SeqCst) > before, "frame {number} was answered before a sync ended");
                assert!(log.durable() >= position);
                (position, number)
            })
        })
        .collect();
    // Looked at while syncs are under way.
    while !callers.iter().all(thread::JoinHandle::is_finished) {
        let stats = log.stats();
        assert!(stats.queued_frames <= QUEUE_FRAMES, "{} frames are held", stats.queued_frames);
        assert!(stats.queued_bytes <= QUEUE_BYTES, "{} bytes are held", stats.queued_bytes);
        let durable = log.durable().0;
        assert!(durable <= disk.done.load(Ordering::SeqCst) * QUEUE_FRAMES, "more is durable than the syncs that ended can cover");
        thread::sleep(SLOW_SYNC / 10);
    }
    let mut answered: Vec<(Position, u64)> = callers.into_iter().map(|caller| caller.join().expect("the caller ends")).collect();
    answered.sort();
    let stats = log.stats();
    assert_eq!(stats.commits, disk.done.load(Ordering::SeqCst), "each commit had one sync, and nobody was answered without");
    assert!(stats.commits >= CALLERS / QUEUE_FRAMES, "no commit took more than the queue holds: {}", stats.commits);
    assert_eq!((stats.queued_frames, stats.queued_bytes), (0, 0), "all room was given back");

    // A caller that gives up while it waits for room leaves nothing behind and keeps nobody else from it.
    let waker = futures::task::noop_waker();
    let mut given_up: Vec<_> = (0..3 * QUEUE_FRAMES).map(|number| Box::pin(log.append_durable(frame(1000 + number, 3000)))).collect();
    for append in &mut given_up {
        assert!(append.as_mut().poll(&mut std::task::Context::from_waker(&waker)).is_pending());
    }
    assert!(log.stats().queued_frames <= QUEUE_FRAMES);
    drop(given_up);
    let last = append(&log, frame(2000, 3000)).expect("the frame is appended");
    let log = Arc::into_inner(log).expect("all callers are gone");
    log.close().expect("the log closes");
    drop(log);

    let (log, opened) = Log::open(dir.path(), options, no_sink()).expect("the log opens again");
    assert_eq!((opened.last, opened.torn_bytes), (last, 0));
    let read: Vec<(Position, Frame)> = log.replay(Position(0)).collect::<Result<_, _>>().expect("the log replays");
    for ((position, number), (read_at, read)) in answered.into_iter().zip(&read) {
        assert_eq!((position, &frame(number, 3000)), (*read_at, read), "what was answered is there, once");
    }
    let (_, newest) = read.last().expect("a frame");
    assert_eq!(*newest, frame(2000, 3000));
}
