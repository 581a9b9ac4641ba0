//! From what a provider says of a person to who they are here.
//!
//! Names are compared whole: `supervisor` is not `super`. What a provider may not assert is left out and told
//! (threat 9).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use storage::credentials::{Login, Origin, Person};
use storage::sessions::ProviderSession;

use crate::config::providers::{ClaimNames, Provider, SecondFactor};

/// Roles or groups of one person that are looked at.
const NAMES_MAX: usize = 512;
/// Bytes of one of them.
const NAME_BYTES_MAX: usize = 128;
/// Names that are told of those that were left out; past them a count.
const TOLD_MAX: usize = 8;

/// The session at the provider that a token belongs to, where it says so in a name within bounds.
pub(super) fn session(issuer: &str, claims: &Map<String, Value>) -> Option<ProviderSession> {
    ProviderSession::new(issuer, claims.get("sid").and_then(Value::as_str)?)
}

/// A person as the provider's claims make them.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// Who it is.
    pub person: Person,
    /// 1, or 2 where the provider says that several factors were proved.
    pub assurance: u8,
    /// What was left out, for the record.
    pub notes: Vec<String>,
}

/// Maps the claims of a person who was verified.
#[must_use]
pub(super) fn map(provider: &Provider, origin: Origin, claims: &Map<String, Value>) -> Mapped {
    let ClaimNames { name, roles, groups } = &provider.claims;
    let mut notes = Vec::new();
    let mut granted = |what: &str, from: &[String], grants: &BTreeMap<String, String>| {
        let said = names(claims, from);
        let granted: BTreeSet<String> = said.iter().filter_map(|name| grants.get(*name)).cloned().collect();
        let others: Vec<&str> = said.into_iter().filter(|name| !grants.contains_key(*name)).collect();
        notes.extend(left_out(&provider.name, what, &others));
        granted
    };
    let (roles, groups) =
        (granted("roles", roles, &provider.roles), granted("groups", groups, &provider.groups));
    if elsewhere(claims, &provider.claims.groups) {
        let said = "has too many groups for a token and left them all out";
        notes.push(format!("provider {}: the person {said}", provider.name));
    }
    let login = shown(&provider.name, name, &origin, claims);
    let assurance = assurance(&provider.second_factor, claims);
    Mapped { person: Person { origin, login, roles, groups }, assurance, notes }
}

/// Claims of userinfo beside those of the ID token, which is signed and so counts where both say something.
#[must_use]
pub(super) fn together(mut signed: Map<String, Value>, userinfo: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in userinfo {
        // How somebody was authenticated is the ID token's to say, and only its.
        if !matches!(name.as_str(), "acr" | "amr" | "auth_time" | "nonce" | "sid") {
            signed.entry(name).or_insert(value);
        }
    }
    signed
}

fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    let Some(pointer) = name.strip_prefix('/') else { return claims.get(name) };
    let (first, rest) = pointer.split_once('/').map_or((pointer, ""), |(first, rest)| (first, rest));
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
}

/// The names that stand at these places: a text is one, a list has several, and an object names by its keys, as Zitadel
/// does (`{role: {organisation: domain}}`, or a list of such).
fn names<'c>(claims: &'c Map<String, Value>, places: &[String]) -> BTreeSet<&'c str> {
    fn walk<'c>(value: &'c Value, into: &mut Vec<&'c str>, deeper: bool) {
        match value {
            Value::String(name) => into.push(name),
            Value::Object(named) => into.extend(named.keys().map(String::as_str).take(NAMES_MAX)),
            Value::Array(items) if deeper => {
                items.iter().take(NAMES_MAX).for_each(|item| walk(item, into, false));
            }
            Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut found = Vec::new();
    for value in places.iter().filter_map(|place| find(claims, place)) {
        walk(value, &mut found, true);
    }
    found.into_iter().filter(|name| (1..=NAME_BYTES_MAX).contains(&name.len())).take(NAMES_MAX).collect()
}

fn left_out(provider: &str, what: &str, names: &[&str]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let plain =
        |name: &&str| name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    let told: Vec<String> = names.iter().take(TOLD_MAX).map(plain).collect();
    let more = names.len().saturating_sub(TOLD_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Some(format!("provider {provider} may not assert these {what}, left out: {}{more}", told.join(", ")))
}

/// Whether a claim is said to stand somewhere else (OpenID Connect Core 1.0, section 5.6.2), as Entra ID does past 200
/// groups.
fn elsewhere(claims: &Map<String, Value>, names: &[String]) -> bool {
    let named = claims.get("_claim_names").and_then(Value::as_object);
    named.is_some_and(|named| names.iter().any(|name| named.contains_key(name)))
}

/// The name that the account is shown by. The provider's own name stands before it, so that nobody can call themselves
/// like somebody of elsewhere.
fn shown(provider: &str, places: &[String], origin: &Origin, claims: &Map<String, Value>) -> Login {
    let said = places.iter().filter_map(|place| find(claims, place)).filter_map(Value::as_str);
    let id = origin.account_id().to_string();
    let mut named = said
        .chain([origin.subject(), &id])
        .filter_map(|name| Login::parse(&format!("{provider}:{name}")).ok());
    // The last of them, 36 digits and hyphens after at most 33 characters, always is one.
    named.next().unwrap_or_else(|| Login::of_id(origin.account_id()))
}

fn assurance(second: &SecondFactor, claims: &Map<String, Value>) -> u8 {
    let acr = claims.get("acr").and_then(Value::as_str);
    let amr = claims.get("amr").and_then(Value::as_array);
    let by_acr = acr.is_some_and(|acr| second.acr.iter().any(|known| known == acr));
    let by_amr = amr.is_some_and(|said| {
        said.iter().filter_map(Value::as_str).any(|method| second.amr.iter().any(|known| known == method))
    });
    if by_acr || by_amr { 2 } else { 1 }
}
