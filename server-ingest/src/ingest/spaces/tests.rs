use prost::Message;
use scouter_tonic::{
    grpc::InsertMessageRequest,
    message::{CustomMetricRecord, MonitoringRecord, RecordGroup, SpcRecord, TagRecord, record_group::Kind},
};

use super::*;
use crate::profiles::{DriftType, NewProfile};

fn spc(uid: &str) -> Record {
    Record::Spc(SpcRecord { entity_uid: uid.to_owned(), ..Default::default() })
}

fn tag(entity_type: &str, entity_id: &str) -> Record {
    Record::Tag(TagRecord { entity_type: entity_type.to_owned(), entity_id: entity_id.to_owned(), ..Default::default() })
}

#[test]
fn only_records_of_other_spaces_are_foreign() {
    let folder = tempfile::tempdir().expect("a folder");
    let profiles = Profiles::open(folder.path()).expect("opened");
    for (space, uid) in [("mine", "u1"), ("theirs", "u2")] {
        let profile = format!(r#"{{"config":{{"space":"{space}","name":"n","version":"1","uid":"{uid}"}}}}"#);
        let new = NewProfile { drift_type: DriftType::Spc, profile: &profile, active: true, deactivate_others: false };
        profiles.register(&new).expect("registered");
    }
    let limited = Limited { name: "ada".to_owned(), permissions: "write:mine,read".parse().expect("permissions") };
    let custom = Record::Custom(CustomMetricRecord { entity_uid: "u1".to_owned(), ..Default::default() });
    let records = [spc("u1"), spc("u2"), spc("nobody"), custom, tag("trace", "ab"), tag("Trace", "ab"), tag("model", "u2"), spc("u2")];
    let records = records.map(|record| MonitoringRecord { record: Some(record) }).to_vec();
    let payload = InsertMessageRequest { records, ..Default::default() }.encode_to_vec();
    let (foreign, words) = limited.foreign_records(&payload, Envelope::Scouter, &[7], &profiles);
    assert_eq!(foreign, [1, 2, 6]);
    assert!(words.starts_with("record 1: ada has no permission to write in the space \"theirs\""), "{words}");
    let group = |uid: &str| {
        let group = RecordGroup {
            kind: Kind::Custom.into(),
            entity_uid: uid.to_owned(),
            names: vec!["mae".to_owned()],
            name_indexes: vec![0, 0],
            step_nanos: vec![0, 1],
            values: vec![1.0, 2.0],
            ..Default::default()
        };
        MonitoringRecord { record: Some(Record::Group(group)) }
    };
    let groups = InsertMessageRequest { records: vec![group("u2"), group("u1"), group("nobody")], ..Default::default() }.encode_to_vec();
    assert_eq!(limited.foreign_records(&groups, Envelope::Scouter, &[1], &profiles).0, [0, 4, 5]);
    // OTLP has no records; its field 3 is no one's.
    assert_eq!(limited.foreign_records(&payload, Envelope::Otlp, &[], &profiles), (Vec::new(), String::new()));
}
