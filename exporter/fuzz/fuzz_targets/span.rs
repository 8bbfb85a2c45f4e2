//! Any bytes, read as the plain values of a span: what the encoder writes must decode to the same values.
#![no_main]

#[path = "../plain_values.rs"]
mod plain_values;

libfuzzer_sys::fuzz_target!(|data: &[u8]| plain_values::check(data));
