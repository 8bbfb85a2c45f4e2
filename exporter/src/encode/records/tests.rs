use proptest::prelude::*;
use prost::Message;
use scouter_tonic::{
    group::records_of,
    grpc::InsertMessageRequest,
    message::{CustomMetricRecord, EvalRecord, MonitoringRecord, PsiRecord, SpcRecord, monitoring_record::Record},
};

use super::{EncodedRecords, EvalRef, RecordSubject, halves};
use crate::encode::{EncodedRequest, MAX_RECORDS_PER_REQUEST};

const NO_LIMIT: usize = usize::MAX;

/// The records of a request, rows of groups as the records they stand for.
fn read(request: &EncodedRequest) -> Vec<Record> {
    let read = InsertMessageRequest::decode(request.body.clone()).unwrap();
    assert_eq!(read.batch_id.len(), 16);
    let records: Vec<Record> = read.records.into_iter().flat_map(|record| records_of(record.record.unwrap())).collect();
    assert_eq!(records.len(), request.records);
    records
}

fn decoded(records: &EncodedRecords) -> Vec<Record> {
    let (requests, too_large) = records.requests(NO_LIMIT, NO_LIMIT);
    assert!(too_large.is_empty());
    assert!(requests.iter().map(|request| request.body.len()).sum::<usize>() <= records.bytes() + 18);
    requests.iter().flat_map(read).collect()
}

/// NaN equals itself in bytes only.
fn bytes(records: impl IntoIterator<Item = Record>) -> Vec<Vec<u8>> {
    records.into_iter().map(|record| MonitoringRecord { record: Some(record) }.encode_to_vec()).collect()
}

fn sorted(mut records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    records.sort_unstable();
    records
}

fn same(ours: &EncodedRecords, theirs: &Record) {
    assert_eq!(bytes(decoded(ours)), bytes([theirs.clone()]));
}

/// A kind, an entity, a name, a time and a number: one record.
type Given = (u8, u8, u8, u64, u64);

/// Pushes it and tells what it is.
fn push((kind, entity, name, time, number): Given, to: &mut EncodedRecords) -> Record {
    let (entity_uid, name) = (format!("entity {entity}"), format!("name {name}"));
    let subject = RecordSubject::new(&entity_uid, "first").sibling(&name);
    match kind {
        0 => {
            to.push_psi(&subject, time, number as i64, number >> 1);
            let (bin_id, bin_count) = (number as i64, (number >> 1) as i64);
            Record::Psi(PsiRecord { created_at_unix_nano: time, entity_uid, feature: name, bin_id, bin_count })
        }
        1 => {
            to.push_spc(&subject, time, f64::from_bits(number));
            Record::Spc(SpcRecord { created_at_unix_nano: time, entity_uid, feature: name, value: f64::from_bits(number) })
        }
        2 => {
            to.push_custom(&subject, time, f64::from_bits(number));
            Record::Custom(CustomMetricRecord { created_at_unix_nano: time, entity_uid, metric: name, value: f64::from_bits(number) })
        }
        _ => {
            let record = Record::Eval(EvalRecord { created_at_unix_nano: time, entity_uid, uid: name, ..EvalRecord::default() });
            to.push(&MonitoringRecord { record: Some(record.clone()) });
            record
        }
    }
}

fn given() -> impl Strategy<Value = Given> {
    (0..4_u8, 0..40_u8, 0..30_u8, prop_oneof![0..1000_u64, any::<u64>()], any::<u64>())
}

