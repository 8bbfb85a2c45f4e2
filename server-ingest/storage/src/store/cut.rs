//! What a reader gets.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::lake::{Objects, Snapshot, TraceIndex};
use crate::log::Position;

/// All rows of one table at one instant: those of `snapshot` and those of `hot`, none twice.
///
/// While this or one of the snapshot's [`DataFile`](crate::lake::DataFile)s is held, none of its files is deleted.
#[derive(Debug, Clone)]
pub struct Cut {
    /// The committed rows.
    pub snapshot: Arc<Snapshot>,
    /// The rows after `snapshot.position`, in the table's schema, oldest first.
    pub hot: Vec<RecordBatch>,
    /// The last frame whose rows are in the cut.
    pub position: Position,
    /// Where the snapshot's files are, if not in folders of this machine.
    pub objects: Option<Objects>,
    /// Tells which of the snapshot's files may hold a trace.
    pub trace_index: Arc<TraceIndex>,
}

impl Cut {
    /// Rows of the cut.
    pub fn rows(&self) -> u64 {
        self.snapshot.rows() + self.hot.iter().map(|batch| batch.num_rows() as u64).sum::<u64>()
    }
}
