//! TLS and mutual TLS on every listener of a running server.
#![allow(clippy::unwrap_used)]

mod support;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use scouter_tonic::path::OTLP_TRACE_EXPORT;
use support::{TestServer, grpc_over, otlp_request, wait_until};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn root(&self) -> String {
        self.0.pem()
    }

    /// A certificate for 127.0.0.1 and its key.
    fn issue(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A folder with the server's files, and the flags that name them.
fn files(authority: &Authority, client_ca: Option<&Authority>) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = authority.issue();
    std::fs::write(path("cert.pem"), certificate).unwrap();
    std::fs::write(path("key.pem"), key).unwrap();
    std::fs::write(path("root.pem"), authority.root()).unwrap();
    let mut flags = vec!["--tls-cert".to_owned(), path("cert.pem"), "--tls-key".to_owned(), path("key.pem")];
    if let Some(authority) = client_ca {
        std::fs::write(path("clients.pem"), authority.root()).unwrap();
        flags.extend(["--tls-client-ca".to_owned(), path("clients.pem")]);
    }
    (folder, flags)
}

fn start(folder: tempfile::TempDir, flags: &[String]) -> TestServer {
    TestServer::start_without_login(folder, &flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn http(root: &str) -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_certs_only(reqwest::Certificate::from_pem_bundle(root.as_bytes()).unwrap())
}

async fn channel(server: &TestServer, door: &str, tls: ClientTlsConfig) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("https://{}", server.address(door))).unwrap().tls_config(tls)?.connect().await
}

async fn login(server: &TestServer, http: &reqwest::Client) -> Result<String, reqwest::Error> {
    let request = http.get(format!("https://{}/scouter/auth/login", server.address("http")));
    let body: serde_json::Value = request.header("Username", "guest").header("Password", "guest").send().await?.json().await?;
    Ok(format!("Bearer {}", body["token"].as_str().unwrap()))
}

#[tokio::test]
async fn every_listener_speaks_tls_and_no_clear_text() {
    let authority = Authority::new();
    let (folder, flags) = files(&authority, None);
    let server = start(folder, &flags);
    let client = http(&authority.root()).build().unwrap();
    let token = login(&server, &client).await.unwrap();
    let tls = || ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.root()));
    for (trace, door) in [(1, "grpc"), (2, "otlp-grpc")] {
        let channel = channel(&server, door, tls()).await.unwrap();
        let body = otlp_request(trace, 1).encode_to_vec();
        grpc_over::<ExportTraceServiceResponse>(channel, OTLP_TRACE_EXPORT, &token, body, None).await.unwrap();
    }
    for (trace, door) in [(3, "http"), (4, "otlp-http")] {
        for version in [reqwest::Version::HTTP_11, reqwest::Version::HTTP_2] {
            let request = client.post(format!("https://{}/v1/traces", server.address(door))).version(version);
            let request = request.header("authorization", &token).header("content-type", "application/x-protobuf");
            assert_eq!(request.body(otlp_request(trace, 1).encode_to_vec()).send().await.unwrap().status(), 200, "{door} {version:?}");
        }
    }
    for door in ["grpc", "http", "otlp-grpc", "otlp-http"] {
        assert!(reqwest::get(server.url(door, "/healthz")).await.is_err(), "{door} in clear text");
    }
    let root = server.folder.path().join("root.pem").display().to_string();
    let output = server.command(&["sql", "--json", "--ca", &root, "SELECT count(*) FROM spans"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("[[4]]"), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_ends_by_itself() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = Authority::new();
    let (folder, flags) = files(&authority, None);
    let server = start(folder, &[flags, vec!["--header-timeout-seconds".to_owned(), "1".to_owned()]].concat());
    for door in ["grpc", "http", "otlp-grpc", "otlp-http"] {
        // Nothing, and the beginning of a greeting.
        for start in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
            let mut stream = tokio::net::TcpStream::connect(server.address(door)).await.unwrap();
            stream.write_all(start).await.unwrap();
            let mut answer = Vec::new();
            // A reset is an end as well.
            let ended = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "{door}: the server waits for {start:?} to go on");
        }
    }
}

#[tokio::test]
async fn with_a_client_ca_a_client_without_a_certificate_gets_nowhere() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let (folder, flags) = files(&authority, Some(&clients));
    let server = start(folder, &flags);
    let identified = |issuer: &Authority| {
        let (certificate, key) = issuer.issue();
        http(&authority.root()).identity(reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap()).build().unwrap()
    };
    let token = login(&server, &identified(&clients)).await.unwrap();
    assert!(login(&server, &http(&authority.root()).build().unwrap()).await.is_err(), "no certificate");
    assert!(login(&server, &identified(&strangers)).await.is_err(), "a certificate of another authority");
    for door in ["grpc", "http", "otlp-grpc", "otlp-http"] {
        let ask = |client: reqwest::Client| client.get(format!("https://{}/healthz", server.address(door))).send();
        assert!(ask(identified(&clients)).await.is_ok(), "{door}");
        assert!(ask(identified(&strangers)).await.is_err(), "{door}: a certificate of another authority");
        assert!(ask(http(&authority.root()).build().unwrap()).await.is_err(), "{door}: no certificate");
    }
    let (certificate, key) = clients.issue();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.root())).identity(Identity::from_pem(certificate, key));
    let channel = channel(&server, "otlp-grpc", tls).await.unwrap();
    let body = otlp_request(1, 1).encode_to_vec();
    grpc_over::<ExportTraceServiceResponse>(channel.clone(), OTLP_TRACE_EXPORT, &token, body.clone(), None).await.unwrap();
    let status = grpc_over::<ExportTraceServiceResponse>(channel, OTLP_TRACE_EXPORT, "", body, None).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "a certificate is no token");
}

#[tokio::test]
async fn sighup_reads_the_files_again_and_a_bad_one_changes_nothing() {
    let (old, new) = (Authority::new(), Authority::new());
    let (folder, flags) = files(&old, None);
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let server = start(folder, &flags);
    let is_trusted = async |authority: &Authority| login(&server, &http(&authority.root()).build().unwrap()).await.is_ok();
    assert!(is_trusted(&old).await);
    std::fs::write(&cert, "not a certificate").unwrap();
    server.signal("HUP");
    wait_until("the bad file is noticed", async || server.log().contains("holds no certificate in PEM form")).await;
    assert!(is_trusted(&old).await);
    let (certificate, private) = new.issue();
    std::fs::write(&cert, certificate).unwrap();
    std::fs::write(&key, private).unwrap();
    server.signal("HUP");
    wait_until("the new certificate is served", async || is_trusted(&new).await).await;
    assert!(!is_trusted(&old).await);
}
