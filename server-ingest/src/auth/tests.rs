use std::os::unix::fs::PermissionsExt;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn open(folder: &Path) -> Auth {
    Auth::open(Some(("ada", "secret")), folder).expect("the key is made")
}

fn bearer(issued: &Issued) -> String {
    format!("Bearer {}", issued.token)
}

#[tokio::test]
async fn a_right_password_gets_a_token_that_names_the_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    let issued = auth.login("ada", "secret", HERE).await.expect("right password");
    let caller = auth.caller(Some(&bearer(&issued)), HERE).await.expect("valid");
    assert_eq!((caller.name.as_str(), caller.permissions), ("ada", Permissions::all()));
    assert!(auth.caller(Some(&format!("bearer {}", issued.token)), HERE).await.is_ok(), "schemes have no case");
}

#[tokio::test]
async fn unknown_inactive_and_wrong_look_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    auth.accounts().add_user("bob", "bob's password", Permissions::all()).expect("added");
    auth.accounts().set_active("bob", false).expect("there");
    for (name, password) in [("ada", "guess"), ("eve", "secret"), ("bob", "bob's password"), ("bob", "guess")] {
        assert_eq!(auth.login(name, password, HERE).await, Err(LoginError::Refused), "{name}");
    }
}

#[tokio::test]
async fn guesses_end_for_unknown_users_as_for_known_ones() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    for (last, name) in [(1, "ada"), (2, "eve")] {
        let from = IpAddr::from([192, 0, 2, last]);
        for _ in 0..10 {
            assert_eq!(auth.login(name, "guess", from).await, Err(LoginError::Refused));
        }
        assert!(matches!(auth.login(name, "secret", from).await, Err(LoginError::TooMany { .. })), "{name}");
    }
    auth.login("ada", "secret", HERE).await.expect("from elsewhere she comes in");
}

#[tokio::test]
async fn tokens_survive_a_restart_and_not_another_key() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let issued = open(folder.path()).login("ada", "secret", HERE).await.expect("right");
    assert!(open(folder.path()).bearer(&issued.token).is_ok());
    assert!(matches!(open(other.path()).bearer(&issued.token), Err(TokenError::Invalid)));
}

#[tokio::test]
async fn files_are_readable_by_their_owner_only_and_a_damaged_key_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    auth.accounts().add_user("bob", "bob's password", Permissions::all()).expect("added");
    auth.login("ada", "secret", HERE).await.expect("right");
    for name in ["token.key", "accounts.json", "accounts.lock", "sessions.jsonl"] {
        let mode = fs::metadata(folder.path().join(name)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let rows = fs::read_to_string(folder.path().join("accounts.json")).expect("there");
    assert!(rows.contains("$argon2id$") && !rows.contains("bob's password"), "{rows}");
    fs::write(folder.path().join("token.key"), b"short").expect("writable");
    let error = TokenKey::open(folder.path()).err().expect("refused").to_string();
    assert!(error.contains("5 bytes where 32 were expected"), "{error}");
}

#[tokio::test]
async fn no_header_garbage_and_other_schemes_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    // {"alg":"none"}.{"sub":"ada","sid":"x","turn":0,"iat":0,"exp":9999999999}
    let unsigned = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJzaWQiOiJ4IiwidHVybiI6MCwiaWF0IjowLCJleHAiOjk5OTk5OTk5OTl9.";
    let key = "Bearer scouter_0123456789ab_00";
    for header in [None, Some(""), Some("Bearer"), Some("Basic YTpi!"), Some("Digest x"), Some("Bearer a.b.c"), Some(unsigned), Some(key)] {
        assert!(auth.caller(header, HERE).await.is_err(), "{header:?}");
    }
}

#[tokio::test]
async fn an_exchange_gives_a_new_token_and_harms_no_other_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    let mine = auth.login("ada", "secret", HERE).await.expect("right");
    let other = auth.login("ada", "secret", HERE).await.expect("right");
    let mut token = mine.token.clone();
    for _ in 0..3 {
        token = auth.refresh(&token).expect("valid").token;
    }
    assert!(matches!(auth.refresh(&mine.token), Err(TokenError::Spent)));
    assert!(auth.bearer(&mine.token).is_ok(), "it is still good for requests until it expires");
    auth.logout(&token).expect("valid");
    assert!(matches!(auth.bearer(&mine.token), Err(TokenError::Invalid)));
    auth.refresh(&other.token).expect("another session");
}

#[tokio::test]
async fn tokens_end_with_the_user_and_the_password_they_were_given_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let issued = open(folder.path()).login("ada", "secret", HERE).await.expect("right");
    for (name, password) in [("ada", "changed"), ("eve", "secret"), ("adas", "ecret")] {
        let other = Auth::open(Some((name, password)), folder.path()).expect("the key is there");
        assert!(matches!(other.bearer(&issued.token), Err(TokenError::Invalid)), "{name} {password}");
    }
    let auth = open(folder.path());
    auth.accounts().add_user("bob", "bob's password", Permissions::all()).expect("added");
    for change in
        [|auth: &Auth| auth.accounts().set_password("bob", "bob's password"), |auth: &Auth| auth.accounts().set_active("bob", false)]
    {
        let issued = auth.login("bob", "bob's password", HERE).await.expect("right");
        auth.bearer(&issued.token).expect("valid");
        change(&auth).expect("there");
        assert!(matches!(auth.bearer(&issued.token), Err(TokenError::Invalid)));
    }
}

