use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Duration,
};

use proptest::prelude::*;
use prost::Message;
use scouter_tonic::{
    group::records_of,
    grpc::InsertMessageRequest,
    message::{CustomMetricRecord, PsiRecord, SpcRecord, monitoring_record::Record},
};
use serde_json::{Value, value::RawValue};

use super::{Aggregate, NoRoom, Sink, Triggers};
use crate::{
    encode::EncodedRecords,
    pipeline::Offer,
    queue::{EvalRecord, FeatureValue, ItemDrop, Metric, Profile, ValueSkip, plan::Plan},
};

const TRIGGERS: Triggers = Triggers { psi_rows: 1000, max_age: Duration::from_secs(3600) };

fn fixture(name: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/scouter-0.25/{name}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn profile(name: &str) -> Profile {
    Profile::from_json(fixture(name)).unwrap()
}

/// Keeps what it is given, as far as it has room.
struct Kept {
    records: RefCell<Vec<Record>>,
    room: Cell<usize>,
}

impl Kept {
    fn new() -> Self {
        Self { records: RefCell::default(), room: Cell::new(usize::MAX) }
    }

    fn psi(&self) -> Vec<PsiRecord> {
        let read = |record| if let Record::Psi(psi) = record { psi } else { panic!("{record:?}") };
        self.records.take().into_iter().map(read).collect()
    }

    fn spc(&self) -> Vec<SpcRecord> {
        let read = |record| if let Record::Spc(spc) = record { spc } else { panic!("{record:?}") };
        self.records.take().into_iter().map(read).collect()
    }

    fn custom(&self) -> Vec<CustomMetricRecord> {
        let read = |record| if let Record::Custom(custom) = record { custom } else { panic!("{record:?}") };
        self.records.take().into_iter().map(read).collect()
    }
}

impl Sink for Kept {
    fn offer(&self, records: &EncodedRecords) -> Offer {
        if records.len() > self.room.get() {
            return Offer::NoRoom;
        }
        self.room.set(self.room.get() - records.len());
        for request in records.requests(usize::MAX, usize::MAX).0 {
            let read = InsertMessageRequest::decode(request.body).unwrap().records;
            self.records.borrow_mut().extend(read.into_iter().flat_map(|record| records_of(record.record.unwrap())));
        }
        Offer::Taken
    }

    fn push(&self, records: &EncodedRecords) {
        self.offer(records);
    }
}

fn add(aggregate: &mut Aggregate, plan: &Plan, row: &[(&str, FeatureValue<'_>)], to: &Kept) -> Result<(), ItemDrop> {
    aggregate.add_features(plan, row)?;
    if aggregate.is_full() {
        aggregate.publish(plan, TRIGGERS, to, NoRoom::Keep);
    }
    Ok(())
}

/// Counts of the non-empty features of a window, by feature and bin.
type Counts = BTreeMap<(String, i64), i64>;

fn counts(records: &[PsiRecord]) -> Counts {
    let mut counts = Counts::new();
    for record in records {
        *counts.entry((record.feature.clone(), record.bin_id)).or_default() += record.bin_count;
    }
    counts
}

struct Bin {
    id: i64,
    lower: f64,
    upper: f64,
}

/// The captured profile's bins by feature. The limits are parsed from their text: serde_json reads some of them wrong by the last bit.
fn captured_bins() -> BTreeMap<String, Vec<Bin>> {
    let limit = |bin: &BTreeMap<String, Box<RawValue>>, key: &str| bin[key].get().trim_matches('"').parse().unwrap();
    let bins = |feature: &RawValue| -> Vec<Bin> {
        let feature: BTreeMap<String, Box<RawValue>> = serde_json::from_str(feature.get()).unwrap();
        let bins: Vec<BTreeMap<String, Box<RawValue>>> = serde_json::from_str(feature["bins"].get()).unwrap();
        let read = |bin: &BTreeMap<String, Box<RawValue>>| Bin {
            id: serde_json::from_str(bin["id"].get()).unwrap(),
            lower: limit(bin, "lower_limit"),
            upper: limit(bin, "upper_limit"),
        };
        bins.iter().map(read).collect()
    };
    let profile: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&fixture("profile_psi")).unwrap();
    let features: BTreeMap<String, Box<RawValue>> = serde_json::from_str(profile["features"].get()).unwrap();
    features.into_iter().map(|(name, feature)| (name, bins(&feature))).collect()
}

/// The rule as words: the first bin whose lower limit is below the value and whose upper one is not.
fn naive_bin(bins: &[Bin], value: f64) -> Option<i64> {
    bins.iter().find(|bin| value.is_finite() && value > bin.lower && value <= bin.upper).map(|bin| bin.id)
}

#[test]
fn the_captured_bin_counts_come_out_of_rows_that_have_them() {
    let bins = captured_bins();
    let captured: Value = serde_json::from_str(&fixture("queue_psi_full")).unwrap();
    let mut expected = Counts::new();
    let mut values: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for record in captured["records"].as_array().unwrap() {
        let psi = &record["Psi"];
        let (feature, id, count) = (psi["feature"].as_str().unwrap(), psi["bin_id"].as_i64().unwrap(), psi["bin_count"].as_i64().unwrap());
        expected.insert((feature.to_owned(), id), count);
        let bin = bins[feature].iter().find(|bin| bin.id == id).unwrap();
        // The upper limit itself belongs to a bin.
        let value = if bin.upper.is_finite() { bin.upper } else { bin.lower + 1.0 };
        values.entry(feature.to_owned()).or_default().extend(std::iter::repeat_n(value, usize::try_from(count).unwrap()));
    }
    assert!(values.len() == 10 && values.values().all(|values| values.len() == 1000));
    let profile = profile("profile_psi");
    let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, TRIGGERS));
    for row in 0..1000 {
        let row: Vec<_> = values.iter().map(|(name, values)| (name.as_str(), FeatureValue::Float(values[row]))).collect();
        add(&mut aggregate, &profile.plan, &row, &to).unwrap();
    }
    let records = to.psi();
    assert_eq!((counts(&records), records.len()), (expected, 100));
    assert!(records.iter().all(|record| record.entity_uid == "01a20603-d2ca-7c60-9c68-017104d6a373" && record.created_at_unix_nano > 0));
}

