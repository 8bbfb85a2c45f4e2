//! Scouter's routes for messages, profiles, tags and drift, and whose they are.
#![allow(clippy::unwrap_used)]

mod support;

use scouter_tonic::{
    grpc::{InsertMessageRequest, InsertMessageResponse},
    message::{MonitoringRecord, SpcRecord, monitoring_record::Record},
    path::INSERT_MESSAGE,
};
use serde_json::{Value, json};
use support::{TestServer, grpc, wait_until};
use tonic::Code;

const START: i64 = 1_777_151_904;

fn fixture(name: &str) -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scouter-0.25");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

fn time(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(START + seconds, 0).unwrap().to_rfc3339()
}

async fn register(server: &TestServer, token: &str, drift_type: &str, profile: &str) -> (u16, Value) {
    let body = json!({ "space": "passed over", "drift_type": drift_type, "profile": profile, "version_request": null, "active": true, "deactivate_others": false });
    server.http("POST", "/scouter/profile", token, Some(body)).await
}

fn profile(space: &str, name: &str, uid: &str) -> String {
    let config = json!({ "space": space, "name": name, "version": "1.0.0", "uid": uid, "drift_type": "Spc" });
    json!({ "config": config, "features": {} }).to_string()
}

fn spc(uid: &str, feature: &str, seconds: i64, value: Value) -> Value {
    json!({ "Spc": { "created_at": time(seconds), "uid": uid, "feature": feature, "value": value, "entity_id": 0 } })
}

fn drift(kind: &str, uid: &str, points: u32) -> String {
    let moment = |seconds| time(seconds).replace('+', "%2B").replace(':', "%3A");
    format!(
        "/scouter/drift/{kind}?uid={uid}&space=cap&time_interval=FifteenMinutes&max_data_points={points}&start_custom_datetime={}&end_custom_datetime={}",
        moment(0),
        moment(100)
    )
}

#[tokio::test]
async fn the_captured_messages_are_taken_over_http_by_both_routes() {
    let server = TestServer::start().await;
    for (path, name, table, rows) in [
        ("/scouter/message", "queue_custom.json", "custom_drift", 2),
        ("/scouter/drift", "queue_spc.json", "spc_drift", 10),
        ("/scouter/message", "spans_simple.json", "spans", 2),
    ] {
        let message = serde_json::from_str(&fixture(name)).unwrap();
        let (status, body) = server.http("POST", path, &server.token, Some(message)).await;
        assert_eq!((status, &body), (200, &json!({ "status": "success", "message": "stored" })), "{name}");
        assert_eq!(server.count(table).await, rows, "{name}");
    }
    let (status, body) = server.http("POST", "/scouter/message", "no token", Some(json!({ "records": [] }))).await;
    assert_eq!((status, &body["code"]), (401, &"UNAUTHENTICATED".into()));
    let (status, body) = server.http("POST", "/scouter/message", &server.token, Some(json!({ "nothing": 1 }))).await;
    assert_eq!((status, &body["code"]), (400, &"INVALID_ARGUMENT".into()));
    let bad = json!({ "records": [spc("u", "f", 0, 1.into()), { "Spc": { "uid": "u" } }] });
    assert!(server.message(&bad).await["message"].as_str().unwrap().starts_with("record 1: missing field"));
    let (status, body) = server.http("GET", "/scouter/healthcheck", "", None).await;
    assert_eq!((status, &body["alive"]), (200, &true.into()));
}

