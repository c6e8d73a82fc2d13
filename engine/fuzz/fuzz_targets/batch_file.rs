#![no_main]

#[path = "../targets/batch_file.rs"]
mod batch_file;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| batch_file::run(bytes));
