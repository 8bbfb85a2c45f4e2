use super::*;

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// A wrong guess, if it is allowed.
fn guess(attempts: &Attempts, user: &str, from: IpAddr, now: Instant) -> bool {
    attempts.begin(user, from, now).map(Attempt::failed).is_ok()
}

fn allowed(attempts: &Attempts, user: &str, from: IpAddr, now: Instant) -> usize {
    (0..1000).take_while(|_| guess(attempts, user, from, now)).count()
}

#[test]
fn guesses_at_one_user_from_one_address_end_after_ten() {
    let (attempts, now) = (Attempts::default(), Instant::now());
    assert_eq!(allowed(&attempts, "ada", address(1), now), 10);
    let wait = attempts.begin("ada", address(1), now).expect_err("refused");
    assert_eq!(wait, Duration::from_secs(6));
    assert!(attempts.begin("ada", address(2), now).is_ok(), "from elsewhere the user may still come");
    assert!(attempts.begin("ada", address(1), now + wait).is_ok());
}

#[test]
fn guesses_at_many_users_from_one_address_end_too() {
    let (attempts, now) = (Attempts::default(), Instant::now());
    let made = (0..1000).take_while(|user| guess(&attempts, &format!("user {user}"), address(1), now)).count();
    assert_eq!(made, 30);
}

#[test]
fn guesses_at_one_user_from_many_addresses_end_too() {
    let (attempts, now) = (Attempts::default(), Instant::now());
    let made = (0..250).take_while(|last| guess(&attempts, "ada", address(*last), now)).count();
    assert_eq!(made, 100);
}

#[test]
fn right_passwords_cost_nothing() {
    let (attempts, now) = (Attempts::default(), Instant::now());
    for _ in 0..1000 {
        drop(attempts.begin("ada", address(1), now).expect("allowed"));
    }
    let under_way: Vec<Attempt> = (0..10).map(|_| attempts.begin("ada", address(1), now).expect("allowed")).collect();
    attempts.begin("ada", address(1), now).expect_err("those under way count");
    drop(under_way);
    attempts.begin("ada", address(1), now).map(Attempt::failed).expect("none of them failed");
}

#[test]
fn memory_is_bounded() {
    let (attempts, now) = (Attempts::default(), Instant::now());
    for index in 0..20_000_u32 {
        let from = IpAddr::from(index.to_be_bytes());
        guess(&attempts, &format!("user {index}"), from, now);
    }
    assert!(attempts.0.lock().expect("no panic").len() <= MAX_BUCKETS);
}
