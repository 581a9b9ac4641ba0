//! A provider takes back what it has given us for a session that its person has ended here (RFC 7009).
//!
//! Nobody waits for it, and nothing rests on it: the session has ended before, and what was kept of it is forgotten. A
//! provider that is away keeps a token that nobody has any more.
//!
//! Only whoever signs out has this done. Providers take the whole grant back with one token of it, and a session that was
//! followed by another, as a step-up's is, may share its grant with that.

use std::sync::Arc;

use storage::grants::Grant;

use super::{Fault, HttpFault, Provider, Providers};

const WHAT: &str = "the revocation endpoint";

impl Providers {
    /// Has a grant taken back where its provider offers that, after this returns.
    pub(super) fn give_back(self: &Arc<Self>, grant: Grant) {
        let providers = Arc::clone(self);
        tokio::spawn(async move {
            let Some(provider) = providers.of_issuer(&grant.issuer) else { return };
            if let Err(fault) = provider.revoke(&grant.refresh_token).await {
                tracing::warn!(provider = &**provider.name(), %fault, "a provider could not be told of a sign-out");
            }
        });
    }
}

impl Provider {
    async fn revoke(&self, refresh_token: &str) -> Result<(), Fault> {
        let metadata = self.metadata().await?;
        let Some(url) = &metadata.revocation_endpoint else { return Ok(()) };
        let fields = vec![("token", refresh_token), ("token_type_hint", "refresh_token")];
        let what = WHAT;
        let answer =
            self.as_client(&metadata, url, fields).await.map_err(|fault| Fault::Http { what, fault })?;
        // Section 2.2: also for a token that is over already.
        match answer.status {
            200 => Ok(()),
            status => Err(Fault::Http { what, fault: HttpFault::Status(status) }),
        }
    }
}
