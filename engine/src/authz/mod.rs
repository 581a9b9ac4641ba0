//! The policy decision point.
