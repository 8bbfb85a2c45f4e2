use super::*;

fn headers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(HEADER), http::HeaderValue::from_static(value))])
}

#[test]
fn every_unit_of_grpc_is_known_and_nothing_else() {
    for (text, expected) in [
        ("2H", Duration::from_secs(7200)),
        ("3M", Duration::from_secs(180)),
        ("99999999S", Duration::from_secs(99_999_999)),
        ("5m", Duration::from_millis(5)),
        ("6u", Duration::from_micros(6)),
        ("0n", Duration::ZERO),
    ] {
        assert_eq!(of(&headers(text)).expect("valid"), Some(expected), "{text}");
    }
    for text in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1.5S", "1 S"] {
        assert!(of(&headers(text)).is_err(), "{text}");
    }
    assert_eq!(of(&HeaderMap::new()).expect("valid"), None);
}

#[tokio::test]
async fn a_call_without_time_is_not_begun() {
    let begun = std::cell::Cell::new(false);
    let outcome = within(Ok(Some(Duration::ZERO)), async { begun.set(true) }).await;
    assert_eq!(outcome.expect_err("its time is over").code(), tonic::Code::DeadlineExceeded);
    assert!(!begun.get());
    let outcome = within(Ok(Some(Duration::from_millis(1))), std::future::pending::<()>()).await;
    assert_eq!(outcome.expect_err("its time is over").code(), tonic::Code::DeadlineExceeded);
    within(Ok(None), async { begun.set(true) }).await.expect("it has all the time there is");
    assert!(begun.get());
}
