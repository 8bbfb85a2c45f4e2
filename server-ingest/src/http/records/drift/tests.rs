use super::*;

fn request(time_interval: &str, max_data_points: i64) -> DriftRequest {
    let uid = "it's".to_owned();
    DriftRequest { uid, time_interval: time_interval.to_owned(), max_data_points, start_custom_datetime: None, end_custom_datetime: None }
}

#[test]
fn a_window_is_cut_into_as_many_bins_as_asked_for() {
    let window = window_of(request("OneHour", 61), 100 * 60 * MINUTE).expect("a window");
    assert_eq!((window.start, window.end, window.width), (99 * 60 * MINUTE, 100 * 60 * MINUTE + MINUTE, MINUTE));
    assert!(window.condition().contains("entity_uid = 'it''s'"), "{}", window.condition());
    let custom = DriftRequest {
        start_custom_datetime: DateTime::from_timestamp(100, 0),
        end_custom_datetime: DateTime::from_timestamp(110, 0),
        ..request("FifteenMinutes", 1000)
    };
    let window = window_of(custom, 0).expect("a window");
    assert_eq!((window.start, window.end, window.width), (100 * SECOND, 110 * SECOND, SECOND), "bins are not shorter than a second");
}

#[test]
fn what_is_no_window_is_refused_with_its_name() {
    let refused = |request| window_of(request, 0).err().expect("refused");
    assert!(refused(request("OneHour", 0)).contains("max_data_points"));
    assert!(refused(request("AnHour", 10)).contains("time_interval"));
    let (early, late) = (DateTime::from_timestamp(1, 0), DateTime::from_timestamp(2, 0));
    assert!(refused(DriftRequest { start_custom_datetime: late, end_custom_datetime: early, ..request("", 1) }).contains("before"));
    assert!(refused(DriftRequest { start_custom_datetime: early, ..request("", 1) }).contains("together"));
}

#[test]
fn proportions_as_expected_have_no_psi_and_others_have() {
    let bins = [(1, 0.5), (2, 0.5)].map(|(id, proportion)| PsiProfileBin { id, proportion });
    let expected = PsiProfile { features: HashMap::from([("f".to_owned(), PsiProfileFeature { bins: bins.into() })]) };
    let count = |feature: &str, at, bin, count| (feature.to_owned(), at, bin, count);
    let counts = [count("f", 60, 1, 30), count("f", 60, 2, 10), count("f", 0, 1, 10), count("f", 0, 2, 10), count("unknown", 0, 1, 1)];
    let features = psi_features(&counts, &expected);
    assert_eq!(features.len(), 1);
    let feature = &features["f"];
    assert_eq!((feature.created_at.len(), feature.bins.clone()), (2, BTreeMap::from([(1, 40.0 / 60.0), (2, 20.0 / 60.0)])));
    // 0.25 ln 1.5 - 0.25 ln 0.5
    assert!((feature.psi[0] - 0.274_653).abs() < 1e-6 && feature.psi[1].abs() < 1e-9, "{:?}", feature.psi);
    assert!(feature.overall_psi > 0.0 && feature.overall_psi < feature.psi[0]);
}
