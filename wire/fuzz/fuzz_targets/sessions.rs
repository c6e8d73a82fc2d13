#![no_main]

#[path = "../targets/sessions.rs"]
mod sessions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessions::run(bytes));
