//! A folder written by the first version opens in every later one. `SCOUTER_WRITE_GOLDEN=1` writes it anew, for a new version of the format.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::frames::{psi_and_spans, spans};
use super::{DEADLINE, idle, ids, range};
use crate::columns::Table;
use crate::store::{Store, StoreOptions};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/store-v1")
}

fn small() -> StoreOptions {
    StoreOptions { log_max_bytes: 128 * 1024, ..idle() }
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Two commits, and rows that only the log has, of a process that died.
async fn write(folder: &Path) {
    let (store, _) = Store::open(folder, small()).unwrap();
    store.append(psi_and_spans(0..20)).await.unwrap();
    store.flush().await.unwrap();
    store.append(spans(20..30)).await.unwrap();
    store.flush().await.unwrap();
    store.append(psi_and_spans(30..40)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_the_first_version_opens_with_all_its_rows() {
    if std::env::var_os("SCOUTER_WRITE_GOLDEN").is_some() {
        let _ = fs::remove_dir_all(golden());
        // Written elsewhere, since a commit names the folder it was made in.
        let written = TempDir::new().unwrap();
        write(written.path()).await;
        copy(written.path(), &golden());
    }
    let folder = TempDir::new().unwrap();
    copy(&golden(), folder.path());
    let psi: Vec<u64> = (0..20).chain(30..40).collect();
    let reader = Store::open_read_only(folder.path()).unwrap();
    assert_eq!((ids(&reader, Table::Spans).await, ids(&reader, Table::Psi).await), (range(40), psi.clone()));
    drop(reader);

    let (store, recovery) = Store::open(folder.path(), small()).unwrap();
    assert_eq!(recovery.replayed_frames, 1, "one frame was in no table");
    assert_eq!((ids(&store, Table::Spans).await, ids(&store, Table::Psi).await), (range(40), psi.clone()));
    // What this version adds stands beside it.
    store.append(spans(40..50)).await.unwrap();
    store.shutdown(DEADLINE).await.unwrap();
    let (store, _) = Store::open(folder.path(), small()).unwrap();
    assert_eq!((ids(&store, Table::Spans).await, ids(&store, Table::Psi).await), (range(50), psi));
}
