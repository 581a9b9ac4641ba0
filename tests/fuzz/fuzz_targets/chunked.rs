//! Any bytes as a chunked body; the first of them says how it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::chunked(bytes));
