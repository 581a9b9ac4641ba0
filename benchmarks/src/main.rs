//! Keeps it fast.
fn main() {}
