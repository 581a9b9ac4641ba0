//! The stages of a request, in their order.

pub mod spend;

pub use spend::Passage;
