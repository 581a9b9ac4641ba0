//! What one gateway's own store has, where several share theirs.

use engine::time::UnixMillis;

use super::{Accounts, ApiKeys};
use crate::{Store, StoreError};

/// Accounts and keys that one gateway alone knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Accounts with a password, and suspended ones: whom a provider vouches for is known again where they come, and that
    /// they are suspended is not.
    pub accounts: usize,
    /// Keys that are neither revoked nor expired.
    pub keys: usize,
}

impl Own {
    /// What `store` has.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn of(store: &Store, now: UnixMillis) -> Result<Self, StoreError> {
        let accounts = Accounts::new(store.clone()).list().await?;
        let accounts =
            accounts.iter().filter(|account| account.origin.is_none() || account.suspended).count();
        let keys = ApiKeys::new(store.clone()).list().await?;
        Ok(Self { accounts, keys: keys.iter().filter(|key| key.is_live(now)).count() })
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.accounts == 0 && self.keys == 0
    }
}
