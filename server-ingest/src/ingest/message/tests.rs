use super::*;

fn message(door: Door, content_type: Option<&str>, payload: &'static [u8]) -> Message {
    Message { door, content_type: content_type.map(str::to_owned), payload: Bytes::from_static(payload) }
}

#[test]
fn a_message_is_what_its_sender_says_and_else_what_it_looks_like() {
    for (door, said, payload, kind) in [
        (Door::Redis, Some(SCOUTER_PROTOBUF), &b"\x12\x00"[..], Kind::Scouter),
        (Door::RabbitMq, Some(OTLP_PROTOBUF), b"\x0a\x00", Kind::Otlp),
        (Door::RabbitMq, Some("application/x-protobuf; message=scouter.grpc.v1.InsertMessageRequest"), b"", Kind::Scouter),
        (Door::RabbitMq, Some("application/octet-stream"), b"{\"records\":[]}", Kind::Json),
        (Door::Redis, None, b"{\"records\":[]}", Kind::Json),
        (Door::Redis, None, b"\x0a\x00", Kind::Unknown),
        (Door::RabbitMq, Some("text/plain"), b"hello", Kind::Unknown),
        (Door::Kafka, None, b"\x0a\x00", Kind::Otlp),
        (Door::Kafka, None, b"{\"records\":[]}", Kind::Json),
        (Door::Kafka, Some("text/plain"), b"hello", Kind::Unknown),
    ] {
        assert_eq!(message(door, said, payload).kind(), kind, "{door:?} {said:?} {payload:?}");
    }
}
