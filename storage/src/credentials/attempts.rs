//! Counting attempts to sign in.
//!
//! With N the configured bound: after N failures every further attempt has to wait, one second, then two,
//! doubling; the wait is answered, never slept. After 2N failures a lock begins; an attempt that comes before
//! its wait is over is not looked at and counts as one of them, so that hammering locks as surely as patience.
//! When the lock ends the waiting goes on, and N more failures lock again. A success forgets the failures; so
//! does a day without attempts.
//!
//! An attempt is counted as failed before the password is looked at, and given back afterwards, so parallel
//! guesses cannot all read the same count (threat 11). Logins are counted whether they exist or not: the
//! answers tell nothing about which do.
//!
//! One gateway alone keeps its counters in memory, 65,536 of them at most (some 8 MB), and every second what
//! changed is put into the store. So whoever can kill the gateway gains the guesses of one second, which hashing
//! bounds. When there is no room, the counter with the least to lose goes: the unlocked, lowest, longest unused
//! one of a sixty-fourth part, in which nobody can aim for another's, because the parts are keyed.
//!
//! Gateways that share sessions share counters as well ([`Attempts::shared`]): one question an attempt, so that a
//! guess at one is a guess at all. Without an answer nobody is let try. Of as many counters the lightest of all goes. Time is
//! the store's there: a gateway whose clock is wrong lifts no lock early.

mod counter;
mod embedded;
mod shared;

use std::sync::Arc;

use engine::time::UnixMillis;
use uuid::Uuid;

use self::counter::Counted;
use self::embedded::Embedded;
pub(crate) use self::embedded::prepare;
use self::shared::Shared;
use super::Login;
use crate::keyring::Digest;
use crate::sessions::Sessions;
use crate::{Store, StoreError};

/// Counters that gateways share, at most. One takes some 400 bytes of the Redis.
const SHARED_MAX: usize = 65_536;

/// The counters. Cheap to clone.
#[derive(Clone)]
pub struct Attempts {
    adapter: Adapter,
}

#[derive(Clone)]
enum Adapter {
    Embedded(Embedded),
    Shared(Arc<Shared>),
}

/// When waiting and locking begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRules {
    /// N: failures after which further attempts have to wait; twice as many lock. At least 1.
    pub attempts_max: u32,
    /// How long a lock lasts, in milliseconds.
    pub lockout_ms: u64,
}

/// Whether an attempt may be made.
#[derive(Debug)]
pub enum Attempt {
    /// It may, and is already counted as failed.
    Granted(Reservation),
    /// Not yet.
    Slow {
        /// Milliseconds until the next attempt is granted.
        retry_after_ms: u64,
    },
    /// Not for some time.
    Locked {
        /// When the lock ends.
        until: UnixMillis,
    },
}

/// An attempt that is counted as failed until it is said to have succeeded. Dropping it leaves it failed.
#[derive(Debug)]
pub struct Reservation {
    place: Digest,
    at: UnixMillis,
    warned: bool,
}

