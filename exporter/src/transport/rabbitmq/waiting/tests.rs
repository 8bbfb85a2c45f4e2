use super::*;

fn waiting(sizes: &[usize]) -> (Waiting, Arc<Broker>, Vec<oneshot::Receiver<Outcome>>) {
    let broker = Arc::new(Broker::default());
    let waiting = Waiting::new(Arc::clone(&broker));
    let expect = |bytes: &usize| {
        let (sender, outcome) = oneshot::channel();
        waiting.expect(*bytes, sender).unwrap();
        outcome
    };
    let outcomes = sizes.iter().map(expect).collect();
    (waiting, broker, outcomes)
}

fn codes(outcomes: &mut [oneshot::Receiver<Outcome>]) -> Vec<Option<Code>> {
    outcomes
        .iter_mut()
        .map(|outcome| outcome.try_recv().ok().map(|outcome| outcome.map_or_else(|error| error.code(), |()| Code::Ok)))
        .collect()
}

#[test]
fn a_message_that_is_too_large_fails_alone() {
    let (waiting, broker, mut outcomes) = waiting(&[100, 201, 200, 5_000]);
    waiting.channel_closed("'406: PRECONDITION_FAILED - message size 201 is larger than configured max size 200', (class_id = 60)");
    let (large, other) = (Some(Code::ResourceExhausted), Some(BY_ANOTHER));
    assert_eq!(codes(&mut outcomes), [other, large, other, large]);
    assert_eq!(broker.max_message_bytes(), 200);
    let error = waiting.expect(1, oneshot::channel().0).unwrap_err();
    assert!(error.is_retryable() && error.message().contains("max size 200"), "{error}");
}

#[test]
fn the_largest_is_to_blame_where_the_broker_names_no_limit() {
    let (waiting, broker, mut outcomes) = waiting(&[100, 300, 200]);
    waiting.channel_closed("'406: PRECONDITION_FAILED - it is larger than I like', (class_id = 60)");
    assert_eq!(codes(&mut outcomes), [Some(BY_ANOTHER), Some(Code::ResourceExhausted), Some(BY_ANOTHER)]);
    assert_eq!(broker.max_message_bytes(), usize::MAX);
}

#[test]
fn the_brokers_reason_reaches_all_who_wait_and_all_who_come_later() {
    let (waiting, _, mut outcomes) = waiting(&[1, 1]);
    waiting.channel_closed("'541: INTERNAL_ERROR - the disk is gone', (class_id = 60)");
    waiting.end(&CallError::deadline("somebody who knows less"));
    for outcome in &mut outcomes {
        let error = outcome.try_recv().unwrap().unwrap_err();
        assert!(error.is_retryable() && error.message().contains("the disk is gone"), "{error}");
    }
    assert!(waiting.ended().unwrap().message().contains("the disk is gone"));
}

#[test]
fn a_confirmation_is_of_one_message_or_of_all_up_to_it() {
    let (waiting, _, mut outcomes) = waiting(&[1; 5]);
    waiting.settle(4, false, &Ok(()));
    assert_eq!(codes(&mut outcomes), [None, None, None, Some(Code::Ok), None]);
    let refused = CallError::new(CallErrorKind::Retryable, Code::Unavailable, "no");
    waiting.settle(2, true, &Err(refused));
    assert_eq!(codes(&mut outcomes), [Some(Code::Unavailable), Some(Code::Unavailable), None, None, None]);
    waiting.settle(u64::MAX, true, &Ok(()));
    assert_eq!(codes(&mut outcomes), [None, None, Some(Code::Ok), None, Some(Code::Ok)]);
}

#[test]
fn a_user_without_rights_is_told_so() {
    let (waiting, _, mut outcomes) = waiting(&[1]);
    waiting.channel_closed("'403: ACCESS_REFUSED - access to exchange refused for user 'ada'', (class_id = 60)");
    let error = outcomes[0].try_recv().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code()), (CallErrorKind::Credentials, Code::PermissionDenied));
}
