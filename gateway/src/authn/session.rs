//! The session cookie.

use std::sync::Arc;

use engine::identity::{Principal, PrincipalKind, Scheme};
use engine::kept::Kept;
use engine::refusal::{CredentialFault, Dependency, Refusal};
use engine::time::UnixMillis;
use rustc_hash::FxBuildHasher;
use storage::StoreError;
use storage::credentials::{Account, Accounts};
use storage::sessions::{SessionSecret, SessionView, Sessions};
use uuid::Uuid;

use super::{Outcome, Proved, unanswered_by};

/// The principals of sessions that were verified before: as long as a session and its account are what they were, so
/// is who it stands for, and whoever compares principals sees that at a glance. Sessions' ids are drawn here, so that nobody
/// chooses them to collide.
#[derive(Default)]
pub(super) struct Principals(Kept<Uuid, (Arc<Account>, Arc<Principal>), FxBuildHasher>);

/// Verifies a cookie's secret: the session lives, and so does its account, as it is at this moment.
///
/// # Errors
/// A store that must be asked does not answer: nobody is signed in by that.
pub(super) async fn verify(
    sessions: &Sessions,
    accounts: &Accounts,
    principals: &Principals,
    now: UnixMillis,
    secret: &SessionSecret,
) -> Result<Outcome, Refusal> {
    match sessions.find(secret, now).await.map_err(unanswered)? {
        Some(session) => of(accounts, principals, session).await,
        None => Ok(Outcome::Rejected(CredentialFault::SessionEnded)),
    }
}

/// Verifies again what was verified before, by the session's public id.
///
/// # Errors
/// A store that must be asked does not answer.
pub(super) async fn again(
    sessions: &Sessions,
    accounts: &Accounts,
    principals: &Principals,
    now: UnixMillis,
    id: Uuid,
) -> Result<Outcome, Refusal> {
    match sessions.live(id, now).await.map_err(unanswered)? {
        Some(session) => of(accounts, principals, session).await,
        None => Ok(Outcome::Rejected(CredentialFault::SessionEnded)),
    }
}

fn unanswered(error: StoreError) -> Refusal {
    unanswered_by("the session store", &error);
    Refusal::Unavailable(Dependency::Sessions)
}

async fn of(accounts: &Accounts, principals: &Principals, session: SessionView) -> Result<Outcome, Refusal> {
    // Read every time, so that a suspension or a changed role holds for the very next request.
    // Who has signed in at another gateway may be unknown here: the session says whom the provider vouched for.
    let found = match &session.person {
        Some(person) => accounts.learnt(person, session.created_at).await.map(Some),
        None => accounts.find(session.account).await,
    };
    let account = found.map_err(|error| {
        unanswered_by("the account store", &error);
        Refusal::Unavailable(Dependency::Credentials)
    })?;
    match account {
        None => Ok(Outcome::Rejected(CredentialFault::SessionEnded)),
        Some(account) if account.suspended => Ok(Outcome::Rejected(CredentialFault::Suspended)),
        Some(account) => {
            let principal = principals.of(&account, &session);
            Ok(Outcome::Verified(Box::new(Proved { principal, session: Some(session) })))
        }
    }
}

impl Principals {
    fn of(&self, account: &Arc<Account>, session: &SessionView) -> Arc<Principal> {
        let again = |(from, principal): &(Arc<Account>, Arc<Principal>)| {
            let same = Arc::ptr_eq(from, account)
                && principal.assurance == session.assurance
                && principal.authenticated_at == session.authenticated_at
                && principal.expires_at == Some(session.absolute_end);
            same.then(|| Arc::clone(principal))
        };
        self.0.get(&session.id, again).unwrap_or_else(|| {
            let principal = Arc::new(principal(account, session));
            self.0.put(session.id, (Arc::clone(account), Arc::clone(&principal)));
            principal
        })
    }
}

fn principal(account: &Account, session: &SessionView) -> Principal {
    Principal {
        kind: PrincipalKind::User,
        id: account.id,
        name: account.login.as_str().to_owned(),
        roles: account.roles.clone(),
        groups: account.groups.clone(),
        scopes: std::collections::BTreeSet::new(),
        scheme: Scheme::Session,
        assurance: session.assurance,
        authenticated_at: session.authenticated_at,
        credential_id: Some(session.id),
        expires_at: Some(session.absolute_end),
        suspended: account.suspended,
    }
}