#[test]
fn the_captured_means_come_out_of_rows_that_have_them() {
    let captured: Value = serde_json::from_str(&fixture("queue_custom")).unwrap();
    let profile = profile("profile_custom");
    let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, TRIGGERS));
    for row in 0..25 {
        let row = [Metric::new("Acc", 0.9), Metric::new("mae", f64::from(row) + 0.5)];
        aggregate.add_metrics(&profile.plan, &row).unwrap();
    }
    assert!(aggregate.is_full());
    aggregate.publish(&profile.plan, TRIGGERS, &to, NoRoom::Keep);
    let mut records = to.custom();
    records.sort_by(|left, right| left.metric.cmp(&right.metric));
    for (record, captured) in records.iter().zip(captured["records"].as_array().unwrap()) {
        let captured = &captured["Custom"];
        let (uid, metric) = (captured["uid"].as_str().unwrap(), captured["metric"].as_str().unwrap());
        assert_eq!((record.entity_uid.as_str(), record.metric.as_str(), record.value), (uid, metric, captured["value"].as_f64().unwrap()));
    }
    assert_eq!(records.len(), 2);
    assert!(records[0].created_at_unix_nano.abs_diff(records[1].created_at_unix_nano) >= 1000, "a table of today keeps one a microsecond");
}

/// Values around the limits of bins, and those that have none.
fn value() -> impl Strategy<Value = f64> {
    let limits: Vec<f64> = captured_bins()["f1"].iter().map(|bin| bin.upper).filter(|upper| upper.is_finite()).collect();
    prop_oneof![
        4 => -5.0..15.0_f64,
        3 => (prop::sample::select(limits), -1_i64..=1).prop_map(|(limit, steps)| f64::from_bits(limit.to_bits().wrapping_add_signed(steps))),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, -0.0]),
    ]
}

fn rows() -> impl Strategy<Value = Vec<Vec<(usize, f64)>>> {
    prop::collection::vec(prop::collection::vec((0_usize..11, value()), 0..12), 1..120)
}

/// Ten features, and one that no profile knows.
fn name(feature: usize) -> String {
    format!("f{feature}")
}

