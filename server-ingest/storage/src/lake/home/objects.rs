//! Tables in an object store. Several servers commit to them: a commit is a conditional put of the next version, which one of them wins.
//!
//! Files are written on this machine first, since Parquet's footer comes last, and are read whole from there by merges; queries read the
//! parts they need. Nothing stays on the machine.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use deltalake_core::logstore::{LogStore, LogStoreFactory, ObjectStoreRef, StorageConfig, default_logstore, logstore_factories};
use deltalake_core::{DeltaResult, DeltaTableBuilder};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::SpawnedReqwestConnector;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as Key;
use object_store::{DynObjectStore, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig, WriteMultipart};
use tokio::runtime::Handle;
use url::Url;
use uuid::Uuid;

use super::folder::has_ending;
use super::{commit_path, log_dir};
use crate::lake::LakeError;
use crate::lake::commit_log::Published;

/// A larger file goes up in parts of this size, some at once.
const PART_BYTES: usize = 8 * 1024 * 1024;
const PARTS_AT_ONCE: usize = 4;

/// A request that fails is tried again within this time.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Commits that are read at once.
const COMMITS_AT_ONCE: usize = 16;

/// An object store, and where in it the tables are. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<DynObjectStore>,
    /// Without a path.
    root: Url,
    /// Of the folder of all tables, as an absolute path.
    tables: Arc<Path>,
    /// Files under way, on this machine.
    scratch: Arc<Path>,
    runtime: Handle,
}

