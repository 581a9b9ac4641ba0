//! GCRA arithmetic; the time is an argument.
