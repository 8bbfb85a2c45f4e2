use super::*;

#[test]
fn content_types_have_parameters_and_no_case() {
    for (value, expected) in [
        ("application/x-protobuf", Some(Encoding::Protobuf)),
        ("Application/JSON; charset=utf-8", Some(Encoding::Json)),
        ("text/plain", None),
    ] {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
        assert_eq!(Encoding::of(&headers), expected, "{value}");
    }
}
