//! The name that a person signs in with.

use engine::identity::{LOCAL_ISSUER, PrincipalKind, principal_id};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes of a login, in UTF-8: longer than any name or e-mail address that people type.
pub const LOGIN_BYTES_MAX: usize = 128;

/// A login, in the one spelling that accounts are found by.
///
/// ASCII letters are lowered and nothing else is changed: no trimming, no Unicode folding. What is not
/// normalised cannot collide, and two logins that only look alike are two accounts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Login(String);

/// Why a text is no login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is empty.
    #[error("a login is not empty")]
    Empty,
    /// It is longer than [`LOGIN_BYTES_MAX`] bytes.
    #[error("a login has at most {LOGIN_BYTES_MAX} bytes")]
    TooLong,
    /// It has a control character, or white space at an end, which nobody can see.
    #[error("a login has no control characters, and no white space at its ends")]
    Invisible,
}

impl Login {
    /// Reads a login as it was typed.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub fn parse(text: &str) -> Result<Self, LoginError> {
        if text.is_empty() {
            return Err(LoginError::Empty);
        }
        if text.len() > LOGIN_BYTES_MAX {
            return Err(LoginError::TooLong);
        }
        if text.contains(char::is_control) || text.trim() != text {
            return Err(LoginError::Invisible);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The login that spells an id.
    #[must_use]
    pub fn of_id(id: Uuid) -> Self {
        Self(id.to_string())
    }

    /// The normalised login.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the account of this login, whether there is one or not.
    #[must_use]
    pub fn account_id(&self) -> Uuid {
        principal_id(PrincipalKind::User, LOCAL_ISSUER, &self.0)
    }
}

impl TryFrom<String> for Login {
    type Error = LoginError;

    fn try_from(text: String) -> Result<Self, LoginError> {
        Self::parse(&text)
    }
}

impl From<Login> for String {
    fn from(login: Login) -> Self {
        login.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_have_one_spelling() {
        let long = "x".repeat(LOGIN_BYTES_MAX);
        let longer = format!("{long}x");
        let cases: [(&str, Result<&str, LoginError>); 12] = [
            ("ada", Ok("ada")),
            ("Ada@Example.ORG", Ok("ada@example.org")),
            ("ada lovelace", Ok("ada lovelace")),
            ("ÄDA", Ok("Äda")),
            (&long, Ok(&long)),
            (&longer, Err(LoginError::TooLong)),
            ("", Err(LoginError::Empty)),
            (" ada", Err(LoginError::Invisible)),
            ("ada\u{a0}", Err(LoginError::Invisible)),
            ("ada\0", Err(LoginError::Invisible)),
            ("a\nda", Err(LoginError::Invisible)),
            ("a\u{85}da", Err(LoginError::Invisible)),
        ];
        for (text, expected) in cases {
            let login = Login::parse(text);
            assert_eq!(login.as_ref().map(Login::as_str).map_err(|error| *error), expected, "{text:?}");
        }
        assert_eq!(Login::parse("ADA").unwrap().account_id(), Login::parse("ada").unwrap().account_id());
    }
}
