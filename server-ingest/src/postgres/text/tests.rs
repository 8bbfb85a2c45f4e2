use super::*;

#[test]
fn what_jsonb_refuses_is_replaced_and_the_rest_stays() {
    let cases = [
        ("", "null"),
        (r#"{"a": [1, "b"]}"#, r#"{"a": [1, "b"]}"#),
        (r#"{"a": "x\u0000y"}"#, r#"{"a": "x\ufffdy"}"#),
        // A backslash, and then no escape.
        (r#""\\u0000""#, r#""\\u0000""#),
        (r#""\\\u0000""#, r#""\\\ufffd""#),
        (r#""\ud83d\ude00 \u00e9 \n""#, r#""\ud83d\ude00 \u00e9 \n""#),
        (r#""\ud83d""#, r#""\ufffd""#),
        (r#""\ude00\ud83d\ud83d\ude00""#, r#""\ufffd\ufffd\ud83d\ude00""#),
        ("no JSON", r#""no JSON""#),
        ("{\"a\":", r#""{\"a\":""#),
        ("NaN", r#""NaN""#),
    ];
    for (given, expected) in cases {
        assert_eq!(json(given), expected, "{given}");
    }
    assert_eq!(json("\0"), "\"\u{fffd}\"");
    assert_eq!(text("a\0b"), "a\u{fffd}b");
    assert_eq!(json(&"[".repeat(200)), format!("\"{}\"", "[".repeat(200)));
}
