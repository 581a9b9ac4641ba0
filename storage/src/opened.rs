//! Records that were opened before.
//!
//! What a sealed record opens to follows from its bytes and its place. So the store is asked every time, and only the
//! opening is spared: where it still holds the very bytes that were opened before, they open to the same. Nothing has
//! to be told of a change, because a change is other bytes.

use std::hash::Hash;

use engine::kept::Kept;

/// Opened records by their place. `V` holds no secret: it outlives the look-up.
pub(crate) struct Opened<K, V> {
    /// The sealed bytes with what they opened to, a kilobyte or so each.
    kept: Kept<K, (Box<[u8]>, V)>,
}

impl<K: Eq + Hash, V: Clone> Opened<K, V> {
    /// Nothing was opened.
    pub(crate) fn new() -> Self {
        Self { kept: Kept::default() }
    }

    /// What `sealed` opens to in its place; `open` opens it where that is not known. Only successes are kept.
    ///
    /// # Errors
    /// That of `open`.
    pub(crate) fn get<E>(
        &self,
        place: K,
        sealed: &[u8],
        open: impl FnOnce() -> Result<V, E>,
    ) -> Result<V, E> {
        let again = |(bytes, value): &(Box<[u8]>, V)| (**bytes == *sealed).then(|| value.clone());
        if let Some(value) = self.kept.get(&place, again) {
            return Ok(value);
        }
        let value = open()?;
        self.kept.put(place, (sealed.into(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_in_the_same_place_are_opened_once_and_others_anew() {
        let opened = Opened::new();
        let get = |place: u8, sealed: &[u8], value: Result<u8, ()>| opened.get(place, sealed, || value);
        assert_eq!(get(1, b"a", Ok(7)), Ok(7));
        assert_eq!(get(1, b"a", Err(())), Ok(7), "known");
        assert_eq!(get(2, b"a", Err(())), Err(()), "another place");
        assert_eq!(get(1, b"b", Err(())), Err(()), "other bytes");
        assert_eq!(get(1, b"a", Err(())), Ok(7), "a failure replaces nothing");
        assert_eq!(get(1, b"b", Ok(8)), Ok(8));
        assert_eq!(get(1, b"a", Ok(9)), Ok(9), "the newest alone is kept");
    }
}
