use super::member::Member;
use super::*;

fn attr_of(json: &str, key: &str) -> Option<String> {
    Member::new(key).text_in(json)
}

#[test]
fn a_member_is_found_by_its_key_alone() {
    let json = r#"{"a":"b","b":{"c":[1,{"d":"}"}]},"c":[1,2],"d":1.5,"e":true,"f":null,"g":"x\"y\\","empty":"","b":2}"#;
    for (key, text) in [
        ("a", Some("b")),
        ("b", Some(r#"{"c":[1,{"d":"}"}]}"#)),
        ("c", Some("[1,2]")),
        ("d", Some("1.5")),
        ("e", Some("true")),
        ("f", None),
        ("g", Some(r#"x"y\"#)),
        ("empty", Some("")),
        ("h", None),
        ("", None),
        ("x\"y\\", None),
    ] {
        assert_eq!(attr_of(json, key).as_deref(), text, "{key:?}");
    }
    assert_eq!(attr_of(r#"{"k\"\n":1}"#, "k\"\n").as_deref(), Some("1"), "keys are compared with their escapes");
    assert_eq!(attr_of(" { \"a\" : 7 , \"b\" : [ 1 , 2 ] } ", "b").as_deref(), Some("[ 1 , 2 ]"), "white space is allowed");
    assert_eq!(attr_of(r#"{"é":"ü"}"#, "é").as_deref(), Some("ü"));
}

#[test]
fn broken_json_has_no_members() {
    for json in ["", "{", "[", "\"a\"", "null", "{\"a\"", "{\"a\":", "{\"a\":}", "{\"a\":\"", "{,\"a\":1}", "{\"a\\", "[\"a\"]"] {
        assert_eq!(attr_of(json, "a"), None, "{json}");
    }
    let deep = format!("{{\"b\":{}{},\"a\":1}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(attr_of(&deep, "a").as_deref(), Some("1"));
}

#[test]
fn every_member_that_serde_finds_is_found() {
    // A fixed linear congruential generator: the same objects at every run.
    let mut state = 7u64;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let texts = ["", "a", "\"", "\\", "é\n", "{}", "[,]", ":", "key"];
    for _ in 0..2000 {
        let mut object = serde_json::Map::new();
        for _ in 0..next(6) {
            let value = match next(6) {
                0 => serde_json::json!(null),
                1 => serde_json::json!(next(1000) as i64 - 500),
                2 => serde_json::json!(texts[next(9) as usize]),
                3 => serde_json::json!([texts[next(9) as usize], { texts[next(9) as usize]: [1, 2.5] }]),
                4 => serde_json::json!({ texts[next(9) as usize]: texts[next(9) as usize], "key": {} }),
                _ => serde_json::json!(true),
            };
            object.insert(texts[next(9) as usize].to_owned(), value);
        }
        let object = serde_json::Value::Object(object);
        let json = object.to_string();
        for key in texts {
            let expected = match &object[key] {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            assert_eq!(attr_of(&json, key), expected, "{key:?} of {json}");
        }
    }
}

#[test]
fn hexadecimal_reads_back() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(bytes_of_hex(&hex_text(&bytes)), Some(bytes));
    assert_eq!(bytes_of_hex("0aF7"), Some(vec![0x0a, 0xf7]));
    assert_eq!(bytes_of_hex(""), Some(Vec::new()));
    for wrong in ["0", "0g", "é", "+1"] {
        assert_eq!(bytes_of_hex(wrong), None, "{wrong}");
    }
}
