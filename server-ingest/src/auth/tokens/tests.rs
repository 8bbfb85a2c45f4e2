use super::*;

fn session(now: u64) -> Session {
    Session { id: "s".to_owned(), user: "ada".to_owned(), stamp: 1, started: now, turn: 0, turned: now, ended: false }
}

#[test]
fn a_token_that_was_verified_before_expires_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = TokenKey::open(folder.path()).expect("the key is made");
    let now = unix_seconds_now();
    let issued = key.sign(&session(now), now);
    let claims = key.verify(&issued.token).expect("valid");
    assert_eq!(key.verify(&issued.token).expect("valid again"), claims);
    let expired = Claims { exp: now - 1, ..Claims::clone(&claims) };
    lock(&key.verified).insert(issued.token.clone(), Arc::new(expired));
    assert!(matches!(key.verify(&issued.token), Err(TokenError::Expired)));
}

#[test]
fn verified_tokens_are_forgotten_before_they_are_too_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = TokenKey::open(folder.path()).expect("the key is made");
    let now = unix_seconds_now();
    let claims = key.verify(&key.sign(&session(now), now).token).expect("valid");
    let living = |number: usize| (format!("token {number}"), Arc::clone(&claims));
    lock(&key.verified).extend((0..MAX_VERIFIED).map(living));
    let other = key.sign(&Session { turn: 1, ..session(now) }, now).token;
    assert!(key.verify(&other).is_ok() && key.verify(&other).is_ok());
    assert!(lock(&key.verified).len() <= MAX_VERIFIED);
    assert!(matches!(key.verify("no token"), Err(TokenError::Invalid)), "what is not ours is never remembered");
    assert!(!lock(&key.verified).contains_key("no token"));
}
