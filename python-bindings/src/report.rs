//! Counters as Python dictionaries.

use pyo3::{prelude::*, types::PyDict};
use scouter_exporter::Stats;

/// The counters of spans. `unreadable` spans never reached the pipeline; they are added so that the sum holds:
/// `ended == exported + rejected + dropped + queued + in_flight`.
pub(crate) fn stats<'py>(py: Python<'py>, stats: &Stats, unreadable: u64) -> PyResult<Bound<'py, PyDict>> {
    let counters = PyDict::new(py);
    let spans = &stats.spans;
    counters.set_item("ended", spans.ended + unreadable)?;
    counters.set_item("exported", spans.exported)?;
    counters.set_item("rejected", spans.rejected)?;
    counters.set_item("dropped", spans.dropped.total() + unreadable)?;
    for (reason, count) in spans.dropped.iter() {
        counters.set_item(format!("dropped_{}", reason.name()), count)?;
    }
    counters.set_item("dropped_unreadable", unreadable)?;
    counters.set_item("queued", spans.queued)?;
    counters.set_item("in_flight", spans.in_flight)?;
    counters.set_item("requests", stats.requests)?;
    counters.set_item("retries", stats.retries)?;
    counters.set_item("bytes", stats.bytes)?;
    counters.set_item("pending_bytes", stats.pending_bytes)?;
    counters.set_item("last_error", stats.last_error.as_deref())?;
    Ok(counters)
}

/// What a shutdown came to.
pub(crate) fn shutdown<'py>(py: Python<'py>, stats: &Stats, unreadable: u64) -> PyResult<Bound<'py, PyDict>> {
    let report = PyDict::new(py);
    let spans = &stats.spans;
    report.set_item("delivered", spans.exported)?;
    report.set_item("undelivered", spans.lost() + spans.pending() + unreadable)?;
    report.set_item("last_error", stats.last_error.as_deref())?;
    Ok(report)
}
