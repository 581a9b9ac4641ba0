//! Any query that a provider sends a browser back with.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::callback(bytes));
