//! TLS with a certificate authority of one's own, and messages that name what is missing.

use std::{io::Write, time::Duration};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use scouter_exporter::{ConfigFault, GrpcConfig, Pipeline, QueueConfig};

use super::{
    server::Server,
    spans::{batch, block_on},
};

fn certificate() -> (String, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

#[test]
fn c_05_a_ca_file_makes_its_server_trusted() {
    let (certificate, key) = certificate();
    let server = Server::start_tls(&certificate, &key);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(certificate.as_bytes()).unwrap();
    let config = GrpcConfig { ca_file: Some(file.path().to_owned()), ..server.config() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    block_on(pipeline.send(batch(0..1))).unwrap();
}

#[test]
fn an_unknown_certificate_is_named_as_the_reason() {
    let (certificate, key) = certificate();
    let server = Server::start_tls(&certificate, &key);
    let config = GrpcConfig { timeout: Duration::from_secs(1), ..server.config() };
    let pipeline = Pipeline::new(config, QueueConfig::default()).unwrap();
    let error = block_on(pipeline.send(batch(0..1))).unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_missing_or_empty_ca_file_is_named() {
    let missing = GrpcConfig { ca_file: Some("/nonexistent/ca.pem".into()), ..GrpcConfig::default() };
    let error = Pipeline::new(missing, QueueConfig::default()).unwrap_err();
    assert!(matches!(&error.faults[..], [ConfigFault::CaFile { .. }]), "{error}");
    assert!(error.to_string().contains("/nonexistent/ca.pem") && error.to_string().contains("No such file"), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = GrpcConfig { ca_file: Some(file.path().to_owned()), ..GrpcConfig::default() };
    let error = Pipeline::new(empty, QueueConfig::default()).unwrap_err();
    assert!(matches!(&error.faults[..], [ConfigFault::CaFileEmpty { .. }]), "{error}");
}
