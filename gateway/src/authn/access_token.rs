//! Access tokens of identity providers, as bearer.
//!
//! No cookie brings them along, so the rules against other sites do not concern them.

use std::net::IpAddr;
use std::sync::Arc;

use engine::identity::{Principal, PrincipalKind, Scheme};
use engine::refusal::{CredentialFault, Dependency, Refusal};
use engine::time::UnixMillis;
use storage::StoreError;
use storage::credentials::{Account, Accounts};
use uuid::Uuid;

use super::{OWN_TOKEN_NOTE, Outcome, Proved, bearer, unanswered_by};
use crate::admin::metrics::{Asked, Metrics};
use crate::oidc::Providers;
use crate::oidc::access_token::AccessFault;
use crate::oidc::introspection::NotTold;
use crate::oidc::presented::{Digest, Known, Token};

/// The tokens of the configured providers.
pub(super) struct AccessTokens {
    providers: Arc<Providers>,
    metrics: Arc<Metrics>,
    taken: bool,
    opaque: bool,
}

impl AccessTokens {
    pub(super) fn new(providers: Arc<Providers>, metrics: Arc<Metrics>) -> Self {
        let (taken, opaque) = (providers.take_access_tokens(), providers.are_asked_about_tokens());
        Self { providers, metrics, taken, opaque }
    }

    #[cfg(test)]
    pub(super) const fn providers(&self) -> &Arc<Providers> {
        &self.providers
    }

    /// Whether any provider's are taken.
    pub(super) const fn are_taken(&self) -> bool {
        self.taken
    }

    /// Whether a provider is asked about those that are no JWT.
    pub(super) const fn are_asked_about(&self) -> bool {
        self.opaque
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
            return self.known_token(accounts, now, (&token, known), notes).await;
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
        self.new_token(accounts, now, &token, notes).await
    }

    /// Verifies an opaque token, about which its provider is asked where that was not done lately.
    ///
    /// # Errors
    /// The account store or the provider does not answer: nobody is known by that. `Throttled` where too many tokens of
    /// this address were none.
    pub(super) async fn verify_opaque(
        &self,
        accounts: &Accounts,
        now: UnixMillis,
        (client, text): (IpAddr, &str),
        notes: &mut Vec<String>,
    ) -> Result<Outcome, Refusal> {
        if let Some((token, known)) = self.providers.presented.find(&Digest::of(text))
            && token.stands(now)
        {
            return self.known_token(accounts, now, (&token, known), notes).await;
        }
        let told = self.providers.introspected(text, Some(client), now).await;
        match told {
            Ok((token, said)) => {
                self.metrics.token_asked_about(Asked::Active);
                notes.extend(said);
                self.new_token(accounts, now, &token, notes).await
            }
            Err(not_told) => self.not_told(&not_told, notes),
        }
    }

    fn not_told(&self, not_told: &NotTold, notes: &mut Vec<String>) -> Result<Outcome, Refusal> {
        match not_told {
            NotTold::Guessing { retry_after_s } => {
                self.metrics.token_asked_about(Asked::Held);
                notes.push("access token: not asked about, too many from this address were none".to_owned());
                Err(Refusal::Throttled { retry_after_s: *retry_after_s, limit: None })
            }
            NotTold::Fault(fault) => {
                notes.push(format!("access token: {fault}"));
                if fault.tells_of_the_token() {
                    self.metrics.token_asked_about(Asked::Refused);
                    Ok(Outcome::Rejected(CredentialFault::Token))
                } else {
                    self.metrics.token_asked_about(Asked::Away);
                    Err(Refusal::Unavailable(Dependency::IdentityProvider))
                }
            }
        }
    }

    /// After it is kept: whoever ends it marks it first, and then looks through what is kept.
    async fn new_token(
        &self,
        accounts: &Accounts,
        now: UnixMillis,
        token: &Token,
        notes: &mut Vec<String>,
    ) -> Result<Outcome, Refusal> {
        if self.has_ended(token).await? {
            notes.push(format!("access token: {}", AccessFault::Ended));
            return Ok(Outcome::Rejected(CredentialFault::Token));
        }
        let known = self.providers.presented.of_id(token.id).and_then(|(_, known)| known);
        self.met(accounts, now, token, known).await
    }

    /// One that this gateway has verified before. What ends it here takes it out of what is kept; where another gateway may
    /// have been told of its end, that is asked each time.
    async fn known_token(
        &self,
        accounts: &Accounts,
        now: UnixMillis,
        (token, known): (&Token, Option<Known>),
        notes: &mut Vec<String>,
    ) -> Result<Outcome, Refusal> {
        if self.has_ended_elsewhere(token).await? {
            notes.push(format!("access token: {}", AccessFault::Ended));
            return Ok(Outcome::Rejected(CredentialFault::Token));
        }
        self.met(accounts, now, token, known).await
    }

    async fn has_ended_elsewhere(&self, token: &Token) -> Result<bool, Refusal> {
        if self.providers.endings.are_shared() { self.has_ended(token).await } else { Ok(false) }
    }

    /// Whether its provider has ended it; then it is forgotten.
    async fn has_ended(&self, token: &Token) -> Result<bool, Refusal> {
        let ended = self.providers.has_ended(token).await.map_err(|error| {
            unanswered_by("the store of what providers have ended", &error);
            Refusal::Unavailable(Dependency::Credentials)
        })?;
        if ended {
            self.providers.presented.remove(token.id);
        }
        Ok(ended)
    }

    /// Until when a token is believed without asking its provider again, where that has to be asked.
    pub(super) fn told_until(&self, id: Uuid) -> Option<UnixMillis> {
        self.providers.presented.of_id(id).and_then(|(token, _)| token.told_until())
    }

    /// Verifies again what was verified before, by the token's public id. It is kept for as long as anything rests on it.
    ///
    /// # Errors
    /// The account store does not answer, or the provider of an opaque token.
    pub(super) async fn again(
        &self,
        accounts: &Accounts,
        now: UnixMillis,
        id: Uuid,
    ) -> Result<Outcome, Refusal> {
        let rejected = Ok(Outcome::Rejected(CredentialFault::Token));
        let Some((mut token, mut known)) = self.providers.presented.of_id(id) else { return rejected };
        if !token.stands(now) {
            let Some(text) = token.to_ask_about(now) else { return rejected };
            token = match self.providers.introspected(text, None, now).await {
                Ok((token, _)) => token,
                Err(not_told) => return self.not_told(&not_told, &mut Vec::new()),
            };
            self.metrics.token_asked_about(Asked::Active);
            if self.has_ended(&token).await? {
                return rejected;
            }
            known = self.providers.presented.of_id(id).and_then(|(_, known)| known);
        } else if self.has_ended_elsewhere(&token).await? {
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
    unanswered_by("the account store", &error);
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
