//! A signed token in its compact form (RFC 7515, section 7.1), taken apart and not yet believed.
//!
//! Nothing of the header chooses a key but `kid`, and nothing chooses an algorithm but the key: `jku`, `jwk`, `x5u` and
//! `x5c` are never looked at, and `crit` is refused, because no extension is known here.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Bytes of a token: ID tokens with hundreds of groups stay below.
pub const TOKEN_BYTES_MAX: usize = 32 * 1024;

/// Bytes of a key's name.
const KID_BYTES_MAX: usize = 256;

/// The algorithms that are verified: asymmetric ones alone (threat 8), each with SHA-256 or its own digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Why a text is no signed token that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsFault {
    /// It is too long.
    #[error("it has more than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It is not three parts of base64url.
    #[error("it is not three parts of base64url")]
    Form,
    /// Its header is not a JSON object with each name once.
    #[error("its header is not read")]
    Header,
    /// Its algorithm is none of ours: `none` and every symmetric one among them.
    #[error("it is signed with an algorithm that is not accepted")]
    Algorithm,
    /// It asks for an extension.
    #[error("its header has `crit`")]
    Critical,
    /// Its `typ` says that it is another kind of token.
    #[error("its `typ` is another kind of token's")]
    Type,
    /// Its payload is not a JSON object with each name once.
    #[error("its payload is not a JSON object, or names something twice")]
    Payload,
}

/// What a token is meant to be. All of one issuer are signed with the same keys, so `typ` is what tells them apart before
/// their claims do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ID token: `JWT`, or no `typ`.
    Id,
    /// An access token by RFC 9068: `at+jwt`.
    AccessProfile,
    /// An access token of a provider that writes no profile: `at+jwt`, `JWT`, or no `typ`.
    Access,
    /// A logout token: `logout+jwt`, or of older providers `JWT` or no `typ`.
    Logout,
}

/// A token, taken apart.
#[derive(Debug)]
pub struct Jws<'t> {
    /// What the header says that it is signed with. A key is asked whether it is of that kind.
    pub algorithm: Algorithm,
    /// Which key the header names.
    pub kid: Option<String>,
    /// What the header says that it is.
    pub typ: Option<String>,
    /// What is signed.
    pub signed: &'t [u8],
    /// The signature.
    pub signature: Vec<u8>,
    /// What it claims; nothing is true before the signature has been verified.
    pub claims: Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

impl Algorithm {
    /// By its name in a header or a key.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            // RFC 9864 names the curve.
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

impl<'t> Jws<'t> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// See [`JwsFault`].
    pub fn parse(token: &'t str) -> Result<Self, JwsFault> {
        let (jws, payload) = Self::apart(token)?;
        let Object(claims) = serde_json::from_slice(&payload).map_err(|_| JwsFault::Payload)?;
        Ok(Self { claims, ..jws })
    }

    /// Takes apart what may have any bytes for its payload, which come beside it: it claims nothing.
    ///
    /// # Errors
    /// See [`JwsFault`].
    pub fn apart(token: &'t str) -> Result<(Self, Vec<u8>), JwsFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(JwsFault::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwsFault::Form)?;
        let (header, payload) = signed.split_once('.').ok_or(JwsFault::Form)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwsFault::Form);
        // A fourth part would hold a dot, which is not of the alphabet.
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        let header: Header = serde_json::from_slice(&header).map_err(|_| JwsFault::Header)?;
        let algorithm = Algorithm::named(&header.alg).ok_or(JwsFault::Algorithm)?;
        if header.crit.is_some() {
            return Err(JwsFault::Critical);
        }
        if header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
            return Err(JwsFault::Header);
        }
        let Header { kid, typ, .. } = header;
        let jws = Self { algorithm, kid, typ, signed: signed.as_bytes(), signature, claims: Map::new() };
        Ok((jws, payload))
    }

    /// Whether its `typ` is of this kind.
    ///
    /// # Errors
    /// [`JwsFault::Type`] where it is another's.
    pub fn is(&self, kind: Kind) -> Result<(), JwsFault> {
        if kind.takes(self.typ.as_deref()) { Ok(()) } else { Err(JwsFault::Type) }
    }
}

impl Kind {
    fn takes(self, typ: Option<&str>) -> bool {
        let Some(typ) = typ else {
            return match self {
                Self::Id | Self::Access | Self::Logout => true,
                Self::AccessProfile => false,
            };
        };
        let is = |name: &str| typ.eq_ignore_ascii_case(name);
        // RFC 7515, section 4.1.9: `application/` is left out where no other slash follows.
        let profile = is("at+jwt") || is("application/at+jwt");
        match self {
            Self::Id => is("JWT"),
            Self::AccessProfile => profile,
            Self::Access => profile || is("JWT"),
            Self::Logout => is("logout+jwt") || is("application/logout+jwt") || is("JWT"),
        }
    }
}

/// A JSON object that names nothing twice on its own level: which of two values counts is a question that two programs
/// answer differently.
pub(super) struct Object(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Object, A::Error> {
                let mut map = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if map.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a name stands twice"));
                    }
                }
                Ok(Object(map))
            }
        }
        deserializer.deserialize_map(Once)
    }
}
