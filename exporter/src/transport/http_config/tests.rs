use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<HttpConfig, ConfigError> {
    HttpConfig::from_variables(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

#[test]
fn names_and_defaults_are_scouters() {
    let config = read(&[]).unwrap();
    assert_eq!((config.server_uri.as_str(), config.username.as_str()), ("http://localhost:8000", "guest"));
    let config = read(&[("SCOUTER_SERVER_URI", "https://scouter.example"), ("SCOUTER_AUTH_TOKEN", "hidden")]).unwrap();
    assert_eq!((config.server_uri.as_str(), config.auth_token.reveal()), ("https://scouter.example", "hidden"));
    assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
}

#[test]
fn a_token_does_not_cross_plaintext_unless_that_is_said() {
    let open = [("SCOUTER_SERVER_URI", "http://scouter.example"), ("SCOUTER_AUTH_TOKEN", "hidden")];
    let error = read(&open).unwrap_err().to_string();
    assert!(error.contains("plaintext") && !error.contains("hidden"), "{error}");
    read(&[open[0], open[1], ("SCOUTER_HTTP_INSECURE", "true")]).unwrap();
}

#[test]
fn every_fault_comes_at_once() {
    let bad = HttpConfig { server_uri: "unix:/x".to_owned(), timeout: Duration::ZERO, auth_token: "a\nb".into(), ..HttpConfig::default() };
    assert_eq!(bad.validate().unwrap_err().faults.len(), 3);
}

#[test]
fn a_password_in_the_address_is_refused_and_no_part_of_it_is_shown() {
    for address in [
        "http://ada:qqqzzz@localhost",
        "http://ada:qqq/zzz@localhost",
        "http://ada:12/zzz@localhost",
        "https://ada:qqq?zzz@localhost",
        "https://ada:qqq#zzz@localhost",
        "ada:qqq/zzz@localhost",
    ] {
        let config = HttpConfig { server_uri: address.to_owned(), ..HttpConfig::default() };
        let shown = format!("{config:?} {}", config.validate().expect_err(address));
        assert!(!shown.contains("qqq") && !shown.contains("zzz"), "{address}: {shown}");
    }
}
