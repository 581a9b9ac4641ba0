//! The time of a session's last use, authenticated, beside the sealed record.

use engine::time::UnixMillis;

use crate::keyring::{DIGEST_BYTES, Digest, Keyring, Purpose};

/// What is stored of a use: its time, and that it is this session's.
pub(super) fn touch(keyring: &Keyring, place: &Digest, at: UnixMillis) -> Vec<u8> {
    let mac = keyring.digest(Purpose::SessionTouch, &touch_text(place, at));
    [at.0.to_be_bytes().as_slice(), mac.as_bytes()].concat()
}

/// The time that was stored so; nothing where it is not authentic.
pub(super) fn read_touch(keyring: &Keyring, place: &Digest, value: &[u8]) -> Option<UnixMillis> {
    let (at, mac) = value.split_first_chunk()?;
    let at = UnixMillis(u64::from_be_bytes(*at));
    let mac = Digest::from_bytes(mac)?;
    keyring.verify(Purpose::SessionTouch, &touch_text(place, at), &mac).then_some(at)
}

/// The part of the store that a session's use is noted in: by the last byte of its digest, as evenly as any other.
pub(super) fn part(place: &Digest) -> u8 {
    place.as_bytes().last().copied().unwrap_or_default()
}

/// Bound to the session, so that one session's last use cannot be copied to another.
fn touch_text(place: &Digest, at: UnixMillis) -> Vec<u8> {
    let mut text = Vec::with_capacity(DIGEST_BYTES + 8);
    text.extend_from_slice(place.as_bytes());
    text.extend_from_slice(&at.0.to_be_bytes());
    text
}
