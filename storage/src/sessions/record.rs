//! A session as it is sealed, and which ones make room for one more.

use std::net::IpAddr;
use std::sync::Arc;

use engine::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{NewSession, ProviderSession, SessionRules, SessionView, USER_AGENT_BYTES_MAX};
use crate::credentials::Person;
use crate::keyring::Digest;

/// What is sealed: all of a session that never changes.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: Uuid,
    pub(super) account: Uuid,
    created_at: UnixMillis,
    absolute_end: UnixMillis,
    assurance: u8,
    /// Absent in records of before it was kept: then nobody says.
    #[serde(default = "unsaid", skip_serializing_if = "is_unsaid")]
    authenticated_at: UnixMillis,
    client: Option<IpAddr>,
    user_agent: Option<Arc<str>>,
    /// Absent in records of before there were names to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<Arc<ProviderSession>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person: Option<Arc<Person>>,
}

const fn unsaid() -> UnixMillis {
    UnixMillis(0)
}

fn is_unsaid(moment: &UnixMillis) -> bool {
    *moment == unsaid()
}

impl Record {
    pub(super) fn new(new: NewSession, rules: &SessionRules, now: UnixMillis) -> Self {
        let user_agent = new.user_agent.map(|mut text| {
            text.truncate(text.floor_char_boundary(USER_AGENT_BYTES_MAX));
            text.into()
        });
        Self {
            id: Uuid::new_v4(),
            account: new.account,
            created_at: now,
            absolute_end: now.plus(rules.absolute_ms),
            assurance: new.assurance,
            authenticated_at: new.authenticated_at,
            client: new.client,
            user_agent,
            provider: new.provider.map(Arc::new),
            person: new.person.map(Arc::new),
        }
    }

    pub(super) fn view(self, place: Digest, touched_at: UnixMillis, rules: &SessionRules) -> SessionView {
        SessionView {
            id: self.id,
            account: self.account,
            created_at: self.created_at,
            absolute_end: self.absolute_end,
            touched_at,
            idle_end: touched_at.plus(rules.idle_ms),
            assurance: self.assurance,
            authenticated_at: self.authenticated_at,
            client: self.client,
            user_agent: self.user_agent,
            provider: self.provider,
            person: self.person,
            place,
        }
    }
}

/// Which sessions of an account go when one more is created: those that have ended by time, and the oldest
/// past the bound. The ids of the latter are what the caller is told.
pub(super) fn displaced(mut sessions: Vec<SessionView>, rules: &SessionRules, now: UnixMillis) -> Displaced {
    let (mut live, ended): (Vec<_>, Vec<_>) = sessions.drain(..).partition(|session| session.is_live(now));
    live.sort_by_key(|session| (session.created_at, session.id));
    let excess = (live.len() + 1).saturating_sub(rules.per_account_max.max(1));
    live.truncate(excess);
    Displaced {
        ended: ended.iter().map(|session| session.id).collect(),
        oldest: live.iter().map(|s| s.id).collect(),
    }
}

pub(super) struct Displaced {
    pub(super) ended: Vec<Uuid>,
    pub(super) oldest: Vec<Uuid>,
}
