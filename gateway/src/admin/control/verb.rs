//! What can be asked for over the control socket, as it is written on the wire.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;
use zeroize::Zeroizing;

/// A request: one JSON object on one line, with its name in `verb`. Unknown fields are refused, so that a
/// misspelt restriction is not a missing one.
///
/// An `account` is a login or an account's id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are the words of the variants' sentences")]
pub enum Verb {
    /// A person gets an account.
    #[serde(rename = "account.add")]
    AccountAdd {
        login: String,
        password: Hidden,
        roles: BTreeSet<String>,
        #[serde(default)]
        groups: BTreeSet<String>,
    },
    /// All accounts.
    #[serde(rename = "account.list")]
    AccountList {},
    /// An account may do nothing, and its sessions end.
    #[serde(rename = "account.suspend")]
    AccountSuspend { account: String },
    /// A suspended account may sign in again.
    #[serde(rename = "account.resume")]
    AccountResume { account: String },
    /// Waiting and lock after wrong passwords end now.
    #[serde(rename = "account.unlock")]
    AccountUnlock { account: String },
    /// An account gets a new password, and its sessions end.
    #[serde(rename = "account.set_password")]
    AccountSetPassword { account: String, password: Hidden },
    /// An account has these roles from the next request on; and these groups, where they are given.
    #[serde(rename = "account.set_roles")]
    AccountSetRoles {
        account: String,
        roles: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        groups: Option<BTreeSet<String>>,
    },
    /// An account and its sessions are gone.
    #[serde(rename = "account.remove")]
    AccountRemove { account: String },
    /// A service gets a key that is good for what its scopes cover, for a time in seconds.
    #[serde(rename = "key.add")]
    KeyAdd {
        service: String,
        scopes: BTreeSet<String>,
        #[serde(default)]
        roles: BTreeSet<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifetime_s: Option<u64>,
    },
    /// All keys, without what proves them.
    #[serde(rename = "key.list")]
    KeyList {},
    /// A key is worth nothing from the next request on.
    #[serde(rename = "key.revoke")]
    KeyRevoke { key: Uuid },
    /// The live sessions, of one account or of all.
    #[serde(rename = "session.list")]
    SessionList {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        account: Option<String>,
    },
    /// A session is over for the next request.
    #[serde(rename = "session.end")]
    SessionEnd { session: Uuid },
    /// All sessions of an account are over for the next request.
    #[serde(rename = "session.end_all")]
    SessionEndAll { account: String },
    /// The bundle that decides.
    #[serde(rename = "bundle.show")]
    BundleShow {},
    /// The bundle is read again; `accept` names the digest whose loosenings are accepted.
    #[serde(rename = "bundle.reload")]
    BundleReload {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accept: Option<String>,
    },
    /// The bundle before this one decides again.
    #[serde(rename = "bundle.rollback")]
    BundleRollback {},
    /// How limits stand for somebody; one of them, where it is named.
    #[serde(rename = "limits.show")]
    LimitsShow {
        of: LimitsOf,
        subject: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<String>,
    },
    /// What somebody has taken of their limits is forgotten; of one of them, where it is named.
    #[serde(rename = "limits.reset")]
    LimitsReset {
        of: LimitsOf,
        subject: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<String>,
    },
    /// How the gateway is.
    #[serde(rename = "status")]
    Status {},
}

/// Who has limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitsOf {
    /// An address; an IPv6 network of 64 bits counts as one.
    Address,
    /// A person, by login, account or the id that records have.
    User,
    /// A service, by the name of its key or the id that records have.
    Service,
}

impl LimitsOf {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
            Self::Service => "service",
        }
    }
}

/// A password on its way: never shown, wiped when dropped.
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Takes it into custody.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

