use std::{
    future::Future as _,
    pin::pin,
    task::{Context, Poll},
};

use super::*;

/// Permits for 64 KiB.
fn permits() -> Permits {
    Permits::new(256 * KIB)
}

fn connection() -> Arc<Share> {
    Arc::default()
}

#[tokio::test]
async fn who_asked_first_has_his_permit_first_and_small_requests_do_not_wait() {
    let (permits, share) = (permits(), connection());
    let mut held: Vec<_> = Vec::new();
    for _ in 0..2 {
        held.push(permits.take(&share, 1024 * KIB, || false).await.expect("free").expect("one is needed"));
    }
    assert!(permits.take(&share, SMALL_BYTES, || false).await.expect("not waited for").is_none());

    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut first = pin!(permits.take(&share, 32 * KIB, || true));
    let mut second = pin!(permits.take(&share, 20 * KIB, || true));
    assert!(first.as_mut().poll(&mut context).is_pending() && second.as_mut().poll(&mut context).is_pending());
    held.pop();
    assert!(second.as_mut().poll(&mut context).is_pending(), "the first needs all of it");
    let Poll::Ready(Ok(Some(of_first))) = first.as_mut().poll(&mut context) else { panic!("it is free") };
    drop((held, of_first));
    assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Ok(Some(_)))));
}

#[tokio::test]
async fn a_connection_whose_requests_all_wait_is_not_read_until_one_has_its_permit() {
    let (permits, share, other) = (permits(), connection(), connection());
    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(permits.take(&other, 32 * KIB, || false).await.expect("free").expect("one is needed"));
    }
    assert!(share.poll_read(&context, false).is_ready());
    let mut waiting = Box::pin(permits.take(&share, 32 * KIB, || true));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(share.poll_read(&context, false).is_pending() && other.poll_read(&context, false).is_ready());
    held.pop();
    let Poll::Ready(Ok(Some(mut permit))) = waiting.as_mut().poll(&mut context) else { panic!("it is free") };
    assert!(share.poll_read(&context, true).is_ready() && share.is_coming_in(), "for what was let in it is read even while it rests");
    assert!(other.poll_read(&context, true).is_ready(), "this one is coming in as well");
    permit.complete();
    assert!(!share.is_coming_in() && permit.ends().is_none() && share.poll_read(&context, true).is_pending());

    let woken = Arc::new(Woken::default());
    let reader = futures::task::waker(Arc::clone(&woken));
    let mut waiting = Box::pin(permits.take(&share, 32 * KIB, || true));
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(share.poll_read(&Context::from_waker(&reader), false).is_pending());
    drop(waiting);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "the request was cancelled");
    assert!(share.poll_read(&context, false).is_ready());
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl futures::task::ArcWake for Woken {
    fn wake_by_ref(woken: &Arc<Self>) {
        woken.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn who_would_wait_in_vain_or_for_long_is_refused() {
    let (permits, share) = (permits(), connection());
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(permits.take(&share, 32 * KIB, || false).await.expect("free"));
    }
    assert!(permits.take(&share, 32 * KIB, || false).await.is_err());
    let begun = Instant::now();
    assert!(permits.take(&share, 32 * KIB, || true).await.is_err());
    assert!(begun.elapsed() >= PATIENCE);

    let mut context = Context::from_waker(std::task::Waker::noop());
    let mut waiting: Vec<_> = (0..=MOST_WAITING_OF_ONE).map(|_| Box::pin(permits.take(&share, 32 * KIB, || true))).collect();
    let last = waiting.pop().expect("there is one");
    assert!(waiting.iter_mut().all(|waiting| waiting.as_mut().poll(&mut context).is_pending()));
    assert!(last.await.is_err(), "of one connection so many may wait");
    let other = connection();
    assert!(Box::pin(permits.take(&other, 32 * KIB, || true)).as_mut().poll(&mut context).is_pending(), "others may");
    drop(waiting);
    assert_eq!((permits.waiting.load(Ordering::Relaxed), share.waiting.load(Ordering::Relaxed)), (0, 0));
}

#[tokio::test]
async fn who_was_slow_is_read_on_and_takes_no_permit_until_a_request_is_whole() {
    let (permits, share) = (permits(), connection());
    let mut permit = permits.take(&share, 32 * KIB, || false).await.expect("free").expect("one is needed");
    permit.give_up();
    assert!(share.is_coming_in() && permit.ends().is_none());
    assert_eq!(permits.kib.available_permits(), permits.all_kib);
    assert!(permits.take(&share, 32 * KIB, || false).await.expect("not waited for").is_none());
    drop(permit);
    assert!(!share.is_coming_in());
    share.was_slow.store(false, Ordering::Relaxed);
    assert!(permits.take(&share, 32 * KIB, || false).await.expect("free").is_some());
}
