//! Counters of queues as Python dictionaries.

use pyo3::{prelude::*, types::PyDict};
use scouter_exporter::queue::{ItemDrop, QueueAccount, RecordQueueReport, RecordQueueStats, ValueSkip};

/// Items by queue, and the records made of them.
pub(super) fn stats<'py>(py: Python<'py>, stats: &RecordQueueStats) -> PyResult<Bound<'py, PyDict>> {
    let queues = PyDict::new(py);
    for (alias, queue_account) in &stats.queues {
        queues.set_item(alias, account(py, queue_account)?)?;
    }
    let (delivery, records) = (&stats.delivery, PyDict::new(py));
    let of_records = &delivery.records;
    records.set_item("ended", of_records.ended)?;
    records.set_item("exported", of_records.exported)?;
    records.set_item("rejected", of_records.rejected)?;
    records.set_item("dropped", of_records.dropped.total())?;
    for (reason, count) in of_records.dropped.iter() {
        records.set_item(format!("dropped_{}", reason.name()), count)?;
    }
    records.set_item("queued", of_records.queued)?;
    records.set_item("in_flight", of_records.in_flight)?;
    let counters = PyDict::new(py);
    counters.set_item("queues", queues)?;
    counters.set_item("records", records)?;
    counters.set_item("requests", delivery.requests)?;
    counters.set_item("retries", delivery.retries)?;
    counters.set_item("bytes", delivery.bytes)?;
    counters.set_item("pending_bytes", delivery.pending_bytes)?;
    counters.set_item("last_error", delivery.last_error.as_deref())?;
    Ok(counters)
}

/// What a shutdown came to.
pub(super) fn shutdown<'py>(py: Python<'py>, outcome: &RecordQueueReport) -> PyResult<Bound<'py, PyDict>> {
    let report = PyDict::new(py);
    report.set_item("delivered", outcome.stats.delivery.records.exported)?;
    report.set_item("undelivered", outcome.undelivered)?;
    report.set_item("last_error", outcome.stats.delivery.last_error.as_deref())?;
    Ok(report)
}

fn account<'py>(py: Python<'py>, account: &QueueAccount) -> PyResult<Bound<'py, PyDict>> {
    let counters = PyDict::new(py);
    counters.set_item("inserted", account.inserted)?;
    counters.set_item("published", account.published)?;
    counters.set_item("waiting", account.waiting)?;
    counters.set_item("sampled_out", account.sampled_out)?;
    counters.set_item("dropped", account.dropped.total())?;
    for reason in ItemDrop::ALL {
        counters.set_item(format!("dropped_{reason}"), account.dropped.get(reason))?;
    }
    counters.set_item("values", account.values.counted)?;
    for reason in ValueSkip::ALL {
        counters.set_item(format!("values_{}", reason.name()), account.values.skipped(reason))?;
    }
    Ok(counters)
}
