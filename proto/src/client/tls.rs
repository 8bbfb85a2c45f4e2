//! Certificate files: read when a client is built, with a fault that names the setting and the file.

use std::path::Path;

use super::config::{ConfigError, ConfigFault, GrpcConfig};

pub(super) const CLIENT_CERTIFICATE: &str = "client_certificate_file";
pub(super) const CLIENT_KEY: &str = "client_key_file";

const CERTIFICATE_MARKER: &str = "-----BEGIN CERTIFICATE-----";
/// Ends the marker of PKCS#8, PKCS#1 and SEC1 keys alike; an encrypted key is not among them.
const KEY_MARKERS: [&str; 3] = ["-----BEGIN PRIVATE KEY-----", "-----BEGIN RSA PRIVATE KEY-----", "-----BEGIN EC PRIVATE KEY-----"];

/// The content of a configuration's certificate files, known to be PEM of the right kind.
#[derive(Clone, Default)]
pub struct TlsFiles {
    /// Authorities trusted beside the system's and the bundled ones.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's certificate and its key.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    /// Reads the files that `config` names.
    ///
    /// # Errors
    /// Every file that cannot be read or holds something else.
    pub fn read(config: &GrpcConfig) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let mut keep = |result: Result<Vec<u8>, ConfigFault>| result.map_err(|fault| faults.push(fault)).ok();
        let ca_pem = config.ca_file.as_deref().and_then(|path| keep(ca(path)));
        let certificate = config
            .client_certificate_file
            .as_deref()
            .and_then(|path| keep(client_file(path, CLIENT_CERTIFICATE, &[CERTIFICATE_MARKER], "certificate")));
        let key = config
            .client_key_file
            .as_deref()
            .and_then(|path| keep(client_file(path, CLIENT_KEY, &KEY_MARKERS, "private key (unencrypted)")));
        ConfigError::check(faults)?;
        Ok(Self { ca_pem, identity_pem: certificate.zip(key) })
    }
}

fn ca(path: &Path) -> Result<Vec<u8>, ConfigFault> {
    let pem = std::fs::read(path).map_err(|source| ConfigFault::CaFile { path: path.to_owned(), source })?;
    if holds(&pem, CERTIFICATE_MARKER) { Ok(pem) } else { Err(ConfigFault::CaFileEmpty { path: path.to_owned() }) }
}

fn client_file(path: &Path, setting: &'static str, markers: &[&str], expected: &'static str) -> Result<Vec<u8>, ConfigFault> {
    let pem = std::fs::read(path).map_err(|source| ConfigFault::ClientFile { setting, path: path.to_owned(), source })?;
    if markers.iter().any(|marker| holds(&pem, marker)) {
        Ok(pem)
    } else {
        Err(ConfigFault::ClientFileContent { setting, path: path.to_owned(), expected })
    }
}

fn holds(pem: &[u8], marker: &str) -> bool {
    pem.windows(marker.len()).any(|window| window == marker.as_bytes())
}
