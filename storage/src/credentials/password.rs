//! Password hashes: Argon2id, 19 MiB, two passes, one lane, a salt of 32 bytes.
//!
//! These are the parameters that the product's requirements name (and OWASP's first choice). One hash takes
//! some 20 ms of one core, so callers run it where they may block, behind [`super::HashingGate`].

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::Secret;
use crate::random::random;

/// The shortest password that is accepted for an account, in bytes.
pub const PASSWORD_BYTES_MIN: usize = 12;

/// The longest password, in bytes: hashing longer ones would be work for nothing.
pub const PASSWORD_BYTES_MAX: usize = 1024;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 32;
const OUTPUT_BYTES: usize = 32;

/// A stored hash may ask for this much at most, so that a record cannot buy itself a minute of our time.
const MEMORY_KIB_MAX: u32 = 65_536;
const PASSES_MAX: u32 = 10;
const LANES_MAX: u32 = 4;

/// A hashed password, as a PHC string. It is as secret as a weak password is guessable.
#[derive(Clone)]
pub struct PasswordHash(Secret<String>);

/// Why a password or a stored hash is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// It is shorter than [`PASSWORD_BYTES_MIN`].
    #[error("a password has at least {PASSWORD_BYTES_MIN} bytes")]
    TooShort,
    /// It is longer than [`PASSWORD_BYTES_MAX`].
    #[error("a password has at most {PASSWORD_BYTES_MAX} bytes")]
    TooLong,
    /// A stored hash is no Argon2id PHC string, or asks for more work than is allowed.
    #[error("not an acceptable password hash")]
    Unacceptable,
    /// There was no memory for hashing.
    #[error("the password could not be hashed")]
    Hashing,
}

/// Verifies passwords with the same work whether there is an account or not.
#[derive(Clone)]
pub struct PasswordVerifier {
    /// The hash of a password that nobody knows.
    nobody: PasswordHash,
}

impl PasswordHash {
    /// Hashes a new password. Blocks for some 20 ms of one core and takes 19 MiB meanwhile.
    ///
    /// # Errors
    /// When the password is too short or too long, or memory is out.
    pub fn new(password: &Secret<String>) -> Result<Self, PasswordError> {
        let bytes = password.expose().as_bytes();
        if bytes.len() < PASSWORD_BYTES_MIN {
            return Err(PasswordError::TooShort);
        }
        if bytes.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        hash(bytes)
    }

    /// Reads a stored PHC string.
    ///
    /// # Errors
    /// When it is no Argon2id hash or its parameters are out of bounds.
    pub fn parse(text: String) -> Result<Self, PasswordError> {
        let hash = Self(Secret::new(text));
        hash.bounded()?;
        Ok(hash)
    }

    /// The PHC string, for storing it sealed.
    pub(crate) fn as_str(&self) -> &str {
        self.0.expose()
    }

    fn bounded(&self) -> Result<phc::PasswordHash, PasswordError> {
        let parsed = phc::PasswordHash::new(self.as_str()).map_err(|_| PasswordError::Unacceptable)?;
        let params = Params::try_from(&parsed).map_err(|_| PasswordError::Unacceptable)?;
        let acceptable = parsed.algorithm == Algorithm::Argon2id.ident()
            && parsed.version == Some(Version::V0x13.into())
            && params.m_cost() <= MEMORY_KIB_MAX
            && params.t_cost() <= PASSES_MAX
            && params.p_cost() <= LANES_MAX
            && parsed.salt.is_some()
            && parsed.hash.is_some_and(|hash| hash.len() == OUTPUT_BYTES);
        if acceptable { Ok(parsed) } else { Err(PasswordError::Unacceptable) }
    }
}

impl PasswordVerifier {
    /// Makes the hash that unknown logins are verified against. Blocks as [`PasswordHash::new`] does.
    ///
    /// # Errors
    /// When memory is out.
    pub fn new() -> Result<Self, PasswordError> {
        Ok(Self { nobody: hash(&random::<32>())? })
    }

    /// Whether `password` is that of `stored`. Without a stored hash the same work is done and the answer is
    /// no. Blocks as [`PasswordHash::new`] does.
    #[must_use]
    pub fn verify(&self, stored: Option<&PasswordHash>, password: &Secret<String>) -> bool {
        let bytes = password.expose().as_bytes();
        if bytes.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let Ok(hash) = stored.unwrap_or(&self.nobody).bounded() else { return false };
        let holds = Argon2::default().verify_password(bytes, &hash).is_ok();
        holds && stored.is_some()
    }
}