/// Why an object store cannot hold tables.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    /// The address names none.
    #[error(
        "the address of the tables cannot be used; it is s3://BUCKET/PATH, gs://BUCKET/PATH or az://CONTAINER/PATH, with a path of letters, digits, dots, \
         dashes and underscores, and credentials in variables"
    )]
    Address,
    /// It does not answer, or refuses.
    #[error("{url} cannot be used")]
    Store {
        /// Its address.
        url: String,
        /// What it said.
        #[source]
        source: object_store::Error,
    },
    /// Two servers would overwrite each other's commits.
    #[error("{url} overwrites an object that was to be made only if there is none (If-None-Match: *); servers cannot share tables there")]
    Overwrites {
        /// Its address.
        url: String,
    },
    /// There is no place for files under way.
    #[error("{folder} cannot be written", folder = folder.display())]
    Scratch {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Objects {
    /// The object store at `url`, with the settings of its provider's variables (`AWS_*`, `GOOGLE_*`, `AZURE_*`). Connections are driven by
    /// `runtime`, which must have threads of its own. Files under way are in `scratch`. Nothing is asked yet.
    ///
    /// # Errors
    /// The address, or a variable, cannot be used.
    pub fn open(url: &str, scratch: &Path, runtime: Handle) -> Result<Self, ObjectsError> {
        let address = || ObjectsError::Address;
        let parsed = Url::parse(url).map_err(|_| address())?;
        // Of a path with other characters each library has its own spelling.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
        let is_bare =
            parsed.username().is_empty() && parsed.password().is_none() && parsed.query().is_none() && parsed.fragment().is_none();
        if parsed.host_str().is_none_or(str::is_empty) || !is_bare || !parsed.path().chars().all(is_plain) {
            return Err(address());
        }
        let connector = SpawnedReqwestConnector::new(runtime.clone());
        // The library's own default, three minutes, is longer than anybody here waits; what failed is tried again by whoever asked.
        let retry = RetryConfig { max_retries: 4, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let built: Result<Arc<DynObjectStore>, _> = match parsed.scheme() {
            "s3" => AmazonS3Builder::from_env()
                .with_url(url)
                .with_http_connector(connector)
                .with_retry(retry)
                .build()
                .map(|store| Arc::new(store) as _),
            "gs" => GoogleCloudStorageBuilder::from_env()
                .with_url(url)
                .with_http_connector(connector)
                .with_retry(retry)
                .build()
                .map(|store| Arc::new(store) as _),
            "az" => MicrosoftAzureBuilder::from_env()
                .with_url(url)
                .with_http_connector(connector)
                .with_retry(retry)
                .build()
                .map(|store| Arc::new(store) as _),
            _ => return Err(address()),
        };
        let store = built.map_err(|source| ObjectsError::Store { url: url.to_owned(), source })?;
        Ok(Self::over(store, &parsed, scratch, runtime))
    }

    /// The tables at `url` in a store whose paths begin at its root.
    pub fn over(store: Arc<DynObjectStore>, url: &Url, scratch: &Path, runtime: Handle) -> Self {
        let mut root = url.clone();
        root.set_path("");
        let scheme = Url::parse(&format!("{}://", url.scheme())).expect("a scheme alone is an address");
        logstore_factories().insert(scheme, Arc::new(PlainLogs));
        let tables = Path::new("/").join(url.path().trim_matches('/')).join("tables");
        Self { store, root, tables: tables.into(), scratch: scratch.into(), runtime }
    }

    /// Whether it can be written, and refuses to make what is there; and whether there is a place for files under way. Blocking.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn check(&self) -> Result<(), ObjectsError> {
        self.clear_scratch().map_err(|source| ObjectsError::Scratch { folder: self.scratch.to_path_buf(), source })?;
        let failed = |source| ObjectsError::Store { url: self.shown(), source };
        let key = key(&self.tables.join("_checks").join(Uuid::new_v4().to_string()));
        let create = || self.store.put_opts(&key, PutPayload::from_static(b"scouter"), PutMode::Create.into());
        self.run(async {
            create().await.map_err(failed)?;
            let again = create().await;
            self.store.delete(&key).await.map_err(failed)?;
            match again {
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(()),
                Err(error) => Err(failed(error)),
                Ok(_) => Err(ObjectsError::Overwrites { url: self.shown() }),
            }
        })
    }

    /// Makes the folder of files under way, and removes those that a process left behind which died.
    fn clear_scratch(&self) -> io::Result<()> {
        fs::create_dir_all(&self.scratch)?;
        for entry in fs::read_dir(&self.scratch)? {
            let path = entry?.path();
            if has_ending(&path, &["parquet", "fetched"]) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Its address and the store, whose paths are those of [`crate::lake::DataFile`] without the first slash.
    pub fn store(&self) -> (&Url, &Arc<DynObjectStore>) {
        (&self.root, &self.store)
    }

    /// For people.
    pub fn shown(&self) -> String {
        format!("{}{}", self.root.as_str().trim_end_matches('/'), self.tables.display())
    }

    pub(crate) fn tables_dir(&self) -> &Path {
        &self.tables
    }

    /// Blocks the calling thread, which must not be one that drives a runtime.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(super) fn url_of(&self, dir: &Path) -> Url {
        let mut url = self.root.clone();
        url.set_path(&format!("{}/", dir.display()));
        url
    }

    pub(super) fn behind(&self, builder: DeltaTableBuilder, dir: &Path) -> DeltaTableBuilder {
        builder.with_storage_backend(Arc::clone(&self.store), self.url_of(dir))
    }

    pub(super) fn is_table(&self, dir: &Path) -> Result<bool, LakeError> {
        // The first commit goes when a checkpoint has been there for long enough.
        for path in [commit_path(dir, 0), log_dir(dir).join("_last_checkpoint")] {
            match self.run(self.store.head(&key(&path))) {
                Ok(_) => return Ok(true),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed("look for", &path, error)),
            }
        }
        Ok(false)
    }

    pub(super) fn write_file<T>(&self, path: &Path, write: impl FnOnce(&Path) -> Result<T, LakeError>) -> Result<T, LakeError> {
        let local = self.scratch.join(path.file_name().expect("a data file has a name"));
        let written = write(&local).and_then(|written| self.upload(&local, path).map(|()| written));
        let _ = fs::remove_file(&local);
        written
    }

    fn upload(&self, local: &Path, path: &Path) -> Result<(), LakeError> {
        let mut file = File::open(local).map_err(|error| LakeError::io("open", local, error))?;
        let read = |file: &mut File| -> Result<Bytes, LakeError> {
            let mut part = Vec::with_capacity(PART_BYTES);
            file.take(PART_BYTES as u64).read_to_end(&mut part).map_err(|error| LakeError::io("read", local, error))?;
            Ok(part.into())
        };
        let mut part = read(&mut file)?;
        let key = key(path);
        self.run(async {
            if part.len() < PART_BYTES {
                return self.store.put(&key, part.into()).await.map(drop).map_err(|error| failed("write", path, error));
            }
            let upload = self.store.put_multipart(&key).await.map_err(|error| failed("write", path, error))?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            while !part.is_empty() {
                let sent = upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| failed("write", path, error));
                let next = sent.and_then(|()| {
                    upload.put(std::mem::take(&mut part));
                    read(&mut file)
                });
                match next {
                    Ok(next) => part = next,
                    Err(error) => {
                        // What came there would be kept, and paid for, though nobody sees it.
                        let _ = upload.abort().await;
                        return Err(error);
                    }
                }
            }
            upload.finish().await.map(drop).map_err(|error| failed("write", path, error))
        })
    }

    pub(super) fn put(&self, path: &Path, bytes: Vec<u8>) -> io::Result<()> {
        Ok(self.run(self.store.put(&key(path), bytes.into())).map(drop)?)
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.run(async { self.store.get(&key(path)).await?.bytes().await })?.to_vec())
    }

    /// A copy that is gone with its handle.
    pub(super) fn fetch(&self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(&self.scratch)?;
        let local = self.scratch.join(format!("{}.fetched", Uuid::new_v4()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&local)?;
        fs::remove_file(&local)?;
        self.run(async {
            let mut parts = self.store.get(&key(path)).await?.into_stream();
            while let Some(part) = parts.try_next().await? {
                file.write_all(&part)?;
            }
            io::Result::Ok(())
        })?;
        file.rewind()?;
        Ok(file)
    }

    pub(super) fn written(&self, path: &Path) -> io::Result<SystemTime> {
        Ok(self.run(self.store.head(&key(path)))?.last_modified.into())
    }

    pub(super) fn list(&self, dir: &Path, wanted: impl Fn(&str) -> &'static [&'static str]) -> Result<Vec<PathBuf>, LakeError> {
        self.run(async {
            let folders = self.store.list_with_delimiter(Some(&key(dir))).await.map_err(|error| failed("list", dir, error))?;
            let mut found = Vec::new();
            for folder in folders.common_prefixes {
                let endings = wanted(folder.filename().unwrap_or_default());
                if endings.is_empty() {
                    continue;
                }
                let objects: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(|error| failed("list", dir, error))?;
                found.extend(objects.iter().map(|object| path_of(&object.location)).filter(|path| has_ending(path, endings)));
            }
            Ok(found)
        })
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<u64> {
        let key = key(path);
        self.run(async {
            let size = match self.store.head(&key).await {
                Ok(meta) => meta.size,
                Err(object_store::Error::NotFound { .. }) => return Ok(0),
                Err(error) => return Err(error.into()),
            };
            match self.store.delete(&key).await {
                Ok(()) => Ok(size),
                Err(object_store::Error::NotFound { .. }) => Ok(0),
                Err(error) => Err(error.into()),
            }
        })
    }

    pub(super) fn publish(&self, dir: &Path, version: i64, bytes: Vec<u8>) -> Result<Published, LakeError> {
        let path = commit_path(dir, version);
        match self.run(self.store.put_opts(&key(&path), bytes.into(), PutMode::Create.into())) {
            Ok(_) => Ok(Published::Yes),
            // Perhaps by an attempt of this call whose answer was lost. Whoever reads the version finds out.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Published::VersionTaken),
            Err(error) => Err(failed("write the commit", &path, error)),
        }
    }

    /// The version of the newest checkpoint at or after version `from`; `None` if there is none.
    pub(super) fn newest_checkpoint(&self, dir: &Path, from: i64) -> Result<Option<i64>, LakeError> {
        let log = key(&log_dir(dir));
        let before = key(&log_dir(dir).join(format!("{from:020}")));
        let names = self.store.list_with_offset(Some(&log), &before).try_collect::<Vec<_>>();
        let listed = self.run(names).map_err(|error| failed("list", &log_dir(dir), error))?;
        let version = |name: &str| name.strip_suffix(".checkpoint.parquet")?.parse().ok();
        Ok(listed.iter().filter_map(|object| version(object.location.filename()?)).max())
    }

    /// The commit of a version; `None` if there is none.
    pub(in crate::lake) fn commit(&self, dir: &Path, version: i64) -> Result<Option<Bytes>, LakeError> {
        self.run(self.commit_of(dir, version))
    }

    async fn commit_of(&self, dir: &Path, version: i64) -> Result<Option<Bytes>, LakeError> {
        let path = commit_path(dir, version);
        let read = async { self.store.get(&key(&path)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read the commit", &path, error)),
        }
    }

    /// The commits of some versions, in order; all of them are there.
    pub(super) fn commits(&self, dir: &Path, versions: std::ops::RangeInclusive<i64>) -> Result<Vec<Bytes>, LakeError> {
        let read = |version| async move {
            let missing = || failed("read the commit", &commit_path(dir, version), io::Error::from(io::ErrorKind::NotFound));
            self.commit_of(dir, version).await?.ok_or_else(missing)
        };
        self.run(futures::stream::iter(versions).map(read).buffered(COMMITS_AT_ONCE).try_collect())
    }
}

/// A folder of small objects beside the tables.
#[derive(Debug, Clone)]
pub struct ObjectFolder {
    objects: Objects,
    path: PathBuf,
}

impl Objects {
    /// The folder of this name.
    pub fn folder(&self, name: &str) -> ObjectFolder {
        ObjectFolder { objects: self.clone(), path: self.tables.with_file_name(name) }
    }
}

/// All of them block, and must not be called on a thread that drives a runtime.
impl ObjectFolder {
    /// The path of the folder in its store.
    pub fn name(&self) -> &str {
        self.path.to_str().expect("made of an address, which is text")
    }

    /// Makes or replaces an object.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        self.objects.put(&self.path.join(name), bytes)
    }

    /// The bytes of an object.
    pub fn get(&self, name: &str) -> io::Result<Vec<u8>> {
        self.objects.read(&self.path.join(name))
    }

    /// The names of all objects, and what changes with each version of one.
    pub fn list(&self) -> io::Result<Vec<(String, String)>> {
        let folder = key(&self.path);
        let listed = self.objects.run(self.objects.store.list_with_delimiter(Some(&folder)))?;
        let found = listed.objects.into_iter();
        let version = |object: &object_store::ObjectMeta| object.e_tag.clone().unwrap_or_else(|| object.last_modified.to_rfc3339());
        Ok(found.filter_map(|object| Some((object.location.filename()?.to_owned(), version(&object)))).collect())
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.shown()).finish()
    }
}

fn key(path: &Path) -> Key {
    Key::from(path.to_string_lossy().trim_start_matches('/'))
}

fn path_of(key: &Key) -> PathBuf {
    Path::new("/").join(key.as_ref())
}

fn failed(action: &'static str, path: &Path, error: impl Into<io::Error>) -> LakeError {
    LakeError::io(action, path, error.into())
}

/// delta-rs wants to be told for each kind of address that its usual way of reading a log will do. It is not let write commits.
struct PlainLogs;

impl LogStoreFactory for PlainLogs {
    fn with_options(
        &self,
        table: ObjectStoreRef,
        root: ObjectStoreRef,
        url: &Url,
        options: &StorageConfig,
    ) -> DeltaResult<Arc<dyn LogStore>> {
        Ok(default_logstore(table, root, url, options))
    }
}
