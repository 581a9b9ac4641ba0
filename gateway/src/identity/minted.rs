//! Tokens that were signed a moment ago.
//!
//! A person's page asks for a dozen things at once, and each would be signed for by itself. A token is told again for
//! a few of its sixty seconds, to the same upstream, for exactly the same principal under the same bundle: whatever is
//! said in it would be said again.

use std::sync::Arc;

use engine::identity::Principal;
use engine::kept::Kept;
use engine::time::UnixMillis;
use http::HeaderValue;
use rustc_hash::FxBuildHasher;
use uuid::Uuid;

/// How long a token is told again, in milliseconds: a twelfth of what it is good for, so that it still reaches an
/// upstream with the whole of its time but that.
const TOLD_AGAIN_MS: u64 = 5_000;

/// The tokens by principal and upstream, a kilobyte or so each.
#[derive(Default)]
pub struct Minted {
    /// Hashed without a secret: the ids of principals are made of SHA-1 or of random bits, so that nobody finds many of one
    /// hash; and there are never more than `kept::ENTRIES_MAX`.
    kept: Kept<(Uuid, Arc<str>), Token, FxBuildHasher>,
}

struct Token {
    principal: Arc<Principal>,
    bundle: Arc<str>,
    minted_at: UnixMillis,
    header: HeaderValue,
}

impl Minted {
    /// The header that tells `upstream` of a principal; `mint` signs it where none is fresh. `None` when what it signs
    /// is no header value.
    pub fn header(
        &self,
        upstream: &Arc<str>,
        principal: &Arc<Principal>,
        bundle: &Arc<str>,
        now: UnixMillis,
        mint: impl FnOnce() -> String,
    ) -> Option<HeaderValue> {
        let key = (principal.id, Arc::clone(upstream));
        let again = |kept: &Token| {
            let who = Arc::ptr_eq(&kept.principal, principal) || kept.principal == *principal;
            let same = who && kept.is_fresh(now) && kept.bundle == *bundle;
            same.then(|| kept.header.clone())
        };
        if let Some(header) = self.kept.get(&key, again) {
            return Some(header);
        }
        let mut header = HeaderValue::try_from(format!("Bearer {}", mint())).ok()?;
        header.set_sensitive(true);
        let (principal, bundle) = (Arc::clone(principal), Arc::clone(bundle));
        self.kept.put(key, Token { principal, bundle, minted_at: now, header: header.clone() });
        Some(header)
    }
}

impl Token {
    /// A clock that was put back makes no token old enough to be wrong, and none fresh.
    fn is_fresh(&self, now: UnixMillis) -> bool {
        (self.minted_at.0..self.minted_at.0.saturating_add(TOLD_AGAIN_MS)).contains(&now.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use engine::identity::{PrincipalKind, Scheme};

    use super::*;

    fn ada() -> Principal {
        Principal {
            kind: PrincipalKind::User,
            id: Uuid::from_u128(7),
            name: "ada".into(),
            roles: BTreeSet::from(["standard_user".into()]),
            groups: BTreeSet::new(),
            scopes: BTreeSet::new(),
            scheme: Scheme::Session,
            assurance: 1,
            authenticated_at: UnixMillis(1_000),
            credential_id: Some(Uuid::from_u128(8)),
            expires_at: None,
            suspended: false,
        }
    }

    #[test]
    fn a_token_is_told_again_only_to_the_same_for_the_same_and_while_it_is_fresh() {
        let (crm, erp): (Arc<str>, Arc<str>) = ("crm".into(), "erp".into());
        let minted = Minted::default();
        let (bundle, another): (Arc<str>, Arc<str>) = ("bundle".into(), "another bundle".into());
        let tell = |upstream: &Arc<str>, principal: &Principal, now: u64, fresh: &str| {
            let principal = Arc::new(principal.clone());
            let header = minted.header(upstream, &principal, &bundle, UnixMillis(now), || fresh.to_owned());
            header.unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(tell(&crm, &ada(), 10_000, "a"), "Bearer a");
        assert_eq!(tell(&crm, &ada(), 14_999, "b"), "Bearer a");
        assert_eq!(tell(&erp, &ada(), 14_999, "c"), "Bearer c", "another upstream");
        assert_eq!(tell(&crm, &ada(), 15_000, "d"), "Bearer d", "no longer fresh");
        assert_eq!(tell(&crm, &ada(), 14_000, "e"), "Bearer e", "the clock was put back");
        for (fresh, change) in [
            ("f", Principal { roles: BTreeSet::new(), ..ada() }),
            ("g", Principal { name: "Ada".into(), ..ada() }),
            ("h", Principal { credential_id: None, ..ada() }),
            ("i", Principal { expires_at: Some(UnixMillis(20_000)), ..ada() }),
        ] {
            assert_eq!(tell(&crm, &change, 14_001, fresh), format!("Bearer {fresh}"), "{change:?}");
        }
        let ada = Arc::new(ada());
        assert!(minted.header(&crm, &ada, &bundle, UnixMillis(90_000), || "a\nb".into()).is_none());
        let other = minted.header(&crm, &ada, &another, UnixMillis(14_002), || "j".into());
        assert_eq!(other.unwrap(), "Bearer j");
    }
}
