//! Any bytes as frames of a WebSocket.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::websocket(bytes));
