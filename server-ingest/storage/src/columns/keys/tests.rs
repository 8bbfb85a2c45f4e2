use super::{Derivation, Keys, LONGEST_KEY, MAX_KEYS};
use crate::columns::json;

fn written(keys: &mut Keys, is_first: bool, key: &[u8]) -> (Vec<u8>, Derivation) {
    let mut out = b"before".to_vec();
    let derivation = keys.write(&mut out, is_first, key);
    (out, derivation)
}

fn without_memory(is_first: bool, key: &[u8]) -> (Vec<u8>, Derivation) {
    let mut out = b"before".to_vec();
    json::key(&mut out, is_first, key);
    (out, Derivation::of(key))
}

#[test]
fn a_key_is_written_the_same_whatever_came_before_it() {
    let long = "k".repeat(LONGEST_KEY + 1);
    let texts = ["", "a", "http.route", "a\"b\\\n", "scouter.entity", "baggage.x", "exception.type", "ä", "user.id", &long];
    let mut keys = Keys::new();
    let mut state = 1usize;
    for round in 0..4000 {
        if round % 5 == 0 {
            keys.begin_span();
        }
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = texts[(state >> 33) % texts.len()].as_bytes();
        let is_first = round % 3 == 0;
        assert_eq!(written(&mut keys, is_first, key), without_memory(is_first, key), "{key:?}");
    }
}

#[test]
fn more_keys_than_are_remembered_are_written_all_the_same() {
    let mut keys = Keys::new();
    for _ in 0..2 {
        for number in 0..2 * MAX_KEYS {
            let key = format!("key.{number}");
            assert_eq!(written(&mut keys, false, key.as_bytes()), without_memory(false, key.as_bytes()));
        }
    }
    assert_eq!(keys.known.len(), MAX_KEYS + 1);
    assert_eq!(keys.places.len(), MAX_KEYS);
}
