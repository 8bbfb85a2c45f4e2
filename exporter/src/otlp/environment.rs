//! `OTEL_EXPORTER_OTLP_*`, by the specification's rules: what is empty is unset, what cannot be understood is told and ignored.

use std::{fmt, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{DEFAULT_GRPC_ENDPOINT, DEFAULT_HTTP_ENDPOINT, OtlpConfig, OtlpProtocol, under_base};
use crate::Compression;

/// Something in the environment that is ignored.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Warning {
    /// The variable.
    pub(super) name: String,
    /// What is wrong with it. Holds no value of a header.
    pub(super) reason: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

pub(super) fn log(warning: Warning) {
    tracing::warn!(variable = %warning.name, reason = %warning.reason, "an environment variable is ignored");
}

/// Reads the configuration, which is not judged here. `protocol` is what the code decided; warnings go to `warn`.
pub(super) fn read(variable: &dyn Fn(&str) -> Option<String>, protocol: Option<OtlpProtocol>, warn: &mut dyn FnMut(Warning)) -> OtlpConfig {
    let mut variables = Variables { variable, warn };
    let protocol = protocol.or_else(|| variables.parse("PROTOCOL", protocol_from)).unwrap_or_default();
    let mut config = match protocol {
        OtlpProtocol::Grpc => OtlpConfig::grpc(DEFAULT_GRPC_ENDPOINT),
        OtlpProtocol::HttpProtobuf => OtlpConfig { protocol, ..OtlpConfig::grpc(DEFAULT_HTTP_ENDPOINT) },
    };
    match (variables.get("ENDPOINT"), protocol) {
        // Only the general one is a base that the path of a signal is added to.
        (Some(Found { value, is_for_traces: false, .. }), OtlpProtocol::HttpProtobuf) => config.endpoint = under_base(&value),
        (Some(Found { value, .. }), _) => config.endpoint = value,
        (None, _) => {}
    }
    if let Some(insecure) = variables.parse_or_false("INSECURE") {
        config.insecure = insecure;
    }
    if let Some(headers) = variables.get("HEADERS") {
        config.headers = variables.headers(&headers);
    }
    if let Some(timeout) = variables.parse("TIMEOUT", |value| value.parse().map_err(|_| "a whole number of milliseconds")) {
        config.timeout = Duration::from_millis(timeout);
    }
    if let Some(compression) = variables.parse("COMPRESSION", compression_from) {
        config.compression = compression;
    }
    let mut file = |name| variables.get(name).map(|found| PathBuf::from(found.value));
    config.ca_file = file("CERTIFICATE");
    config.client_certificate_file = file("CLIENT_CERTIFICATE");
    config.client_key_file = file("CLIENT_KEY");
    config
}

fn protocol_from(value: &str) -> Result<OtlpProtocol, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "grpc" => Ok(OtlpProtocol::Grpc),
        "http/protobuf" => Ok(OtlpProtocol::HttpProtobuf),
        _ => Err("grpc or http/protobuf"),
    }
}

fn compression_from(value: &str) -> Result<Compression, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("none, gzip or zstd"),
    }
}

struct Variables<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    warn: &'a mut dyn FnMut(Warning),
}

struct Found {
    name: String,
    value: String,
    is_for_traces: bool,
}

impl Variables<'_> {
    /// The variable for traces, or else the general one, without white space around it.
    fn get(&mut self, name: &str) -> Option<Found> {
        [("OTEL_EXPORTER_OTLP_TRACES_", true), ("OTEL_EXPORTER_OTLP_", false)].into_iter().find_map(|(prefix, is_for_traces)| {
            let name = format!("{prefix}{name}");
            let value = (self.variable)(&name)?.trim().to_owned();
            (!value.is_empty()).then_some(Found { name, value, is_for_traces })
        })
    }

    fn parse<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, &'static str>) -> Option<T> {
        let found = self.get(name)?;
        match parse(&found.value) {
            Ok(value) => Some(value),
            Err(expected) => {
                (self.warn)(Warning { name: found.name, reason: format!("`{}` is not {expected}", found.value) });
                None
            }
        }
    }

    /// Anything but `true` is false; anything but `false` is worth a word then.
    fn parse_or_false(&mut self, name: &str) -> Option<bool> {
        let found = self.get(name)?;
        let is_true = found.value.eq_ignore_ascii_case("true");
        if !is_true && !found.value.eq_ignore_ascii_case("false") {
            (self.warn)(Warning { name: found.name, reason: format!("`{}` is taken for false", found.value) });
        }
        Some(is_true)
    }

    /// `name=value,name2=value2`, values percent-encoded. A pair that cannot be sent is left out.
    fn headers(&mut self, found: &Found) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (index, pair) in found.value.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
            match header(pair) {
                Ok(header) => headers.push(header),
                Err(reason) => {
                    (self.warn)(Warning { name: found.name.clone(), reason: format!("pair {} is left out: {reason}", index + 1) })
                }
            }
        }
        headers
    }
}

fn header(pair: &str) -> Result<(String, String), &'static str> {
    let (name, value) = pair.split_once('=').ok_or("it has no =")?;
    let decode = |text: &str, fault| percent_decode_str(text.trim()).decode_utf8().map(String::from).map_err(|_| fault);
    let header = (decode(name, "its name is not UTF-8")?.to_ascii_lowercase(), decode(value, "its value is not UTF-8")?);
    let alone = OtlpConfig { headers: vec![header], ..OtlpConfig::default() };
    alone.validate().map_err(|_| "its name or value cannot be sent as a header")?;
    alone.headers.into_iter().next().ok_or("it is empty")
}
