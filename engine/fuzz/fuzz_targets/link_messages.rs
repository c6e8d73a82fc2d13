#![no_main]

#[path = "../targets/link_messages.rs"]
mod link_messages;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| link_messages::run(bytes));
