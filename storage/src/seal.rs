//! Sealed records: AES-256-GCM under a key that is used once.
//!
//! A sealed record is `version (1) | key id (8) | salt (32) | ciphertext and tag`. Key and nonce come from
//! HKDF-SHA-256 over the purpose's key and the random salt, so no nonce ever repeats under one key, however
//! many records there are. Purpose, key id and record key are associated data: a record that is copied to
//! another place, or taken for another purpose, does not open.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keyring::{KEY_BYTES, KEY_ID_BYTES, KeyId, Keyring, Purpose, expand};
use crate::random::random;

/// Bytes that sealing adds to a record.
pub const SEAL_BYTES: usize = 1 + KEY_ID_BYTES + SALT_BYTES + 16;

const VERSION: u8 = 1;
const SALT_BYTES: usize = 32;

/// Why a sealed record does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// It is too short, or of a version that this program does not know.
    #[error("not a sealed record")]
    Malformed,
    /// It was sealed under a master that the keyring does not hold.
    #[error("sealed under the unknown master key `{0}`")]
    UnknownKey(KeyId),
    /// It was altered, moved to another record's place, or made for another purpose.
    #[error("the seal is broken")]
    Broken,
}

/// Why a record could not be sealed: it is larger than AES-GCM takes (64 GiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record is too large to be sealed")]
pub struct SealError;

/// Seals `plaintext` under the active master for one purpose and one place.
///
/// # Errors
/// When `plaintext` is larger than AES-GCM takes.
pub fn seal(
    keyring: &Keyring,
    purpose: Purpose,
    record_key: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let id = keyring.active_id();
    let salt = random::<SALT_BYTES>();
    let key = keyring.key(purpose, id).ok_or(SealError)?;
    let (cipher, nonce) = once(&key, &salt);
    let aad = associated(purpose, id, record_key);
    let body = cipher.encrypt(&nonce, Payload { msg: plaintext, aad: &aad }).map_err(|_| SealError)?;
    Ok([[VERSION].as_slice(), &id.0, &salt, &body].concat())
}

/// Opens what [`seal`] made for the same purpose and place.
///
/// # Errors
/// When the record is malformed, sealed under an unknown master, or anything about it was changed.
pub fn unseal(
    keyring: &Keyring,
    purpose: Purpose,
    record_key: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, UnsealError> {
    let (version, rest) = sealed.split_first().ok_or(UnsealError::Malformed)?;
    let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(UnsealError::Malformed)?;
    let (salt, body) = rest.split_first_chunk::<SALT_BYTES>().ok_or(UnsealError::Malformed)?;
    if *version != VERSION {
        return Err(UnsealError::Malformed);
    }
    let id = KeyId(*id);
    let key = keyring.key(purpose, id).ok_or(UnsealError::UnknownKey(id))?;
    let (cipher, nonce) = once(&key, salt);
    let aad = associated(purpose, id, record_key);
    let opened = cipher.decrypt(&nonce, Payload { msg: body, aad: &aad }).map_err(|_| UnsealError::Broken)?;
    Ok(Zeroizing::new(opened))
}

/// The cipher and nonce of one record.
fn once(key: &[u8; KEY_BYTES], salt: &[u8; SALT_BYTES]) -> (Aes256Gcm, Nonce<aes_gcm::aead::consts::U12>) {
    let root = Hkdf::<Sha256>::new(Some(salt), key);
    let mut record_key = Zeroizing::new([0; KEY_BYTES]);
    let mut nonce = [0; 12];
    expand(&root, b"record-key", record_key.as_mut());
    expand(&root, b"record-nonce", &mut nonce);
    (Aes256Gcm::new(&Key::<Aes256Gcm>::from(*record_key)), nonce.into())
}

/// Length-prefixed, so that no purpose and record key can spell another pair.
fn associated(purpose: Purpose, id: KeyId, record_key: &[u8]) -> Vec<u8> {
    let label = purpose.label().as_bytes();
    let mut aad = Vec::with_capacity(1 + 8 + label.len() + KEY_ID_BYTES + record_key.len());
    aad.push(VERSION);
    aad.extend_from_slice(&(label.len() as u64).to_be_bytes());
    aad.extend_from_slice(label);
    aad.extend_from_slice(&id.0);
    aad.extend_from_slice(record_key);
    aad
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PURPOSE: Purpose = Purpose::SessionRecord;

    proptest! {
        #[test]
        fn a_record_opens_in_its_place_and_nowhere_else(
            master: [u8; 32],
            other: [u8; 32],
            place in proptest::collection::vec(any::<u8>(), 0..60),
            elsewhere in proptest::collection::vec(any::<u8>(), 0..60),
            text in proptest::collection::vec(any::<u8>(), 0..200),
            bit: prop::sample::Index,
        ) {
            prop_assume!(master != other && place != elsewhere);
            let (ring, stranger) = (Keyring::from_master(&master), Keyring::from_master(&other));
            let sealed = seal(&ring, PURPOSE, &place, &text).unwrap();
            prop_assert_eq!(sealed.len(), text.len() + SEAL_BYTES);
            prop_assert_eq!(&*unseal(&ring, PURPOSE, &place, &sealed).unwrap(), &text);
            prop_assert_eq!(&*unseal(&stranger.with_old(&master), PURPOSE, &place, &sealed).unwrap(), &text);

            prop_assert_eq!(unseal(&ring, PURPOSE, &elsewhere, &sealed), Err(UnsealError::Broken));
            prop_assert_eq!(unseal(&ring, Purpose::AccountRecord, &place, &sealed), Err(UnsealError::Broken));
            prop_assert_eq!(
                unseal(&stranger, PURPOSE, &place, &sealed),
                Err(UnsealError::UnknownKey(ring.active_id()))
            );
            let mut flipped = sealed.clone();
            let at = bit.index(sealed.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            prop_assert!(unseal(&ring, PURPOSE, &place, &flipped).is_err());
        }
    }

    #[test]
    fn every_bit_counts_and_no_prefix_opens() {
        let ring = Keyring::from_master(&[7; 32]);
        let sealed = seal(&ring, PURPOSE, b"place", b"text").unwrap();
        for at in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(unseal(&ring, PURPOSE, b"place", &flipped).is_err(), "bit {at}");
        }
        for length in 0..sealed.len() {
            assert!(unseal(&ring, PURPOSE, b"place", &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn sealing_twice_shares_nothing() {
        let ring = Keyring::from_master(&[7; 32]);
        let made = [(); 2].map(|()| seal(&ring, PURPOSE, b"place", b"text").unwrap());
        assert_ne!(made[0][9..41], made[1][9..41], "salts");
        assert_ne!(made[0][41..], made[1][41..], "ciphertexts");
    }

    /// A record that an earlier build sealed. It has to open for ever.
    #[test]
    fn what_was_sealed_before_still_opens() {
        let ring = Keyring::from_master(&[7; 32]);
        let opened = unseal(&ring, PURPOSE, b"place", &SEALED_BEFORE).unwrap();
        assert_eq!(&*opened, b"text");
    }

    const SEALED_BEFORE: [u8; 61] = [
        1, 248, 253, 185, 6, 164, 247, 117, 128, 38, 23, 166, 20, 254, 139, 240, 165, 232, 56, 228, 17, 34,
        204, 110, 229, 148, 203, 146, 249, 67, 3, 30, 102, 230, 132, 213, 188, 37, 228, 197, 71, 91, 213,
        186, 163, 52, 255, 184, 203, 56, 176, 236, 156, 158, 93, 104, 69, 166, 114, 239, 35,
    ];
}
