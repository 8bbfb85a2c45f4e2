use std::os::unix::fs::PermissionsExt;

use super::*;

fn auth(folder: &Path) -> Auth {
    Auth::open("ada", "secret", folder).expect("the key is made")
}

#[tokio::test]
async fn a_right_password_gets_a_token_that_names_the_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = auth(folder.path());
    let issued = auth.login("ada", "secret").await.expect("right password");
    let caller = auth.caller(Some(&format!("Bearer {}", issued.token))).expect("valid");
    assert_eq!(caller.username, "ada");
    assert!(auth.caller(Some(&format!("bearer {}", issued.token))).is_ok(), "schemes have no case");
}

#[tokio::test]
async fn unknown_user_and_wrong_password_look_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = auth(folder.path());
    assert_eq!(auth.login("ada", "guess").await, Err(LoginError::Refused));
    assert_eq!(auth.login("eve", "secret").await, Err(LoginError::Refused));
}

#[tokio::test]
async fn tokens_survive_a_restart_and_not_another_key() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let header = format!("Bearer {}", auth(folder.path()).login("ada", "secret").await.expect("right").token);
    assert!(auth(folder.path()).caller(Some(&header)).is_ok());
    assert!(matches!(auth(other.path()).caller(Some(&header)), Err(TokenError::Invalid)));
}

#[test]
fn the_key_is_readable_by_its_owner_only_and_not_replaced_when_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    auth(folder.path());
    let path = folder.path().join("token.key");
    assert_eq!(std::fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, b"short").expect("writable");
    let error = TokenKey::open(folder.path(), b"ada").err().expect("refused").to_string();
    assert!(error.contains("5 bytes where 32 were expected"), "{error}");
}

#[test]
fn no_header_garbage_and_other_schemes_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = auth(folder.path());
    for header in [None, Some(""), Some("Bearer"), Some("Basic YTpi"), Some("Bearer abc"), Some("Bearer a.b.c")] {
        assert!(auth.caller(header).is_err(), "{header:?}");
    }
}

#[test]
fn an_unsigned_token_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = auth(folder.path());
    // {"alg":"none"}.{"sub":"ada","iat":0,"exp":9999999999,"session_start":0}
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJpYXQiOjAsImV4cCI6OTk5OTk5OTk5OSwic2Vzc2lvbl9zdGFydCI6MH0.";
    assert!(matches!(auth.caller(Some(&format!("Bearer {none}"))), Err(TokenError::Invalid)));
}

#[tokio::test]
async fn a_token_is_exchanged_while_it_is_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = auth(folder.path());
    let issued = auth.login("ada", "secret").await.expect("right");
    assert!(auth.refresh(&issued.token).is_ok());
    assert!(auth.refresh("a.b.c").is_err());
}

#[tokio::test]
async fn tokens_end_with_the_user_and_the_password_they_were_given_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let header = format!("Bearer {}", auth(folder.path()).login("ada", "secret").await.expect("right").token);
    for (username, password) in [("ada", "changed"), ("eve", "secret"), ("adas", "ecret")] {
        let other = Auth::open(username, password, folder.path()).expect("the key is there");
        assert!(matches!(other.caller(Some(&header)), Err(TokenError::Invalid)), "{username} {password}");
    }
}

#[tokio::test]
async fn a_login_that_hangs_up_keeps_its_place_until_its_check_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = auth(folder.path());
    for _ in 0..20 {
        let _ = tokio::time::timeout(Duration::from_millis(1), auth.login("ada", "guess")).await;
        let running = PASSWORD_CHECKS_AT_ONCE - auth.checks.available_permits();
        assert!(running > 0, "the check that was left goes on under its permit");
    }
}