proptest! {
    #[test]
    fn bins_are_counted_as_a_naive_model_counts_them(rows in rows(), psi_rows in 1_u64..50) {
        let bins = captured_bins();
        let profile = profile("profile_psi");
        let triggers = Triggers { psi_rows, ..TRIGGERS };
        let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, triggers));
        let (mut expected, mut seen, mut in_window, mut empty) = (Counts::new(), Vec::<String>::new(), 0, 0);
        for row in &rows {
            let names: Vec<String> = row.iter().map(|(feature, _)| name(*feature)).collect();
            let row: Vec<_> = names.iter().zip(row).map(|(name, (_, value))| (name.as_str(), FeatureValue::Float(*value))).collect();
            let counted: Vec<(String, i64)> = row
                .iter()
                .filter(|(name, _)| *name != "f10")
                .filter_map(|(name, value)| {
                    let FeatureValue::Float(value) = value else { return None };
                    naive_bin(&bins[*name], *value).map(|bin| ((*name).to_owned(), bin))
                })
                .collect();
            let added = aggregate.add_features(&profile.plan, &row);
            prop_assert_eq!(added.is_ok(), !counted.is_empty());
            if counted.is_empty() {
                empty += 1;
                continue;
            }
            for (name, bin) in counted {
                seen.push(name.clone());
                *expected.entry((name, bin)).or_default() += 1;
            }
            in_window += 1;
            prop_assert_eq!(aggregate.is_full(), in_window == psi_rows);
            if aggregate.is_full() {
                prop_assert!(aggregate.publish(&profile.plan, triggers, &to, NoRoom::Keep));
                in_window = 0;
                let records = to.psi();
                seen.sort_unstable();
                seen.dedup();
                // Every bin of each feature seen, and of no other.
                prop_assert_eq!(records.len(), 10 * seen.len());
                let published: Counts = counts(&records).into_iter().filter(|(_, count)| *count > 0).collect();
                prop_assert_eq!(&published, &expected);
                expected.clear();
                seen.clear();
            }
        }
        aggregate.publish(&profile.plan, triggers, &to, NoRoom::Drop);
        let published: Counts = counts(&to.psi()).into_iter().filter(|(_, count)| *count > 0).collect();
        prop_assert_eq!(published, expected);
        let account = aggregate.account();
        prop_assert!(account.is_balanced() && account.waiting == 0);
        prop_assert_eq!((account.inserted, account.dropped.get(ItemDrop::NothingWatched)), (rows.len() as u64, empty));
    }

    #[test]
    fn means_are_those_of_a_naive_model(rows in rows()) {
        let profile = profile("profile_spc");
        let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, TRIGGERS));
        let mut window: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut in_window = 0;
        let check = |to: &Kept, window: &mut BTreeMap<String, Vec<f64>>| {
            // Which NaN it is depends on the order in which a processor is given the operands.
            let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
            let published: BTreeMap<String, u64> = to.spc().into_iter().map(|record| (record.feature, bits(record.value))).collect();
            let mean = |values: &Vec<f64>| bits(values.iter().fold(0.0, |sum, value| sum + value) / values.len() as f64);
            let expected: BTreeMap<String, u64> = window.iter().map(|(name, values)| (name.clone(), mean(values))).collect();
            assert_eq!(published, expected);
            window.clear();
        };
        for row in &rows {
            let names: Vec<String> = row.iter().map(|(feature, _)| name(*feature)).collect();
            let row: Vec<_> = names.iter().zip(row).map(|(name, (_, value))| (name.as_str(), FeatureValue::Float(*value))).collect();
            let known: Vec<_> = row.iter().filter(|(name, _)| *name != "f10").collect();
            prop_assert_eq!(add(&mut aggregate, &profile.plan, &row, &to).is_ok(), !known.is_empty());
            for (name, value) in &known {
                let FeatureValue::Float(value) = value else { continue };
                window.entry((*name).to_owned()).or_default().push(*value);
            }
            in_window += u64::from(!known.is_empty());
            if in_window == 25 {
                in_window = 0;
                check(&to, &mut window);
            }
        }
        aggregate.publish(&profile.plan, TRIGGERS, &to, NoRoom::Keep);
        check(&to, &mut window);
        prop_assert!(aggregate.account().is_balanced());
    }

    #[test]
    fn a_full_queue_costs_bins_nothing_but_time(rows in rows(), rooms in prop::collection::vec(0_usize..70, 0..20)) {
        let profile = profile("profile_psi");
        let triggers = Triggers { psi_rows: 5, ..TRIGGERS };
        let (narrow, wide) = (Kept::new(), Kept::new());
        narrow.room.set(0);
        let (mut waits, mut free) = (Aggregate::new(&profile.plan, triggers), Aggregate::new(&profile.plan, triggers));
        let mut rooms = rooms.into_iter();
        for row in &rows {
            let names: Vec<String> = row.iter().map(|(feature, _)| name(*feature)).collect();
            let row: Vec<_> = names.iter().zip(row).map(|(name, (_, value))| (name.as_str(), FeatureValue::Float(*value))).collect();
            for (aggregate, to) in [(&mut waits, &narrow), (&mut free, &wide)] {
                if aggregate.add_features(&profile.plan, &row).is_ok() && aggregate.is_full() {
                    narrow.room.set(rooms.next().unwrap_or(0));
                    aggregate.publish(&profile.plan, triggers, to, NoRoom::Keep);
                }
            }
        }
        narrow.room.set(usize::MAX);
        prop_assert!(waits.publish(&profile.plan, triggers, &narrow, NoRoom::Keep));
        free.publish(&profile.plan, triggers, &wide, NoRoom::Keep);
        let positive = |records: Vec<PsiRecord>| -> Counts { counts(&records).into_iter().filter(|(_, count)| *count > 0).collect() };
        prop_assert_eq!(positive(narrow.psi()), positive(wide.psi()));
        prop_assert!(waits.account().is_balanced() && waits.account().waiting == 0);
    }
}

