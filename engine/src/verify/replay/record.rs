//! An audit record, as far as a decision can be made again from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::Said;
use crate::identity::{Identity, Principal, PrincipalKind, Scheme};
use crate::time::UnixMillis;

#[derive(Deserialize)]
pub(super) struct Record {
    pub(super) time: String,
    pub(super) kind: Kind,
    pub(super) request_id: String,
    #[serde(default)]
    pub(super) client: Client,
    principal: Option<Who>,
    pub(super) request: Option<Asked>,
    pub(super) route: Option<Row>,
    pub(super) decision: Decided,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Request,
    Control,
    Opening,
    Summary,
    Security,
}

#[derive(Default, Deserialize)]
pub(super) struct Client {
    pub(super) address: Option<IpAddr>,
}

#[derive(Deserialize)]
struct Who {
    kind: PrincipalKind,
    id: Uuid,
    name: String,
    scheme: Scheme,
    assurance: u8,
    credential_id: Option<Uuid>,
    /// These two are not in the records of versions that could not be replayed.
    authenticated_at: Option<UnixMillis>,
    roles: Option<BTreeSet<String>>,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default)]
    scopes: BTreeSet<String>,
    #[serde(default)]
    cut: bool,
    #[serde(default)]
    suspended: bool,
}

#[derive(Deserialize)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) query_names: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) action: String,
    pub(super) resource: String,
    pub(super) parameters: Vec<(String, Option<String>)>,
    pub(super) class: String,
}

#[derive(Deserialize)]
pub(super) struct Decided {
    pub(super) outcome: String,
    #[serde(default)]
    deciding: Vec<ById>,
    #[serde(default)]
    erring: Vec<String>,
    #[serde(default)]
    pub(super) bundle: String,
    #[serde(default)]
    pub(super) read: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct ById {
    id: String,
}

impl Decided {
    pub(super) fn said(&self) -> Said {
        let deciding = self.deciding.iter().map(|by| by.id.clone());
        Said { word: self.outcome.clone(), policies: deciding.chain(self.erring.iter().cloned()).collect() }
    }
}

impl Record {
    /// Who asked, as it was then.
    ///
    /// # Errors
    /// What of it is missing.
    pub(super) fn identity(&self) -> Result<Identity, String> {
        let Some(who) = &self.principal else { return Ok(Identity::Anonymous) };
        let (Some(roles), Some(authenticated_at)) = (&who.roles, who.authenticated_at) else {
            return Err("it was written by a version that did not record roles".to_owned());
        };
        if who.cut {
            return Err("the principal had more roles, groups or scopes than a record holds".to_owned());
        }
        Ok(Identity::Known(Arc::new(Principal {
            kind: who.kind,
            id: who.id,
            name: who.name.clone(),
            roles: roles.clone(),
            groups: who.groups.clone(),
            scopes: who.scopes.clone(),
            scheme: who.scheme,
            assurance: who.assurance,
            authenticated_at,
            credential_id: who.credential_id,
            expires_at: None,
            suspended: who.suspended,
        })))
    }
}
