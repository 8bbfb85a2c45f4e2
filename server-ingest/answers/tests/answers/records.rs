//! Monitoring records by kind and entity.

use prost::Message;
use scouter_storage::otlp::Envelope;
use scouter_tonic::grpc::InsertMessageRequest;
use scouter_tonic::message::{
    AgentTaskRecord, AgentWorkflowRecord, CustomMetricRecord, EvalRecord, MonitoringRecord, ObservabilityRecord, PsiRecord, SpcRecord,
    TagRecord, monitoring_record::Record,
};
use serde_json::{Value, json};

use super::asking::{ask, each};
use super::stored::{SECOND, START, Stored, store, trace_id};

pub(crate) async fn put(stored: &Stored, records: Vec<Record>) {
    let records = records.into_iter().map(|record| MonitoringRecord { record: Some(record) }).collect();
    stored.append(Envelope::Scouter, InsertMessageRequest { records, ..InsertMessageRequest::default() }.encode_to_vec()).await;
}

pub(crate) fn tag(entity_type: &str, entity_id: &str, key: &str, value: &str) -> Record {
    Record::Tag(TagRecord {
        created_at_unix_nano: START,
        entity_type: entity_type.into(),
        entity_id: entity_id.into(),
        key: key.into(),
        value: value.into(),
    })
}

async fn filled() -> Stored {
    let stored = store();
    let at = |second: u64| START + second * SECOND;
    let uid = || "profile".to_owned();
    let custom = |second, metric: &str, value| {
        Record::Custom(CustomMetricRecord { created_at_unix_nano: at(second), entity_uid: uid(), metric: metric.into(), value })
    };
    let psi = |second, bin_id, bin_count| {
        Record::Psi(PsiRecord { created_at_unix_nano: at(second), entity_uid: uid(), feature: "f".into(), bin_id, bin_count })
    };
    let task = |second, passed| {
        Record::AgentTask(AgentTaskRecord {
            created_at_unix_nano: at(second),
            entity_uid: uid(),
            task_id: "t1".into(),
            passed,
            value: if passed { 1.0 } else { 0.0 },
            assertion_json: "{\"FieldPath\":\"a\"}".into(),
            expected_json: "3".into(),
            actual_json: "3".into(),
            ..AgentTaskRecord::default()
        })
    };
    put(
        &stored,
        vec![
            custom(0, "mae", 1.0),
            custom(1, "mae", 3.0),
            custom(61, "mae", 5.0),
            custom(2, "mae", f64::NAN),
            custom(2, "rmse", 9.0),
            psi(0, 0, 4),
            psi(1, 0, 6),
            psi(2, 1, 5),
            Record::Spc(SpcRecord { created_at_unix_nano: at(0), entity_uid: "other".into(), feature: "f".into(), value: 0.5 }),
            Record::Observability(ObservabilityRecord {
                created_at_unix_nano: at(0),
                entity_uid: uid(),
                request_count: 10,
                error_count: 1,
                route_metrics_json: "[]".into(),
            }),
            task(0, true),
            task(1, false),
            Record::AgentWorkflow(AgentWorkflowRecord {
                created_at_unix_nano: at(3),
                entity_uid: uid(),
                pass_rate: 0.5,
                total_tasks: 2,
                execution_plan_json: "{\"stages\":[]}".into(),
                ..AgentWorkflowRecord::default()
            }),
            Record::Eval(EvalRecord {
                created_at_unix_nano: at(4),
                entity_uid: uid(),
                uid: "e1".into(),
                context_json: "{\"input\":\"hi\"}".into(),
                trace_id: trace_id(5).to_vec(),
                status: "pending".into(),
                tags: vec!["env=prod".into()],
                ..EvalRecord::default()
            }),
        ],
    )
    .await;
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_list_their_entities_and_names() {
    let stored = filled().await;
    stored.store.flush().await.unwrap();
    let kinds = ask(&stored.engine, "records").await;
    assert_eq!(each(&kinds["kinds"], "kind"), ["psi", "spc", "custom", "eval", "observability", "task", "workflow"]);
    assert_eq!(each(&kinds["kinds"], "row_count"), [3, 1, 5, 1, 1, 2, 1]);
    let custom = &kinds["kinds"][2];
    assert_eq!(custom["table"], "custom_drift");
    let start = START as i64;
    assert_eq!(
        custom["entities"],
        json!([{"entity": "profile", "row_count": 5, "first_unix_nano": start.to_string(), "last_unix_nano": (start + 61_000_000_000).to_string(), "names": ["mae", "rmse"]}])
    );
    let none = ask(&stored.engine, "records?start=2027-01-01T00:00:00Z").await;
    assert_eq!(each(&none["kinds"], "entities"), vec![json!([]); 7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_of_records_are_what_was_measured() {
    let stored = filled().await;
    let series = |answer: &Value, index: usize| answer["series"][index].clone();
    let custom = ask(&stored.engine, "records/custom?entity=profile&bucket=1m").await;
    assert_eq!(each(&custom["series"], "name"), ["mae", "rmse"]);
    let points = &series(&custom, 0)["points"];
    assert_eq!(
        (&points[0]["count"], &points[0]["mean"], &points[0]["min"], &points[0]["max"]),
        (&json!(3), &json!(2.0), &json!(1.0), &json!(3.0))
    );
    assert_eq!((&points[1]["count"], &points[1]["mean"]), (&json!(1), &json!(5.0)));
    let narrowed = ask(&stored.engine, "records/custom?entity=profile&name=rmse").await;
    assert_eq!(each(&narrowed["series"], "name"), ["rmse"]);
    let psi = ask(&stored.engine, "records/psi?entity=profile&bucket=1h").await;
    assert_eq!(series(&psi, 0)["points"][0]["bins"], json!([{"bin_id": 0, "bin_count": 10}, {"bin_id": 1, "bin_count": 5}]));
    let observability = ask(&stored.engine, "records/observability?entity=profile&bucket=1h").await;
    assert_eq!(each(&observability["series"], "name"), ["errors", "requests"]);
    assert_eq!((&series(&observability, 0)["points"][0]["sum"], &series(&observability, 1)["points"][0]["sum"]), (&json!(1), &json!(10)));
    let tasks = ask(&stored.engine, "records/task?entity=profile&bucket=1h").await;
    let point = &series(&tasks, 0)["points"][0];
    assert_eq!((&point["count"], &point["passed"], &point["mean"]), (&json!(2), &json!(1), &json!(0.5)));
    assert_eq!((tasks["records"].as_array().unwrap().len(), &tasks["records"][0]["assertion"]), (2, &json!({"FieldPath": "a"})));
    let workflow = ask(&stored.engine, "records/workflow?entity=profile").await;
    assert_eq!((&series(&workflow, 0)["name"], &workflow["records"][0]["execution_plan"]), (&json!("pass_rate"), &json!({"stages": []})));
    let evals = ask(&stored.engine, "records/eval?entity=profile").await;
    assert_eq!((&series(&evals, 0)["name"], &evals["records"][0]["context"]), (&json!("pending"), &json!({"input": "hi"})));
    assert_eq!(evals["records"][0]["trace_id"], "00000000000000000000000000000005");
    assert_eq!(evals["records"][0]["created_at_unix_nano"], (START + 4 * SECOND).to_string());
    assert_eq!(ask(&stored.engine, "records/spc?entity=nobody").await["series"], json!([]));
}
