//! Any text as a route file of an otherwise sound bundle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::route_file(bytes));
