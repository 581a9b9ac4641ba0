//! Where something stands in a file.

use std::fmt;

use super::BundleFault;

/// A file that is being read: turns byte offsets into lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    /// The line of a byte offset, from 1. An offset past the end is on the last line.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let before = self.text.bytes().take(offset);
        before.filter(|byte| *byte == b'\n').count() + 1
    }

    /// The lines on which `needle` stands, one for each time.
    pub(crate) fn lines_of(&self, needle: &'a str) -> impl Iterator<Item = usize> {
        self.text.match_indices(needle).map(|(offset, _)| self.line(offset))
    }

    pub(crate) fn fault(
        &self,
        offset: Option<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> BundleFault {
        BundleFault::new(self.file, offset.map(|offset| self.line(offset)), message, remedy)
    }
}

impl BundleFault {
    pub(crate) fn new(
        file: &str,
        line: Option<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { file: file.to_owned(), line, message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for BundleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}\n  {}", self.message, self.remedy)
    }
}