fn hash(password: &[u8]) -> Result<PasswordHash, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_BYTES));
    let params = params.map_err(|_| PasswordError::Hashing)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password, &random::<SALT_BYTES>());
    Ok(PasswordHash(Secret::new(hash.map_err(|_| PasswordError::Hashing)?.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_password_verifies_against_its_own_hash_only() {
        let (password, other) = (secret("correct horse"), secret("correct horsf"));
        let hash = PasswordHash::new(&password).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "the parameters are stored");
        let salt = hash.as_str().split('$').nth(4).unwrap();
        assert_eq!(salt.len(), 43, "32 bytes in base64");

        let verifier = PasswordVerifier::new().unwrap();
        let stored = PasswordHash::parse(hash.as_str().to_owned()).unwrap();
        assert!(verifier.verify(Some(&stored), &password));
        assert!(!verifier.verify(Some(&stored), &other));
        assert!(!verifier.verify(None, &password), "an unknown login");
        assert!(!verifier.verify(Some(&stored), &secret(&"x".repeat(PASSWORD_BYTES_MAX + 1))));
        assert_ne!(PasswordHash::new(&password).unwrap().as_str(), hash.as_str(), "the salt is random");
    }

    #[test]
    fn an_unknown_login_costs_the_same_work() {
        let (password, verifier) = (secret("correct horse"), PasswordVerifier::new().unwrap());
        let stored = PasswordHash::new(&password).unwrap();
        let cost = |stored: Option<&PasswordHash>| {
            let tries = (0..5).map(|_| {
                let began = monotonic();
                assert_eq!(verifier.verify(stored, &password), stored.is_some());
                monotonic() - began
            });
            tries.min().unwrap()
        };
        let (known, unknown) = (cost(Some(&stored)), cost(None));
        // Without the work it would be a thousandth; a busy machine doubles it at most.
        assert!(unknown > known / 3 && known > unknown / 3, "{known:?} and {unknown:?}");
    }

    #[expect(clippy::disallowed_methods, reason = "the test measures how long hashing takes")]
    fn monotonic() -> std::time::Instant {
        std::time::Instant::now()
    }

    #[test]
    fn passwords_have_bounds() {
        let cases = [
            (PASSWORD_BYTES_MIN - 1, Err(PasswordError::TooShort)),
            (PASSWORD_BYTES_MIN, Ok(())),
            (PASSWORD_BYTES_MAX, Ok(())),
            (PASSWORD_BYTES_MAX + 1, Err(PasswordError::TooLong)),
        ];
        for (length, expected) in cases {
            assert_eq!(PasswordHash::new(&secret(&"x".repeat(length))).map(drop), expected, "{length}");
        }
    }

    #[test]
    fn a_stored_hash_cannot_ask_for_more_than_is_allowed() {
        let salt = "A".repeat(43);
        let output = "A".repeat(43);
        let with = |head: &str| format!("${head}${salt}${output}");
        let cases = [
            (with("argon2id$v=19$m=19456,t=2,p=1"), true),
            (with("argon2id$v=19$m=65536,t=10,p=4"), true),
            (with("argon2id$v=19$m=65537,t=2,p=1"), false),
            (with("argon2id$v=19$m=19456,t=11,p=1"), false),
            (with("argon2id$v=19$m=19456,t=2,p=5"), false),
            (with("argon2id$v=16$m=19456,t=2,p=1"), false),
            (with("argon2i$v=19$m=19456,t=2,p=1"), false),
            (with("argon2d$v=19$m=19456,t=2,p=1"), false),
            (with("scrypt$v=19$m=19456,t=2,p=1"), false),
            (format!("$argon2id$v=19$m=19456,t=2,p=1${salt}"), false),
            (format!("$argon2id$v=19$m=19456,t=2,p=1${salt}$AAAA"), false),
            ("plain text".to_owned(), false),
            (String::new(), false),
        ];
        for (text, acceptable) in cases {
            assert_eq!(PasswordHash::parse(text.clone()).is_ok(), acceptable, "{text}");
        }
    }
}