#[tokio::test]
async fn profiles_are_registered_read_and_switched() {
    let server = TestServer::start().await;
    for (drift_type, name) in [("Custom", "custom"), ("Spc", "spc"), ("Psi", "psi"), ("GenAI", "genai")] {
        let text = fixture(&format!("profiles/profile_{name}.json"));
        let (status, answer) = register(&server, &server.token, drift_type, &text).await;
        let uid = serde_json::from_str::<Value>(&text).unwrap()["config"]["uid"].clone();
        let expected = json!({ "space": "cap", "name": name, "version": "0.1.0", "uid": uid, "status": "success", "active": true });
        assert_eq!((status, answer), (200, expected));
        let path = format!("/scouter/profile?name={name}&space=cap&version=0.1.0&drift_type={drift_type}");
        let (status, found) = server.http("GET", &path, &server.token, None).await;
        assert_eq!((status, &found), (200, &json!({ drift_type: serde_json::from_str::<Value>(&text).unwrap() })));
    }
    let request =
        json!({ "name": "spc", "space": "cap", "version": "0.1.0", "drift_type": "Spc", "active": false, "deactivate_others": false });
    let (status, _) = server.http("PUT", "/scouter/profile/status", &server.token, Some(request.clone())).await;
    assert_eq!(status, 200);
    let server = server.crash_and_restart().await;
    let wanted = json!({ "space": "cap", "name": "spc", "version": "0.1.0" });
    let (status, listed) = server.http("POST", "/scouter/profiles", &server.token, Some(wanted)).await;
    assert_eq!((status, &listed[0]["active"]), (200, &false.into()), "after a crash: {listed}");
    assert!(listed[0]["profile"]["Spc"]["features"].is_object() && listed.as_array().unwrap().len() == 1);

    let nobody = json!({ "name": "nobody", "space": "cap", "version": "1", "active": true });
    let (status, _) = server.http("PUT", "/scouter/profile/status", &server.token, Some(nobody)).await;
    assert_eq!(status, 404);
    for broken in ["", "[]", "{}", "{\"config\":[]}"] {
        let (status, body) = register(&server, &server.token, "Spc", broken).await;
        assert_eq!((status, &body["code"]), (400, &"INVALID_ARGUMENT".into()), "{broken}: {body}");
    }
}

#[tokio::test]
async fn drift_comes_in_bins_of_time() {
    let server = TestServer::start().await;
    let psi = fixture("profiles/profile_psi.json");
    let (_, answer) = register(&server, &server.token, "Psi", &psi).await;
    let uid = answer["uid"].as_str().unwrap();
    let custom = |metric: &str, seconds, value: f64| json!({ "Custom": { "created_at": time(seconds), "uid": uid, "metric": metric, "value": value, "entity_id": 0 } });
    let bin = |seconds, bin_id, bin_count| json!({ "Psi": { "created_at": time(seconds), "uid": uid, "feature": "f1", "bin_id": bin_id, "bin_count": bin_count, "entity_id": 0 } });
    let task = |id: &str, value: f64| {
        json!({ "GenAITaskRecord": { "created_at": time(1), "start_time": time(0), "end_time": time(1), "record_uid": "r", "entity_id": 0, "task_id": id,
            "task_type": "Assertion", "passed": true, "value": value, "assertion": {}, "operator": "Equals", "expected": 1, "actual": 1, "message": "",
            "entity_uid": uid, "condition": false, "stage": 0 } })
    };
    let even = (1..=10).map(|id| bin(60, id, 7));
    let mut records = vec![
        spc(uid, "a", 1, 1.0.into()),
        spc(uid, "a", 2, 3.0.into()),
        spc(uid, "a", 3, Value::Null),
        spc(uid, "a", 60, 5.0.into()),
        spc(uid, "a", 101, 99.0.into()),
        spc("another", "a", 1, 99.0.into()),
        custom("mae", 1, 1.0),
        custom("mae", 2, 3.0),
        bin(1, 1, 30),
        bin(1, 2, 10),
        task("t1", 1.0),
        task("t2", 0.5),
    ];
    records.extend(even);
    server.message(&json!({ "records": records })).await;

    let (status, body) = server.http("GET", &drift("spc", uid, 2), &server.token, None).await;
    let times = |of: &Value| of["created_at"].as_array().unwrap().len();
    assert_eq!(status, 200, "{body}");
    assert_eq!((times(&body["features"]["a"]), &body["features"]["a"]["values"]), (2, &json!([5.0, 2.0])), "latest first: {body}");
    assert_eq!(body["features"].as_object().unwrap().len(), 1);

    let (_, body) = server.http("GET", &drift("custom", uid, 1), &server.token, None).await;
    let stats = &body["metrics"]["mae"]["stats"][0];
    let deviation = std::f64::consts::SQRT_2;
    assert_eq!(stats["avg"], 2.0);
    assert!((stats["upper_bound"].as_f64().unwrap() - 2.0 - deviation).abs() < 1e-9 && body["metrics"]["mae"]["metric"] == "mae", "{body}");

    let (_, body) = server.http("GET", &drift("psi", uid, 2), &server.token, None).await;
    let feature = &body["features"]["f1"];
    assert_eq!(times(feature), 2, "{body}");
    assert!(feature["psi"][0].as_f64().unwrap().abs() < 1e-6, "ten equal bins are as expected: {body}");
    assert!(feature["psi"][1].as_f64().unwrap() > 1.0 && feature["bins"].as_object().unwrap().len() == 10, "{body}");

    for kind in ["agent/task", "genai/task"] {
        let (_, body) = server.http("GET", &drift(kind, uid, 1), &server.token, None).await;
        assert_eq!(
            (&body["metrics"]["t1"]["stats"][0]["avg"], &body["metrics"]["t2"]["stats"][0]["avg"]),
            (&json!(1.0), &json!(0.5)),
            "{body}"
        );
    }
    let (_, body) = server.http("GET", &drift("genai/workflow", uid, 1), &server.token, None).await;
    assert_eq!(body, json!({ "metrics": {} }));
    let (status, _) = server.http("GET", &drift("psi", "nobody", 1), &server.token, None).await;
    assert_eq!(status, 404);
    let (status, body) = server.http("GET", &drift("spc", "it's' OR 1=1 --", 1).replace(' ', "%20"), &server.token, None).await;
    assert_eq!((status, body), (200, json!({ "features": {} })), "a uid is a text, whatever is in it");
}

