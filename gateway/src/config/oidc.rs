//! The identity providers: `[[oidc.providers]]`, and Zitadel from `ZITADEL_*`.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::DeValue;

use super::fault::Place;
use super::origin::Origin;
use super::providers::{Audiences, ClaimNames, PROVIDERS_MAX, Preset, Provider, SecondFactor};
use super::reader::{Reader, Section, Written, printable};
use super::secret::Secret;
use super::settings::Deployment;
use super::tls_files;

mod access_tokens;
mod client_key;

/// Characters of an issuer, a client id or a secret: a bound, so that a file's accident is told.
const TEXT_BYTES_MAX: usize = 1024;
/// Entries of one list.
const LIST_MAX: usize = 256;
const ZITADEL: [&str; 3] = ["ZITADEL_DOMAIN", "ZITADEL_CLIENT_ID", "ZITADEL_CLIENT_SECRET"];

const PRESETS: [(&str, Preset); 4] = [
    ("generic", Preset::Generic),
    ("zitadel", Preset::Zitadel),
    ("keycloak", Preset::Keycloak),
    ("entra", Preset::Entra),
];

impl<'e> Reader<'e> {
    /// Reads `[oidc]` and the variables of Zitadel, which fill in the one entry with its preset, or make one.
    pub(super) fn oidc(&mut self, root: &mut Section<'_>, deployment: Deployment) -> Vec<Provider> {
        let mut section = self.section(root, "oidc");
        let mut tables: Vec<(usize, Section<'_>)> = Vec::new();
        match section.take("providers", self) {
            None => {}
            Some((_, DeValue::Array(array))) => {
                for (index, item) in array.iter().enumerate() {
                    let line = self.line(&item.span());
                    tables.push((line, self.table(format!("oidc.providers[{index}]"), line, item.get_ref())));
                }
            }
            Some((line, other)) => {
                self.wrong_type("`oidc.providers`", self.in_file(Some(line)), other, "a list of tables");
            }
        }
        self.finish(&section);
        self.too_many(&tables);
        let is_zitadel = |table: &Section<'_>| {
            table.peek("preset").and_then(DeValue::as_str).is_some_and(|preset| preset == "zitadel")
        };
        let set = ZITADEL.into_iter().any(|name| self.is_set_to_something(name));
        let zitadels = tables.iter().filter(|(_, table)| is_zitadel(table)).count();
        if set && zitadels > 1 {
            self.fault(
                Place::Variable("ZITADEL_DOMAIN".into()),
                "it is set, and several providers have the preset `zitadel`: which of them is meant?",
                "unset ZITADEL_*, and write issuer, client_id and client_secret into each entry",
            );
        }
        let mut providers = Vec::new();
        for (line, table) in tables.iter_mut().filter(|(_, table)| table.is_present()) {
            let named = set && zitadels == 1 && is_zitadel(table);
            let place = self.in_file(Some(*line));
            let provider = self.provider(table, &place, named, deployment);
            self.finish(table);
            self.add(&mut providers, provider, &place);
        }
        if set && zitadels == 0 {
            let place = Place::Variable("ZITADEL_DOMAIN".into());
            let provider = self.provider(&mut Section::absent("ZITADEL_*"), &place, true, deployment);
            self.add(&mut providers, provider, &place);
        }
        providers
    }

