use super::*;
use crate::ConfigError;

fn read(pairs: &[(&str, &str)]) -> Result<KafkaConfig, ConfigError> {
    KafkaConfig::from_variables(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn names_and_defaults_are_scouters() {
    let config = read(&[]).unwrap();
    assert_eq!((config.brokers.as_str(), config.topic.as_str()), ("localhost:9092", "scouter_monitoring"));
    assert_eq!((config.security, config.compression), (KafkaSecurity::Plaintext, KafkaCompression::Gzip));
    let topics = [("KAFKA_TOPIC", "second"), ("SCOUTER_KAFKA_TOPIC", "first")];
    assert_eq!(read(&topics).unwrap().topic, "first");
    assert_eq!(read(&topics[..1]).unwrap().topic, "second");
    for names in [["KAFKA_USERNAME", "KAFKA_PASSWORD"], ["KAFKA_KEY", "KAFKA_SECRET"]] {
        let config = read(&[("KAFKA_BROKERS", "a:1,b:2"), (names[0], "ada"), (names[1], "hidden")]).unwrap();
        assert_eq!((config.security, config.sasl), (KafkaSecurity::SaslTls, KafkaSasl::Plain));
        assert_eq!((config.username.as_str(), config.password.reveal()), ("ada", "hidden"));
    }
}

#[test]
fn every_fault_comes_at_once_and_none_shows_the_password() {
    let error = read(&[
        ("KAFKA_BROKERS", "somewhere"),
        ("KAFKA_TOPIC", "a b"),
        ("KAFKA_SECRET", "hidden"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("KAFKA_INSECURE", "perhaps"),
    ])
    .unwrap_err();
    assert_eq!(error.faults.len(), 5, "{error}");
    assert!(!error.to_string().contains("hidden"), "{error}");
    // The client library makes no connection without one of them, and would say so only when it is asked for one.
    let error = read(&[("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")]).unwrap_err();
    assert!(error.faults.len() == 2 && error.to_string().contains("username") && error.to_string().contains("password"), "{error}");
}

#[test]
fn a_password_does_not_cross_plaintext_unless_that_is_said() {
    let open = [
        ("KAFKA_BROKERS", "localhost:9092,kafka.example:9092"),
        ("KAFKA_USERNAME", "ada"),
        ("KAFKA_PASSWORD", "hidden"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
    ];
    assert!(read(&open).unwrap_err().to_string().contains("`kafka.example`"));
    for good in [
        [&open[..], &[("KAFKA_INSECURE", "true")]].concat(),
        [&open[..], &[("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")]].concat(),
        open[..3].to_vec(),
    ] {
        let config = read(&good).unwrap();
        assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
    }
}

#[test]
fn the_client_library_takes_every_setting() {
    let plain = KafkaConfig::default();
    let zstd = KafkaConfig { compression: KafkaCompression::Zstd, ..KafkaConfig::default() };
    let most = KafkaConfig { max_request_bytes: 999_995_904, compression: KafkaCompression::None, ..KafkaConfig::default() };
    let tls = KafkaConfig { security: KafkaSecurity::Tls, compression: KafkaCompression::Lz4, ..KafkaConfig::default() };
    let scram = KafkaConfig {
        security: KafkaSecurity::SaslTls,
        sasl: KafkaSasl::ScramSha512,
        compression: KafkaCompression::Snappy,
        username: "ada".to_owned(),
        password: "hidden".into(),
        ..KafkaConfig::default()
    };
    for config in [plain, zstd, most, tls, scram] {
        config.validate().unwrap();
        Link::open(&config).unwrap();
    }
}
