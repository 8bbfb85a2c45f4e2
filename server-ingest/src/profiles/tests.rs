use super::*;

fn text(space: &str, name: &str, version: &str, uid: &str) -> String {
    format!(
        r#"{{"config":{{"space":"{space}","name":"{name}","version":"{version}","uid":"{uid}","drift_type":"Custom","alert_config":{{"schedule":"0 0 6 * * *"}}}},"metrics":{{"mae":1.0}},"scouter_version":"0.25.0"}}"#
    )
}

fn custom(profile: &str) -> NewProfile<'_> {
    NewProfile { drift_type: DriftType::Custom, profile, active: true, deactivate_others: false }
}

#[test]
fn a_registered_profile_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let profiles = Profiles::open(folder.path()).expect("opened");
    let mut changes = profiles.changes();
    let registered = profiles.register(&custom(&text("s", "n", "1.0.0", "u1"))).expect("registered");
    assert_eq!((registered.uid.as_str(), registered.schedule.as_str(), registered.active), ("u1", "0 0 6 * * *", true));
    assert!(changes.has_changed().expect("open") && *changes.borrow_and_update() == 1);
    let again = Profiles::open(folder.path()).expect("opened");
    let found = again.by_uid("u1").expect("there");
    assert_eq!(found.key, registered.key);
    assert_eq!(found.profile, text("s", "n", "1.0.0", "u1"));
    assert_eq!(again.all().len(), 1);
}

#[test]
fn registering_the_same_again_keeps_its_uid() {
    let folder = tempfile::tempdir().expect("a folder");
    let profiles = Profiles::open(folder.path()).expect("opened");
    profiles.register(&custom(&text("s", "n", "1.0.0", "u1"))).expect("registered");
    let second = profiles.register(&custom(&text("s", "n", "1.0.0", "u2"))).expect("registered");
    assert_eq!(second.uid, "u1");
    assert!(second.profile.contains(r#""uid":"u1""#) && profiles.by_uid("u2").is_none());
    let taken = profiles.register(&custom(&text("s", "other", "1.0.0", "u1"))).expect_err("the uid of another");
    assert!(matches!(taken, ProfileError::UidTaken { .. }), "{taken}");
}

#[test]
fn other_versions_are_deactivated_when_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let profiles = Profiles::open(folder.path()).expect("opened");
    for (version, uid, name) in [("1.0.0", "u1", "n"), ("1.0.0", "u3", "other")] {
        profiles.register(&custom(&text("s", name, version, uid))).expect("registered");
    }
    let second = text("s", "n", "2.0.0", "u2");
    profiles.register(&NewProfile { deactivate_others: true, ..custom(&second) }).expect("registered");
    let active = |uid| profiles.by_uid(uid).expect("there").active;
    assert_eq!((active("u1"), active("u2"), active("u3")), (false, true, true));
    let key = profiles.by_uid("u1").expect("there").key.clone();
    profiles.set_active(&key, true, true).expect("changed");
    assert_eq!((active("u1"), active("u2")), (true, false));
    let unknown = ProfileKey { name: "nobody".to_owned(), ..key };
    assert!(matches!(profiles.set_active(&unknown, true, false), Err(ProfileError::Unknown)));
}

#[test]
fn profiles_of_the_released_client_are_read_under_both_names() {
    for (kind, name) in [("GenAI", DriftType::Agent), ("Agent", DriftType::Agent), ("Psi", DriftType::Psi)] {
        assert_eq!(serde_json::from_str::<DriftType>(&format!("\"{kind}\"")).expect("a kind"), name);
    }
}

#[test]
fn what_is_no_profile_is_refused_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let profiles = Profiles::open(folder.path()).expect("opened");
    let cases = [
        ("[]", "invalid"),
        ("{}", "config"),
        (r#"[{"space":"s","name":"n","version":"1"},null]"#, "object"),
        (r#"{"config":{}}"#, "space"),
        (r#"{"config":{"space":"s","name":"n","version":"1","drift_type":"Spc","uid":"u"}}"#, "Spc"),
        (r#"{"config":{"space":"","name":"n","version":"1","uid":"u"}}"#, "space"),
        (r#"{"config":{"space":"s","name":"n","version":"1"}}"#, "uid"),
    ];
    for (text, word) in cases {
        let error = profiles.register(&custom(text)).expect_err(text).to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
    // A uid is a client's text and never a path.
    profiles.register(&custom(&text("s", "n", "1", "../../escape"))).expect("registered");
    assert_eq!(std::fs::read_dir(folder.path().join(FOLDER)).expect("read").count(), 1, "it is where all are");
}
