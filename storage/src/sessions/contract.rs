//! What every adapter of sessions must do.
