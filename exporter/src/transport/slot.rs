//! The connection that all calls of a transport share: made by the first call that needs one, forgotten by whoever finds it dead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scouter_tonic::client::CallError;

pub(super) struct Slot<C> {
    /// Never locked while somebody waits for a broker, so whoever gives a connection up does so at once, whatever others wait for.
    current: Mutex<Option<Arc<C>>>,
    /// Held while a connection is made: many calls wait for one.
    opening: tokio::sync::Mutex<()>,
}

impl<C> Default for Slot<C> {
    fn default() -> Self {
        Self { current: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }
}

impl<C> Slot<C> {
    /// The connection there is, or the one that `open` makes. It takes as long as a broker pleases: wait for it under a deadline.
    ///
    /// # Errors
    /// Those of `open`.
    pub(super) async fn connection<F>(&self, is_open: impl Fn(&C) -> bool, open: impl FnOnce() -> F) -> Result<Arc<C>, CallError>
    where
        F: Future<Output = Result<C, CallError>>,
    {
        let usable = || self.current().as_ref().filter(|connection| is_open(connection)).map(Arc::clone);
        if let Some(connection) = usable() {
            return Ok(connection);
        }
        let _turn = self.opening.lock().await;
        if let Some(connection) = usable() {
            return Ok(connection);
        }
        let connection = Arc::new(open().await?);
        let _dead = self.current().replace(Arc::clone(&connection));
        Ok(connection)
    }

    /// The next call makes a new one, unless somebody has done so already.
    pub(super) fn forget(&self, used: &Arc<C>) {
        let mut current = self.current();
        let forgotten = if current.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, used)) { current.take() } else { None };
        drop(current);
        drop(forgotten);
    }

    pub(super) fn take(&self) -> Option<Arc<C>> {
        self.current().take()
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<C>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
