//! Where something stands in a file.

use std::cell::Cell;
use std::fmt;

use super::BundleFault;

/// A file that is being read: turns byte offsets into lines.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    file: &'a str,
    text: &'a str,
    /// The offset that was asked for last, and the line ends before it: files are read from their beginning to their end,
    /// and counting from the beginning each time took a quarter of the time of loading a large one.
    last: Cell<(usize, usize)>,
}

impl<'a> Place<'a> {
    pub(crate) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, last: Cell::default() }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    /// The line of a byte offset, from 1. An offset past the end is on the last line.
    pub(crate) fn line(&self, offset: usize) -> usize {
        let offset = offset.min(self.text.len());
        let (last, ends) = self.last.get();
        let (from, ends) = if last <= offset { (last, ends) } else { (0, 0) };
        let between = self.text.as_bytes().get(from..offset).unwrap_or_default();
        let ends = ends + between.iter().filter(|byte| **byte == b'\n').count();
        self.last.set((offset, ends));
        ends + 1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_same_whatever_was_asked_before() {
        let text = "a\n\nbc\n\nd";
        let place = Place::new("file", text);
        let counted = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        for first in 0..text.len() + 3 {
            for second in 0..text.len() + 3 {
                assert_eq!((place.line(first), place.line(second)), (counted(first), counted(second)));
            }
        }
        assert_eq!(place.lines_of("\n").collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
