//! UTF-8 that arrives in pieces.

use super::Fault;

/// Judges a text piece by piece; holds at most the three first bytes of a character.
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8 {
    held: [u8; 3],
    count: usize,
}

impl Utf8 {
    /// Judges the next piece.
    ///
    /// # Errors
    /// No text begins like this.
    pub fn piece(&mut self, mut piece: &[u8]) -> Result<(), Fault> {
        // A character that was cut is completed first: at most three more bytes.
        while self.count > 0
            && let Some((byte, rest)) = piece.split_first()
        {
            let mut whole = [0; 4];
            for (to, from) in whole.iter_mut().zip(self.held.iter().take(self.count).chain([byte])) {
                *to = *from;
            }
            let bytes = whole.get(..self.count.saturating_add(1)).unwrap_or_default();
            self.keep(bytes)?;
            piece = rest;
        }
        if piece.is_empty() { Ok(()) } else { self.keep(piece) }
    }

    /// The text ends here.
    ///
    /// # Errors
    /// Its last character is not whole.
    pub const fn end(&mut self) -> Result<(), Fault> {
        let whole = self.count == 0;
        self.count = 0;
        if whole { Ok(()) } else { Err(Fault::NotUtf8) }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.count = 0;
        let Err(error) = std::str::from_utf8(bytes) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(Fault::NotUtf8);
        }
        let cut = bytes.get(error.valid_up_to()..).unwrap_or_default();
        for (to, from) in self.held.iter_mut().zip(cut) {
            *to = *from;
        }
        self.count = cut.len();
        Ok(())
    }
}
