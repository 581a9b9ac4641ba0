//! Walks through what a provider and its entry must agree on, before anybody signs in there.

use std::sync::Arc;

use reqwest::Url;
use serde::Serialize;

use super::access_token::AccessFault;
use super::discovery::Metadata;
use super::http::HttpFault;
use super::{Fault, Provider};
use crate::pages::{OIDC_CALLBACK_PATH, OIDC_LOGOUT_PATH};

/// What was found at one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which step: `metadata`, `keys`, `client`, `redirect`, `scopes`, `claims`, `logout`, `tokens`.
    pub step: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do about it; empty where nothing is to be done.
    pub remedy: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Well,
    /// It works, or nobody can tell from here; a person should know.
    Notice,
    /// Nobody can sign in so, or nobody has what they should.
    Fault,
}

fn finding(
    step: &'static str,
    verdict: Verdict,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { step, verdict, message: message.into(), remedy: remedy.into() }
}

fn well(step: &'static str, message: impl Into<String>) -> Finding {
    finding(step, Verdict::Well, message, "")
}

impl Provider {
    /// Asks the provider what can be asked without a person; `origins` are the public addresses of our hosts.
    pub async fn check(self: &Arc<Self>, origins: &[String]) -> Vec<Finding> {
        let metadata = match self.metadata().await {
            Ok(metadata) => metadata,
            Err(fault) => return vec![of_metadata(&fault)],
        };
        let mut found = vec![well("metadata", "read, and it names the configured issuer")];
        found.push(match self.keys(&metadata, false).await {
            Ok(keys) => well("keys", format!("{} that verify what we accept", keys.len())),
            Err(fault) => {
                let remedy = "open its `jwks_uri` from this machine; RSA, P-256 and Ed25519 keys are used";
                finding("keys", Verdict::Fault, fault.to_string(), remedy)
            }
        });
        found.push(self.client(&metadata, origins).await);
        for origin in origins {
            found.push(self.redirect(&metadata, origin).await);
        }
        found.push(self.scopes_of(&metadata));
        found.extend(self.claims_of(&metadata));
        found.push(logout(&metadata, origins));
        found.push(self.tokens_of(&metadata).await);
        found
    }

    /// Exchanges a code that nobody was given: a provider that knows us refuses the code, another one refuses us.
    async fn client(&self, metadata: &Metadata, origins: &[String]) -> Finding {
        let uri = format!("{}{OIDC_CALLBACK_PATH}", origins.first().map_or("", String::as_str));
        match self.refused_code(metadata, &uri).await {
            Err(Fault::Refused("invalid_grant" | "invalid_request")) => {
                well("client", "the provider knows the client id, and takes its secret")
            }
            Err(Fault::Refused("invalid_client")) => {
                let remedy = "compare client_id and client_secret, or client_key's public half, with the provider's console; \
                              without either there, leave them out";
                finding(
                    "client",
                    Verdict::Fault,
                    "the provider does not take the client id or its secret",
                    remedy,
                )
            }
            Err(Fault::Refused(word)) => {
                let remedy = "allow the client the grant `authorization_code`";
                finding("client", Verdict::Fault, format!("the token endpoint says `{word}`"), remedy)
            }
            Err(fault) => {
                let remedy = "sign in once: the record says what the provider answers";
                finding("client", Verdict::Notice, format!("the secret could not be tried: {fault}"), remedy)
            }
            Ok(()) => {
                let message = "the token endpoint answers a code that nobody was given";
                finding("client", Verdict::Fault, message, "use another provider: this one signs anybody in")
            }
        }
    }

    /// Begins a sign-in that may show nothing (`prompt=none`): a provider that knows the address sends the browser back there
    /// with an error, and must not where it does not know it (RFC 6749, section 4.1.2.1).
    async fn redirect(&self, metadata: &Metadata, origin: &str) -> Finding {
        let uri = format!("{origin}{OIDC_CALLBACK_PATH}");
        let register = format!("register the redirect address {uri} to the letter");
        let url = match self.silent_authorization(metadata, &uri).await {
            Ok(url) => url,
            Err(fault @ (Fault::Refused(_) | Fault::Http { fault: HttpFault::Status(400..=499), .. })) => {
                let message =
                    format!("the provider takes no pushed request that leads back to {uri}: {fault}");
                return finding("redirect", Verdict::Fault, message, register);
            }
            Err(fault) => {
                let message = format!("{uri} could not be tried: {fault}");
                return finding("redirect", Verdict::Notice, message, register);
            }
        };
        match self.http.seen(&url).await {
            Ok((_, Some(location))) if location.starts_with(&uri) => self.sent_back(&uri, &location),
            Ok((status @ 400..=499, _)) => {
                let message = format!("the provider answers {status} to a sign-in that leads back to {uri}");
                finding("redirect", Verdict::Fault, message, register)
            }
            Ok(_) => {
                let message = format!("the provider does not say whether it knows {uri}");
                finding("redirect", Verdict::Notice, message, register)
            }
            Err(fault) => {
                finding("redirect", Verdict::Notice, format!("{uri} could not be tried: {fault}"), register)
            }
        }
    }

    fn sent_back(&self, uri: &str, location: &str) -> Finding {
        let error = Url::parse(location).ok().and_then(|url| {
            let error = url.query_pairs().find(|(name, _)| name == "error");
            error.map(|(_, error)| error.into_owned())
        });
        match error.as_deref() {
            Some("invalid_scope") => {
                let message = format!("the provider refuses the scopes `{}`", self.settings.scopes.join(" "));
                finding("redirect", Verdict::Fault, message, "allow them to the client, or set `scopes`")
            }
            Some(word @ ("unauthorized_client" | "invalid_request" | "unsupported_response_type")) => {
                let message = format!("the provider says `{word}` to a sign-in by code with PKCE");
                finding("redirect", Verdict::Fault, message, "allow the client the code flow with PKCE S256")
            }
            Some(_) | None => well("redirect", format!("{uri} is registered")),
        }
    }

