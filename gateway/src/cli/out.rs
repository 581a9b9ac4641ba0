//! What verbs tell.

use std::fmt::Display;
use std::io::Write;

/// Tells a line on stdout. A reader that has seen enough and closed the pipe is no failure, least of all one that ends
/// a gateway.
pub(super) fn say(line: impl Display) {
    writeln!(std::io::stdout().lock(), "{line}").ok();
}

/// Tells a line beside the answer, on stderr.
pub(super) fn aside(line: impl Display) {
    writeln!(std::io::stderr().lock(), "{line}").ok();
}
