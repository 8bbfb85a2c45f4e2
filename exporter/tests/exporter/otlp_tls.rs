//! C-05 and C-06: authorities and client certificates, for every transport, and messages that name what is missing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use scouter_exporter::{ConfigError, ConfigFault, GrpcConfig, OtlpConfig, Pipeline, QueueConfig};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use super::{
    otlp_server::Collector,
    server::Server,
    spans::{batch, block_on},
};

/// An authority, and a server's and a client's certificate that it signed, in files.
struct Certificates {
    folder: TempDir,
    ca: String,
    server: (String, String),
}

impl Certificates {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let sign = |purpose| {
            let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().unwrap();
            (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
        };
        let server = sign(ExtendedKeyUsagePurpose::ServerAuth);
        let client = sign(ExtendedKeyUsagePurpose::ClientAuth);
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("ca", &ca), ("certificate", &client.0), ("key", &client.1)] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        std::fs::write(folder.path().join("text"), "not a certificate").unwrap();
        Self { folder, ca, server }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.path().join(name))
    }

    fn grpc(&self) -> ServerTlsConfig {
        let _already_installed = rustls::crypto::ring::default_provider().install_default();
        ServerTlsConfig::new().identity(Identity::from_pem(&self.server.0, &self.server.1)).client_ca_root(Certificate::from_pem(&self.ca))
    }

    fn http(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider)).build().unwrap();
        let chain = vec![CertificateDer::from_pem_slice(self.server.0.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.server.1.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap())
    }
}

#[test]
fn c_05_and_c_06_scouter_takes_a_client_certificate() {
    let certificates = Certificates::new();
    let server = Server::start_mutual_tls(certificates.grpc());
    let stranger = GrpcConfig { ca_file: certificates.file("ca"), timeout: Duration::from_secs(2), ..server.config() };
    let known = GrpcConfig {
        client_certificate_file: certificates.file("certificate"),
        client_key_file: certificates.file("key"),
        timeout: Duration::from_secs(10),
        ..stranger.clone()
    };
    block_on(Pipeline::new(known, QueueConfig::default()).unwrap().send(batch(0..1))).unwrap();
    block_on(Pipeline::new(stranger, QueueConfig::default()).unwrap().send(batch(0..1))).unwrap_err();
    assert_eq!(server.inserts().len(), 1);
}

#[test]
fn c_05_and_c_06_otlp_servers_take_a_client_certificate() {
    let certificates = Certificates::new();
    for collector in [Collector::start_grpc(Some(certificates.grpc())), Collector::start_http(Some(certificates.http()))] {
        let untrusting = OtlpConfig { timeout: Duration::from_secs(2), ..collector.config() };
        let stranger = OtlpConfig { ca_file: certificates.file("ca"), ..untrusting.clone() };
        let known = OtlpConfig {
            client_certificate_file: certificates.file("certificate"),
            client_key_file: certificates.file("key"),
            timeout: Duration::from_secs(10),
            ..stranger.clone()
        };
        let send = |config: OtlpConfig| block_on(Pipeline::new_otlp(config, QueueConfig::default()).unwrap().send(batch(0..1)));
        send(known).unwrap();
        let error = send(untrusting).unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        send(stranger).unwrap_err();
        assert_eq!(collector.received().len(), 1);
    }
}

#[test]
fn what_is_wrong_with_certificate_files_is_named() {
    let certificates = Certificates::new();
    let file = |name| certificates.file(name);
    let check = |certificate: Option<PathBuf>, key: Option<PathBuf>, words: &[&str]| {
        let grpc = GrpcConfig { client_certificate_file: certificate, client_key_file: key, ..GrpcConfig::default() };
        let otlp = |config: OtlpConfig| OtlpConfig {
            client_certificate_file: grpc.client_certificate_file.clone(),
            client_key_file: grpc.client_key_file.clone(),
            ..config
        };
        let build = |config| Pipeline::new_otlp(config, QueueConfig::default());
        let errors: [ConfigError; 3] = [
            Pipeline::new(grpc.clone(), QueueConfig::default()).unwrap_err(),
            build(otlp(OtlpConfig::grpc("https://localhost:4317"))).unwrap_err(),
            build(otlp(OtlpConfig::http("https://localhost:4318"))).unwrap_err(),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(words.iter().all(|words| text.contains(words)), "{words:?}: {text}");
        }
    };
    check(None, file("key"), &["client_key_file is set, but client_certificate_file is not"]);
    check(file("certificate"), None, &["client_certificate_file is set, but client_key_file is not"]);
    check(file("certificate"), file("missing"), &["cannot read client_key_file", "missing`: No such file"]);
    check(file("text"), file("key"), &["client_certificate_file", "holds no PEM certificate"]);
    check(file("certificate"), file("ca"), &["client_key_file", "holds no PEM private key"]);
    check(file("missing"), file("text"), &["cannot read client_certificate_file", "client_key_file", "holds no PEM private key"]);
}

#[test]
fn a_key_of_another_certificate_is_a_fault_of_the_configuration() {
    let (one, other) = (Certificates::new(), Certificates::new());
    let config = |config: OtlpConfig| OtlpConfig {
        ca_file: one.file("ca"),
        client_certificate_file: one.file("certificate"),
        client_key_file: other.file("key"),
        ..config
    };
    for config in [config(OtlpConfig::grpc("https://localhost:4317")), config(OtlpConfig::http("https://localhost:4318"))] {
        let error = Pipeline::new_otlp(config, QueueConfig::default()).unwrap_err();
        assert!(matches!(&error.faults[..], [ConfigFault::Tls { .. }]), "{error}");
    }
}
