use super::*;

fn turn(health: &mut Health, now: Instant, max_in_flight: usize) -> Turn {
    let ticket = health.join();
    let turn = health.turn(ticket, now, max_in_flight);
    health.leave(ticket);
    turn
}

fn go(health: &mut Health, now: Instant) -> Attempt {
    match turn(health, now, 4) {
        Turn::Go(attempt) => attempt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn while_it_fails_one_attempt_at_a_time_is_made_and_an_answer_lets_all_go() {
    let mut health = Health::default();
    let start = Instant::now();
    let wave: Vec<Attempt> = (0..4).map(|_| go(&mut health, start)).collect();
    assert!(matches!(turn(&mut health, start, 4), Turn::Later), "four are in flight");
    for attempt in wave {
        assert_eq!(health.failed(attempt, None, start, false), Fault::Destination);
        health.done(attempt);
    }
    assert_eq!(health.failures, 1, "they failed together");
    let Turn::At(due) = turn(&mut health, start, 4) else { panic!("a pause") };
    let probe = go(&mut health, due);
    assert!(matches!(turn(&mut health, due, 4), Turn::Later), "one probes");
    assert!(health.answered());
    health.done(probe);
    let again: Vec<Attempt> = (0..4).map(|_| go(&mut health, due)).collect();
    assert_eq!(again.len(), 4);
}

#[test]
fn a_request_that_fails_while_others_are_answered_is_its_own_fault() {
    let mut health = Health::default();
    let now = Instant::now();
    let (bad, good) = (go(&mut health, now), go(&mut health, now));
    health.answered();
    health.done(good);
    assert_eq!(health.failed(bad, None, now, false), Fault::Request);
    health.done(bad);
    assert!(matches!(turn(&mut health, now, 4), Turn::Go(_)));
}

#[test]
fn a_flush_cuts_a_pause_but_not_the_servers_wish() {
    let mut health = Health::default();
    let now = Instant::now();
    let attempt = go(&mut health, now);
    health.failed(attempt, None, now, false);
    health.done(attempt);
    assert!(matches!(turn(&mut health, now, 4), Turn::At(_)));
    health.hurry();
    let attempt = go(&mut health, now);
    health.failed(attempt, None, now, false);
    health.throttle(now + Duration::from_secs(60));
    health.done(attempt);
    health.hurry();
    assert!(matches!(turn(&mut health, now, 4), Turn::At(due) if due == now + Duration::from_secs(60)));
}

#[test]
fn c_51_after_shutdown_began_a_destination_that_is_gone_gets_four_attempts() {
    let mut health = Health::default();
    let mut now = Instant::now();
    let before = go(&mut health, now);
    health.begin_shutdown();
    health.failed(before, None, now, false);
    health.done(before);
    let mut attempts = 0;
    loop {
        match turn(&mut health, now, 4) {
            Turn::Go(attempt) => {
                attempts += 1;
                health.failed(attempt, None, now, false);
                health.done(attempt);
            }
            Turn::At(due) => now = due,
            Turn::Later => panic!("nobody probes"),
            Turn::GiveUp => break,
        }
    }
    assert_eq!(attempts, SHUTDOWN_ATTEMPTS);
}

#[test]
fn a_request_that_fails_again_and_again_between_the_answers_of_others_is_its_own_fault_even_one_at_a_time() {
    let mut health = Health::default();
    let now = Instant::now();
    let first = go(&mut health, now);
    assert_eq!(health.failed(first, None, now, false), Fault::Destination, "who knows");
    health.done(first);
    health.hurry();
    let good = go(&mut health, now);
    health.answered();
    health.done(good);
    let second = go(&mut health, now);
    assert_eq!(health.failed(second, Some(first), now, false), Fault::Request);
    health.done(second);
    assert!(matches!(turn(&mut health, now, 1), Turn::Go(_)), "others need not wait");
}

#[test]
fn the_first_in_line_probes() {
    let mut health = Health::default();
    let now = Instant::now();
    let attempt = go(&mut health, now);
    health.failed(attempt, None, now, false);
    health.done(attempt);
    health.hurry();
    let (first, second) = (health.join(), health.join());
    assert!(matches!(health.turn(second, now, 4), Turn::Later));
    assert!(matches!(health.turn(first, now, 4), Turn::Go(_)));
    health.leave(first);
    assert!(matches!(health.turn(second, now, 4), Turn::Later), "the first one probes");
}

#[test]
fn pauses_are_shorter_while_the_queue_is_nearly_full() {
    let longest = |is_urgent| {
        let mut health = Health::default();
        let mut now = Instant::now();
        let mut longest = Duration::ZERO;
        for _ in 0..50 {
            let attempt = go(&mut health, now);
            health.failed(attempt, None, now, is_urgent);
            health.done(attempt);
            let Turn::At(due) = turn(&mut health, now, 4) else { panic!("a pause") };
            longest = longest.max(due - now);
            now = due;
        }
        longest
    };
    assert!(longest(true) <= Duration::from_millis(750));
    assert!((Duration::from_secs(1)..=Duration::from_secs(3)).contains(&longest(false)));
}
