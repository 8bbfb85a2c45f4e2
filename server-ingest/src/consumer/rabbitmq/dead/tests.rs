use super::*;

fn waiting(burials: &Burials) -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    burials.expect(sender).expect("it goes on");
    receiver
}

#[test]
fn a_confirmation_is_that_of_its_message_or_of_all_up_to_it() {
    let burials = Burials::default();
    let [mut first, mut second, mut third, mut fourth] = [(); 4].map(|()| waiting(&burials));
    burials.confirm(2, false);
    assert!(second.try_recv().is_ok() && first.try_recv().is_err());
    burials.confirm(3, true);
    assert!(first.try_recv().is_ok() && third.try_recv().is_ok() && fourth.try_recv().is_err());
}

#[test]
fn nothing_is_confirmed_after_the_end_and_the_first_reason_stays() {
    let burials = Arc::new(Burials::default());
    let mut waits = waiting(&burials);
    let confirmations = Confirmations(Arc::clone(&burials));
    burials.end("no such queue".to_owned());
    burials.confirm(1, false);
    drop(confirmations);
    assert!(waits.try_recv().is_err());
    let error = burials.expect(oneshot::channel().0).expect_err("it is over");
    assert!(error.to_string().contains("no such queue"), "{error}");
}

#[test]
fn a_dead_message_says_what_it_said_but_gives_no_orders() {
    let mut headers = FieldTable::default();
    for name in ["CC", "BCC", "app", REASON] {
        let value = FieldValue::S("what it said".try_into().expect("short"));
        headers.insert(name.try_into().expect("short"), value);
    }
    let mut properties = BasicProperties::default();
    properties.with_headers(headers).with_content_type("a/b").with_message_id("7").with_timestamp(9);
    properties.with_user_id("somebody").with_expiration("10").with_persistence(false);
    let dead = buried(&properties, &"ü".repeat(MAX_REASON_BYTES)).expect("it can be said");
    let headers = dead.headers().expect("there are some");
    let mut names: Vec<&str> = headers.as_ref().keys().map(|name| name.as_ref().as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["app", REASON]);
    let reason = headers.get(&REASON.try_into().expect("short")).expect("there is a reason");
    assert_eq!(reason.to_string(), "ü".repeat(MAX_REASON_BYTES / 2));
    assert_eq!(
        (dead.content_type().map(String::as_str), dead.message_id().map(String::as_str), dead.timestamp()),
        (Some("a/b"), Some("7"), Some(9))
    );
    assert_eq!((dead.user_id(), dead.expiration(), dead.delivery_mode()), (None, None, Some(2)));

    let mut headers = FieldTable::default();
    headers.insert("large".try_into().expect("short"), FieldValue::S("x".repeat(MAX_HEADERS_BYTES).try_into().expect("it is long")));
    let dead = buried(BasicProperties::default().with_headers(headers), "why").expect("it can be said");
    assert_eq!(dead.headers().expect("the reason").as_ref().len(), 1);
}
