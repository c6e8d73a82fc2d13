#![no_main]

#[path = "../targets/carried.rs"]
mod carried;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| carried::run(bytes));
