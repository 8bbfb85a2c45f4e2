use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;
use crate::transport::secrets::{SECRET, addresses_with_secrets};

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
        "redis://ada:12@qqq#zzz@redis.example",
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

#[test]
fn tls_is_what_the_address_means_and_not_how_it_is_spelled() {
    for (address, is_encrypted) in [
        ("rediss://redis.example", true),
        ("REDISS://redis.example", true),
        ("valkeys://redis.example", true),
        ("redis://redis.example", false),
        ("valkey://redis.example", false),
    ] {
        let transport = RedisTransport::new(RedisConfig { address: address.into(), ..RedisConfig::default() }).unwrap();
        let info = transport.client.get_connection_info();
        assert_eq!(matches!(info.addr(), ConnectionAddr::TcpTls { .. }), is_encrypted, "{address}");
    }
}

/// A Redis that answers `word` with `answer`, and everything else with `+OK`.
async fn scripted(word: &'static str, answer: &'static str) -> (RedisTransport, tokio::task::JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://:password@{}/3", listener.local_addr().unwrap());
    let redis = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (reader, mut writer) = stream.into_split();
            tokio::spawn(async move {
                let mut lines = BufReader::new(reader).lines();
                let mut waiting = None;
                while let Ok(Some(line)) = lines.next_line().await {
                    // `*2`, `$4`, `AUTH`, `$8`, `password`: the second line after the first is the command.
                    waiting = if line.starts_with('*') { Some(2) } else { waiting.map(|left: u8| left.saturating_sub(1)) };
                    if waiting == Some(0) {
                        waiting = None;
                        let answer = if line == word { answer } else { "+OK" };
                        writer.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    let config = RedisConfig { address: address.into(), ..RedisConfig::default() };
    (RedisTransport::new(config).unwrap(), redis)
}

async fn sent_to(word: &'static str, answer: &'static str) -> Result<Sent, CallError> {
    let (transport, redis) = scripted(word, answer).await;
    let sent = transport.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_secs(20)).await;
    redis.abort();
    sent
}

#[tokio::test]
async fn what_redis_says_means_the_same_at_the_login_and_later() {
    let (again, credentials) = ((CallErrorKind::Retryable, Code::Unavailable), (CallErrorKind::Credentials, Code::Unauthenticated));
    let refused = (CallErrorKind::Refused, Code::FailedPrecondition);
    for (word, answer, expected) in [
        ("AUTH", "-LOADING Redis is loading the dataset in memory", again),
        ("AUTH", "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", again),
        ("AUTH", "-ERR max number of clients reached", again),
        ("AUTH", "-WRONGPASS invalid username-password pair or user is disabled.", credentials),
        ("AUTH", "-ERR AUTH <password> called without any password configured for the default user.", credentials),
        ("SELECT", "-LOADING Redis is loading the dataset in memory", again),
        ("SELECT", "-ERR DB index is out of range", refused),
        ("XADD", "-LOADING Redis is loading the dataset in memory", again),
        ("XADD", "-READONLY You can't write against a read only replica.", again),
        ("XADD", "-MASTERDOWN Link with MASTER is down", again),
        ("XADD", "-OOM command not allowed when used memory > 'maxmemory'.", again),
        ("XADD", "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", again),
        ("XADD", "-NOAUTH Authentication required.", credentials),
        ("XADD", "-NOPERM this user has no permissions", (CallErrorKind::Credentials, Code::PermissionDenied)),
        ("XADD", "-WRONGTYPE Operation against a key holding the wrong kind of value", refused),
        ("XADD", "-ERR Protocol error: invalid bulk length", (CallErrorKind::Refused, Code::ResourceExhausted)),
    ] {
        let error = sent_to(word, answer).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), expected, "{word} {answer}: {error}");
        assert!(!error.to_string().contains("password@"), "{error}");
    }
    sent_to("-", "").await.unwrap();
}

#[tokio::test]
async fn a_replica_that_was_the_master_is_left() {
    let (transport, redis) = scripted("XADD", "-READONLY You can't write against a read only replica.").await;
    transport.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_secs(20)).await.unwrap_err();
    assert!(transport.connection.take().is_none());
    redis.abort();
}

#[tokio::test]
async fn every_call_ends_by_its_own_deadline_before_a_redis_that_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://:password@{}", listener.local_addr().unwrap());
    let transport = RedisTransport::new(RedisConfig { address: address.into(), ..RedisConfig::default() }).unwrap();
    let transport = Arc::new(transport);
    let patient = Arc::clone(&transport);
    let patient = tokio::spawn(async move { patient.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_secs(60)).await });
    tokio::task::yield_now().await;
    for _ in 0..3 {
        let sending = transport.send(Bytes::from_static(b"x"), Instant::now() + Duration::from_millis(100));
        let error = tokio::time::timeout(Duration::from_secs(20), sending).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), CallErrorKind::DeadlineExceeded, "{error}");
    }
    patient.abort();
}

proptest! {
    #[test]
    fn no_part_of_a_password_is_shown(address in addresses_with_secrets("redis")) {
        let config = RedisConfig { address: address.as_str().into(), ..RedisConfig::default() };
        let told = config.validate().map_err(|error| error.to_string());
        let component = RedisTransport::new(config.clone()).map(|transport| format!("{transport:?} {}", transport.component().1));
        let shown = format!("{config:?} {told:?} {component:?}");
        prop_assert!(!shown.contains(SECRET), "{}", shown);
    }
}
