//! Monitoring records to rows and back.

use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use scouter_tonic::grpc::InsertMessageRequest;
use scouter_tonic::message::monitoring_record::Record;
use scouter_tonic::message::{
    AgentTaskRecord, AgentWorkflowRecord, CustomMetricRecord, EvalRecord, MonitoringRecord, ObservabilityRecord, PsiRecord, RecordGroup,
    SpcRecord, TagRecord, record_group::Kind,
};

use super::{append, request, span};
use crate::columns::records::table_of;
use crate::columns::{Columns, Table, records_from_batch};
use crate::otlp::Envelope;

fn record() -> impl Strategy<Value = Record> {
    let strings = || vec(any::<String>(), 8);
    let numbers = || vec(any::<i64>(), 4);
    let ids = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 16)];
    (0..8usize, 0..i64::MAX as u64, strings(), numbers(), any::<f64>(), any::<bool>(), ids).prop_map(
        |(kind, time, s, n, double, bool, id)| {
            let [a, b, c, d, e, f, g, h] = <[String; 8]>::try_from(s).expect("eight strings");
            let entity_uid = format!("uid{a}");
            match kind {
                0 => Record::Psi(PsiRecord { created_at_unix_nano: time, entity_uid, feature: b, bin_id: n[0], bin_count: n[1] }),
                1 => Record::Spc(SpcRecord { created_at_unix_nano: time, entity_uid, feature: b, value: double }),
                2 => Record::Custom(CustomMetricRecord { created_at_unix_nano: time, entity_uid, metric: b, value: f64::INFINITY }),
                3 => Record::Eval(EvalRecord {
                    created_at_unix_nano: time,
                    entity_uid,
                    uid: b,
                    record_id: c,
                    session_id: d,
                    context_json: e,
                    trace_id: id,
                    tags: if bool { vec![f, String::new()] } else { Vec::new() },
                    record_source: g,
                    status: h,
                }),
                4 => Record::Tag(TagRecord { created_at_unix_nano: time, entity_type: b, entity_id: c, key: d, value: e }),
                5 => Record::Observability(ObservabilityRecord {
                    created_at_unix_nano: time,
                    entity_uid,
                    request_count: n[0],
                    error_count: n[1],
                    route_metrics_json: b,
                }),
                6 => Record::AgentTask(AgentTaskRecord {
                    created_at_unix_nano: time,
                    entity_uid,
                    record_uid: b,
                    task_id: c,
                    task_type: d,
                    start_time_unix_nano: time / 2,
                    end_time_unix_nano: time / 3,
                    passed: bool,
                    value: double,
                    assertion_json: e,
                    operator: f,
                    expected_json: g,
                    actual_json: h,
                    message: a,
                    condition: !bool,
                    stage: n[2] as i32,
                }),
                _ => Record::AgentWorkflow(AgentWorkflowRecord {
                    created_at_unix_nano: time,
                    entity_uid,
                    record_uid: b,
                    total_tasks: n[0],
                    passed_tasks: n[1],
                    failed_tasks: n[2],
                    pass_rate: double,
                    duration_ms: n[3],
                    execution_plan_json: c,
                }),
            }
        },
    )
}

proptest! {
    #[test]
    fn records_read_back_equal_the_ones_sent(records in vec(record(), 0..30)) {
        // Through the wire once, where prost leaves out a negative zero.
        let wire = |record| MonitoringRecord { record: Some(record) }.encode_to_vec();
        let records: Vec<_> = records.into_iter().map(|record| MonitoringRecord::decode(&*wire(record)).unwrap()).collect();
        let spans = request(Vec::new(), vec![span("beside", Vec::new())]);
        let sent = InsertMessageRequest { records: records.clone(), resource_spans: spans.resource_spans, ..InsertMessageRequest::default() };
        let mut columns = Columns::new();
        append(&mut columns, &sent.encode_to_vec(), Envelope::Scouter);
        let mut tables = columns.finish();
        let (first, spans) = tables.remove(0);
        assert_eq!((first, spans.num_rows()), (Table::Spans, 1));
        let mut stored = 0;
        for (table, batch) in tables {
            assert_eq!(batch.schema(), table.schema());
            let expected: Vec<_> =
                records.iter().filter(|record| record.record.as_ref().map(table_of) == Some(table)).cloned().collect();
            assert_eq!(format!("{:?}", records_from_batch(table, &batch).unwrap()), format!("{expected:?}"));
            stored += batch.num_rows();
        }
        assert_eq!(stored, records.len());
    }
}

proptest! {
    #[test]
    fn rows_of_groups_are_stored_as_the_records_they_stand_for(
        rows in vec((0..2u32, any::<i32>(), any::<i64>(), any::<i64>(), any::<f64>()), 1..40),
        kind in prop_oneof![Just(Kind::Psi), Just(Kind::Spc), Just(Kind::Custom)],
        rejected in vec(any::<bool>(), 41),
    ) {
        let is_psi = kind == Kind::Psi;
        let group = RecordGroup {
            kind: kind.into(),
            entity_uid: "u".to_owned(),
            names: vec!["one".to_owned(), "two".to_owned()],
            name_indexes: rows.iter().map(|row| row.0).collect(),
            base_unix_nano: 1 << 60,
            step_nanos: rows.iter().map(|row| i64::from(row.1)).collect(),
            bin_ids: rows.iter().filter(|_| is_psi).map(|row| row.2).collect(),
            bin_counts: rows.iter().filter(|_| is_psi).map(|row| row.3).collect(),
            values: rows.iter().filter(|_| !is_psi).map(|row| row.4).collect(),
        };
        let first = PsiRecord { entity_uid: "first".to_owned(), ..PsiRecord::default() };
        let records = vec![
            MonitoringRecord { record: Some(Record::Psi(first.clone())) },
            MonitoringRecord { record: Some(Record::Group(group.clone())) },
        ];
        let all = std::iter::once(Record::Psi(first)).chain(group.into_records().map(Option::unwrap));
        let kept = all.zip(&rejected).filter(|(_, is_rejected)| !**is_rejected).map(|(record, _)| record);
        let mut expected: Vec<_> = kept.map(|record| format!("{record:?}")).collect();
        let rejected: Vec<u32> = (0..).zip(rejected).take(rows.len() + 1).filter(|(_, is_rejected)| *is_rejected).map(|(at, _)| at).collect();
        let mut columns = Columns::new();
        let payload = InsertMessageRequest { records, ..InsertMessageRequest::default() }.encode_to_vec();
        columns.append(&payload, Envelope::Scouter, &[], &rejected);
        let stored = columns.finish().into_iter().flat_map(|(table, batch)| records_from_batch(table, &batch).unwrap());
        let mut stored: Vec<_> = stored.map(|record| format!("{:?}", record.record.unwrap())).collect();
        stored.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(stored, expected);
    }
}

#[test]
fn rejected_records_are_left_out() {
    let psi = |uid: &str| MonitoringRecord { record: Some(Record::Psi(PsiRecord { entity_uid: uid.to_owned(), ..PsiRecord::default() })) };
    let sent = InsertMessageRequest { records: vec![psi("a"), psi(""), psi("b")], ..InsertMessageRequest::default() };
    let mut columns = Columns::new();
    append(&mut columns, &sent.encode_to_vec(), Envelope::Scouter);
    let (table, batch) = columns.finish().remove(0);
    assert_eq!(records_from_batch(table, &batch).unwrap(), [psi("a"), psi("b")]);
}