impl Attempts {
    /// The counters of `store`, as they were when they were last flushed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(store: Store, rules: AttemptRules) -> Result<Self, StoreError> {
        let embedded = Embedded::open(store, rules.checked())?;
        Ok(Self { adapter: Adapter::Embedded(embedded) })
    }

    /// The counters beside the sessions that gateways share; nothing where those are not shared.
    #[must_use]
    pub fn shared(sessions: &Sessions, rules: AttemptRules) -> Option<Self> {
        let (line, keyring) = sessions.line()?;
        let shared = Shared::new(line, keyring, rules.checked(), SHARED_MAX);
        Some(Self { adapter: Adapter::Shared(Arc::new(shared)) })
    }

    /// The same, with room for so many and by the time of whoever asks.
    #[cfg(test)]
    pub(super) fn by_caller(sessions: &Sessions, rules: AttemptRules, room: usize) -> Option<Self> {
        let (line, keyring) = sessions.line()?;
        let shared = Shared::new(line, keyring, rules.checked(), room).by_caller();
        Some(Self { adapter: Adapter::Shared(Arc::new(shared)) })
    }

    /// Asks for an attempt, and counts it as failed when it is granted. `device` is what the browser's
    /// cookie proved: it has a counter of its own.
    ///
    /// # Errors
    /// When a shared store does not answer: then the attempt may not be made, and may be counted.
    pub async fn reserve(
        &self,
        login: &Login,
        device: Option<Uuid>,
        now: UnixMillis,
    ) -> Result<Attempt, StoreError> {
        let name = name(login, device);
        match &self.adapter {
            Adapter::Embedded(embedded) => Ok(embedded.reserve(&name, now)),
            // Boxed, so that whoever counts here does not carry what waits for a server.
            Adapter::Shared(shared) => Box::pin(shared.reserve(&name, now)).await,
        }
    }

    /// The password was right: all failures of this counter are forgotten.
    ///
    /// # Errors
    /// When a shared store does not answer: then the attempt may stay counted as failed.
    pub async fn succeed(&self, reservation: Reservation) -> Result<(), StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => {
                embedded.succeed(&reservation);
                Ok(())
            }
            Adapter::Shared(shared) => Box::pin(shared.succeed(&reservation)).await,
        }
    }

    /// The password was not looked at, because hashing had no place: the attempt did not happen.
    ///
    /// # Errors
    /// When a shared store does not answer: then the attempt may stay counted as failed.
    pub async fn give_back(&self, reservation: Reservation) -> Result<(), StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => {
                embedded.give_back(&reservation);
                Ok(())
            }
            Adapter::Shared(shared) => Box::pin(shared.give_back(&reservation)).await,
        }
    }

    /// Lifts lock and waiting of a login for unknown devices, as an administrator's act. Whether there was
    /// anything to forget.
    ///
    /// # Errors
    /// When the store fails; then the lock may hold.
    pub async fn forget(&self, login: &Login) -> Result<bool, StoreError> {
        let name = name(login, None);
        match &self.adapter {
            Adapter::Embedded(embedded) => {
                let was_held = embedded.forget(&name);
                embedded.flush().await?;
                Ok(was_held)
            }
            Adapter::Shared(shared) => Box::pin(shared.forget(&name)).await,
        }
    }

    /// Puts what changed into the store. Meant to run every second, and at the end. What gateways share is there already.
    ///
    /// # Errors
    /// When the store fails; the next flush tries again.
    pub async fn flush(&self) -> Result<(), StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => embedded.flush().await,
            Adapter::Shared(_) => Ok(()),
        }
    }

    /// How many counters there are.
    ///
    /// # Errors
    /// When a shared store does not answer.
    pub async fn count(&self) -> Result<usize, StoreError> {
        match &self.adapter {
            Adapter::Embedded(embedded) => Ok(embedded.count()),
            Adapter::Shared(shared) => Box::pin(shared.count()).await,
        }
    }
}

impl Attempt {
    fn of(counted: Counted, place: Digest, at: UnixMillis) -> Self {
        match counted {
            Counted::Granted { warned } => Self::Granted(Reservation { place, at, warned }),
            Counted::Slow(retry_after_ms) => Self::Slow { retry_after_ms },
            Counted::Locked(until) => Self::Locked { until },
        }
    }
}

impl Reservation {
    /// Whether, if this attempt fails, the person should be told that waiting and a lock come next.
    #[must_use]
    pub fn warned(&self) -> bool {
        self.warned
    }
}

impl AttemptRules {
    fn checked(self) -> Self {
        Self { attempts_max: self.attempts_max.max(1), ..self }
    }
}

/// What is counted: the account that a login has or would have, and the device where that is known.
fn name(login: &Login, device: Option<Uuid>) -> Vec<u8> {
    let device = device.map(Uuid::into_bytes);
    [login.account_id().as_bytes().as_slice(), device.as_ref().map_or(&[], |id| id)].concat()
}
