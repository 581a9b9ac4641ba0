//! zlib under the name of zlib-ng: built by the C compiler alone.
pub use libz_sys::*;
