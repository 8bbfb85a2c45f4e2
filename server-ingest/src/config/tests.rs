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

#[test]
fn loopback_needs_no_user() {
    let checked = validate(&[]).expect("valid");
    assert_eq!((checked.username.as_str(), checked.password.expose()), ("guest", "guest"));
    assert_eq!(checked.otlp_grpc, None);
}

#[test]
fn an_open_address_needs_a_user() {
    let faults = validate(&["--http-addr=0.0.0.0:8000"]).expect_err("refused").faults;
    assert_eq!(faults.len(), 1);
    assert!(faults[0].contains("SCOUTER_DEFAULT_PASSWORD"), "{faults:?}");
    validate(&["--http-addr=0.0.0.0:8000", "--default-username=a", "--default-password=b"]).expect("valid");
}

#[test]
fn all_faults_come_at_once() {
    let error =
        validate(&["--storage=s3://b/p", "--grpc-addr=nowhere", "--durability=maybe", "--default-username=a"]).expect_err("refused");
    assert_eq!(error.faults.len(), 4, "{error}");
}

#[test]
fn a_file_uri_is_a_path() {
    assert_eq!(validate(&["--storage=file:///tmp/x"]).expect("valid").storage, PathBuf::from("/tmp/x"));
}

#[test]
fn secrets_are_not_printed() {
    let config = Cli::parse_from(["test", "--default-username=a", "--default-password=hunter2"]).config;
    assert!(!format!("{config:?}").contains("hunter2"));
}
