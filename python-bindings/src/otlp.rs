//! A second destination: any OTLP server, for the exporters that Scouter names after their protocol.

use std::{collections::BTreeMap, path::PathBuf};

use pyo3::{exceptions::PyRuntimeError, prelude::*};
use scouter_exporter::{OtlpConfig, OtlpProtocol, Pipeline, QueueConfig};

use crate::{
    config::{check, compression_name, compression_named, seconds},
    error::Faults,
};

/// The first field of an encoded span is its trace id: a tag, the length, 16 bytes of which the last 8 are compared.
const TRACE_ID_TAG: u8 = 0x0a;
const LOW_HALF: std::ops::Range<usize> = 10..18;

/// Where an OTLP server is: the settings given, then ``OTEL_EXPORTER_OTLP_*``, then the defaults.
#[pyclass(module = "scouter._scouter", frozen)]
pub(crate) struct OtlpTarget {
    config: OtlpConfig,
}

impl OtlpTarget {
    pub(crate) fn pipeline(&self, queue: QueueConfig) -> PyResult<Pipeline> {
        Pipeline::new_otlp(self.config.clone(), queue).or_else(|error| {
            let mut faults = Faults::default();
            faults.extend(error.faults);
            faults.check("OtelExportConfig").and(Err(PyRuntimeError::new_err("a configuration error without a fault")))
        })
    }
}

#[pymethods]
impl OtlpTarget {
    #[new]
    #[pyo3(signature = (
        is_grpc, *, endpoint=None, timeout_secs=None, compression=None, headers=None, insecure=None, ca_file=None,
        client_certificate_file=None, client_key_file=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's keyword arguments")]
    fn new(
        is_grpc: bool,
        endpoint: Option<String>,
        timeout_secs: Option<f64>,
        compression: Option<&str>,
        headers: Option<BTreeMap<String, String>>,
        insecure: Option<bool>,
        ca_file: Option<PathBuf>,
        client_certificate_file: Option<PathBuf>,
        client_key_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let mut faults = Faults::default();
        let protocol = if is_grpc { OtlpProtocol::Grpc } else { OtlpProtocol::HttpProtobuf };
        // What is given makes the variable for it irrelevant, right or wrong, so the whole is judged when it is whole.
        let mut config = OtlpConfig::read_env_for(protocol);
        if let Some(endpoint) = endpoint {
            config.endpoint = endpoint;
        }
        config.timeout = seconds("timeout", timeout_secs, &mut faults).unwrap_or(config.timeout);
        if compression.is_some() {
            config.compression = compression_named(compression, &mut faults);
        }
        if let Some(headers) = headers {
            config.headers = headers.into_iter().collect();
        }
        config.insecure = insecure.unwrap_or(config.insecure);
        config.ca_file = ca_file.or(config.ca_file);
        config.client_certificate_file = client_certificate_file.or(config.client_certificate_file);
        config.client_key_file = client_key_file.or(config.client_key_file);
        check(faults, config.validate(), "OtelExportConfig")?;
        Ok(Self { config })
    }

    #[getter]
    fn endpoint(&self) -> &str {
        &self.config.endpoint
    }

    #[getter]
    fn timeout_secs(&self) -> f64 {
        self.config.timeout.as_secs_f64()
    }

    #[getter]
    fn compression(&self) -> &'static str {
        compression_name(self.config.compression)
    }

    #[getter]
    fn headers(&self) -> BTreeMap<&str, &str> {
        self.config.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// The traces that a destination gets, decided by their ids as OpenTelemetry's ratio sampler does: whole traces, the same ones everywhere.
pub(crate) struct Share(Option<u64>);

impl Share {
    /// # Errors
    /// `ConfigError` for what is no number from 0 to 1.
    pub(crate) fn new(ratio: Option<f64>) -> PyResult<Self> {
        let mut faults = Faults::default();
        let bound = match ratio {
            None => None,
            Some(1.0) => None,
            // From 0 to 2^64, where the cast saturates.
            Some(ratio) if (0.0..1.0).contains(&ratio) => Some((ratio * 18_446_744_073_709_551_616.0).round() as u64),
            Some(ratio) => {
                faults.add(format!("sample_ratio must be a number from 0 to 1, not {ratio}"));
                None
            }
        };
        faults.check("exporter")?;
        Ok(Self(bound))
    }

    /// Whether an encoded span belongs to it.
    #[inline]
    pub(crate) fn takes(&self, span: &[u8]) -> bool {
        let Some(bound) = self.0 else { return true };
        let id = span.get(LOW_HALF).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        span.first() != Some(&TRACE_ID_TAG) || id.is_none_or(|id| id < bound)
    }
}
