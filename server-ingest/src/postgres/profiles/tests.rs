use super::*;

#[test]
fn versions_have_parts() {
    let version = |major, minor, patch, pre: Option<&str>, build: Option<&str>| Version {
        major,
        minor,
        patch,
        pre: pre.map(str::to_owned),
        build: build.map(str::to_owned),
    };
    assert_eq!(Version::of("1.2.3"), version(1, 2, 3, None, None));
    assert_eq!(Version::of("1.2.3-rc.1+linux-x64"), version(1, 2, 3, Some("rc.1"), Some("linux-x64")));
    assert_eq!(Version::of("2"), version(2, 0, 0, None, None));
    assert_eq!(Version::of("latest"), version(0, 0, 0, None, None));
}

#[test]
fn a_schedule_is_due_after_now() {
    let now = SystemTime::now();
    let midnight = next_run("0 0 0 * * *");
    assert!(midnight > now && midnight < now + std::time::Duration::from_secs(24 * 3600 + 1));
    assert!(next_run("never") >= now);
}