#[tokio::test]
async fn tags_come_from_records_and_from_spans() {
    let server = TestServer::start().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let attribute = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": value } });
    let span = json!({ "traceId": trace, "spanId": "b7ad6b7169203331", "name": "op", "kind": 1, "startTimeUnixNano": "1777151904123456789",
        "endTimeUnixNano": "1777151904133456789", "attributes": [attribute("scouter.tracing.tag.env", "staging"), attribute("baggage.scouter.tracing.tag.team", "blue")] });
    server.message(&json!({ "request": { "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] } })).await;
    let tag = |key: &str, value: &str| json!({ "entity_type": "trace", "entity_id": trace, "key": key, "value": value });
    for tags in [json!([tag("env", "test"), tag("owner", "it's me")]), json!([tag("env", "prod")])] {
        let (status, body) = server.http("POST", "/scouter/tags", &server.token, Some(json!({ "tags": tags }))).await;
        assert_eq!((status, &body["status"]), (200, &"success".into()), "{body}");
    }
    let (status, body) = server.http("GET", &format!("/scouter/tags?entity_type=trace&entity_id={trace}"), &server.token, None).await;
    assert_eq!((status, body), (200, json!({ "tags": [tag("env", "prod"), tag("owner", "it's me"), tag("team", "blue")] })));
    let nobody = "/scouter/tags?entity_type=it's&entity_id=it's'%20OR%201=1%20--";
    assert_eq!(server.http("GET", nobody, &server.token, None).await, (200, json!({ "tags": [] })), "types and ids are texts");
    let pair = |key: &str, value: &str| json!({ "key": key, "value": value });
    for (tags, match_all, found) in [
        (json!([pair("team", "blue"), pair("owner", "it's me")]), true, true),
        (json!([pair("team", "blue"), pair("owner", "nobody")]), true, false),
        (json!([pair("team", "blue"), pair("owner", "nobody")]), false, true),
        // Given anew, by a record, the tags of before are no more: neither that of a record nor that of a span.
        (json!([pair("env", "prod")]), true, true),
        (json!([pair("env", "test")]), true, false),
        (json!([pair("env", "staging")]), false, false),
    ] {
        let body = json!({ "entity_type": "trace", "tags": tags, "match_all": match_all });
        let (_, body) = server.http("POST", "/scouter/tags/entity", &server.token, Some(body)).await;
        assert_eq!(body, json!({ "entity_id": if found { vec![trace] } else { vec![] } }));
    }
}

#[tokio::test]
async fn an_evaluation_and_its_trace_find_each_other() {
    let server = TestServer::start().await;
    let (first, second) = ("0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c");
    let eval = |uid: &str, trace_id: Option<&str>, seconds| json!({ "AgentEval": { "record": { "created_at": time(seconds), "uid": uid, "context": {}, "entity_uid": "u", "trace_id": trace_id } } });
    server.message(&json!({ "records": [eval("both", Some(first), 1), eval("says", Some(first), 2), eval("queued", None, 3), eval("alone", None, 4)] })).await;
    let event = |uid: &str| {
        let value = json!({ "stringValue": uid });
        json!({ "timeUnixNano": "1777151904123456789", "name": "scouter.queue.event", "attributes": [{ "key": "scouter.queue.record", "value": value }] })
    };
    let span = |trace_id: &str, events: Vec<Value>| {
        json!({ "traceId": trace_id, "spanId": "b7ad6b7169203331", "name": "op", "startTimeUnixNano": "1777151904123456789",
            "endTimeUnixNano": "1777151904133456789", "events": events })
    };
    let spans = [span(first, vec![event("both"), event("queued")]), span(second, vec![event("queued")])];
    server.message(&json!({ "request": { "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] } })).await;

    let (status, body) = server.http("GET", &format!("/api/v1/traces/{first}/evaluations"), &server.token, None).await;
    let found: Vec<(&str, Value)> = body["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|evaluation| (evaluation["uid"].as_str().unwrap(), evaluation["linked_by"].clone()))
        .collect();
    let expected = [("both", json!(["record", "span"])), ("says", json!(["record"])), ("queued", json!(["span"]))];
    assert_eq!((status, found.as_slice()), (200, &expected[..]));
    for (uid, traces) in [
        ("both", json!([{ "trace_id": first, "linked_by": ["record", "span"] }])),
        ("queued", json!([{ "trace_id": first, "linked_by": ["span"] }, { "trace_id": second, "linked_by": ["span"] }])),
        ("alone", json!([])),
    ] {
        let (_, body) = server.http("GET", &format!("/api/v1/evaluations/{uid}/traces"), &server.token, None).await;
        assert_eq!(body, json!({ "uid": uid, "traces": traces }));
    }
}

/// A user with these permissions; his token.
async fn user(server: &TestServer, name: &str, permissions: &str) -> String {
    let body = json!({ "name": name, "password": "a long password", "permissions": permissions });
    let (status, body) = server.http("POST", "/api/v1/users", &server.token, Some(body)).await;
    assert_eq!(status, 201, "{body}");
    server.login(name, "a long password").await.unwrap()
}

#[tokio::test]
async fn what_was_refused_of_a_batch_stays_refused_when_it_is_repeated_also_after_a_restart() {
    let root = ["--default-username", "root", "--default-password", "roots password"];
    let mut server = TestServer::start_with_administrator().await;
    let mine = user(&server, "ada", "write:mine").await;
    for (space, uid) in [("mine", "u1"), ("theirs", "u2")] {
        assert_eq!(register(&server, &server.token, "Spc", &profile(space, "n", uid)).await.0, 200);
    }
    // One record is ada's, one somebody else's, and one cannot be read by anybody.
    let record = |uid: &str| {
        let spc = SpcRecord { entity_uid: uid.to_owned(), feature: "f".to_owned(), created_at_unix_nano: 1, value: 1.0 };
        MonitoringRecord { record: Some(Record::Spc(spc)) }
    };
    let records = vec![record("u1"), record("u2"), MonitoringRecord { record: None }];
    let request = InsertMessageRequest { records, batch_id: vec![9; 16], ..Default::default() };
    let bytes = prost::Message::encode_to_vec(&request);
    let send = async |server: &TestServer, token: &str| {
        let answer = grpc::<InsertMessageResponse>(server, "grpc", INSERT_MESSAGE, &format!("Bearer {token}"), bytes.clone(), None).await;
        let answer = answer.unwrap();
        assert_eq!(server.count("spc_drift").await, 1);
        (answer.rejected_records, answer.message)
    };
    assert_eq!(send(&server, &mine).await.0, 2);
    let later = "2 records of this batch were refused when it came first; send them in another one";
    let check = async |server: &TestServer, when: &str| {
        assert_eq!(send(server, &mine).await.0, 2, "{when}");
        let (rejected, message) = send(server, &server.token).await;
        assert!(rejected == 2 && message.contains(later), "{when}: {rejected}, {message}");
    };
    check(&server, "at once").await;
    server = server.crash_and_restart_with(&root).await;
    check(&server, "with the frame in the log").await;
    assert_eq!(server.terminate(), Some(0));
    server = server.crash_and_restart_with(&root).await;
    check(&server, "with the frame trimmed").await;
}

#[tokio::test]
async fn who_may_write_or_read_one_space_writes_and_reads_that_one() {
    let server = TestServer::start_with_administrator().await;
    let mine = user(&server, "ada", "write:mine,read:mine").await;
    let reader = user(&server, "bob", "read:theirs").await;
    assert_eq!(register(&server, &mine, "Spc", &profile("mine", "n", "u1")).await.0, 200);
    assert_eq!(register(&server, &mine, "Spc", &profile("theirs", "n", "u2")).await.0, 403, "what stands in the profile counts");
    assert_eq!(register(&server, &server.token, "Spc", &profile("theirs", "n", "u2")).await.0, 200);

    // Of a mixed message each record stands for itself.
    let mixed = json!({ "records": [spc("u1", "f", 1, 1.0.into()), spc("u2", "f", 1, 2.0.into()), spc("nobody", "f", 1, 3.0.into())] });
    let (status, body) = server.http("POST", "/scouter/message", &mine, Some(mixed)).await;
    assert_eq!(status, 200);
    assert!(body["message"].as_str().unwrap().contains("ada has no permission to write in the space \"theirs\""), "{body}");
    let foreign = json!({ "records": [spc("u2", "f", 1, 2.0.into())] });
    assert_eq!(server.http("POST", "/scouter/message", &mine, Some(foreign)).await.0, 403);
    let record =
        |uid: &str| Record::Spc(SpcRecord { entity_uid: uid.to_owned(), feature: "grpc".to_owned(), created_at_unix_nano: 1, value: 1.0 });
    let records = ["u1", "u2"].map(|uid| MonitoringRecord { record: Some(record(uid)) }).to_vec();
    let request = prost::Message::encode_to_vec(&InsertMessageRequest { records, ..Default::default() });
    let sent = grpc::<InsertMessageResponse>(&server, "grpc", INSERT_MESSAGE, &format!("Bearer {mine}"), request.clone(), None).await;
    assert_eq!(sent.unwrap().rejected_records, 1);
    let refused = grpc::<InsertMessageResponse>(&server, "grpc", INSERT_MESSAGE, &format!("Bearer {reader}"), request, None).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let stored = server.sql("SELECT entity_uid, feature FROM spc_drift ORDER BY feature").await;
    assert_eq!(json!(stored), json!([["u1", "f"], ["u1", "grpc"]]));

    // Spans are of no space.
    let spans: Value = serde_json::from_str(&fixture("spans_simple.json")).unwrap();
    assert_eq!(server.http("POST", "/scouter/message", &mine, Some(spans)).await.0, 200);

    let of = |space: &str| format!("/scouter/profile?name=n&space={space}&version=1.0.0&drift_type=Spc");
    let cases = [
        (&mine, of("mine"), 200),
        (&mine, of("theirs"), 403),
        (&reader, of("theirs"), 200),
        (&mine, drift("spc", "u1", 1), 200),
        (&mine, drift("spc", "u2", 1), 403),
        (&reader, drift("spc", "u2", 1), 200),
        (&reader, drift("spc", "nobody", 1), 403),
        (&mine, drift("psi", "u2", 1), 403),
        (&mine, drift("custom", "u2", 1), 403),
        (&mine, "/api/v1/evaluations/u1/traces".to_owned(), 403),
        (&mine, "/api/v1/traces/0af7651916cd43dd8448eb211c80319c/evaluations".to_owned(), 403),
        (&mine, "/scouter/tags?entity_type=spc&entity_id=u1".to_owned(), 200),
        (&mine, "/scouter/tags?entity_type=spc&entity_id=u2".to_owned(), 403),
        (&mine, "/scouter/tags?entity_type=trace&entity_id=ab".to_owned(), 403),
    ];
    for (token, path, expected) in cases {
        assert_eq!(server.http("GET", &path, token, None).await.0, expected, "{path}");
    }
    let theirs = json!({ "name": "n", "space": "theirs", "version": "1.0.0", "active": false });
    let text = profile("theirs", "n", "u2");
    for (method, path, body) in [
        ("PUT", "/scouter/profile", json!({ "drift_type": "Spc", "profile": text })),
        ("PUT", "/scouter/profile/status", theirs.clone()),
        ("POST", "/scouter/profiles", theirs),
        ("POST", "/scouter/alerts", json!({ "uid": "u2" })),
        ("POST", "/scouter/tags", json!({ "tags": [{ "entity_type": "spc", "entity_id": "u2", "key": "k", "value": "v" }] })),
        ("POST", "/scouter/tags/entity", json!({ "entity_type": "spc", "tags": [{ "key": "k", "value": "v" }] })),
    ] {
        assert_eq!(server.http(method, path, &mine, Some(body)).await.0, 403, "{path}");
    }
    // SQL and traces show all spaces.
    assert_eq!(server.http("POST", "/api/v1/sql", &mine, Some(json!({ "query": "SELECT 1" }))).await.0, 403);
    assert_eq!(server.http("POST", "/scouter/message", &reader, Some(json!({ "records": [] }))).await.0, 403);
    let (status, body) = server.http("PATCH", "/api/v1/users/bob", &server.token, Some(json!({ "permissions": "read:mine" }))).await;
    assert_eq!((status, &body["permissions"]), (200, &"read:mine".into()));
    wait_until("bob's new permission holds", async || server.http("GET", &of("mine"), &reader, None).await.0 == 200).await;
}
