//! Messages to Python's logger `scouter`. Only threads that hold the interpreter's lock anyway write them.

use pyo3::{prelude::*, types::PyDict};

/// Logs a warning. A handler that raises is none of the traced program's business.
pub(crate) fn warn(py: Python<'_>, message: &str, cause: Option<&PyErr>) {
    let log = || -> PyResult<()> {
        let keywords = PyDict::new(py);
        if let Some(cause) = cause {
            keywords.set_item("exc_info", cause.value(py))?;
        }
        let logger = py.import("logging")?.call_method1("getLogger", ("scouter",))?;
        logger.call_method("warning", ("%s", message), Some(&keywords))?;
        Ok(())
    };
    if let Err(error) = log() {
        error.write_unraisable(py, None);
    }
}
