use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    config: Config,
}

/// Flags only: what the environment of the test run says must not matter.
fn validate(flags: &[&str]) -> Result<Checked, ConfigError> {
    let all = ["test", "--storage=x", "--grpc-addr=127.0.0.1:1", "--http-addr=127.0.0.1:2", "--otlp-grpc-addr=", "--otlp-http-addr="];
    let kept = all.iter().filter(|default| !flags.iter().any(|flag| flag.split('=').next() == default.split('=').next()));
    Cli::parse_from(kept.chain(flags)).config.validate()
}

fn only_fault(flags: &[&str]) -> String {
    let mut faults = validate(flags).expect_err("refused").faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn loopback_needs_no_user_and_no_tls() {
    let checked = validate(&[]).expect("valid");
    let (name, password) = checked.user.expect("guest");
    assert_eq!((name.as_str(), password.expose()), ("guest", "guest"));
    assert_eq!((checked.otlp_grpc, checked.tls), (None, None));
}

#[test]
fn an_open_address_needs_a_user() {
    assert!(only_fault(&["--http-addr=0.0.0.0:8000", "--insecure"]).contains("SCOUTER_DEFAULT_PASSWORD"));
    validate(&["--http-addr=0.0.0.0:8000", "--insecure", "--default-username=a", "--default-password=b"]).expect("valid");
    let folder = tempfile::tempdir().expect("a folder");
    let storage = format!("--storage={}", folder.path().display());
    Accounts::open(&key_folder(folder.path()))
        .expect("none")
        .add_user("ada", "adas password", "read".parse().expect("one"))
        .expect("added");
    let checked = validate(&["--http-addr=0.0.0.0:8000", "--insecure", &storage]).expect("valid");
    assert_eq!(checked.user, None, "guest is gone once there are users");
    Accounts::open(&key_folder(folder.path())).expect("one").set_active("ada", false).expect("known");
    assert_eq!(validate(&[&storage]).expect("valid").user, None, "and does not come back when they are inactive");
    only_fault(&["--http-addr=0.0.0.0:8000", "--insecure", &storage]);
}

#[test]
fn an_open_address_is_not_for_the_password_that_everybody_knows() {
    let guest = ["--default-username=guest", "--default-password=guest"];
    validate(&guest).expect("on loopback it is the default");
    assert!(only_fault(&[&guest[..], &["--http-addr=0.0.0.0:8000", "--insecure"]].concat()).contains("choose another"));
}

#[test]
fn an_open_address_needs_tls_or_the_word_insecure() {
    let user = ["--http-addr=0.0.0.0:8000", "--default-username=a", "--default-password=b"];
    let fault = only_fault(&user);
    assert!(fault.contains("--tls-cert") && fault.contains("--insecure"), "{fault}");
}

#[test]
fn a_missing_piece_of_tls_is_named() {
    assert!(only_fault(&["--tls-cert=a.pem"]).contains("--tls-key is not"));
    assert!(only_fault(&["--tls-key=a.pem"]).contains("--tls-cert is not"));
    assert!(only_fault(&["--tls-client-ca=a.pem"]).contains("--tls-cert and --tls-key are not"));
    let fault = only_fault(&["--tls-cert=missing.pem", "--tls-key=missing.key"]);
    assert!(fault.contains("--tls-cert missing.pem cannot be read"), "{fault}");
}

#[test]
fn all_faults_come_at_once() {
    let error = validate(&[
        "--storage=s3://b/p",
        "--grpc-addr=nowhere",
        "--durability=maybe",
        "--default-username=a",
        "--max-connections=0",
        "--max-request-mib=65",
        "--log-format=xml",
        "--otlp-http-base-path=otlp",
        "--insecure=perhaps",
        "--header-timeout-seconds=soon",
        "--shutdown-delay-seconds=40",
    ])
    .expect_err("refused");
    assert_eq!(error.faults.len(), 11, "{error}");
}

#[test]
fn s_01_defaults_are_the_ports_of_otlp() {
    let config = Cli::parse_from(["test"]).config;
    for (name, value, port) in
        [("SCOUTER_OTLP_GRPC_ADDR", config.otlp_grpc_addr, ":4317"), ("SCOUTER_OTLP_HTTP_ADDR", config.otlp_http_addr, ":4318")]
    {
        assert!(std::env::var(name).is_ok() || value.ends_with(port), "{name} is {value}");
    }
}

#[test]
fn a_file_uri_is_a_path() {
    assert_eq!(validate(&["--storage=file:///tmp/x"]).expect("valid").storage, Storage::Folder(PathBuf::from("/tmp/x")));
}

#[test]
fn secrets_are_not_printed() {
    let flags = [
        "--default-username=a",
        "--default-password=hunter2",
        "--database-uri=postgres://a:hunter2@localhost/x",
        "--redis-addr=redis://a:hunter2@localhost",
        "--rabbitmq-addr=amqp://a:hunter2@localhost",
        "--kafka-brokers=localhost:9092",
        "--kafka-username=a",
        "--kafka-password=hunter2",
    ];
    let config = Cli::parse_from([&["test"][..], &flags].concat()).config;
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{:?}", validate(&flags).expect("valid")).contains("hunter2"));
}

#[test]
fn a_brokers_password_goes_to_other_machines_by_tls_or_after_the_word_insecure() {
    for flag in
        ["--redis-addr=redis://user:secret@broker:6379", "--rabbitmq-addr=amqp://user:secret@10.0.0.1/", "--rabbitmq-addr=amqp://broker"]
    {
        let fault = only_fault(&[flag]);
        assert!(fault.contains("--insecure") && !fault.contains("secret@"), "{fault}");
        validate(&[flag, "--insecure"]).expect("it was said");
    }
    let of_kafka = ["--kafka-username=user", "--kafka-password=secret", "--kafka-security-protocol=sasl_plaintext"];
    let kafka = |brokers: &'static str, more: &[&'static str]| validate(&[&of_kafka[..], &[brokers], more].concat());
    let fault = only_fault(&[&of_kafka[..], &["--kafka-brokers=broker:9092"]].concat());
    assert!(fault.contains("--insecure") && !fault.contains("secret"), "{fault}");
    kafka("--kafka-brokers=broker:9092", &["--insecure"]).expect("it was said");
    kafka("--kafka-brokers=127.0.0.1:9092,localhost:9093", &[]).expect("nothing is told to strangers");
    kafka("--kafka-brokers=broker:9092", &["--kafka-sasl-mechanism=scram-sha-256"]).expect("the password is not sent");
    let fault = only_fault(&["--kafka-brokers=user:secret@broker:9092"]);
    assert!(fault.contains("host:port") && !fault.contains("secret"), "{fault}");
    // What is read as the host is a piece of the password.
    for flag in ["--redis-addr=redis://user:12@secret#3@broker:6379", "--rabbitmq-addr=amqp://user:12@secret#3@broker"] {
        let fault = only_fault(&[flag]);
        assert!(fault.contains("user:password@host") && !fault.contains("secret"), "{fault}");
    }
    for flag in [
        "--redis-addr=rediss://user:secret@broker:6379",
        "--redis-addr=redis://broker:6379",
        "--redis-addr=redis://:secret@127.0.0.1:6379",
        "--redis-addr=redis://:secret@[::1]:6379",
        "--rabbitmq-addr=amqps://user:secret@broker",
        "--rabbitmq-addr=amqp://user:secret@localhost",
    ] {
        validate(&[flag]).expect("nothing is told to strangers");
    }
}
