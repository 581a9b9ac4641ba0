//! Any bytes as the cookie of a sign-in under way.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::cookie(bytes));
