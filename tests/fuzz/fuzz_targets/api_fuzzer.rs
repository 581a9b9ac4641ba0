//! Any bytes as the head of a request: target and headers, through all that `receive` asks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::request(bytes));