#[tokio::test]
async fn a_change_by_another_process_is_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let (server, command_line) = (open(folder.path()), Accounts::open(folder.path()).expect("readable"));
    command_line.add_user("bob", "bob's password", Permissions::all()).expect("added");
    tokio::time::sleep(Duration::from_millis(250)).await;
    let issued = server.login("bob", "bob's password", HERE).await.expect("known");
    command_line.set_active("bob", false).expect("there");
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert!(server.bearer(&issued.token).is_err());
}

#[tokio::test]
async fn a_key_is_good_until_it_is_revoked_or_expires() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    let write: Permissions = "write".parse().expect("a permission");
    let make = |days| auth.accounts().create_key(auth.signing_key(), "collector", write.clone(), days).expect("made");
    let (key, expired, ending) = (make(None), make(Some(0)), make(Some(2)));
    let caller = auth.bearer(&key.text).expect("good");
    assert_eq!((caller.name.as_str(), &caller.permissions, caller.warning.as_deref()), ("key collector", &write, None));
    assert!(matches!(caller.require(Permission::Read), Err(Denied::Forbidden { .. })));
    assert!(matches!(auth.bearer(&expired.text), Err(TokenError::Key)));
    assert!(auth.bearer(&ending.text).expect("good").warning.is_some_and(|words| words.contains("expires in 48 hours")));
    assert_eq!(auth.bearer(&ending.text).expect("good").warning, None, "once an hour");
    assert!(matches!(auth.bearer(&format!("{}0", key.text)), Err(TokenError::Key)));
    let file = fs::read_to_string(folder.path().join("accounts.json")).expect("there");
    assert!(!file.contains(keys::split(&key.text).expect("a key").1), "the secret is nowhere");
    auth.accounts().revoke_key(&key.row.id).expect("there");
    assert!(matches!(auth.bearer(&key.text), Err(TokenError::Key)));
}

#[tokio::test]
async fn basic_is_hashed_once_and_ends_with_the_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    auth.accounts().add_user("bob", "pass:word", Permissions::all()).expect("added");
    let header = format!("Basic {}", STANDARD.encode("bob:pass:word"));
    for _ in 0..50 {
        assert_eq!(auth.caller(Some(&header), HERE).await.expect("right").name, "bob");
    }
    assert_eq!(lock(&auth.remembered).len(), 1);
    auth.accounts().set_password("bob", "another password").expect("there");
    assert!(matches!(auth.caller(Some(&header), HERE).await, Err(Denied::Login(LoginError::Refused))));
}

#[tokio::test]
async fn a_login_that_hangs_up_keeps_its_place_until_its_check_has_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    for last in 0..20 {
        let from = IpAddr::from([192, 0, 2, last]);
        let _ = tokio::time::timeout(Duration::from_millis(1), auth.login("ada", "guess", from)).await;
        let running = PASSWORD_CHECKS_AT_ONCE - auth.checks.available_permits();
        assert!(running > 0, "the check that was left goes on under its permit");
    }
}

#[tokio::test]
async fn a_login_that_hangs_up_counts_as_failed_only_if_its_password_was_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let auth = open(folder.path());
    let hang_up = async |name: &str, password: &str, from: IpAddr| {
        let _ = tokio::time::timeout(Duration::from_millis(1), auth.login(name, password, from)).await;
    };
    let no_check_runs = async || {
        let all = u32::try_from(PASSWORD_CHECKS_AT_ONCE).expect("few");
        drop(auth.checks.acquire_many(all).await.expect("never closed"));
    };
    // While it is checked.
    for _ in 0..15 {
        hang_up("ada", "secret", HERE).await;
        no_check_runs().await;
    }
    auth.login("ada", "secret", HERE).await.expect("her password was right each time");
    // While it waits for its turn, whatever its password.
    let all = u32::try_from(PASSWORD_CHECKS_AT_ONCE).expect("few");
    let turns = auth.checks.acquire_many(all).await.expect("never closed");
    for _ in 0..15 {
        hang_up("ada", "guess", HERE).await;
    }
    drop(turns);
    auth.login("ada", "secret", HERE).await.expect("nothing was checked");
    // Hanging up is no way to guess for nothing.
    let elsewhere = IpAddr::from([192, 0, 2, 1]);
    for _ in 0..10 {
        hang_up("ada", "guess", elsewhere).await;
        no_check_runs().await;
    }
    assert!(matches!(auth.login("ada", "secret", elsewhere).await, Err(LoginError::TooMany { .. })));
}
