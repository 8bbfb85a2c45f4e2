use super::*;

fn target(text: &str) -> Target {
    text.parse().expect("a target")
}

#[test]
fn a_password_is_never_shown() {
    let target = target("postgres://ada:s3cret%21@db.example:6432/scouter");
    assert_eq!(format!("{target} {target:?}"), "ada@db.example:6432/scouter ada@db.example:6432/scouter");
    for broken in [
        "postgres://ada:s3cret@db.example/x?nonsense=s3cret",
        "postgres://ada:12@s3cret@db.example/x",
        "s3cret",
        "postgres://ada:s3cret@:x/y",
        "",
    ] {
        let error = Target::from_str(broken).expect_err(broken);
        assert!(!error.contains("s3cret") && error.contains("postgres://"), "{error}");
    }
}

#[test]
fn other_machines_are_reached_by_tls_unless_plaintext_is_said_out_loud() {
    let mode = |text: &str| target(text).config.get_ssl_mode();
    assert_eq!(mode("postgres://a:b@db.example/x"), SslMode::Require);
    assert_eq!(mode("postgres://a:b@db.example/x?sslmode=prefer"), SslMode::Require);
    assert_eq!(mode("postgres://a:b@db.example/x?sslmode=verify-full"), SslMode::Require);
    assert_eq!(mode("postgres://a:b@db.example/x?sslmode=disable"), SslMode::Disable);
    for local in ["postgres://a:b@127.0.0.1/x", "postgres://a:b@localhost/x", "host=/tmp user=a", "postgres://a@[::1]/x"] {
        assert_eq!(mode(local), SslMode::Prefer, "{local}");
    }
}
