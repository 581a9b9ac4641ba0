//! Identity providers, as they are configured: checked once, so that nothing inside checks them again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::client_key::ClientKey;
use super::secret::Secret;

/// Providers at most: each is a button on one page, and asked for its keys.
pub const PROVIDERS_MAX: usize = 16;

/// An OpenID provider that people sign in at.
#[derive(Clone)]
pub struct Provider {
    /// Its name: in records, metrics, health and addresses. 1 to 32 of `a-z 0-9 - _`.
    pub name: Arc<str>,
    /// What its button says.
    pub title: String,
    /// Its issuer, exactly as its metadata and tokens spell it.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our secret there; without it and without a key, a client proves itself by PKCE alone.
    pub client_secret: Option<Secret<String>>,
    /// Our key there, in the place of a secret.
    pub client_key: Option<Arc<ClientKey>>,
    /// What is asked for; `openid` among it.
    pub scopes: Vec<String>,
    /// Who may stand in `aud` beside us.
    pub audiences: Audiences,
    /// Whether its userinfo endpoint is asked for claims that the ID token lacks.
    pub userinfo: bool,
    /// Whether it is told of a sign-in before a browser is sent there, where it offers that (RFC 9126).
    pub pushed: bool,
    /// Whether its sessions go on by its word alone: it is asked again with a refresh token when its access token is over.
    pub refresh: bool,
    /// Whether people are asked for their consent at each sign-in, without which it gives no refresh token (OpenID Connect
    /// Core 1.0, section 11).
    pub consent: bool,
    /// PEM file of the authorities that may have signed its certificate; `None` takes the system's.
    pub ca: Option<PathBuf>,
    /// Where its tokens say what.
    pub claims: ClaimNames,
    /// The roles that it may assert, by its own names for them, to ours.
    pub roles: BTreeMap<String, String>,
    /// The groups that it may assert, likewise.
    pub groups: BTreeMap<String, String>,
    /// What it says when a person has proved more than one factor.
    pub second_factor: SecondFactor,
    /// Its access tokens as credentials of callers; `None` takes none.
    pub access_tokens: Option<AccessTokens>,
}

/// Which access tokens of a provider are taken from callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessTokens {
    /// Our names as an API there, one of which stands in `aud`. Never our client id, which ID tokens name.
    pub audiences: Vec<String>,
    /// Which `typ` they may have.
    pub types: TokenTypes,
    /// What each of its scopes covers here: action names or `*`-suffixed prefixes, by its own names for them. `None` where
    /// scopes restrict nothing.
    pub scopes: Option<BTreeMap<String, Vec<String>>>,
    /// Whether it is asked about tokens that are no JWT (RFC 7662). One provider at most is: an opaque token does not say
    /// whose it is, and asking around would show it to the others.
    pub introspection: bool,
}

/// What the `typ` of an access token's header may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTypes {
    /// `at+jwt` alone (RFC 9068): no other kind of token can be taken for one.
    Profile,
    /// `JWT`, or nothing, as well: of providers that write no profile. What marks an ID or a logout token is refused.
    Any,
}

/// Whom an ID token may name in `aud` beside us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audiences {
    /// These.
    Listed(Vec<String>),
    /// Anybody, as long as `azp` names us. Zitadel lists its project and every other application of it.
    Any,
}

/// Where claims stand: a name of the token's own level, or a JSON pointer (RFC 6901) that begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimNames {
    /// The name to show a person by; the first that is there.
    pub name: Vec<String>,
    /// Roles; all that are there.
    pub roles: Vec<String>,
    /// Groups; all that are there.
    pub groups: Vec<String>,
}

/// What counts as a second factor. Compared by membership, never by order (threat 10).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondFactor {
    /// Values of `acr`.
    pub acr: Vec<String>,
    /// Values of `amr`, one of which is enough.
    pub amr: Vec<String>,
}

/// Whose way of saying things a provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// OpenID Connect and nothing else.
    Generic,
    /// Zitadel.
    Zitadel,
    /// Keycloak.
    Keycloak,
    /// Microsoft Entra ID.
    Entra,
}

impl Provider {
    /// Whether anything that it says counts as a second factor.
    #[must_use]
    pub fn proves_two_factors(&self) -> bool {
        !self.second_factor.acr.is_empty() || !self.second_factor.amr.is_empty()
    }

    /// Whether it is asked about tokens that are no JWT.
    #[must_use]
    pub fn is_asked_about_tokens(&self) -> bool {
        self.access_tokens.as_ref().is_some_and(|tokens| tokens.introspection)
    }
}

impl Preset {
    /// What its button says where the configuration does not.
    #[must_use]
    pub const fn title(self) -> Option<&'static str> {
        match self {
            Self::Generic => None,
            Self::Zitadel => Some("Zitadel"),
            Self::Keycloak => Some("Keycloak"),
            Self::Entra => Some("Microsoft"),
        }
    }

    /// What is asked for. Zitadel asserts roles only where their scope is asked for.
    #[must_use]
    pub const fn scopes(self) -> &'static [&'static str] {
        match self {
            Self::Generic | Self::Keycloak | Self::Entra => &["openid", "profile", "email"],
            Self::Zitadel => &["openid", "profile", "email", "urn:zitadel:iam:org:projects:roles"],
        }
    }

    /// What is asked for besides so that there is a refresh token. Keycloak gives one that ends with its own session, and
    /// with this scope one that outlives it.
    #[must_use]
    pub const fn refresh_scope(self) -> Option<&'static str> {
        match self {
            Self::Generic | Self::Zitadel | Self::Entra => Some("offline_access"),
            Self::Keycloak => None,
        }
    }

    /// Where claims stand, for a client of this id.
    #[must_use]
    pub fn claims(self, client_id: &str) -> ClaimNames {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (name, groups) = (own(&["preferred_username", "email", "name"]), own(&["groups"]));
        let roles = match self {
            Self::Generic | Self::Entra => own(&["roles"]),
            Self::Zitadel => own(&["urn:zitadel:iam:org:project:roles"]),
            Self::Keycloak => {
                let client = client_id.replace('~', "~0").replace('/', "~1");
                vec!["/realm_access/roles".to_owned(), format!("/resource_access/{client}/roles")]
            }
        };
        ClaimNames { name, roles, groups }
    }

    /// Whether userinfo is asked. By default neither Zitadel nor Keycloak puts roles into the ID token.
    #[must_use]
    pub const fn userinfo(self) -> bool {
        match self {
            Self::Zitadel | Self::Keycloak => true,
            Self::Generic | Self::Entra => false,
        }
    }

    /// What its access tokens call themselves.
    #[must_use]
    pub const fn token_types(self) -> TokenTypes {
        match self {
            Self::Generic => TokenTypes::Profile,
            Self::Zitadel | Self::Keycloak | Self::Entra => TokenTypes::Any,
        }
    }

    /// Whom an ID token may name beside us.
    #[must_use]
    pub const fn audiences(self) -> Audiences {
        match self {
            Self::Zitadel => Audiences::Any,
            Self::Generic | Self::Keycloak | Self::Entra => Audiences::Listed(Vec::new()),
        }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}
