use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    DriftType, Profile, ProfileError,
    json::{Json, Node},
};
use crate::queue::plan::Plan;

fn folder() -> String {
    format!("{}/tests/fixtures/scouter-0.25", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_kind_of_profile_that_scouter_writes_is_read() {
    for (file, drift_type, identifier) in [
        ("psi", DriftType::Psi, "cap/psi/v0.1.0/psi"),
        ("psi_categorical", DriftType::Psi, "cap/cat/v0.1.0/psi"),
        ("spc", DriftType::Spc, "cap/spc/v0.1.0/spc"),
        ("custom", DriftType::Custom, "cap/custom/v0.1.0/custom"),
        ("genai", DriftType::GenAi, "cap/genai/v0.1.0/genai"),
    ] {
        let profile = Profile::from_path(format!("{}/profile_{file}.json", folder())).unwrap();
        assert_eq!((profile.drift_type(), profile.identifier().as_str()), (drift_type, identifier));
        assert_eq!(profile.uid().len(), 36);
    }
}

#[test]
fn what_is_not_in_the_list_of_monitored_features_is_not_watched_and_an_empty_list_means_all() {
    let text = std::fs::read_to_string(format!("{}/profile_psi.json", folder())).unwrap();
    let mut profile: Value = serde_json::from_str(&text).unwrap();
    let watched = |profile: &Value| match Profile::from_json(profile.to_string()).unwrap().plan {
        Plan::Psi(psi) => psi.features.len(),
        plan => panic!("{plan:?}"),
    };
    profile["config"]["alert_config"]["features_to_monitor"] = json!(["f3", "of no profile"]);
    assert_eq!(watched(&profile), 1);
    profile["config"]["alert_config"]["features_to_monitor"] = json!([]);
    assert_eq!(watched(&profile), 10);
    profile["config"].as_object_mut().unwrap().remove("alert_config");
    assert_eq!(watched(&profile), 10);
}

#[test]
fn a_profile_that_cannot_be_used_is_told_by_field_and_by_what_was_expected() {
    let read = |file: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(format!("{}/profile_{file}.json", folder())).unwrap()).unwrap()
    };
    let check = |file: &str, change: &dyn Fn(&mut Value), words: &str| {
        let mut profile = read(file);
        change(&mut profile);
        let error = Profile::from_json(profile.to_string()).unwrap_err();
        assert_eq!(error.to_string(), format!("the profile: {words}"));
    };
    check("psi", &|p| *p = json!({}), "`config.uid` must be a text that is not empty, not missing");
    check("psi", &|p| *p = json!([1, 2]), "`config.uid` must be a text that is not empty, not missing");
    check("psi", &|p| p["config"]["uid"] = json!(""), "`config.uid` must be a text that is not empty, not \"\"");
    check(
        "psi",
        &|p| p["config"]["drift_type"] = json!("Vibes"),
        "`config.drift_type` must be one of Spc, Psi, Custom, GenAI and Agent, not \"Vibes\"",
    );
    check(
        "psi",
        &|p| p["features"]["f1"]["bins"][2]["upper_limit"] = json!(null),
        "`features.f1.bins[2].upper_limit` must be a number, \"inf\" or \"-inf\", not null",
    );
    check("psi", &|p| p["features"]["f1"]["bins"][2]["id"] = json!("3"), "`features.f1.bins[2].id` must be a whole number, not \"3\"");
    check(
        "psi",
        &|p| p["features"]["f1"]["bins"][2]["id"] = json!(4),
        "`features.f1.bins` must be a list of at least one bin, each with an id of its own, not a list of 10",
    );
    check(
        "psi",
        &|p| p["features"]["f1"]["bin_type"] = json!("Round"),
        "`features.f1.bin_type` must be Numeric or Category, not \"Round\"",
    );
    check(
        "psi",
        &|p| p["config"]["alert_config"]["features_to_monitor"] = json!(["none"]),
        "`features` must be an object with at least one feature that the profile monitors, not an object of 10",
    );
    check(
        "psi_categorical",
        &|p| p["config"]["feature_map"]["features"]["region"]["us-west-2"] = json!(1.5),
        "`config.feature_map.features.region.us-west-2` must be a whole number, not 1.5",
    );
    check("spc", &|p| p["config"]["sample_size"] = json!(0), "`config.sample_size` must be a whole number above zero, not 0");
    check("custom", &|p| p["metrics"] = json!({}), "`metrics` must be an object with at least one metric, not an object of 0");
    check("genai", &|p| p["config"]["sample_ratio"] = json!(2), "`config.sample_ratio` must be a number between 0 and 1, not 2");
    let long = "y".repeat(1024 * 1024);
    check("genai", &|p| p["config"]["space"] = json!({ "x": long }), "`config.space` must be a text, not an object of 1");
}

#[test]
fn a_file_is_named_where_something_is_wrong_with_it() {
    let error = Profile::from_path("/nowhere/profile.json").unwrap_err();
    assert!(matches!(error, ProfileError::Read { .. }));
    assert!(error.to_string().starts_with("cannot read the profile `/nowhere/profile.json`: "), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"config\": tru}").unwrap();
    let error = Profile::from_path(file.path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the profile `{}` is not JSON: ", file.path().display())), "{error}");
    std::fs::write(file.path(), "{}").unwrap();
    let error = Profile::from_path(file.path()).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the profile `{}`: `config.uid` must be", file.path().display())), "{error}");
}

proptest! {
    #[test]
    fn numbers_are_read_to_the_last_bit(number in prop::num::f64::NORMAL | prop::num::f64::ZERO) {
        let json = Json::read(format!("{{\"limit\": {number:?}}}").as_bytes()).unwrap();
        prop_assert_eq!(Node::root(&json).key("limit").number().ok().map(f64::to_bits), Some(number.to_bits()));
    }
}

#[test]
fn a_document_may_be_deep_and_of_two_fields_with_one_name_the_last_counts() {
    let deep = format!("{{\"a\": {}1{}, \"b\": 1, \"b\": 2}}", "[".repeat(100_000), "]".repeat(100_000));
    let json = Json::read(deep.as_bytes()).unwrap();
    assert_eq!(Node::root(&json).key("b").integer().ok(), Some(2));
    assert!(Json::read(b"{\"a\": 1").is_err());
}
