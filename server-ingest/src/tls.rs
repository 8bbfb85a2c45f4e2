//! TLS for every listener: files in PEM, read at the start and again on SIGHUP.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::WebPkiClientVerifier,
};
use thiserror::Error;

/// What a listener needs to be encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and those between it and a root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots that clients' certificates must come from; without it clients need none.
    pub client_ca: Option<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{flag} {path} cannot be read: {reason}")]
    Unreadable {
        /// What names it.
        flag: &'static str,
        /// Its path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A file without what it should hold.
    #[error("{flag} {path} holds no {expected} in PEM form")]
    Empty {
        /// What names it.
        flag: &'static str,
        /// Its path.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("--tls-cert {certificate} and --tls-key {key} cannot be used together")]
    Pair {
        /// The certificate's path.
        certificate: PathBuf,
        /// The key's path.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The roots for clients cannot be used.
    #[error("--tls-client-ca {path} cannot be used: {reason}")]
    ClientCa {
        /// Its path.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

impl TlsFiles {
    /// Reads and checks all of them.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn load(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates("--tls-cert", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::Empty { flag: "--tls-key", path: self.key.clone(), expected: "private key" },
            error => unreadable("--tls-key", &self.key, &error),
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Pair { certificate: self.certificate.clone(), key: self.key.clone(), source })?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let failed = |reason: String| TlsError::ClientCa { path: path.clone(), reason };
                let mut roots = RootCertStore::empty();
                for root in certificates("--tls-client-ca", path)? {
                    roots.add(root).map_err(|error| failed(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| failed(error.to_string()))?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all = all.map_err(|error| unreadable(flag, path, &error))?;
    if all.is_empty() { Err(TlsError::Empty { flag, path: path.to_owned(), expected: "certificate" }) } else { Ok(all) }
}

fn unreadable(flag: &'static str, path: &Path, error: &pem::Error) -> TlsError {
    let reason = match error {
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    TlsError::Unreadable { flag, path: path.to_owned(), reason }
}

/// The configuration of new connections, replaced when the files are read again.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// See [`TlsFiles::load`].
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(files.load()?));
        Ok(Self { files, current })
    }

    /// Reads the files again for connections from now on.
    ///
    /// # Errors
    /// See [`TlsFiles::load`]; what was read before stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(self.files.load()?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}