/// What a verb needs, and what it is about.
pub(super) struct Sense {
    /// Its name on the wire and in the record.
    pub(super) name: &'static str,
    /// The Cedar action that policy is asked for.
    pub(super) action: &'static str,
    /// Whether it gives somebody something that they did not have. Then it waits for its record to be on disk;
    /// taking away never waits for a full disk.
    pub(super) gives: bool,
    /// What it is about, for the record.
    pub(super) about: Vec<(&'static str, String)>,
}

impl Verb {
    /// What it needs and is about.
    pub(super) fn sense(&self) -> Sense {
        let (name, action, gives) = self.kind();
        Sense { name, action, gives, about: self.about() }
    }

    const fn kind(&self) -> (&'static str, &'static str, bool) {
        const ACCOUNT: &str = "cedargate.account.write";
        const KEY: &str = "cedargate.key.write";
        match self {
            Self::AccountAdd { .. } => ("account.add", ACCOUNT, true),
            Self::AccountList {} => ("account.list", "cedargate.account.read", false),
            Self::AccountSuspend { .. } => ("account.suspend", ACCOUNT, false),
            Self::AccountResume { .. } => ("account.resume", ACCOUNT, true),
            Self::AccountUnlock { .. } => ("account.unlock", ACCOUNT, true),
            Self::AccountSetPassword { .. } => ("account.set_password", ACCOUNT, true),
            Self::AccountSetRoles { .. } => ("account.set_roles", ACCOUNT, true),
            Self::AccountRemove { .. } => ("account.remove", ACCOUNT, false),
            Self::KeyAdd { .. } => ("key.add", KEY, true),
            Self::KeyList {} => ("key.list", "cedargate.key.read", false),
            Self::KeyRevoke { .. } => ("key.revoke", KEY, false),
            Self::SessionList { .. } => ("session.list", "cedargate.session.read", false),
            Self::SessionEnd { .. } => ("session.end", "cedargate.session.end", false),
            Self::SessionEndAll { .. } => ("session.end_all", "cedargate.session.end", false),
            Self::BundleShow {} => ("bundle.show", "cedargate.bundle.read", false),
            Self::BundleReload { .. } => ("bundle.reload", "cedargate.bundle.reload", true),
            Self::BundleRollback {} => ("bundle.rollback", super::execute::ROLLBACK, false),
            Self::LimitsShow { .. } => ("limits.show", "cedargate.limits.read", false),
            Self::LimitsReset { .. } => ("limits.reset", "cedargate.limits.reset", true),
            Self::Status {} => ("status", "cedargate.bundle.read", false),
        }
    }

    fn about(&self) -> Vec<(&'static str, String)> {
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        match self {
            Self::AccountAdd { login, roles, groups, .. } => {
                vec![("account", login.clone()), ("roles", list(roles)), ("groups", list(groups))]
            }
            Self::AccountSetRoles { account, roles, groups } => {
                let mut about = vec![("account", account.clone()), ("roles", list(roles))];
                about.extend(groups.as_ref().map(|groups| ("groups", list(groups))));
                about
            }
            Self::AccountSuspend { account }
            | Self::AccountResume { account }
            | Self::AccountUnlock { account }
            | Self::AccountSetPassword { account, .. }
            | Self::AccountRemove { account }
            | Self::SessionEndAll { account }
            | Self::SessionList { account: Some(account) } => vec![("account", account.clone())],
            Self::KeyAdd { service, scopes, roles, .. } => {
                vec![("service", service.clone()), ("scopes", list(scopes)), ("roles", list(roles))]
            }
            Self::KeyRevoke { key } => vec![("key", key.to_string())],
            Self::SessionEnd { session } => vec![("session", session.to_string())],
            Self::LimitsShow { of, subject, limit } | Self::LimitsReset { of, subject, limit } => {
                let mut about = vec![(of.name(), subject.clone())];
                about.extend(limit.as_ref().map(|limit| ("limit", limit.clone())));
                about
            }
            Self::BundleReload { accept: Some(accept) } => vec![("accept", accept.clone())],
            Self::AccountList {}
            | Self::KeyList {}
            | Self::SessionList { account: None }
            | Self::BundleShow {}
            | Self::BundleReload { accept: None }
            | Self::BundleRollback {}
            | Self::Status {} => Vec::new(),
        }
    }
}
