//! Rust's errors as the package's exceptions, by kind.

use pyo3::PyErr;
use scouter_exporter::{ConfigFault, DropReason, ExportError};

/// The exception classes, defined in Python because one of them has two bases.
mod python {
    pyo3::import_exception!(scouter.errors, AuthenticationError);
    pyo3::import_exception!(scouter.errors, ConfigError);
    pyo3::import_exception!(scouter.errors, ExportError);
    pyo3::import_exception!(scouter.errors, RejectedError);
    pyo3::import_exception!(scouter.errors, UnavailableError);
}

/// Every fault of a configuration, each named once.
#[derive(Default)]
pub(crate) struct Faults(Vec<String>);

impl Faults {
    pub(crate) fn add(&mut self, fault: impl Into<String>) {
        let fault = fault.into();
        if !self.0.contains(&fault) {
            self.0.push(fault);
        }
    }

    pub(crate) fn extend(&mut self, faults: Vec<ConfigFault>) {
        faults.into_iter().for_each(|fault| self.add(fault.to_string()));
    }

    /// # Errors
    /// `ConfigError` naming all of them.
    pub(crate) fn check(self, what: &str) -> Result<(), PyErr> {
        if self.0.is_empty() { Ok(()) } else { Err(python::ConfigError::new_err(format!("invalid {what}: {}", self.0.join("; ")))) }
    }
}

pub(crate) fn config_error(message: String) -> PyErr {
    python::ConfigError::new_err(message)
}

pub(crate) fn export_error(error: &ExportError) -> PyErr {
    let message = error.to_string();
    match error {
        ExportError::Rejected { .. } => python::RejectedError::new_err(message),
        ExportError::Dropped { reason, .. } => match reason {
            DropReason::Unauthenticated => python::AuthenticationError::new_err(message),
            DropReason::ExportTimeout => python::UnavailableError::new_err(message),
            DropReason::Refused | DropReason::TooLarge => python::RejectedError::new_err(message),
            _ => python::ExportError::new_err(message),
        },
        _ => python::ExportError::new_err(message),
    }
}
