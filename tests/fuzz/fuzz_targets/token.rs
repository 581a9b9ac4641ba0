//! Any text as a token that nobody has signed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::token(bytes));