#[test]
fn categories_go_by_the_feature_map_and_an_unknown_one_rejects_itself_only() {
    let profile = profile("profile_psi_categorical");
    let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, TRIGGERS));
    let row = |region, age| [("region", region), ("age", FeatureValue::Int(age))];
    for region in [
        FeatureValue::Text("us-west-2"),
        FeatureValue::Text("us-west-2"),
        FeatureValue::Text("eu-north-1"),
        // Numbers of categories.
        FeatureValue::Int(1),
        FeatureValue::Float(1.9),
        // The map's number for what is missing, which has no bin.
        FeatureValue::Text("mars"),
        FeatureValue::Int(-1),
        FeatureValue::Float(1e300),
        FeatureValue::Float(f64::NAN),
        FeatureValue::Unusable,
    ] {
        add(&mut aggregate, &profile.plan, &row(region, 40), &to).unwrap();
    }
    // A number written as text has no place in the map of a numeric feature.
    add(&mut aggregate, &profile.plan, &[("age", FeatureValue::Text("40")), ("region", FeatureValue::Int(0))], &to).unwrap();
    aggregate.publish(&profile.plan, TRIGGERS, &to, NoRoom::Keep);
    let records = to.psi();
    let of_region: Vec<(i64, i64)> =
        records.iter().filter(|record| record.feature == "region").map(|record| (record.bin_id, record.bin_count)).collect();
    assert_eq!(of_region, [(0, 2), (1, 2), (2, 2)]);
    let ages: i64 = records.iter().filter(|record| record.feature == "age").map(|record| record.bin_count).sum();
    assert_eq!(ages, 10);
    let values = aggregate.account().values;
    let skipped = ValueSkip::ALL.map(|reason| values.skipped(reason));
    assert_eq!((values.counted, skipped), (16, [0, 1, 1, 1, 3]));
}

#[test]
fn nan_and_infinities_are_carried_by_means() {
    let profile = profile("profile_custom");
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0] {
        let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, TRIGGERS));
        aggregate.add_metrics(&profile.plan, &[("acc", FeatureValue::Float(value)), ("MAE", FeatureValue::Int(1))]).unwrap();
        aggregate.publish(&profile.plan, TRIGGERS, &to, NoRoom::Keep);
        let records = to.custom();
        // The sum begins with a positive zero, which a negative one does not change.
        assert_eq!((records[0].value.to_bits(), records[1].value), ((0.0 + value).to_bits(), 1.0));
    }
}

