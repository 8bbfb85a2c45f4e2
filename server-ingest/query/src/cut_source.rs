//! Where the rows come from.

use futures::future::BoxFuture;
use scouter_storage::columns::Table;
use scouter_storage::store::{Cut, Store, StoreError};

/// Gives a reader all rows of a table at one instant.
pub trait CutSource: Send + Sync {
    /// Everything of `table` that was durable when this was called.
    fn cut(&self, table: Table) -> BoxFuture<'_, Result<Cut, StoreError>>;
}

impl CutSource for Store {
    fn cut(&self, table: Table) -> BoxFuture<'_, Result<Cut, StoreError>> {
        Box::pin(Self::cut(self, table))
    }
}
