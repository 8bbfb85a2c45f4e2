use super::*;

fn refused<T: std::fmt::Debug>(outcome: Result<T, IngestError>) -> Duration {
    match outcome {
        Err(IngestError::Overloaded { come_again, .. }) => come_again,
        other => panic!("{other:?}"),
    }
}

#[test]
fn room_is_taken_as_it_is_needed_and_given_back() {
    let admission = Admission::new(100_000);
    let share = Arc::default();
    let mut first = admission.begin(&share, 85_000).expect("fits");
    assert_eq!(admission.used_bytes(), REQUEST_BYTES, "what is announced is not yet taken");
    first.grow(85_000).expect("fits");
    refused(admission.begin(&share, 50_000));
    refused(first.grow(50_000));
    first.shrink(80_000);
    let second = admission.begin(&share, 50_000).expect("fits again");
    drop((first, second));
    assert_eq!((admission.used_bytes(), admission.refused()), (0, 2));
}

#[test]
fn a_connection_that_takes_all_it_can_leaves_room_for_the_others() {
    let admission = Admission::new(1_000_000);
    let [greedy, modest, late] = [(); 3].map(|()| Arc::new(Share::default()));
    let mut held = Vec::new();
    let mut fill = |share: &Arc<Share>| {
        while let Ok(mut room) = admission.begin(share, 0) {
            if room.grow(20_000).is_err() {
                break;
            }
            held.push(room);
        }
    };
    fill(&greedy);
    assert!(greedy.held.load(Ordering::Relaxed) > 900_000, "alone it may have nearly everything");
    let mut rooms = std::mem::take(&mut held);
    rooms.truncate(rooms.len() / 4);
    let mut first = admission.begin(&modest, 100_000).expect("there is room");
    first.grow(100_000).expect("there is room");
    // Two hold something: neither gets more than half while more than three quarters are in use.
    let mut fill = |share: &Arc<Share>| {
        while let Ok(mut room) = admission.begin(share, 0) {
            if room.grow(20_000).is_err() {
                break;
            }
            held.push(room);
        }
    };
    fill(&greedy);
    let of_greedy = greedy.held.load(Ordering::Relaxed);
    assert!((600_000..=650_000).contains(&of_greedy), "{greedy:?}");
    for _ in 0..3 {
        refused(admission.begin(&greedy, 30_000));
    }
    let mut other = admission.begin(&late, 100_000).expect("the greedy one has left room");
    other.grow(100_000).expect("the greedy one has left room");
    drop((rooms, held, first, other));
    assert_eq!((admission.used_bytes(), admission.0.holders.load(Ordering::Relaxed)), (0, 0));
}

#[test]
fn a_connection_rests_for_longer_with_each_refusal_for_want_of_room_and_for_less_with_each_request_that_was_taken() {
    let admission = Admission::new(10_000);
    let share: Arc<Share> = Arc::default();
    let no_room = IngestError::Overloaded { come_again: RETRY_AFTER, because: None };
    share.rest(&no_room);
    assert_eq!(share.rests_until(), None, "nothing was refused");
    for _ in 0..40 {
        refused(admission.begin(&share, 20_000));
    }
    assert_eq!(share.refusals.load(Ordering::Relaxed), 40);
    share.rest(&IngestError::BrokenOff);
    assert_eq!(share.rests_until(), None, "what is wrong with a request itself is no reason");
    share.rest(&no_room);
    assert!(share.rests_until().is_some_and(|until| until > Instant::now()));
    admission.begin(&share, 0).expect("fits").complete();
    assert_eq!(share.refusals.load(Ordering::Relaxed), 20);
    let rests: Vec<Duration> = (0..40).filter_map(|refusals| rest_after(refusals, 1)).collect();
    assert_eq!((rests.len(), rests[0], rests[38]), (39, FIRST_REST, LONGEST_REST));
    assert!(rests.is_sorted());
    assert!(rest_after(1, 100) > rest_after(2, 1), "in a crowd it rests for longer");
    assert_eq!(rest_after(0, 100), None);
}

#[test]
fn the_time_to_come_again_differs_and_grows_with_the_pressure() {
    let admission = Admission::new(10_000);
    let share = Arc::default();
    let times: Vec<Duration> = (0..50).map(|_| refused(admission.begin(&share, 20_000))).collect();
    assert!(times.iter().all(|time| (RETRY_AFTER..RETRY_AFTER * 2).contains(time)), "{times:?}");
    assert!(times.iter().min() < times.iter().max(), "they do not all come back together");
    admission.0.pressure.level.store(MAX_PRESSURE, Ordering::Relaxed);
    assert!(refused(admission.begin(&share, 20_000)) >= RETRY_AFTER * 8);
}

#[test]
fn a_refusal_names_what_keeps_the_requests_from_being_stored() {
    let admission = Admission::new(10_000);
    let refusal = || admission.begin(&Arc::default(), 20_000).expect_err("too much").text();
    assert!(refusal().contains("memory budget"), "{}", refusal());
    admission.set_obstacle(Some("the disk is full".into()));
    assert!(refusal().contains("the disk is full") && !refusal().contains("memory"), "{}", refusal());
    admission.0.pressure.level.store(MAX_PRESSURE, Ordering::Relaxed);
    assert!(refused(admission.begin(&Arc::default(), 20_000)) <= RETRY_AFTER * 2, "who made room does not wait for long");
    admission.set_obstacle(None);
    assert!(refusal().contains("memory budget"), "{}", refusal());
}

#[test]
fn the_parts_of_the_memory_are_less_than_the_whole() {
    for connections in [1, 64, 1024, 10_000] {
        for total in [MemoryPlan::least(MIB, connections), MemoryPlan::least(64 * MIB, connections), 4096 * MIB] {
            let plan = MemoryPlan::of(total, connections);
            let parts = plan.requests + plan.hot_rows + plan.trace_index + plan.connection_buffers;
            assert!(MemoryPlan::FIXED + parts < total, "{connections}: {plan:?}");
        }
        let largest = 64 * MIB;
        let admission = Admission::new(MemoryPlan::of(MemoryPlan::least(largest, connections), connections).requests);
        let mut room = admission.begin(&Arc::default(), largest).expect("it fits");
        room.grow(largest).expect("it fits");
        room.grow(3 * largest).expect("JSON of the largest size can be decoded");
    }
}

#[test]
fn room_around_bytes_is_given_back_with_the_last_of_them() {
    let admission = Admission::new(100_000);
    let mut room = admission.begin(&Arc::default(), 10).expect("fits");
    room.grow(10).expect("fits");
    let bytes = room.around(Bytes::from_static(b"0123456789"));
    let part = bytes.slice(2..4);
    drop(bytes);
    assert_eq!((&part[..], admission.used_bytes()), (&b"23"[..], REQUEST_BYTES + 10));
    drop(part);
    assert_eq!(admission.used_bytes(), 0);
}
