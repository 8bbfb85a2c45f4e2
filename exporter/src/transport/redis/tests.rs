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

#[test]
fn no_part_of_a_password_is_shown_however_it_is_written() {
    for address in [
        "redis://ada:qqq/zzz@redis.example:1",
        "redis://ada:12/zzz@redis.example",
        "redis://ada:qqq@zzz@redis.example",
        "redis://ada:qqq?zzz@redis.example",
        "redis://ada:qqq#zzz@redis.example",
        "http://ada:qqq/zzz@redis.example",
        "ada:qqq/zzz@redis.example",
        "redis://:qqqzzz",
        "ada:qqqzzz",
        "redis://[::1:qqqzzz",
        "unix:///run/redis.sock?pass=qqq@zzz",
        "unix:///run/redis.sock?pass=qqqzzz",
    ] {
        let config = RedisConfig { address: address.into(), ..RedisConfig::default() };
        let shown = format!("{config:?} {}", config.validate().err().map_or(String::new(), |error| error.to_string()));
        assert!(!shown.contains("qqq") && !shown.contains("zzz"), "{address}: {shown}");
    }
    for (address, shown) in [
        ("rediss://ada:qqqzzz@redis.example:1/2", "rediss://redis.example:1/2"),
        ("redis://:qqqzzz@[::1]:6379", "redis://[::1]:6379"),
        ("redis://[::1]", "redis://[::1]"),
        ("localhost:6379", "localhost:6379"),
    ] {
        assert_eq!(RedisConfig { address: address.into(), ..RedisConfig::default() }.shown_address(), shown);
    }
}