    fn too_many(&mut self, tables: &[(usize, Section<'_>)]) {
        if let Some((line, _)) = tables.get(PROVIDERS_MAX) {
            let message = format!("more than {PROVIDERS_MAX} providers");
            self.fault(self.in_file(Some(*line)), message, "let one provider broker the others");
        }
    }

    fn add(&mut self, providers: &mut Vec<Provider>, provider: Option<Provider>, place: &Place) {
        let Some(provider) = provider else { return };
        for other in providers.iter() {
            if other.name == provider.name {
                let message = format!("provider `{}` is there twice", provider.name);
                self.fault(place.clone(), message, "give each a name of its own");
            }
            if other.issuer == provider.issuer {
                // Who somebody is follows from issuer and subject: both entries would speak for the same people.
                let message = format!("two providers have the issuer `{}`", printable(&provider.issuer));
                self.fault(place.clone(), message, "remove one");
            }
            if other.is_asked_about_tokens() && provider.is_asked_about_tokens() {
                let message = format!(
                    "`{}` and `{}` both have `api_introspection`, and an opaque token does not say whose it is",
                    other.name, provider.name
                );
                self.fault(
                    place.clone(),
                    message,
                    "let one issue JWTs, and take `api_introspection` out there",
                );
            }
        }
        if provider.roles.is_empty() && provider.groups.is_empty() {
            self.notices.push(format!(
                "provider `{}` may assert no role and no group, so whoever signs in there has none; list them in `roles` \
                 and `groups`, or in ZITADEL_ROLES",
                provider.name
            ));
        }
        providers.push(provider);
    }

    /// One provider; `environment` where `ZITADEL_*` speaks of it.
    fn provider(
        &mut self,
        table: &mut Section<'_>,
        place: &Place,
        environment: bool,
        deployment: Deployment,
    ) -> Option<Provider> {
        // Set to nothing is how compose files spell "not set".
        let [domain, id, secret, roles, groups] = [
            "ZITADEL_DOMAIN",
            "ZITADEL_CLIENT_ID",
            "ZITADEL_CLIENT_SECRET",
            "ZITADEL_ROLES",
            "ZITADEL_GROUPS",
        ]
        .map(|name| (environment && self.is_set_to_something(name)).then_some(name));
        let preset = self.pick(table, "preset", None);
        let usual = if environment { Preset::Zitadel } else { Preset::Generic };
        let preset = self.choice(preset, &PRESETS).unwrap_or(usual);
        let name = self.provider_name(table, place, environment);
        let title = self.pick(table, "title", None);
        let title = self.bounded(title, 64);
        let issuer = self.pick(table, "issuer", domain);
        let issuer = self.required(issuer, table, ("issuer", "ZITADEL_DOMAIN"), place);
        let issuer = self.issuer(issuer, deployment);
        let client_id = self.pick(table, "client_id", id);
        let client_id = self.required(client_id, table, ("client_id", "ZITADEL_CLIENT_ID"), place);
        let client_id = self.bounded(client_id, TEXT_BYTES_MAX);
        let client_secret = self.pick(table, "client_secret", secret);
        let client_secret = self.client_secret(client_secret);
        let has_secret = client_secret.as_ref().map_or(true, Option::is_some);
        let (client_key, has_proof) = self.client_key(table, has_secret, preset);
        let refresh = self.switch(table, "refresh");
        let scopes = self.scopes(table, preset, refresh);
        let pushed = self.pick(table, "pushed_requests", None);
        let pushed = self.boolean(pushed).unwrap_or(true);
        let audiences = self.audiences(table, preset);
        let userinfo = self.pick(table, "userinfo", None);
        let userinfo = self.boolean(userinfo).unwrap_or(preset.userinfo());
        let ca = self.pick(table, "ca", None);
        let ca = self.authorities(ca);
        let claims = self.claims(table, preset.claims(client_id.as_deref().unwrap_or_default()));
        let roles = self.grants(table, "roles", roles);
        let groups = self.grants(table, "groups", groups);
        let second_factor = self.second_factor(table);
        let access_tokens = self.access_tokens(table, preset, client_id.as_deref(), has_proof);
        let name = name?;
        Some(Provider {
            title: title.or(preset.title().map(str::to_owned)).unwrap_or_else(|| name.to_string()),
            name,
            issuer: issuer?,
            client_id: client_id?,
            client_secret: client_secret.ok()?,
            client_key: client_key.ok()?,
            consent: refresh
                && preset == Preset::Generic
                && scopes.iter().any(|scope| scope == "offline_access"),
            scopes,
            audiences,
            userinfo,
            pushed,
            refresh,
            ca,
            claims,
            roles,
            groups,
            second_factor,
            access_tokens,
        })
    }

    /// What a session is renewed with is kept by the gateway that it began at. At another it would go on without its
    /// provider's word, which is what was to be ruled out.
    pub(super) fn renewed_alone(&mut self, providers: &[Provider], shared: bool) {
        for provider in providers.iter().filter(|provider| shared && provider.refresh) {
            let message =
                format!("provider `{}` has `refresh`, which does not go with `session.redis`", provider.name);
            let remedy =
                "set `refresh = false`, or keep sessions in one gateway: its refresh tokens are not shared";
            self.fault(self.in_file(None), message, remedy);
        }
    }

    fn provider_name(
        &mut self,
        table: &mut Section<'_>,
        place: &Place,
        environment: bool,
    ) -> Option<Arc<str>> {
        let written = self.pick(table, "name", None);
        if written.is_none() && environment {
            return Some(Arc::from("zitadel"));
        }
        let written = self.required(written, table, ("name", ""), place);
        let text = self.text(written)?;
        if super::upstreams::is_name(text.text) {
            return Some(Arc::from(text.text));
        }
        let message = format!("`{}` names no provider", printable(text.text));
        self.fault(text.place, message, "use 1 to 32 of a-z, 0-9, `-` and `_`");
        None
    }

    /// A key that must be there; where only the environment speaks of the provider, a variable.
    fn required<'d>(
        &mut self,
        written: Option<Written<'d>>,
        table: &Section<'_>,
        (key, variable): (&str, &str),
        place: &Place,
    ) -> Option<Written<'d>> {
        if written.is_none() && table.is_present() {
            let message = format!("`{}` is not set", table.dotted(key));
            self.fault(place.clone(), message, "see docs/oidc.md for what a provider needs");
        } else if written.is_none() {
            let set = ZITADEL
                .into_iter()
                .filter(|name| self.is_set_to_something(name))
                .collect::<Vec<_>>()
                .join(" and ");
            let message = format!("it is not set, and {set} is");
            self.fault(
                Place::Variable(variable.to_owned()),
                message,
                "set it, or unset the others; see docs/oidc.md",
            );
        }
        written
    }

