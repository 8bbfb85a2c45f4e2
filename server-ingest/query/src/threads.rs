//! The threads on which queries are planned and run.
//!
//! They are not the server's: a heavy query must not delay an acknowledgement. Their stacks are large because parsing,
//! planning and dropping a query recurse over its tree; [`crate::statement`] bounds the tree, this leaves room for it. Stack
//! that is never touched takes no memory.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use scouter_storage::scheduling;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinError, JoinHandle};

use crate::stop::Stop;

/// A kibibyte for each byte of the longest statement.
const STACK_BYTES: usize = crate::statement::MAX_SQL_BYTES << 10;

/// Threads that wait for files. Reads of one query are few at a time.
const FILE_THREADS: usize = 4;

/// Query threads, started at the first query.
#[derive(Debug)]
pub(crate) struct QueryThreads {
    workers: usize,
    runtime: Mutex<Option<Runtime>>,
}

impl QueryThreads {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers: workers.max(1), runtime: Mutex::new(None) }
    }

    /// Runs `work` on these threads. Dropping the answer stops it, and sets `stop`.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static, stop: Stop) -> std::io::Result<Work<T>> {
        Ok(Work { task: self.handle()?.spawn(work), stop })
    }

    fn handle(&self) -> std::io::Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*runtime {
            return Ok(runtime.handle().clone());
        }
        let started = Builder::new_multi_thread()
            .worker_threads(self.workers)
            .max_blocking_threads(FILE_THREADS)
            .thread_stack_size(STACK_BYTES)
            .thread_name("scouter-query")
            // They are started by one that answers requests, and have more to do at once.
            .on_thread_start(scheduling::be_ordinary)
            .enable_time()
            .build()?;
        Ok(runtime.insert(started).handle().clone())
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Waiting for the threads is not allowed where this may be dropped: inside a task of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// Something that runs on the query threads; dropping this stops it at its next await.
#[derive(Debug)]
pub(crate) struct Work<T> {
    task: JoinHandle<T>,
    stop: Stop,
}

impl<T> Future for Work<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context)
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.stop.set();
        self.task.abort();
    }
}
