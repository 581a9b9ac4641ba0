//! The cedargate binary.
fn main() {}
