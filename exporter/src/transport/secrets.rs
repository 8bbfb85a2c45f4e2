//! Addresses with passwords that nobody escaped, for tests that none of it is shown.

use proptest::prelude::*;

/// In every piece of the passwords.
pub(super) const SECRET: &str = "zqxj";

/// Passwords in front of a host, and in a query or a fragment, with any characters between their pieces.
pub(super) fn addresses_with_secrets(scheme: &'static str) -> impl Strategy<Value = String> {
    let piece = (0..3_u8, "[0-9]{0,2}").prop_map(|(which, digits)| match which {
        // A number alone may be taken for a port.
        0 => format!("12{digits}"),
        1 => format!("{SECRET}{digits}"),
        _ => format!("{digits}{SECRET}"),
    });
    let between = "[/@?#:%&=+ \\[\\]\\\\.,;~é-]{1,3}";
    let password = (piece.clone(), prop::collection::vec((between, piece), 0..4))
        .prop_map(|(first, rest)| rest.into_iter().fold(first, |text, (between, piece)| text + &between + &piece));
    let host = prop::sample::select(vec!["localhost", "127.0.0.1:5672", "[::1]:6379", "broker.example:1"]);
    let path = prop::sample::select(vec!["", "/", "/0", "/blue"]);
    (password, host, path, 0..6_u8).prop_map(move |(password, host, path, form)| match form {
        0 => format!("{scheme}://ada:{password}@{host}{path}"),
        1 => format!("{scheme}://:{password}@{host}{path}"),
        2 => format!("ada:{password}@{host}{path}"),
        3 => format!(" {scheme}s://ada:{password}@{host}{path} "),
        4 => format!("{scheme}://{host}{path}?password={password}"),
        _ => format!("{scheme}://{host}{path}#{password}"),
    })
}

proptest! {
    #[test]
    fn no_part_of_a_password_is_shown(address in addresses_with_secrets("https")) {
        let shown = scouter_tonic::client::shown_address(&address);
        prop_assert!(!shown.contains(SECRET), "{} of {}", shown, address);
    }

    #[test]
    fn no_part_of_a_password_is_shown_by_a_configuration(address in addresses_with_secrets("http")) {
        let grpc = crate::GrpcConfig { server_uri: address.clone(), ..crate::GrpcConfig::default() };
        let http = crate::HttpConfig { server_uri: address.clone(), ..crate::HttpConfig::default() };
        let otlp = crate::OtlpConfig { endpoint: address, ..crate::OtlpConfig::http("http://localhost") };
        let told = (grpc.validate(), http.validate(), otlp.validate());
        let shown = format!("{grpc:?} {http:?} {otlp:?} {told:?}");
        prop_assert!(!shown.contains(SECRET), "{}", shown);
    }
}

#[test]
fn what_is_no_secret_is_shown() {
    for (address, expected) in [
        ("http://localhost:8000", "http://localhost:8000"),
        ("https://ada:hidden@gateway.example/prefix", "https://gateway.example/prefix"),
        ("localhost:50051", "localhost:50051"),
        ("ada:hidden@localhost:50051", "localhost:50051"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://host/0?password=hidden", "redis://host/0"),
        ("redis://host/0?password=hid@den", "redis://***"),
        ("redis://:hidden", "redis://***"),
        ("unix:/run/scouter.sock", "unix:/run/scouter.sock"),
        ("unix:///run/scouter.sock", "unix:///run/scouter.sock"),
        ("", ""),
    ] {
        assert_eq!(scouter_tonic::client::shown_address(address), expected);
    }
}
