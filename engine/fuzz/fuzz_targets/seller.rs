#![no_main]

#[path = "../targets/seller.rs"]
mod seller;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| seller::run(bytes));
