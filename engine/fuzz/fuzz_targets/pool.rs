#![no_main]

#[path = "../targets/pool.rs"]
mod pool;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pool::run(bytes));