proptest! {
    #[test]
    fn our_bytes_read_as_the_messages_they_stand_for(
        created_at_unix_nano in prop_oneof![Just(0_u64), any::<u64>()],
        entity_uid in ".{0,40}",
        feature in ".{0,300}",
        bin_id in prop_oneof![Just(0_i64), any::<i64>()],
        bin_count in prop_oneof![Just(0_u64), 0..=i64::MAX as u64],
        bits in any::<u64>(),
    ) {
        let subject = RecordSubject::new(&entity_uid, &feature);
        let mut records = EncodedRecords::default();
        records.push_psi(&subject, created_at_unix_nano, bin_id, bin_count);
        let psi = PsiRecord {
            created_at_unix_nano, entity_uid: entity_uid.clone(), feature: feature.clone(), bin_id, bin_count: bin_count as i64,
        };
        same(&records, &Record::Psi(psi));

        let value = f64::from_bits(bits);
        records.clear();
        records.push_spc(&subject, created_at_unix_nano, value);
        same(&records, &Record::Spc(SpcRecord { created_at_unix_nano, entity_uid: entity_uid.clone(), feature: feature.clone(), value }));
        records.clear();
        records.push_custom(&subject, created_at_unix_nano, value);
        same(&records, &Record::Custom(CustomMetricRecord { created_at_unix_nano, entity_uid, metric: feature, value }));
    }

    #[test]
    fn an_evaluation_reads_as_its_message(
        texts in prop::collection::vec(".{0,200}", 8),
        context in prop_oneof![".{0,30}", "[a-z]{20000}"],
        trace_id in prop::option::of(any::<[u8; 16]>()),
        tags in prop::collection::vec(".{0,10}", 0..4),
        created_at_unix_nano in any::<u64>(),
    ) {
        let [entity_uid, uid, record_id, session_id, record_source, status, ..] = texts.as_slice() else { panic!("eight texts") };
        let mut records = EncodedRecords::default();
        let context_json = context.as_str();
        records.push_eval(&EvalRef {
            created_at_unix_nano, entity_uid, uid, record_id, session_id, context_json, trace_id, tags: &tags, record_source, status,
        });
        let message = EvalRecord {
            created_at_unix_nano,
            entity_uid: entity_uid.clone(),
            uid: uid.clone(),
            record_id: record_id.clone(),
            session_id: session_id.clone(),
            context_json: context.clone(),
            trace_id: trace_id.map(Vec::from).unwrap_or_default(),
            tags,
            record_source: record_source.clone(),
            status: status.clone(),
        };
        same(&records, &Record::Eval(message));
    }

    #[test]
    fn every_record_is_in_one_request_or_too_large(
        lengths in prop::collection::vec(0_usize..3000, 0..60),
        max_bytes in 64_usize..4000,
        max_records in 1_usize..20,
    ) {
        let of_length = |length: &usize| MonitoringRecord {
            record: Some(Record::Eval(EvalRecord { context_json: "x".repeat(*length), ..EvalRecord::default() })),
        };
        let records: Vec<MonitoringRecord> = lengths.iter().map(of_length).collect();
        let (requests, too_large) = records.iter().collect::<EncodedRecords>().requests(max_bytes, max_records);
        prop_assert!(requests.iter().all(|request| request.body.len() <= max_bytes && request.records <= max_records));
        let sent: Vec<MonitoringRecord> = requests
            .iter()
            .flat_map(|request| {
                let read = InsertMessageRequest::decode(request.body.clone()).unwrap();
                assert_eq!(read.records.len(), request.records);
                read.records
            })
            .collect();
        prop_assert_eq!(sent.len() + too_large.len(), records.len());
        prop_assert!(too_large.iter().all(|record| record.is_record && record.name == "eval"));
        let fit = |record: &&MonitoringRecord| record.encoded_len() + 4 + 18 <= max_bytes;
        let fitting: Vec<MonitoringRecord> = records.iter().filter(fit).cloned().collect();
        // The length of a length differs by a byte or two, so compare what surely fits.
        prop_assert!(fitting.iter().all(|record| sent.contains(record)));
    }

    #[test]
    fn gathered_records_arrive_each_once_however_they_are_joined_cut_and_halved(
        chunks in prop::collection::vec(prop::collection::vec(given(), 0..60), 0..8),
        max_bytes in 90_usize..1500,
        max_records in 1_usize..50,
    ) {
        let mut all = EncodedRecords::default();
        let mut chunk = EncodedRecords::default();
        let mut expected = Vec::new();
        for given in chunks {
            chunk.clear();
            expected.extend(given.into_iter().map(|given| push(given, &mut chunk)));
            all.append(&chunk);
        }
        prop_assert_eq!(all.len(), expected.len());
        let expected = sorted(bytes(expected));
        prop_assert_eq!(&sorted(bytes(decoded(&all))), &expected);
        let (requests, too_large) = all.requests(max_bytes, max_records);
        prop_assert!(too_large.is_empty());
        prop_assert!(requests.iter().all(|request| request.body.len() <= max_bytes && request.records <= max_records));
        prop_assert_eq!(&sorted(bytes(requests.iter().flat_map(read))), &expected);
        for request in all.requests(NO_LIMIT, NO_LIMIT).0.iter().filter(|request| request.records > 1) {
            let halves = halves(&request.body, request.records).unwrap();
            prop_assert_eq!(halves[0].records, request.records / 2);
            prop_assert_eq!(&sorted(bytes(halves.iter().flat_map(read))), &expected);
        }
    }
}

