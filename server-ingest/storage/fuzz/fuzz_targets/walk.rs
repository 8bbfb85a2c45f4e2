//! Any bytes, read as a trace request: what is stored equals what prost reads.
#![no_main]

#[path = "../against_prost.rs"]
mod against_prost;

libfuzzer_sys::fuzz_target!(|data: &[u8]| against_prost::check(data));
