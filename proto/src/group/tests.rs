use super::*;

fn bins() -> RecordGroup {
    RecordGroup {
        kind: Kind::Psi.into(),
        entity_uid: "u".to_owned(),
        names: vec!["age".to_owned(), "height".to_owned(), "weight".to_owned()],
        name_indexes: vec![0, 0, 2, 1],
        base_unix_nano: 1000,
        step_nanos: vec![5, 0, -10, 1],
        bin_ids: vec![1, 2, -3, 4],
        bin_counts: vec![10, 0, 30, 40],
        values: Vec::new(),
    }
}

fn means(kind: Kind, values: Vec<f64>) -> RecordGroup {
    let rows = values.len();
    RecordGroup {
        kind: kind.into(),
        entity_uid: "u".to_owned(),
        names: vec!["mae".to_owned()],
        name_indexes: vec![0; rows],
        step_nanos: vec![1; rows],
        values,
        ..RecordGroup::default()
    }
}

fn psi(created_at_unix_nano: u64, feature: &str, bin_id: i64, bin_count: i64) -> Record {
    Record::Psi(PsiRecord { created_at_unix_nano, entity_uid: "u".to_owned(), feature: feature.to_owned(), bin_id, bin_count })
}

fn records(group: RecordGroup) -> Vec<Option<Record>> {
    group.into_records().collect()
}

#[test]
fn every_row_is_the_record_it_stands_for() {
    let expected = [psi(1005, "age", 1, 10), psi(1005, "age", 2, 0), psi(995, "weight", -3, 30), psi(996, "height", 4, 40)];
    assert_eq!(records(bins()), expected.map(Some));
    let spc = SpcRecord { created_at_unix_nano: 1, entity_uid: "u".to_owned(), feature: "mae".to_owned(), value: f64::INFINITY };
    assert_eq!(records(means(Kind::Spc, vec![f64::INFINITY])), [Some(Record::Spc(spc))]);
    let custom = CustomMetricRecord { created_at_unix_nano: 1, entity_uid: "u".to_owned(), metric: "mae".to_owned(), value: 2.5 };
    assert_eq!(records(means(Kind::Custom, vec![2.5])), [Some(Record::Custom(custom))]);
    assert_eq!(records(RecordGroup::default()), []);
}

#[test]
fn a_row_without_a_name_is_wrong_alone_and_the_times_go_on() {
    let mut group = bins();
    group.name_indexes[2] = 3;
    assert_eq!(group.rows().map(Result::err).collect::<Vec<_>>(), [None, None, Some(RowFault::NameMissing), None]);
    assert_eq!(records(group)[3], Some(psi(996, "height", 4, 40)));
}

#[test]
fn a_group_whose_columns_differ_or_whose_kind_is_unknown_has_no_good_row() {
    type Change = fn(&mut RecordGroup);
    let differ: [Change; 7] = [
        |group| group.name_indexes.truncate(3),
        |group| group.step_nanos.truncate(3),
        |group| group.bin_ids.truncate(3),
        |group| group.bin_counts.truncate(3),
        |group| group.bin_counts.push(0),
        |group| group.values.push(0.0),
        |group| group.kind = Kind::Spc.into(),
    ];
    for change in differ {
        let mut group = bins();
        change(&mut group);
        let faults: Vec<_> = group.rows().map(Result::err).collect();
        assert_eq!(faults, vec![Some(RowFault::ColumnsDiffer); group.row_count()]);
    }
    for kind in [0, 7] {
        let group = RecordGroup { kind, ..bins() };
        assert_eq!(group.rows().map(Result::err).collect::<Vec<_>>(), [Some(RowFault::KindUnknown); 4]);
    }
}

#[test]
fn slices_hold_their_rows_and_only_the_names_of_them() {
    let all = records(bins());
    for start in 0..=4 {
        for end in start..=4 {
            let part = bins().slice(start..end).unwrap();
            assert!(part.names.len() <= end - start, "{part:?}");
            assert_eq!(records(part), all[start..end]);
        }
    }
    let wide = RecordGroup { step_nanos: vec![i64::MIN, i64::MIN, i64::MAX, -1], ..bins() };
    assert_eq!(records(wide.slice(1..4).unwrap()), records(wide)[1..]);
    let nameless = RecordGroup { names: Vec::new(), ..bins() };
    assert_eq!(nameless.slice(0..1), None);
}
