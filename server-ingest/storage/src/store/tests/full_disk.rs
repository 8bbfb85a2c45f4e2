//! A disk that is really full, and one that a server without work leaves to others.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::frames::{psi_and_spans, spans};
use super::maintenance::eager;
use super::{DEADLINE, fast, idle, ids, range, wait_until};
use crate::columns::Table;
use crate::log::Position;
use crate::store::{Store, StoreOptions};

const PAGE_BYTES: u64 = 4096;

/// A file system of its own in memory, small enough to be filled. Unmounted when dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None, with the reason on stdout, where this process may not mount.
    fn mount(mib: u32) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mut mount = Command::new("mount");
        let mount = mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(dir.path()).stderr(Stdio::piped());
        match mount.output() {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                println!("skipped, no file system can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped, mount cannot be run: {error}");
                None
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Leaves `pages` free.
    fn fill(&self, pages: u64) {
        let mut file = File::create(self.filler()).unwrap();
        while file.write_all(&[1; PAGE_BYTES as usize]).is_ok() {}
        let filled = file.metadata().unwrap().len() / PAGE_BYTES;
        file.set_len(filled.checked_sub(pages).expect("the disk is not that large") * PAGE_BYTES).unwrap();
    }

    fn make_room(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn parquet_files(folder: &Path, table: Table) -> BTreeSet<PathBuf> {
    let dates = std::fs::read_dir(folder.join("tables").join(table.name())).unwrap().map(|entry| entry.unwrap().path());
    let dates = dates.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("date="));
    dates.flat_map(|date| std::fs::read_dir(date).unwrap().map(|entry| entry.unwrap().path())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_during_merges_and_flushes_loses_nothing() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let folder = disk.0.path().canonicalize().unwrap().join("storage");
    // A log of four segments of 512 KiB.
    let options = || StoreOptions { log_max_bytes: 2 << 20, maintenance: eager(), ..idle() };
    let (store, _) = Store::open(&folder, options()).unwrap();
    let mut count = 0;
    let (mut merges_failed, mut flushes_failed, mut appends_refused) = (0, 0, 0);
    // Each number of pages lets the writing come a little further: Parquet, index of traces, commit, checkpoint.
    for free_pages in [0, 1, 2, 4, 8, 16, 32, 48] {
        for _ in 0..4 {
            store.append(psi_and_spans(count..count + 300)).await.unwrap();
            store.flush().await.unwrap();
            count += 300;
        }
        disk.fill(free_pages);
        if let Err(error) = store.maintain().await {
            assert!(error.is_retryable(), "{error}");
            merges_failed += 1;
        }
        assert_eq!(ids(&store, Table::Spans).await, range(count), "{free_pages} pages free");
        disk.make_room();
        disk.fill(free_pages);
        // What is acknowledged now is in the log's files, which have their room already.
        for _ in 0..16 {
            match store.append(psi_and_spans(count..count + 300)).await {
                Ok(_) => count += 300,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    appends_refused += 1;
                    break;
                }
            }
        }
        if let Err(error) = store.flush().await {
            assert!(error.is_retryable(), "{error}");
            flushes_failed += 1;
        }
        for table in [Table::Spans, Table::Psi] {
            assert_eq!(ids(&store, table).await, range(count), "{free_pages} pages free");
        }
        disk.make_room();
        store.append(psi_and_spans(count..count + 1)).await.unwrap();
        count += 1;
        store.flush().await.unwrap();
        store.maintain().await.unwrap();
    }
    println!("{merges_failed} merges and {flushes_failed} flushes failed, {appends_refused} appends were refused");
    assert!(merges_failed > 0 && flushes_failed > 0, "the disk was never full: {merges_failed}, {flushes_failed}");
    store.maintain().await.unwrap();
    for table in [Table::Spans, Table::Psi] {
        assert_eq!(ids(&store, table).await, range(count));
        let named: BTreeSet<PathBuf> = store.cut(table).await.unwrap().snapshot.files.iter().map(|file| file.path.clone()).collect();
        assert_eq!(parquet_files(&folder, table), named, "nothing half written stays");
    }
    // A stop on a full disk, and a start on one with room.
    store.append(psi_and_spans(count..count + 300)).await.unwrap();
    count += 300;
    disk.fill(0);
    let _ = store.shutdown(DEADLINE).await;
    drop(store);
    disk.make_room();
    let (store, _) = Store::open(&folder, options()).unwrap();
    for table in [Table::Spans, Table::Psi] {
        assert_eq!(ids(&store, table).await, range(count));
    }
    store.shutdown(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_work_keeps_a_small_log() {
    let folder = TempDir::new().unwrap();
    let options = || StoreOptions { log_rest_after: Duration::from_millis(20), ..fast() };
    let log_bytes = || -> u64 {
        let files = std::fs::read_dir(folder.path().join("log")).unwrap().map(|entry| entry.unwrap());
        files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    };
    // Dropped, not shut down: the log stays as large as it is.
    let (store, _) = Store::open(folder.path(), idle()).unwrap();
    store.append(spans(0..10)).await.unwrap();
    drop(store);
    assert!(log_bytes() >= 64 << 20, "a segment of the usual size is written before it is needed");
    let (store, _) = Store::open(folder.path(), options()).unwrap();
    wait_until("a small log", || log_bytes() < 5 << 20).await;
    for round in 1..3 {
        store.append(spans(round * 10..round * 10 + 10)).await.unwrap();
        wait_until("a small log", || log_bytes() < 5 << 20).await;
        assert_eq!(ids(&store, Table::Spans).await, range(round * 10 + 10));
    }
    assert_eq!(store.stats().trim_failures, 0);
    drop(store);
    let (store, recovery) = Store::open(folder.path(), options()).unwrap();
    assert_eq!(recovery.last, Position(3));
    assert_eq!(store.append(spans(30..40)).await.unwrap(), Position(4));
    assert_eq!(ids(&store, Table::Spans).await, range(40));
}
