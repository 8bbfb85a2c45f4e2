//! Stores that share tables, as servers do whose log is Kafka. The object store is a folder behind the same interface; a log is a list of
//! frames.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use object_store::local::LocalFileSystem;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;
use tokio::runtime::Handle;
use url::Url;

use super::frames::{psi_and_spans, spans};
use super::{DEADLINE, fast, idle, ids, range};
use crate::columns::Table;
use crate::lake::{LakeError, Objects};
use crate::log::Frame;
use crate::store::{Fault, FaultHook, FaultPoint, Offered, Store, StoreError, StoreOptions};

struct Bucket {
    folder: TempDir,
    scratch: TempDir,
}

impl Bucket {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), scratch: TempDir::new().unwrap() }
    }

    fn objects(&self) -> Objects {
        let url = Url::from_directory_path(self.folder.path()).unwrap();
        Objects::over(Arc::new(LocalFileSystem::new()), &url, self.scratch.path(), Handle::current())
    }

    fn open(&self, options: StoreOptions) -> Arc<Store> {
        Store::open_shared(&self.objects(), options).unwrap()
    }
}

fn source(number: usize) -> Arc<str> {
    format!("kafka:test:{number}").into()
}

fn offer(store: &Store, epoch: u64, source: &Arc<str>, offset: u64, frame: &Frame) {
    let offered = store.offer(epoch, source, offset, frame, Duration::from_secs(5)).unwrap();
    assert!(matches!(offered, Offered::Applied(_)), "{offered:?}");
}

async fn begin(store: &Arc<Store>, sources: Vec<Arc<str>>) -> Vec<u64> {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || store.begin_sources(&sources).unwrap()).await.unwrap()
}

