//! A refresh token becomes a provider's word of this moment (RFC 6749, section 6; OpenID Connect Core 1.0, section 12).

use engine::time::UnixMillis;
use serde::Deserialize;
use serde_json::Value;
use storage::credentials::Origin;
use storage::grants::{Grant, REFRESH_TOKEN_BYTES_MAX};
use storage::sessions::SignOutHint;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::claims::{self, Mapped};
use super::id_token::{Expected, TokenFault};
use super::{Fault, Provider};

/// How long an answer counts that does not say it: 5 minutes, in milliseconds, as most providers' access tokens live.
pub const LIFETIME_MS_DEFAULT: u64 = 5 * 60 * 1000;
/// How long an answer counts at most: a day, in milliseconds.
pub const LIFETIME_MS_MAX: u64 = 24 * 3600 * 1000;

/// What a token endpoint answers to a refresh token.
#[derive(Deserialize, ZeroizeOnDrop)]
pub(super) struct Renewal {
    id_token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
    #[zeroize(skip)]
    expires_in: Option<Value>,
}

/// What a renewal says.
pub(super) struct Said {
    /// Who the session's person is now; `None` where it does not say and the provider is not asked for more.
    pub(super) mapped: Option<Mapped>,
    /// What the provider is shown from now on when they sign out there, where it has given something that can be.
    pub(super) hint: Option<SignOutHint>,
}

/// What a provider gives for a session, beside the person that it vouches for.
#[derive(Clone)]
pub struct Granted {
    /// With what it is asked again.
    pub refresh_token: Zeroizing<String>,
    /// Until when its word counts.
    pub counts_until: UnixMillis,
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted").field("counts_until", &self.counts_until).finish_non_exhaustive()
    }
}

impl Granted {
    /// What was given with a code, where a refresh token of a length that we keep is among it.
    pub(super) fn of(
        refresh_token: Option<&str>,
        expires_in: Option<&Value>,
        now: UnixMillis,
    ) -> Option<Self> {
        let refresh_token = Zeroizing::new(usable(refresh_token)?.to_owned());
        Some(Self { refresh_token, counts_until: now.plus(lifetime_ms(expires_in)) })
    }
}

impl Renewal {
    /// The token with which to ask the next time, where it is another.
    pub(super) fn rotated(&self) -> Option<&str> {
        usable(self.refresh_token.as_deref())
    }

    pub(super) fn lifetime_ms(&self) -> u64 {
        lifetime_ms(self.expires_in.as_ref())
    }
}

fn usable(token: Option<&str>) -> Option<&str> {
    token.filter(|token| (1..=REFRESH_TOKEN_BYTES_MAX).contains(&token.len()))
}

/// `expires_in` of RFC 6749, section 5.1; some providers write the number as a text.
fn lifetime_ms(expires_in: Option<&Value>) -> u64 {
    let seconds = expires_in.and_then(|said| said.as_u64().or_else(|| said.as_str()?.parse().ok()));
    seconds.map_or(LIFETIME_MS_DEFAULT, |seconds| seconds.saturating_mul(1000)).min(LIFETIME_MS_MAX)
}

impl Provider {
    /// Whether its sessions go on by its word alone.
    #[must_use]
    pub fn is_asked_again(&self) -> bool {
        self.settings.refresh
    }

    /// Shows a refresh token. Nothing of the answer is believed yet but that the provider has given it.
    pub(super) async fn renewal(&self, refresh_token: &str) -> Result<Renewal, Fault> {
        let metadata = self.metadata().await?;
        let fields = vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        self.token_answer(&metadata, fields).await
    }

    /// What a renewal says of the session's person.
    pub(super) async fn said_anew(
        &self,
        grant: &Grant,
        renewal: &Renewal,
        now: UnixMillis,
    ) -> Result<Said, Fault> {
        let metadata = self.metadata().await?;
        let access_token = renewal.access_token.as_deref();
        let signed = match &renewal.id_token {
            None => None,
            Some(text) => {
                let expected = Expected {
                    issuer: &self.settings.issuer,
                    client_id: &self.settings.client_id,
                    audiences: &self.settings.audiences,
                    // Whose sign-in it goes back to is said by `sub`; it should have none.
                    nonce: None,
                    access_token,
                    now,
                };
                let token = self.verified(&metadata, text, &expected).await?;
                if token.origin.subject() != grant.subject {
                    return Err(TokenFault::OtherSubject.into());
                }
                Some(token.claims)
            }
        };
        let hint = renewal.id_token.as_deref().and_then(|text| metadata.hint(text));
        let userinfo = match (&metadata.userinfo_endpoint, access_token) {
            (Some(url), Some(token)) if self.settings.userinfo => {
                Some(self.userinfo(url, token, &grant.subject).await?)
            }
            (Some(_) | None, _) => None,
        };
        let claims = match (signed, userinfo) {
            (Some(signed), Some(userinfo)) => claims::together(signed, userinfo),
            (Some(claims), None) | (None, Some(claims)) => claims,
            (None, None) => return Ok(Said { mapped: None, hint }),
        };
        let origin = Origin::new(&self.settings.issuer, &grant.subject).map_err(TokenFault::from)?;
        Ok(Said { mapped: Some(claims::map(&self.settings, origin, &claims)), hint })
    }
}
