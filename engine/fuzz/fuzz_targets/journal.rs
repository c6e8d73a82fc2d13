#![no_main]

#[path = "../targets/journal.rs"]
mod journal;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| journal::run(bytes));