    /// Text of at most so many bytes that is not what a guide prints in its place.
    fn bounded(&mut self, written: Option<Written<'_>>, bytes_max: usize) -> Option<String> {
        let text = self.text(written)?;
        let message = if text.text.len() > bytes_max {
            format!("{} has more than {bytes_max} bytes", text.name)
        } else if text.text.contains(char::is_control) {
            format!("{} has control characters", text.name)
        } else if is_placeholder(text.text) {
            format!("{} is still a placeholder", text.name)
        } else {
            return Some(text.text.to_owned());
        };
        self.fault(text.place, message, "write what the provider's console shows");
        None
    }

    /// An issuer, exactly as the provider spells it. `ZITADEL_DOMAIN` may be a bare domain.
    fn issuer(&mut self, written: Option<Written<'_>>, deployment: Deployment) -> Option<String> {
        let place = written.as_ref()?.place.clone();
        let text = self.bounded(written, TEXT_BYTES_MAX)?;
        let from_domain = matches!(&place, Place::Variable(_));
        let text = match (from_domain, text.contains("://")) {
            (true, false) => format!("https://{}", text.trim_end_matches('/')),
            (true, true) => text.trim_end_matches('/').to_owned(),
            (false, _) => text,
        };
        let plain = |url: &reqwest::Url| {
            let bare = url.username().is_empty() && url.password().is_none();
            bare && url.has_host() && url.query().is_none() && url.fragment().is_none()
        };
        let url = reqwest::Url::parse(&text).ok().filter(plain);
        let Some(url) = url.filter(|url| matches!(url.scheme(), "https" | "http")) else {
            let message = format!("`{}` is no issuer", printable(&text));
            self.fault(
                place,
                message,
                "write it as the provider's metadata does: an https URL without query and fragment",
            );
            return None;
        };
        let loopback =
            Origin::parse(&url.origin().ascii_serialization()).is_ok_and(|origin| origin.is_loopback());
        if url.scheme() == "http" && !(loopback && deployment == Deployment::Development) {
            let message = format!(
                "issuer `{}` is http: whoever is on the way could sign in as anybody",
                printable(&text)
            );
            let remedy = "write https; http is for a provider on loopback with environment = \"development\"";
            self.fault(place, message, remedy);
            return None;
        }
        Some(text)
    }

    /// `Err` where something is written and is none.
    fn client_secret(&mut self, written: Option<Written<'_>>) -> Result<Option<Secret<String>>, ()> {
        let Some(written) = written else { return Ok(None) };
        let (name, place) = (written.name.clone(), written.place.clone());
        let text = self.secret_text(written).ok_or(())?;
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || is_placeholder(&text) {
            let message = format!("{name} is empty, a placeholder, or has more than {TEXT_BYTES_MAX} bytes");
            self.fault(
                place,
                message,
                "make a new secret at the provider, and keep it in a file of mode 0600",
            );
            return Err(());
        }
        Ok(Some(Secret::new(text.to_string())))
    }

