//! Access tokens of identity providers, as bearer.
//!
//! No cookie brings them along, so the rules against other sites do not concern them.

use std::sync::Arc;

use engine::identity::{Principal, PrincipalKind, Scheme};
use engine::refusal::{CredentialFault, Dependency, Refusal};
use engine::time::UnixMillis;
use storage::StoreError;
use storage::credentials::{Account, Accounts};
use uuid::Uuid;

use super::{OWN_TOKEN_NOTE, Outcome, Proved, bearer};
use crate::oidc::Providers;
use crate::oidc::access_token::AccessFault;
use crate::oidc::presented::{Digest, Known, Token};

/// The tokens of the configured providers.
pub(super) struct AccessTokens {
    providers: Arc<Providers>,
    taken: bool,
}

impl AccessTokens {
    pub(super) fn new(providers: Arc<Providers>) -> Self {
        let taken = providers.take_access_tokens();
        Self { providers, taken }
    }

    #[cfg(test)]
    pub(super) const fn providers(&self) -> &Arc<Providers> {
        &self.providers
    }

    /// Whether any provider's are taken.
    pub(super) const fn are_taken(&self) -> bool {
        self.taken
    }

    /// Verifies a token, and its person's account as it is at this moment.
    ///
    /// # Errors
    /// The account store does not answer, or the keys of the token's provider cannot be had: nobody is known by that.
    pub(super) async fn verify(
        &self,
        accounts: &Accounts,
        now: UnixMillis,
        text: &str,
        notes: &mut Vec<String>,
    ) -> Result<Outcome, Refusal> {
        let digest = Digest::of(text);
        if let Some((token, known)) = self.providers.presented.find(&digest)
            && token.stands(now)
        {
            return self.met(accounts, now, &token, known).await;
        }
        if bearer::is_own_upstream_token(text) {
            notes.push(OWN_TOKEN_NOTE.to_owned());
            return Ok(Outcome::Rejected(CredentialFault::BearerUnknown));
        }
        let token = match self.providers.verified(text, now).await {
            Ok((token, said)) => {
                notes.extend(said);
                Arc::new(token)
            }
            Err(fault) => {
                // It names the rule, never the token.
                notes.push(format!("access token: {fault}"));
                return match fault.tells_of_the_token() {
                    true => Ok(Outcome::Rejected(CredentialFault::Token)),
                    false => Err(Refusal::Unavailable(Dependency::IdentityProvider)),
                };
            }
        };
        self.providers.presented.put(digest, Arc::clone(&token), now);
        // After it is kept: whoever ends it marks it first, and then looks through what is kept.
        if self.providers.has_ended(&token) {
            self.providers.presented.remove(token.id);
            notes.push(format!("access token: {}", AccessFault::Ended));
            return Ok(Outcome::Rejected(CredentialFault::Token));
        }
        self.met(accounts, now, &token, None).await
    }

    /// Verifies again what was verified before, by the token's public id. It is kept for as long as anything rests on it.
    ///
    /// # Errors
    /// The account store does not answer.
    pub(super) async fn again(
        &self,
        accounts: &Accounts,
        now: UnixMillis,
        id: Uuid,
    ) -> Result<Outcome, Refusal> {
        let rejected = Ok(Outcome::Rejected(CredentialFault::Token));
        let Some((token, known)) = self.providers.presented.of_id(id) else { return rejected };
        if !token.stands(now) {
            return rejected;
        }
        // Whoever was removed in the meantime is not made anew by what is still open.
        match accounts.find(token.person.origin.account_id()).await.map_err(unanswered)? {
            Some(account) => Ok(self.of(account, &token, known)),
            None => rejected,
        }
    }

    async fn met(
        &self,
        accounts: &Accounts,
        now: UnixMillis,
        token: &Token,
        known: Option<Known>,
    ) -> Result<Outcome, Refusal> {
        // Read every time, so that a suspension holds for the very next request.
        let account = accounts.met(&token.person, now).await.map_err(unanswered)?;
        Ok(self.of(account, token, known))
    }

    fn of(&self, account: Arc<Account>, token: &Token, known: Option<Known>) -> Outcome {
        if account.suspended {
            return Outcome::Rejected(CredentialFault::Suspended);
        }
        let same = known.filter(|(from, _)| Arc::ptr_eq(from, &account));
        let principal = same.map(|(_, principal)| principal).unwrap_or_else(|| {
            let principal = Arc::new(principal(&account, token));
            self.providers.presented.know(token.id, (account, Arc::clone(&principal)));
            principal
        });
        Outcome::Verified(Box::new(Proved { principal, session: None }))
    }
}

fn unanswered(error: StoreError) -> Refusal {
    tracing::error!(error = &error as &dyn std::error::Error, "the account store does not answer");
    Refusal::Unavailable(Dependency::Credentials)
}

/// Roles and groups are the token's: what its person has consented to may be less than what they have when they sign in.
fn principal(account: &Account, token: &Token) -> Principal {
    Principal {
        kind: PrincipalKind::User,
        id: account.id,
        name: account.login.as_str().to_owned(),
        roles: token.person.roles.clone(),
        groups: token.person.groups.clone(),
        scopes: token.token.scopes.clone(),
        scheme: Scheme::AccessToken,
        assurance: token.assurance,
        authenticated_at: token.token.authenticated_at,
        credential_id: Some(token.id),
        expires_at: Some(token.token.times.ends),
        suspended: account.suspended,
    }
}