    fn scopes_of(&self, metadata: &Metadata) -> Finding {
        let asked = &self.settings.scopes;
        let Some(known) = &metadata.scopes else {
            return well("scopes", format!("asked for: {}; the provider lists none", asked.join(" ")));
        };
        let strange: Vec<&str> =
            asked.iter().filter(|scope| !known.contains(scope)).map(String::as_str).collect();
        if strange.is_empty() {
            return well("scopes", format!("the provider knows {}", asked.join(" ")));
        }
        let message = format!("the provider does not list {}", strange.join(" "));
        let remedy = "a list may leave some out; where nobody has roles, look here first";
        finding("scopes", Verdict::Notice, message, remedy)
    }

    fn claims_of(&self, metadata: &Metadata) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.settings.roles.is_empty() && self.settings.groups.is_empty() {
            let message = "it may assert no role and no group, so whoever signs in there may do nothing";
            let remedy = "list what it may assert in `roles` and `groups`";
            found.push(finding("claims", Verdict::Fault, message, remedy));
        }
        let places = [("roles", &self.settings.claims.roles), ("groups", &self.settings.claims.groups)];
        for (what, places) in places {
            let first = |place: &String| {
                let bare =
                    place.strip_prefix('/').map(|pointer| pointer.split('/').next().unwrap_or(pointer));
                bare.unwrap_or(place).to_owned()
            };
            let unknown = metadata.claims.as_ref().is_some_and(|known| {
                !places.is_empty() && places.iter().all(|place| !known.contains(&first(place)))
            });
            let message = format!("{what} are read from {}", places.join(" and "));
            if unknown {
                let remedy = "a list may leave some out; where nobody has roles, look here first";
                let message = format!("{message}, which the provider does not list");
                found.push(finding("claims", Verdict::Notice, message, remedy));
            } else {
                found.push(well("claims", message));
            }
        }
        found
    }

    async fn tokens_of(self: &Arc<Self>, metadata: &Metadata) -> Finding {
        match &self.settings.access_tokens {
            None => well("tokens", "access tokens of programs are not taken"),
            Some(tokens) => {
                let message = format!("access tokens are taken for {}", tokens.audiences.join(" and "));
                if tokens.introspection {
                    return self.introspection(metadata, &message).await;
                }
                well("tokens", format!("{message}; try one with `cedargate token inspect`"))
            }
        }
    }
}

impl Provider {
    /// Asks about a token that nobody was given.
    async fn introspection(self: &Arc<Self>, metadata: &Metadata, message: &str) -> Finding {
        let remedy = "take `api_introspection` out, or use a provider with introspection (RFC 7662)";
        if metadata.introspection_endpoint.is_none() {
            let message = "its metadata has no `introspection_endpoint`, and `api_introspection` is set";
            return finding("tokens", Verdict::Fault, message, remedy);
        }
        match self.introspects_nothing().await {
            Err(Fault::AccessToken(AccessFault::Inactive)) => {
                let message = format!("{message}; the provider says what opaque ones are");
                well("tokens", format!("{message}; try one with `cedargate token inspect`"))
            }
            Err(Fault::Http { fault: HttpFault::Status(status @ (400 | 401 | 403)), .. }) => {
                let message = format!("the introspection endpoint answers our client {status}");
                finding(
                    "tokens",
                    Verdict::Fault,
                    message,
                    "allow the client to ask about tokens, and see its secret",
                )
            }
            Err(fault) => {
                let message = format!("opaque tokens could not be tried: {fault}");
                finding("tokens", Verdict::Notice, message, "see that the endpoint answers this machine")
            }
            Ok(()) => {
                let message = "the provider vouches for a token that nobody was given";
                finding(
                    "tokens",
                    Verdict::Fault,
                    message,
                    "use another provider: this one takes any text for a token",
                )
            }
        }
    }
}

fn of_metadata(fault: &Fault) -> Finding {
    let remedy = match fault {
        Fault::Http { fault: HttpFault::Status(404), .. } => {
            "correct `issuer`: its path is part of it, and metadata is at ISSUER/.well-known/openid-configuration"
        }
        Fault::Http { .. } => "see that this machine reaches it: name, port, certificate (`ca`), firewall",
        Fault::Metadata(_)
        | Fault::Keys(_)
        | Fault::Refused(_)
        | Fault::TokenResponse
        | Fault::Pushed
        | Fault::Token(_)
        | Fault::AccessToken(_)
        | Fault::LogoutToken(_)
        | Fault::Introspection
        | Fault::Userinfo => "write `issuer` to the letter as the provider's metadata does",
    };
    finding("metadata", Verdict::Fault, fault.to_string(), remedy)
}

fn logout(metadata: &Metadata, origins: &[String]) -> Finding {
    let addresses: Vec<String> = origins.iter().map(|origin| format!("{origin}{OIDC_LOGOUT_PATH}")).collect();
    let address = addresses.first().map_or("", String::as_str);
    if metadata.backchannel_logout {
        let message = "the provider can tell when somebody signs out there";
        let remedy = format!("register {address} as its back-channel logout URI, with the session required");
        finding("logout", Verdict::Notice, message, remedy)
    } else {
        let message = "the provider does not say that it tells when somebody signs out there";
        finding("logout", Verdict::Notice, message, "shorten `session.absolute` if that matters")
    }
}
