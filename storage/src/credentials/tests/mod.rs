//! Signing in, API keys and attempts, against an embedded store; attempts against the Redis that gateways share, too.

mod attempts;
mod gate;
mod kept_by_replicas;
mod records;
mod shared_attempts;
mod shared_records;
mod sign_in;
mod stored;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use engine::time::UnixMillis;

use super::*;
use crate::redis::server::Server;
use crate::sessions::redis::testing::up;
use crate::sessions::{SessionRules, Sessions};
use crate::{Keyring, Mark, Secret, Store};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

const N: u32 = 5;

const RULES: AttemptRules = AttemptRules { attempts_max: N, lockout_ms: 15 * 60_000 };

const PASSWORD: &str = "correct horse battery";

fn keyring() -> Keyring {
    Keyring::from_master(&[1; 32])
}

fn store(home: &Path) -> Store {
    Store::open(home, &keyring(), Mark::Production).unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn login(text: &str) -> Login {
    Login::parse(text).unwrap()
}

fn client() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn account(name: &str) -> NewAccount {
    let password = PasswordHash::new(&secret(PASSWORD)).unwrap();
    NewAccount { login: login(name), password, roles: set(&["viewer"]), groups: set(&["staff"]) }
}

/// What the sessions of these tests end by, which is nothing to them.
const SESSIONS: SessionRules = SessionRules { idle_ms: 60_000, absolute_ms: 60_000, per_account_max: 1 };

/// A desk with one account, `ada`.
struct Desk {
    /// Where its attempts are counted.
    counted: &'static str,
    accounts: Accounts,
    attempts: Attempts,
    sign_in: SignIn,
    _shared: Option<(Server, Arc<Sessions>)>,
}

/// A desk for each place that attempts are counted in.
async fn desks(gate: HashingGateSettings) -> [Desk; 2] {
    let server = Server::start();
    let sessions = up(&server, &keyring(), SESSIONS).await;
    let shared = Attempts::by_caller(&sessions, RULES, 65_536).unwrap();
    let alone = Attempts::open(Store::in_memory(&keyring()).unwrap(), RULES).unwrap();
    [desk("alone", alone, gate, None).await, desk("shared", shared, gate, Some((server, sessions))).await]
}

async fn desk(
    counted: &'static str,
    attempts: Attempts,
    gate: HashingGateSettings,
    shared: Option<(Server, Arc<Sessions>)>,
) -> Desk {
    let accounts = Accounts::new(Store::in_memory(&keyring()).unwrap());
    accounts.create(account("ada"), NOW).await.unwrap();
    let sign_in = SignIn::new(
        accounts.clone(),
        attempts.clone(),
        HashingGate::new(gate),
        DeviceCookies::new(keyring()),
        PasswordVerifier::new().unwrap(),
    );
    Desk { counted, accounts, attempts, sign_in, _shared: shared }
}

impl Desk {
    async fn attempt(
        &self,
        name: &str,
        password: &str,
        cookie: Option<&str>,
        now: UnixMillis,
    ) -> SignInOutcome {
        let attempt = SignInAttempt {
            login: name,
            password: secret(password),
            device_cookie: cookie,
            client: client(),
        };
        self.sign_in.attempt(attempt, now).await.unwrap()
    }

    async fn word(&self, name: &str, password: &str, cookie: Option<&str>, now: UnixMillis) -> String {
        word(&self.attempt(name, password, cookie, now).await)
    }
}

fn word(outcome: &SignInOutcome) -> String {
    match outcome {
        SignInOutcome::Accepted { .. } => "accepted".into(),
        SignInOutcome::Rejected { warned: false } => "rejected".into(),
        SignInOutcome::Rejected { warned: true } => "warned".into(),
        SignInOutcome::Suspended { .. } => "suspended".into(),
        SignInOutcome::Slow { retry_after_ms } => format!("slow {retry_after_ms}"),
        SignInOutcome::Locked { until } => format!("locked {}", until.since(NOW)),
        SignInOutcome::Busy { .. } => "busy".into(),
    }
}

/// Fails until the lock begins, 31 seconds after [`NOW`].
async fn lock(attempts: &Attempts, login: &Login) {
    for after in [0, 0, 0, 0, 0, 1_000, 3_000, 7_000, 15_000, 31_000] {
        assert!(matches!(asked(attempts, login, NOW.plus(after)).await, Attempt::Granted(_)));
    }
    assert!(matches!(asked(attempts, login, NOW.plus(31_000)).await, Attempt::Locked { .. }));
}

/// An attempt of a device that is not known.
async fn asked(attempts: &Attempts, login: &Login, now: UnixMillis) -> Attempt {
    attempts.reserve(login, None, now).await.unwrap()
}
