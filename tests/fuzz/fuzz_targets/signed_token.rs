//! Any header and claims, signed by a provider: ID, access and logout tokens.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::signed_token(bytes));