#[test]
fn what_records_share_is_sent_once() {
    let first = RecordSubject::new("01a20603-d2ca-7c60-9c68-017104d6a373", "feature_0");
    let subjects: Vec<RecordSubject> = (0..10).map(|feature| first.sibling(&format!("feature_{feature}"))).collect();
    let mut all = EncodedRecords::default();
    for window in 0..100_u64 {
        let mut published = EncodedRecords::default();
        subjects.iter().for_each(|subject| published.push_spc(subject, window * 1_000_000_000, 0.5));
        all.append(&published);
    }
    let body = &all.requests(NO_LIMIT, NO_LIMIT).0[0].body;
    let count = |text: &[u8]| body.windows(text.len()).filter(|window| *window == text).count();
    assert_eq!((count(b"01a20603-d2ca"), count(b"feature_3")), (1, 1));
    assert!(body.len() < 1000 * 12, "{} bytes", body.len());
}

#[test]
fn groups_are_as_large_as_servers_take_them_at_the_most() {
    let names: Vec<RecordSubject> = (0..600).map(|name| RecordSubject::new("entity", &format!("{name}{}", "x".repeat(2000)))).collect();
    let long = RecordSubject::new("entity", &"y".repeat(2 << 20));
    let mut records = EncodedRecords::default();
    let mut chunk = EncodedRecords::default();
    for round in 0..20_u64 {
        chunk.clear();
        for name in &names[usize::try_from(round).unwrap() * 30..] {
            (0..10).for_each(|bin| chunk.push_psi(name, round, bin, round));
        }
        records.append(&chunk);
    }
    records.push_spc(&long, 1, 1.0);
    let (requests, _) = records.requests(NO_LIMIT, MAX_RECORDS_PER_REQUEST);
    let read: Vec<_> = requests.iter().flat_map(|request| InsertMessageRequest::decode(request.body.clone()).unwrap().records).collect();
    let groups = read.iter().filter(|record| matches!(record.record, Some(Record::Group(_))));
    assert!(groups.map(Message::encoded_len).all(|bytes| bytes <= scouter_tonic::limits::MAX_RECORD_GROUP_BYTES));
    assert!(read.iter().any(|record| matches!(&record.record, Some(Record::Spc(spc)) if spc.feature.len() == 2 << 20)));
    assert_eq!(requests.iter().map(|request| request.records).sum::<usize>(), records.len());
}

#[test]
fn negative_zero_and_nan_are_values_of_their_own() {
    let subject = RecordSubject::new("entity", "feature");
    let mut records = EncodedRecords::default();
    for value in [-0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        records.push_spc(&subject, 1, value);
    }
    let values: Vec<u64> = decoded(&records)
        .into_iter()
        .map(|record| match record {
            Record::Spc(spc) => spc.value.to_bits(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(values, [-0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(f64::to_bits));
}
