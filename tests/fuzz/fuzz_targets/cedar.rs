//! Any bytes as the choices of policies, entities and requests.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::cedar(bytes));