    fn scopes(&mut self, table: &mut Section<'_>, preset: Preset, refresh: bool) -> Vec<String> {
        let written = self.pick(table, "scopes", None);
        let Some(place) = written.as_ref().map(|written| written.place.clone()) else {
            let besides = preset.refresh_scope().filter(|_| refresh);
            return preset.scopes().iter().copied().chain(besides).map(str::to_owned).collect();
        };
        let scopes = self.texts(written);
        // RFC 6749, section 3.3.
        let is_token = |scope: &str| scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if let Some(bad) = scopes.iter().find(|scope| !is_token(scope)) {
            let message = format!("`{}` is no scope", printable(bad));
            self.fault(place.clone(), message, "write each scope as a text of its own");
        }
        if !scopes.iter().any(|scope| scope == "openid") {
            self.fault(place, "the scopes lack `openid`, so nobody would say who signs in", "add \"openid\"");
        }
        scopes
    }

    fn audiences(&mut self, table: &mut Section<'_>, preset: Preset) -> Audiences {
        let written = self.pick(table, "audiences", None);
        if written.is_none() {
            return preset.audiences();
        }
        let listed = self.texts(written);
        if listed.iter().any(|audience| audience == "*") { Audiences::Any } else { Audiences::Listed(listed) }
    }

    fn authorities(&mut self, written: Option<Written<'_>>) -> Option<std::path::PathBuf> {
        let place = written.as_ref()?.place.clone();
        let path = self.path(written)?;
        if let Err(message) = tls_files::certificates(&path) {
            self.fault(
                place,
                message,
                "name a PEM file with the authorities that signed the provider's certificate",
            );
        }
        Some(path)
    }

    fn claims(&mut self, table: &mut Section<'_>, usual: ClaimNames) -> ClaimNames {
        let name = self.pick(table, "name_claims", None);
        let name = self.claim_names(name).unwrap_or(usual.name);
        let roles = self.pick(table, "roles_claims", None);
        let roles = self.claim_names(roles).unwrap_or(usual.roles);
        let groups = self.pick(table, "groups_claims", None);
        ClaimNames { name, roles, groups: self.claim_names(groups).unwrap_or(usual.groups) }
    }

    fn claim_names(&mut self, written: Option<Written<'_>>) -> Option<Vec<String>> {
        written.as_ref()?;
        Some(self.texts(written))
    }

    /// What may be asserted: a list where the names are ours already, or a table from the provider's names to ours.
    fn grants(
        &mut self,
        table: &mut Section<'_>,
        key: &'static str,
        variable: Option<&'static str>,
    ) -> BTreeMap<String, String> {
        let is_table = table.peek(key).is_some_and(|value| value.as_table().is_some());
        if !is_table || variable.is_some_and(|variable| self.is_set_to_something(variable)) {
            let written = self.pick(table, key, variable);
            return self.texts(written).into_iter().map(|name| (name.clone(), name)).collect();
        }
        let section = self.section(table, key);
        let mut grants = BTreeMap::new();
        for (theirs, ours) in section.entries() {
            let line = self.line(&theirs.span());
            let written = Written {
                name: format!("`{}`", section.dotted(&printable(theirs.get_ref()))),
                place: self.in_file(Some(line)),
                value: super::reader::Given::Toml(ours.get_ref()),
            };
            if let Some(ours) = self.text(Some(written)) {
                grants.insert(theirs.get_ref().to_string(), ours.text.to_owned());
            }
        }
        grants
    }

    fn second_factor(&mut self, table: &mut Section<'_>) -> SecondFactor {
        let acr = self.pick(table, "mfa_acr", None);
        let acr = self.texts(acr);
        let amr = self.pick(table, "mfa_amr", None);
        // RFC 8176: several factors were used.
        let amr = if amr.is_some() { self.texts(amr) } else { vec!["mfa".to_owned()] };
        SecondFactor { acr, amr }
    }

    fn texts(&mut self, written: Option<Written<'_>>) -> Vec<String> {
        let place = written.as_ref().map(|written| written.place.clone());
        let items = self.list(written).unwrap_or_default();
        if let Some(place) = place.filter(|_| items.len() > LIST_MAX) {
            self.fault(place, format!("the list has more than {LIST_MAX} entries"), "shorten it");
        }
        items.into_iter().filter_map(|item| self.bounded(Some(item), TEXT_BYTES_MAX)).collect()
    }
}

/// What guides print where a value of one's own belongs.
fn is_placeholder(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_prefix("https://").unwrap_or(&lower);
    bare.starts_with(['<', '{', '$'])
        || bare.starts_with("your-")
        || bare.starts_with("your_")
        || lower.contains("changeme")
}
