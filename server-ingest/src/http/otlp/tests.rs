use std::io::Write;

use super::*;

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    Bytes::from(encoder.finish().expect("memory"))
}

#[test]
fn each_content_encoding_gives_the_same_bytes() {
    let plain = Bytes::from_static(b"spans spans spans");
    let zstd = Bytes::from(zstd::encode_all(&plain[..], 1).expect("memory"));
    for (name, body) in [("", plain.clone()), ("identity", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zstd)] {
        assert_eq!(inflate(name, body).expect("valid"), plain, "{name:?}");
    }
}

#[test]
fn all_members_of_a_gzip_body_are_read() {
    let body = [gzip(b"first "), gzip(b"second")].concat();
    assert_eq!(inflate("gzip", Bytes::from(body)).expect("valid"), "first second");
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let zeros = vec![0; MAX_REQUEST_BYTES + 1];
    assert!(matches!(inflate("gzip", gzip(&zeros)), Err(IngestError::TooLarge { .. })));
    let zstd = Bytes::from(zstd::encode_all(&zeros[..], 1).expect("memory"));
    assert!(matches!(inflate("zstd", zstd), Err(IngestError::TooLarge { .. })));
}

#[test]
fn what_is_not_compressed_as_it_says_is_refused() {
    for name in ["gzip", "zstd", "br"] {
        let error = inflate(name, Bytes::from_static(b"plain")).expect_err("refused");
        assert_eq!(error.answer().http_status, 400, "{name}");
    }
}

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
