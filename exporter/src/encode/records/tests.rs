use proptest::prelude::*;
use prost::Message;
use scouter_tonic::{
    grpc::InsertMessageRequest,
    message::{CustomMetricRecord, EvalRecord, MonitoringRecord, PsiRecord, SpcRecord, monitoring_record::Record},
};

use super::{EncodedRecords, EvalRef, RecordSubject};

const NO_LIMIT: usize = usize::MAX;

fn decoded(records: &EncodedRecords) -> Vec<MonitoringRecord> {
    let (requests, too_large) = records.requests(NO_LIMIT, NO_LIMIT);
    assert!(too_large.is_empty());
    requests.into_iter().flat_map(|request| InsertMessageRequest::decode(request.body).unwrap().records).collect()
}

fn same(ours: &EncodedRecords, theirs: &Record) {
    let decoded = decoded(ours);
    assert_eq!(decoded.len(), 1);
    // NaN equals itself in bytes only.
    assert_eq!(decoded[0].encode_to_vec(), MonitoringRecord { record: Some(theirs.clone()) }.encode_to_vec());
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
        .map(|record| match record.record {
            Some(Record::Spc(spc)) => spc.value.to_bits(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(values, [-0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(f64::to_bits));
}
