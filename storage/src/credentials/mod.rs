//! Credentials: accounts with passwords, API keys, and the attempts to guess them.
//!
//! [`SignIn`] is the whole of signing in with a password, in the one safe order: the attempt is reserved
//! before anything is hashed, hashing waits its turn in a bounded queue, and an unknown login costs the same
//! work as a known one. The parts are public for administration.

mod accounts;
mod api_keys;
mod attempts;
mod devices;
mod gate;
mod login;
mod own;
mod password;
mod records;
mod sign_in;
#[cfg(test)]
mod tests;

pub use accounts::{
    Account, AccountChange, AccountError, Accounts, NewAccount, Origin, Person, PersonError,
    SUBJECT_BYTES_MAX,
};
pub use api_keys::{API_KEY_PREFIX, ApiKey, ApiKeys, CreatedApiKey, NewApiKey};
pub use attempts::{Attempt, AttemptRules, Attempts, Reservation};
pub use devices::{DEVICE_COOKIE_AGE_MAX_MS, DeviceCookies};
pub use gate::{GateError, HashingGate, HashingGateSettings};
pub use login::{LOGIN_BYTES_MAX, Login, LoginError};
pub use own::Own;
pub use password::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN, PasswordError, PasswordHash, PasswordVerifier};
pub use sign_in::{SignIn, SignInAttempt, SignInOutcome};

pub(crate) use attempts::prepare as prepare_attempts;
pub(crate) use records::prepare as prepare_records;
