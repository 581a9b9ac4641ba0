//! Which access tokens of a provider are taken: `api_audiences`, `api_token_type`, `api_scopes`, `api_introspection`.

use std::collections::BTreeMap;

use super::super::fault::Place;
use super::super::providers::{AccessTokens, Preset, TokenTypes};
use super::super::reader::{Given, Reader, Section, Written, printable};

const TYPES: [(&str, TokenTypes); 2] = [("at+jwt", TokenTypes::Profile), ("jwt", TokenTypes::Any)];

impl Reader<'_> {
    /// The four keys; the other three without `api_audiences` would do nothing, so that is a fault.
    pub(super) fn access_tokens(
        &mut self,
        table: &mut Section<'_>,
        preset: Preset,
        client_id: Option<&str>,
        has_proof: bool,
    ) -> Option<AccessTokens> {
        let written = self.pick(table, "api_audiences", None);
        let place = written.as_ref().map(|written| written.place.clone());
        let audiences = self.texts(written);
        let types = self.pick(table, "api_token_type", None);
        let idle = types.as_ref().map(|types| types.place.clone());
        let types = self.choice(types, &TYPES).unwrap_or(preset.token_types());
        let idle = idle.or_else(|| {
            let line = table.line_of("api_scopes", self);
            line.map(|line| self.in_file(Some(line)))
        });
        let scopes = self.scope_table(table);
        let introspection = self.pick(table, "api_introspection", None);
        let asked = introspection.as_ref().map(|written| written.place.clone());
        let introspection = self.boolean(introspection).unwrap_or(false);
        if let Some(place) = asked.clone().filter(|_| introspection && !has_proof) {
            let message = format!(
                "`{}` has neither client_secret nor client_key to ask about tokens with",
                table.path()
            );
            self.fault(place, message, "add `client_secret`: a provider tells confidential clients alone");
        }
        let idle = idle.or(asked.filter(|_| introspection));
        let Some(place) = place.filter(|_| !audiences.is_empty()) else {
            if let Some(place) = idle {
                let message = format!("`{}` names no audience, so no access token is taken", table.path());
                self.fault(place, message, "add `api_audiences`, our name as an API there, or remove this");
            }
            return None;
        };
        self.own_names(&place, &audiences, client_id);
        Some(AccessTokens { audiences, types, scopes, introspection })
    }

    /// Whoever is named by every token is named by none.
    fn own_names(&mut self, place: &Place, audiences: &[String], client_id: Option<&str>) {
        for audience in audiences {
            let (message, remedy) = if audience == "*" {
                let message = "`*` would take tokens that the provider issued for anybody's API".to_owned();
                (message, "name the audience under which the provider issues tokens for this API")
            } else if client_id == Some(audience.as_str()) {
                let message = format!(
                    "`{}` is the client id, which ID tokens name: they would be taken for access tokens",
                    printable(audience)
                );
                (message, "register the API at the provider under a name of its own, and name that one")
            } else {
                continue;
            };
            self.fault(place.clone(), message, remedy);
        }
    }

    fn scope_table(&mut self, table: &mut Section<'_>) -> Option<BTreeMap<String, Vec<String>>> {
        table.peek("api_scopes")?;
        let section = self.section(table, "api_scopes");
        let mut scopes = BTreeMap::new();
        for (theirs, ours) in section.entries() {
            let place = self.in_file(Some(self.line(&theirs.span())));
            let written = Written {
                name: format!("`{}`", section.dotted(&printable(theirs.get_ref()))),
                place: place.clone(),
                value: Given::Toml(ours.get_ref()),
            };
            let actions = self.texts(Some(written));
            if let Some(odd) = actions.iter().find(|action| !is_pattern(action)) {
                let message = format!("`{}` covers no action", printable(odd));
                let remedy = "write an action's name, `docs.*` for all that begin so, or `*`";
                self.fault(place, message, remedy);
            }
            scopes.insert(theirs.get_ref().to_string(), actions);
        }
        Some(scopes)
    }
}

/// Whether a text covers any action: see `engine::authz`.
fn is_pattern(text: &str) -> bool {
    let name = match text.strip_suffix('*') {
        Some("") => return true,
        Some(prefix) if !prefix.ends_with('.') => return false,
        Some(prefix) => prefix,
        None => text,
    };
    name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
}
