#![no_main]

#[path = "../targets/hub.rs"]
mod hub;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| hub::run(bytes));
