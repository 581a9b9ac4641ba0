//! GCRA arithmetic; the time is an argument.

/// "N per P": a rate of N/P with a burst of N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// N: at least 1.
    pub count: u32,
    /// P in milliseconds: at least 1.
    pub period_ms: u64,
}
