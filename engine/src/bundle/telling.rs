//! How far a load has come.

use super::BundleSources;
use super::sources::Part;

/// How far a load has come: parts of a whole that is known from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done.
    pub done: u64,
    /// What there is to do.
    pub all: u64,
}

/// Tells how far a load has come. What it takes is in the policies: each byte of their files is read, and checked.
pub(super) struct Telling<'a> {
    progress: Progress,
    tell: &'a mut dyn FnMut(Progress),
}

impl<'a> Telling<'a> {
    pub(super) fn of(sources: &BundleSources, tell: &'a mut dyn FnMut(Progress)) -> Self {
        let texts = sources.part(Part::Guardrails).chain(sources.part(Part::Grants));
        let bytes: u64 = texts.map(|(_, text)| text.len() as u64).sum();
        Self { progress: Progress { done: 0, all: bytes.saturating_mul(2) }, tell }
    }

    /// A file of this length was read, or checked.
    pub(super) fn done(&mut self, bytes: usize) {
        self.progress.done = self.progress.done.saturating_add(bytes as u64);
        (self.tell)(self.progress);
    }
}