fn some_spans(range: Range<u64>) -> Vec<Frame> {
    range.map(|id| spans(id..id + 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_see_what_others_committed() {
    let bucket = Bucket::new();
    tokio::task::spawn_blocking({
        let objects = bucket.objects();
        move || objects.check().unwrap()
    })
    .await
    .unwrap();
    let (one, other) = (bucket.open(idle()), bucket.open(idle()));
    assert_eq!(begin(&one, vec![source(0)]).await, [0]);
    assert_eq!(begin(&other, vec![source(1)]).await, [0]);
    for (offset, frame) in some_spans(0..50).iter().enumerate() {
        offer(&one, one.settled().borrow().epoch, &source(0), offset as u64, frame);
    }
    offer(&other, 0, &source(1), 0, &psi_and_spans(50..60));
    assert_eq!(ids(&one, Table::Spans).await, range(50), "its own at once");
    one.flush().await.unwrap();
    other.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;
    for store in [&one, &other] {
        assert_eq!(ids(store, Table::Spans).await, range(60));
        assert_eq!(ids(store, Table::Psi).await, (50..60).collect::<Vec<_>>());
    }
    // A third one, later, with what the tables say.
    let third = bucket.open(idle());
    assert_eq!(begin(&third, vec![source(0), source(1), source(2)]).await, [50, 1, 0]);
    assert_eq!(ids(&third, Table::Spans).await, range(60));
    for store in [one, other, third] {
        store.shutdown(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_taken_over_is_committed_by_one_server_only() {
    let bucket = Bucket::new();
    let (slow, quick) = (bucket.open(idle()), bucket.open(idle()));
    let frames = some_spans(0..20);
    for (offset, frame) in frames.iter().enumerate() {
        offer(&slow, 0, &source(0), offset as u64, frame);
    }
    // Nothing is settled, so the next owner begins at the first frame, and is not as far when it commits.
    for (offset, frame) in frames[..10].iter().enumerate() {
        offer(&quick, 0, &source(0), offset as u64, frame);
    }
    quick.flush().await.unwrap();
    let error = slow.flush().await.unwrap_err();
    let StoreError::Lake(error) = error else { panic!("{error}") };
    assert!(matches!(&*error, LakeError::TakenOver { found: 10, expected: 0, .. }), "{error}");
    let epoch = slow.settled().borrow().epoch;
    assert_eq!(epoch, 1);
    assert_eq!(slow.offer(0, &source(0), 20, &frames[0], Duration::ZERO).unwrap(), Offered::OtherEpoch);
    // Offered again from the start, of which the table has the half.
    assert_eq!(begin(&slow, vec![source(0)]).await, [10]);
    for (offset, frame) in frames.iter().enumerate() {
        offer(&slow, epoch, &source(0), offset as u64, frame);
    }
    slow.flush().await.unwrap();
    assert_eq!(ids(&slow, Table::Spans).await, range(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_survive_checkpoints_and_one_server_maintains() {
    let bucket = Bucket::new();
    let mut options = idle();
    options.maintenance.merge_min_age = Duration::ZERO;
    options.maintenance.merge_min_files = 2;
    options.maintenance.delete_grace = Duration::ZERO;
    let (one, other) = (bucket.open(options.clone()), bucket.open(options));
    for (offset, frame) in some_spans(0..120).iter().enumerate() {
        offer(&one, 0, &source(offset % 3), (offset / 3) as u64, frame);
        one.flush().await.unwrap();
    }
    let log = bucket.folder.path().join("tables/spans/_delta_log");
    assert!(log.join("_last_checkpoint").exists());
    let started = Instant::now();
    // Nobody waits for a table that the maintainer has just then.
    while ids(&other, Table::Spans).await != range(120) {
        assert!(started.elapsed() < DEADLINE, "it does not learn what was committed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    other.maintain().await.unwrap();
    assert_eq!(other.stats().maintenance.merges, 0, "it was not chosen");
    other.set_maintains(true);
    other.maintain().await.unwrap();
    assert!(other.stats().maintenance.merges > 0);
    assert!(other.stats().tables[0].files < 20);
    loop {
        assert_eq!(ids(&one, Table::Spans).await, range(120));
        if one.stats().tables[0].files == other.stats().tables[0].files {
            break;
        }
        assert!(started.elapsed() < DEADLINE, "it does not learn that files were merged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    offer(&one, 0, &source(0), 40, &spans(120..121));
    one.flush().await.unwrap();
    let third = bucket.open(idle());
    assert_eq!(begin(&third, vec![source(0), source(1), source(2)]).await, [41, 40, 40]);
    assert_eq!(ids(&third, Table::Spans).await, range(121));
}

/// One server of the random test: what it reads, and how far it is.
struct Server {
    store: Arc<Store>,
    epoch: u64,
    /// By partition: the next offset.
    next: BTreeMap<usize, u64>,
    /// By partition: positions and the offsets after them.
    given: BTreeMap<usize, Vec<(u64, u64)>>,
}

#[derive(Debug, Clone)]
enum Step {
    /// A server reads some frames of its partitions.
    Read { server: usize, frames: usize },
    /// It flushes, and says how far the partitions are settled.
    Flush { server: usize },
    /// The same, and a step of its commit fails with an outcome that it does not know.
    FailingFlush { server: usize, after_commit: bool },
    /// A partition goes to a server; the one before does not notice.
    TakeOver { partition: usize, server: usize },
    /// A server dies and starts again with nothing.
    Die { server: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 1..6_usize).prop_map(|(server, frames)| Step::Read { server, frames }),
        3 => (0..3_usize).prop_map(|server| Step::Flush { server }),
        1 => (0..3_usize, any::<bool>()).prop_map(|(server, after_commit)| Step::FailingFlush { server, after_commit }),
        2 => (0..3_usize, 0..3_usize).prop_map(|(partition, server)| Step::TakeOver { partition, server }),
        1 => (0..3_usize).prop_map(|server| Step::Die { server }),
    ]
}

/// Whatever servers do to one another, each frame is in the tables once when all are read.
#[test]
fn whoever_reads_what_and_dies_each_row_is_there_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let scenario = proptest::collection::vec(step(), 1..40);
    runner
        .run(&scenario, |steps| {
            runtime.block_on(async {
                play(steps).await;
                Ok(())
            })
        })
        .unwrap();
}

async fn play(steps: Vec<Step>) {
    let bucket = Bucket::new();
    // One frame in three has records too, so that tables are not equally far.
    let logs: Vec<Vec<Frame>> = (0..3_u64)
        .map(|partition| {
            let frame = |at: u64| {
                if at.is_multiple_of(3) {
                    psi_and_spans(at * 3 + partition..at * 3 + partition + 1)
                } else {
                    spans(at * 3 + partition..at * 3 + partition + 1)
                }
            };
            (0..12).map(frame).collect()
        })
        .collect();
    let fault = Arc::new(AtomicU32::new(0));
    let options = || {
        let fault = Arc::clone(&fault);
        let hook = FaultHook::new(move |point, _| match (fault.load(Ordering::Relaxed), point) {
            (1, FaultPoint::AfterParquet) | (2, FaultPoint::AfterCommit) => Fault::Fail,
            _ => Fault::None,
        });
        StoreOptions { fault: hook, ..idle() }
    };
    let new = || Server { store: bucket.open(options()), epoch: 0, next: BTreeMap::new(), given: BTreeMap::new() };
    let mut servers: Vec<Server> = (0..3).map(|_| new()).collect();
    // The group's offsets, which the log keeps.
    let mut settled = [0_u64; 3];
    for step in steps {
        match step {
            Step::Read { server, frames } => servers[server].read(&logs, &settled, frames).await,
            Step::Flush { server } => servers[server].flush(&mut settled).await,
            Step::FailingFlush { server, after_commit } => {
                fault.store(if after_commit { 2 } else { 1 }, Ordering::Relaxed);
                servers[server].flush(&mut settled).await;
                fault.store(0, Ordering::Relaxed);
            }
            Step::TakeOver { partition, server } => servers[server].take(partition, &settled).await,
            Step::Die { server } => servers[server] = new(),
        }
    }
    // The last owner of everything.
    let mut last = new();
    for partition in 0..3 {
        last.take(partition, &settled).await;
    }
    while last.next.values().any(|next| *next < 12) {
        last.read(&logs, &settled, 12).await;
        last.flush(&mut settled).await;
    }
    last.flush(&mut settled).await;
    let reader = bucket.open(fast());
    assert_eq!(ids(&reader, Table::Spans).await, range(36));
    let with_records: Vec<u64> = (0..4).flat_map(|at| (0..3).map(move |partition| at * 9 + partition)).collect();
    assert_eq!(ids(&reader, Table::Psi).await, with_records);
    assert_eq!(settled, [12; 3]);
}

impl Server {
    async fn take(&mut self, partition: usize, settled: &[u64; 3]) {
        begin(&self.store, vec![source(partition)]).await;
        // What it read of it before, and had not committed, it reads again.
        if self.next.contains_key(&partition) {
            self.begin_anew(settled).await;
        }
        self.next.insert(partition, settled[partition]);
    }

    async fn begin_anew(&mut self, settled: &[u64; 3]) {
        self.epoch = self.store.begin_epoch();
        self.given.clear();
        let sources: Vec<_> = self.next.keys().map(|partition| source(*partition)).collect();
        begin(&self.store, sources).await;
        self.next.iter_mut().for_each(|(partition, next)| *next = settled[*partition]);
    }

    async fn read(&mut self, logs: &[Vec<Frame>], settled: &[u64; 3], frames: usize) {
        for _ in 0..frames {
            for partition in self.next.keys().copied().collect::<Vec<_>>() {
                let offset = self.next[&partition];
                let Some(frame) = logs[partition].get(offset as usize) else { continue };
                match self.store.offer(self.epoch, &source(partition), offset, frame, Duration::ZERO).unwrap() {
                    Offered::Applied(position) => {
                        self.given.entry(partition).or_default().push((position.0, offset + 1));
                        self.next.insert(partition, offset + 1);
                    }
                    Offered::OtherEpoch => return self.begin_anew(settled).await,
                    Offered::NoRoom => panic!("there is room for some dozen rows"),
                }
            }
        }
    }

    async fn flush(&mut self, group: &mut [u64; 3]) {
        let _ = self.store.flush().await;
        let settled = *self.store.settled().borrow();
        if settled.epoch != self.epoch {
            return;
        }
        for (partition, given) in &self.given {
            if let Some((_, offset)) = given.iter().rev().find(|(position, _)| *position <= settled.position.0) {
                group[*partition] = group[*partition].max(*offset);
            }
        }
    }
}
