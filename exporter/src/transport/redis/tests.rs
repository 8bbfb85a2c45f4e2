use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<RedisConfig, ConfigError> {
    RedisConfig::from_variables(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn names_and_defaults_are_scouters() {
    let config = read(&[]).unwrap();
    assert_eq!((config.address.reveal(), config.channel.as_str()), ("redis://127.0.0.1:6379", "scouter_monitoring"));
    let config = read(&[("REDIS_ADDR", "redis://localhost:1"), ("REDIS_CHANNEL", "other"), ("REDIS_MODE", "PubSub")]).unwrap();
    assert_eq!((config.address.reveal(), config.channel.as_str(), config.mode), ("redis://localhost:1", "other", RedisMode::PubSub));
}

#[test]
fn every_fault_comes_at_once_and_none_shows_the_password() {
    let error = read(&[("REDIS_ADDR", "http://ada:hidden@x"), ("REDIS_MODE", "list"), ("REDIS_INSECURE", "perhaps")]).unwrap_err();
    assert_eq!(error.faults.len(), 3, "{error}");
    assert!(!error.to_string().contains("hidden"), "{error}");
}

#[test]
fn a_password_does_not_cross_plaintext_unless_that_is_said() {
    let open = ("REDIS_ADDR", "redis://:hidden@redis.example:6379");
    assert!(read(&[open]).unwrap_err().to_string().contains("plaintext"));
    for good in [
        &[open, ("REDIS_INSECURE", "true")][..],
        &[("REDIS_ADDR", "rediss://:hidden@redis.example")],
        &[("REDIS_ADDR", "redis://redis.example")],
    ] {
        let config = read(good).unwrap();
        assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
    }
}
