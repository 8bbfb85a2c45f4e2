use super::*;

fn parse(text: &str) -> Permissions {
    text.parse().expect("permissions")
}

#[test]
fn a_permission_holds_in_its_space_or_everywhere() {
    let scoped = parse("write:models, read:models,read:agents");
    assert!(scoped.allow_in(Permission::Write, "models") && scoped.allow_in(Permission::Read, "agents"));
    assert!(!scoped.allow_in(Permission::Write, "agents") && !scoped.allow_in(Permission::Read, "mode"));
    assert!(!scoped.allow(Permission::Read) && scoped.allow_somewhere(Permission::Read));
    let open = parse("write:all,read");
    assert!(open.allow(Permission::Write) && open.allow_in(Permission::Read, "anything"));
    assert!(!open.allow_somewhere(Permission::Admin));
}

#[test]
fn what_is_written_is_read_back() {
    for text in ["write,read,admin", "read", "write:models,read:models", "read,write:a b", ""] {
        let permissions: Result<Permissions, _> = text.parse();
        match permissions {
            Ok(permissions) => assert_eq!(permissions.to_string(), text),
            Err(error) => assert!(text.is_empty(), "{error}"),
        }
    }
    assert_eq!(parse("read:all").to_string(), "read");
}

#[test]
fn what_is_no_permission_is_refused_with_the_words_there_are() {
    for text in ["wrote", "write:", "admin:models", "write:a:b", "read:\u{7}", "write,,read"] {
        let error = text.parse::<Permissions>().expect_err(text);
        assert!(error.contains("permission") || error.contains("space"), "{error}");
    }
}
