//! Signing in with a password: every step, in the one order that is safe.

use std::net::IpAddr;

use engine::time::UnixMillis;
use uuid::Uuid;

use super::{
    Account, Accounts, Attempt, Attempts, DeviceCookies, GateError, HashingGate, Login, PasswordVerifier,
};
use crate::{Secret, StoreError};

/// Signs people in. Cheap to clone.
#[derive(Clone)]
pub struct SignIn {
    accounts: Accounts,
    attempts: Attempts,
    gate: HashingGate,
    devices: DeviceCookies,
    verifier: PasswordVerifier,
}

/// What a person or program presented.
pub struct SignInAttempt<'a> {
    /// The login as typed.
    pub login: &'a str,
    /// The password as typed.
    pub password: Secret<String>,
    /// The value of the device cookie, where the browser sent one.
    pub device_cookie: Option<&'a str>,
    /// Where from.
    pub client: IpAddr,
}

/// What came of it.
pub enum SignInOutcome {
    /// The password was right.
    Accepted {
        /// Whose it was.
        account: Account,
        /// The value that the device cookie should have from now on.
        device_cookie: String,
    },
    /// Login or password were wrong; which of them is nobody's business.
    Rejected {
        /// Whether the person should be told that waiting and a lock come next.
        warned: bool,
    },
    /// The password was right, and the account is suspended. Only records may tell.
    Suspended {
        /// Whose it was.
        account: Account,
    },
    /// Too many failures: the password was not looked at.
    Slow {
        /// Milliseconds until the next attempt is looked at.
        retry_after_ms: u64,
    },
    /// Far too many failures: the password was not looked at.
    Locked {
        /// When the lock ends.
        until: UnixMillis,
    },
    /// Too many passwords wait to be hashed: it was not looked at, and the attempt does not count.
    Busy {
        /// Seconds after which there should be a place.
        retry_after_s: u32,
    },
}

impl SignIn {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        accounts: Accounts,
        attempts: Attempts,
        gate: HashingGate,
        devices: DeviceCookies,
        verifier: PasswordVerifier,
    ) -> Self {
        Self { accounts, attempts, gate, devices, verifier }
    }

    /// One attempt.
    ///
    /// A login that no account can have is rejected without hashing: that tells nothing that its spelling
    /// did not tell already. Every other login costs the same, whether it exists or not.
    ///
    /// # Errors
    /// When the store fails, or one that gateways share does not answer; nobody is signed in by that.
    pub async fn attempt(
        &self,
        attempt: SignInAttempt<'_>,
        now: UnixMillis,
    ) -> Result<SignInOutcome, StoreError> {
        let SignInAttempt { login, password, device_cookie, client } = attempt;
        let Ok(login) = Login::parse(login) else { return Ok(SignInOutcome::Rejected { warned: false }) };
        let (account, stored) = self.accounts.find_with_password(&login).await?.unzip();
        let device = device_cookie
            .zip(account.as_ref())
            .and_then(|(cookie, account)| self.devices.verify(cookie, account, now));

        let reservation = match self.attempts.reserve(&login, device, now).await? {
            Attempt::Granted(reservation) => reservation,
            Attempt::Slow { retry_after_ms } => return Ok(SignInOutcome::Slow { retry_after_ms }),
            Attempt::Locked { until } => return Ok(SignInOutcome::Locked { until }),
        };
        let verifier = self.verifier.clone();
        let verified = self.gate.run(client, move || verifier.verify(stored.as_ref(), &password)).await;
        let account = match (verified, account) {
            (Ok(true), Some(account)) => account,
            (Ok(_), _) => return Ok(SignInOutcome::Rejected { warned: reservation.warned() }),
            (Err(GateError::Busy { retry_after_s }), _) => {
                if let Err(error) = self.attempts.give_back(reservation).await {
                    tracing::warn!(%error, "an attempt that was not looked at stays counted as failed");
                }
                return Ok(SignInOutcome::Busy { retry_after_s });
            }
            (Err(GateError::Interrupted), _) => return Err(StoreError::Interrupted),
        };
        // Nobody is let in whose failures would go on to lock them out.
        self.attempts.succeed(reservation).await?;
        if account.suspended {
            return Ok(SignInOutcome::Suspended { account });
        }
        let device_cookie = self.devices.make(account.id, device.unwrap_or_else(Uuid::new_v4), now);
        Ok(SignInOutcome::Accepted { account, device_cookie })
    }
}
