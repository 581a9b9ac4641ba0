//! Who is asking, once it has been verified.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::UnixMillis;

/// The namespace of every principal's id: a principal is `UUIDv5(namespace, length-prefixed parts)`.
const PRINCIPALS: Uuid = Uuid::from_u128(0x8c2f_6d1e_90a4_4c57_b3a8_5f0e_71d2_46c9);

/// The issuer under which local accounts and services are named.
pub const LOCAL_ISSUER: &str = "cedargate:local";

/// Who a request comes from.
#[derive(Clone, Debug)]
pub enum Identity {
    /// Nobody presented a credential.
    Anonymous,
    /// A verified person, service or operator.
    Known(Arc<Principal>),
}

/// What kind of principal was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A program with an API key.
    Service,
    /// Whoever holds the control socket; the id is its user id on this machine.
    Operator,
}

/// How a principal was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Our session cookie.
    Session,
    /// An API key, in `X-API-Key` or as bearer.
    ApiKey,
    /// An access token of an identity provider, as bearer.
    AccessToken,
    /// The peer of the control socket, as the kernel tells it.
    ControlSocket,
}

/// A verified principal: immutable, shared, versioned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// What kind it is.
    pub kind: PrincipalKind,
    /// Stable, never nil, never a provider's `sub` as it stands (see [`principal_id`]).
    pub id: Uuid,
    /// The name that people know it by: login or service name.
    pub name: String,
    /// Roles held directly.
    pub roles: BTreeSet<String>,
    /// Groups that it is a member of.
    pub groups: BTreeSet<String>,
    /// What an API key or an access token is restricted to: action names or `*`-suffixed prefixes. Empty for sessions,
    /// which are not restricted.
    pub scopes: BTreeSet<String>,
    /// How it was proved.
    pub scheme: Scheme,
    /// 1: one factor; 2: two factors; 3: phishing-resistant. 0 never occurs.
    pub assurance: u8,
    /// When it was proved; 0 where nobody says, so that no rule takes it for fresh.
    pub authenticated_at: UnixMillis,
    /// The public id of the session, key or token that carries it.
    pub credential_id: Option<Uuid>,
    /// When the credential ends for good.
    pub expires_at: Option<UnixMillis>,
    /// Whether the account is suspended. `identify` refuses it already; a guardrail refuses it again, also where
    /// a connection outlives the moment of suspension.
    #[serde(default)]
    pub suspended: bool,
}

impl Principal {
    /// Somebody of this name, proved by one factor at this moment, who holds nothing: no role, no group, and no scope, so
    /// that a service's key covers no action until it is given some.
    #[must_use]
    pub fn named(kind: PrincipalKind, issuer: &str, name: &str, authenticated_at: UnixMillis) -> Self {
        Self {
            kind,
            id: principal_id(kind, issuer, name),
            name: name.to_owned(),
            roles: BTreeSet::new(),
            groups: BTreeSet::new(),
            scopes: BTreeSet::new(),
            scheme: match kind {
                PrincipalKind::User => Scheme::Session,
                PrincipalKind::Service => Scheme::ApiKey,
                PrincipalKind::Operator => Scheme::ControlSocket,
            },
            assurance: 1,
            authenticated_at,
            credential_id: None,
            expires_at: None,
            suspended: false,
        }
    }
}

/// The stable id of a principal.
///
/// The parts are length-prefixed, so that no choice of issuer and subject can spell another pair:
/// a second provider can never assert the id of a principal of the first.
#[must_use]
pub fn principal_id(kind: PrincipalKind, issuer: &str, subject: &str) -> Uuid {
    let kind = match kind {
        PrincipalKind::User => "user",
        PrincipalKind::Service => "service",
        PrincipalKind::Operator => "operator",
    };
    let mut name = Vec::with_capacity(24 + kind.len() + issuer.len() + subject.len());
    for part in [kind, issuer, subject] {
        name.extend_from_slice(&(part.len() as u64).to_be_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    Uuid::new_v5(&PRINCIPALS, &name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [PrincipalKind; 3] = [PrincipalKind::User, PrincipalKind::Service, PrincipalKind::Operator];

    /// The ids are in stores and records of running gateways: a change here would make everybody a stranger.
    #[test]
    fn ids_never_change() {
        let check = |kind, issuer: &str, subject: &str, id: &str| {
            assert_eq!(principal_id(kind, issuer, subject).to_string(), id, "{kind:?} {issuer} {subject}");
        };
        check(PrincipalKind::User, LOCAL_ISSUER, "alice", "e8ee1fb3-0013-58ee-96a3-0ce979db7046");
        check(PrincipalKind::Service, LOCAL_ISSUER, "alice", "3f58c240-fcb0-5d95-85d0-5696f615f812");
        check(PrincipalKind::Operator, LOCAL_ISSUER, "1000", "3828fd2b-8f4e-58d7-a7b8-d10c9320cbc7");
        check(PrincipalKind::User, "https://id.example.org", "alice", "45bcc946-c0e0-5438-b763-ce870f35db92");
        check(PrincipalKind::User, "", "", "9be2bf17-8a00-506c-845c-05bc4fb5d147");
    }

    fn parts() -> impl Strategy<Value = (usize, String, String)> {
        // A small alphabet, so that splits of one text are common.
        (0_usize..3, "[a:]{0,4}", "[a:]{0,4}")
    }

    proptest! {
        #[test]
        fn no_two_principals_share_an_id(one in parts(), other in parts()) {
            let id = |(kind, issuer, subject): &(usize, String, String)| principal_id(KINDS[*kind], issuer, subject);
            prop_assert_eq!(one == other, id(&one) == id(&other));
            prop_assert!(!id(&one).is_nil());
        }

        #[test]
        fn a_subject_moved_into_the_issuer_is_somebody_else(text in "[a-z:./]{1,12}", at in 0_usize..12, to in 0_usize..12) {
            let (at, to) = (at.min(text.len()), to.min(text.len()));
            let split = |at: usize| {
                let (issuer, subject) = text.split_at(at);
                principal_id(PrincipalKind::User, issuer, subject)
            };
            prop_assert_eq!(at == to, split(at) == split(to));
        }
    }
}
