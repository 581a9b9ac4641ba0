//! What a provider says of itself (OpenID Connect Discovery 1.0), read strictly.

use reqwest::Url;
use serde::Deserialize;
use storage::sessions::SignOutHint;

/// What we use of a provider's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where browsers are sent.
    pub authorization_endpoint: Url,
    /// Where a sign-in is told before a browser is sent there (RFC 9126).
    pub pushed_endpoint: Option<Url>,
    /// Whether it takes no sign-in that was not.
    pub pushes_required: bool,
    /// Where codes are exchanged.
    pub token_endpoint: Url,
    /// Where the keys are.
    pub jwks_uri: Url,
    /// Where more claims are.
    pub userinfo_endpoint: Option<Url>,
    /// Where we ask about opaque access tokens (RFC 8414, section 2).
    pub introspection_endpoint: Option<Url>,
    /// Where we have tokens taken back (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where a person signs out of the provider.
    pub end_session_endpoint: Option<Url>,
    /// Whether every answer names its issuer (RFC 9207); then one that does not is refused.
    pub names_issuer: bool,
    /// The scopes that it lists.
    pub scopes: Option<Vec<String>>,
    /// The claims that it lists.
    pub claims: Option<Vec<String>>,
    /// Whether it says that it tells when somebody signs out there.
    pub backchannel_logout: bool,
    /// Whether our secret goes into the body, because the provider does not take it in a header.
    pub secret_in_body: bool,
}

/// Why metadata is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataFault {
    /// It is no metadata of a provider.
    #[error("its metadata is not read: {0}")]
    Form(String),
    /// It speaks for another issuer.
    #[error(
        "its metadata names the issuer `{0}`, which is not the configured one; they must agree to the letter"
    )]
    Issuer(String),
    /// An address of it cannot be used.
    #[error("its `{0}` is no https address")]
    Address(&'static str),
    /// It does not do what is needed.
    #[error("it does not support {0}")]
    Unsupported(&'static str),
}

#[derive(Deserialize)]
struct Raw {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    pushed_authorization_request_endpoint: Option<String>,
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    userinfo_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    scopes_supported: Option<Vec<String>>,
    claims_supported: Option<Vec<String>>,
    #[serde(default)]
    backchannel_logout_supported: bool,
    response_types_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// Where an issuer's metadata is.
#[must_use]
pub fn address(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

impl Metadata {
    /// Reads the metadata of an issuer.
    ///
    /// # Errors
    /// See [`MetadataFault`].
    pub fn parse(bytes: &[u8], issuer: &str) -> Result<Self, MetadataFault> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| MetadataFault::Form(named(&error)))?;
        if raw.issuer != issuer {
            let said = raw.issuer.chars().filter(|c| !c.is_control()).take(256).collect();
            return Err(MetadataFault::Issuer(said));
        }
        // `http` is as good as the issuer's own, which is http on loopback alone.
        let plain = issuer.starts_with("http://");
        let url = |name: &'static str, text: &str| {
            let url = Url::parse(text).map_err(|_| MetadataFault::Address(name))?;
            let safe = url.scheme() == "https" || (plain && url.scheme() == "http");
            let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
            if safe && bare && url.has_host() { Ok(url) } else { Err(MetadataFault::Address(name)) }
        };
        let may = |name, text: Option<String>| text.map(|text| url(name, &text)).transpose();
        let lacks = |list: &Option<Vec<String>>, wanted: &str| {
            list.as_ref().is_some_and(|list| !list.iter().any(|known| known == wanted))
        };
        if lacks(&raw.response_types_supported, "code") {
            return Err(MetadataFault::Unsupported("the response type `code`"));
        }
        if lacks(&raw.code_challenge_methods_supported, "S256") {
            return Err(MetadataFault::Unsupported("PKCE with S256"));
        }
        let pushed = raw.pushed_authorization_request_endpoint;
        if raw.require_pushed_authorization_requests && pushed.is_none() {
            return Err(MetadataFault::Unsupported("pushed requests, which it requires"));
        }
        let methods = &raw.token_endpoint_auth_methods_supported;
        let secret_in_body = lacks(methods, "client_secret_basic") && !lacks(methods, "client_secret_post");
        Ok(Self {
            authorization_endpoint: url("authorization_endpoint", &raw.authorization_endpoint)?,
            pushed_endpoint: may("pushed_authorization_request_endpoint", pushed)?,
            pushes_required: raw.require_pushed_authorization_requests,
            token_endpoint: url("token_endpoint", &raw.token_endpoint)?,
            jwks_uri: url("jwks_uri", &raw.jwks_uri)?,
            userinfo_endpoint: may("userinfo_endpoint", raw.userinfo_endpoint)?,
            introspection_endpoint: may("introspection_endpoint", raw.introspection_endpoint)?,
            revocation_endpoint: may("revocation_endpoint", raw.revocation_endpoint)?,
            end_session_endpoint: may("end_session_endpoint", raw.end_session_endpoint)?,
            names_issuer: raw.authorization_response_iss_parameter_supported,
            scopes: raw.scopes_supported,
            claims: raw.claims_supported,
            backchannel_logout: raw.backchannel_logout_supported,
            secret_in_body,
        })
    }
}

impl Metadata {
    /// What the provider is shown of an ID token when its person signs out there: nothing is kept for one that has no place
    /// for that, nor what is too long for an address.
    #[must_use]
    pub fn hint(&self, id_token: &str) -> Option<SignOutHint> {
        self.end_session_endpoint.as_ref().and_then(|_| SignOutHint::new(id_token))
    }
}

/// What serde says of the form, without a value of the document.
fn named(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            let said = error.to_string();
            let missing = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            missing.map_or_else(
                || "a value is of another type".to_owned(),
                |field| format!("`{field}` is missing"),
            )
        }
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => "it is not JSON".to_owned(),
    }
}