#[test]
fn items_that_count_nothing_are_dropped_for_a_reason() {
    let (psi, custom, eval) = (profile("profile_psi"), profile("profile_custom"), profile("profile_genai"));
    let to = Kept::new();
    let long = "x".repeat(1024 * 1024);
    let record = EvalRecord::from_json("{}");
    let mut of_psi = Aggregate::new(&psi.plan, TRIGGERS);
    let none: [(&str, FeatureValue<'_>); 0] = [];
    assert_eq!(of_psi.add_features(&psi.plan, &none), Err(ItemDrop::NothingWatched));
    assert_eq!(of_psi.add_features(&psi.plan, &[(long.as_str(), FeatureValue::Int(1))]), Err(ItemDrop::NothingWatched));
    assert_eq!(of_psi.add_features(&psi.plan, &[("f1", FeatureValue::Float(f64::NAN))]), Err(ItemDrop::NothingWatched));
    assert_eq!(of_psi.add_metrics(&psi.plan, &[("f1", FeatureValue::Int(1))]), Err(ItemDrop::WrongKind));
    of_psi.is_closed = true;
    assert_eq!(of_psi.add_features(&psi.plan, &[("f1", FeatureValue::Int(1))]), Err(ItemDrop::Shutdown));
    let mut of_custom = Aggregate::new(&custom.plan, TRIGGERS);
    assert_eq!(of_custom.add_features(&custom.plan, &[("acc", FeatureValue::Int(1))]), Err(ItemDrop::WrongKind));
    let mut of_eval = Aggregate::new(&eval.plan, TRIGGERS);
    assert_eq!(of_eval.add_features(&eval.plan, &[("acc", FeatureValue::Int(1))]), Err(ItemDrop::WrongKind));
    of_eval.note_unreadable();
    assert_eq!(of_psi.add_eval(&psi.plan, psi.uid(), 1.0, &record, &to), Err(ItemDrop::Shutdown));
    for aggregate in [of_psi, of_custom, of_eval] {
        let account = aggregate.account();
        assert!(account.is_balanced() && account.dropped.total() == account.inserted, "{account:?}");
    }
    assert!(to.records.take().is_empty());
}

#[test]
fn evaluations_are_sampled() {
    let profile = profile("profile_genai");
    let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, TRIGGERS));
    let record = EvalRecord::from_json("{\"a\":1}");
    for ratio in [0.0, 1.0, 0.5] {
        for _ in 0..1000 {
            aggregate.add_eval(&profile.plan, profile.uid(), ratio, &record, &to).unwrap();
        }
    }
    let account = aggregate.account();
    assert!(account.is_balanced());
    assert_eq!(account.published, to.records.borrow().len() as u64);
    assert!((1300..1700).contains(&account.published), "{account:?}");
    assert!(to.records.take().iter().all(|sent| matches!(sent, Record::Eval(eval) if eval.entity_uid == profile.uid())));
}

#[test]
fn a_hundred_thousand_features_in_any_order_are_counted() {
    const FEATURES: usize = 100_000;
    let names: Vec<String> = (0..FEATURES).map(|index| format!("feature_{index}")).collect();
    let features: serde_json::Map<String, Value> = names.iter().map(|name| (name.clone(), Value::from(1))).collect();
    let config = serde_json::json!({
        "uid": "u", "space": "s", "name": "n", "version": "1", "drift_type": "Spc", "sample_size": 3,
        "alert_config": {"features_to_monitor": names},
    });
    let profile = Profile::from_json(serde_json::json!({"features": features, "config": config}).to_string()).unwrap();
    let (to, mut aggregate) = (Kept::new(), Aggregate::new(&profile.plan, TRIGGERS));
    let mut row: Vec<_> = names.iter().map(|name| (name.as_str(), FeatureValue::Int(1))).collect();
    for value in 1..=3 {
        row.reverse();
        row.iter_mut().for_each(|(_, of_feature)| *of_feature = FeatureValue::Int(value));
        add(&mut aggregate, &profile.plan, &row, &to).unwrap();
    }
    let records = to.spc();
    assert_eq!(records.len(), FEATURES);
    assert!(records.iter().all(|record| record.value == 2.0));
}
