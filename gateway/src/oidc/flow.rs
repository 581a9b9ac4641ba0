//! One sign-in at a provider while it is under way: what this browser keeps of it in a cookie of its own.
//!
//! Each tab has its flow. The cookie is sealed, bound to our origin and to its own name, and over after ten minutes;
//! `state`, `nonce` and the PKCE verifier follow from its secret. Nothing is kept here, so nothing can be filled up, and
//! any gateway with the same keys can finish what another has begun.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::route::StepUp;
use engine::time::UnixMillis;
use ring::digest::{SHA256, digest};
use ring::hmac;
use storage::Keyring;
use storage::keyring::Purpose;
use storage::seal::{seal, unseal};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::pages::return_to::ReturnTo;

/// What a flow confirms of a session that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    /// The session, by its public id.
    pub session: Uuid,
    /// What is asked of its person's proof.
    pub asks: StepUp,
}

/// How long a person may take at the provider: 10 minutes, in milliseconds.
pub const FLOW_LIFETIME_MS: u64 = 10 * 60 * 1000;
/// Flows of one browser at once; one more lets go of the oldest.
pub const FLOWS_MAX: usize = 8;
/// Bytes of their cookies together; a `Cookie` header may have 16 KiB.
pub const FLOWS_BYTES_MAX: usize = 6 * 1024;

/// Bytes of a flow's id: enough to tell the few flows of one browser apart. It is no secret.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Random bytes that a flow is made of.
pub const RANDOM_BYTES: usize = ID_BYTES + SECRET_BYTES;

/// A flow's name within its browser, 16 hex digits: part of the cookie's name, and the beginning of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowId(String);

/// A sign-in under way.
pub struct Flow {
    id: FlowId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    begun: UnixMillis,
    provider: String,
    return_to: Option<ReturnTo>,
    raise: Option<Raise>,
}

impl FlowId {
    /// Reads an id as it stands in a cookie's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == ID_BYTES * 2 && digits).then(|| Self(text.to_owned()))
    }

    /// The flow that a `state` belongs to; whether it is that flow's is another question.
    #[must_use]
    pub fn of_state(state: &str) -> Option<Self> {
        Self::parse(state.get(..ID_BYTES * 2)?)
    }

    /// As it stands in a cookie's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Flow {
    /// A flow that begins now.
    #[must_use]
    pub fn begin(
        now: UnixMillis,
        random: &[u8; RANDOM_BYTES],
        provider: &str,
        return_to: Option<ReturnTo>,
    ) -> Self {
        let (id, secret) = random.split_at(ID_BYTES);
        let id = FlowId(id.iter().map(|byte| format!("{byte:02x}")).collect());
        let mut own = Zeroizing::new([0; SECRET_BYTES]);
        own.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
        Self { id, secret: own, begun: now, provider: provider.to_owned(), return_to, raise: None }
    }

    /// The same, to confirm more of a session that is there already.
    #[must_use]
    pub fn raising(self, raise: Option<Raise>) -> Self {
        Self { raise, ..self }
    }

    /// What it is to confirm, of which session.
    #[must_use]
    pub fn raise(&self) -> Option<&Raise> {
        self.raise.as_ref()
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &FlowId {
        &self.id
    }

    /// The provider that the person was sent to.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Where the person wanted to go.
    #[must_use]
    pub fn return_to(&self) -> Option<&ReturnTo> {
        self.return_to.as_ref()
    }

    /// When it began.
    #[must_use]
    pub fn begun(&self) -> UnixMillis {
        self.begun
    }

    /// Whether it is over, or from a future that another clock has seen.
    #[must_use]
    pub fn is_over(&self, now: UnixMillis) -> bool {
        now >= self.begun.plus(FLOW_LIFETIME_MS) || self.begun > now.plus(FLOW_LIFETIME_MS)
    }

    /// `state`: the id, and what only who has the cookie's key can derive.
    #[must_use]
    pub fn state(&self) -> String {
        format!("{}{}", self.id.0, self.derived("state"))
    }

    /// Whether a `state` is this flow's; compared in constant time.
    #[must_use]
    pub fn is_state(&self, state: &str) -> bool {
        bool::from(self.state().as_bytes().ct_eq(state.as_bytes()))
    }

    /// `nonce`.
    #[must_use]
    pub fn nonce(&self) -> String {
        self.derived("nonce")
    }

    /// The PKCE verifier (RFC 7636): 43 characters.
    #[must_use]
    pub fn verifier(&self) -> Zeroizing<String> {
        Zeroizing::new(self.derived("verifier"))
    }

    /// The PKCE challenge of the verifier, by S256.
    #[must_use]
    pub fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.verifier().as_bytes()))
    }

    fn derived(&self, what: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_ref());
        URL_SAFE_NO_PAD.encode(hmac::sign(&key, what.as_bytes()))
    }

    /// The cookie's value, for one origin of ours.
    #[must_use]
    pub fn seal(&self, keyring: &Keyring, origin: &str) -> Option<String> {
        let mut plain = Zeroizing::new(Vec::with_capacity(64));
        plain.extend_from_slice(&self.begun.0.to_be_bytes());
        plain.extend_from_slice(self.secret.as_ref());
        plain.push(u8::from(self.raise.is_some()));
        if let Some(Raise { session, asks }) = &self.raise {
            plain.extend_from_slice(session.as_bytes());
            plain.push(asks.assurance);
            plain.extend_from_slice(&asks.max_age_s.unwrap_or(0).to_be_bytes());
        }
        plain.push(u8::try_from(self.provider.len()).ok()?);
        plain.extend_from_slice(self.provider.as_bytes());
        plain.extend_from_slice(self.return_to.as_ref().map(ReturnTo::as_str).unwrap_or_default().as_bytes());
        let sealed = seal(keyring, Purpose::OidcFlow, &place(origin, &self.id), &plain).ok()?;
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The flow of a cookie that we sealed for this origin and this name; it may be over.
    #[must_use]
    pub fn open(keyring: &Keyring, origin: &str, id: &FlowId, cookie: &str) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let plain = unseal(keyring, Purpose::OidcFlow, &place(origin, id), &sealed).ok()?;
        let (begun, rest) = plain.split_first_chunk::<8>()?;
        let (secret, rest) = rest.split_first_chunk::<SECRET_BYTES>()?;
        let (raise, rest) = opened(rest)?;
        let (length, rest) = rest.split_first()?;
        let (provider, return_to) = rest.split_at_checked(usize::from(*length))?;
        let return_to = std::str::from_utf8(return_to).ok()?;
        Some(Self {
            id: id.clone(),
            secret: Zeroizing::new(*secret),
            begun: UnixMillis(u64::from_be_bytes(*begun)),
            provider: std::str::from_utf8(provider).ok()?.to_owned(),
            return_to: ReturnTo::parse(return_to),
            raise,
        })
    }
}

/// What a flow is to confirm, and what stands behind it.
fn opened(plain: &[u8]) -> Option<(Option<Raise>, &[u8])> {
    let (raises, rest) = plain.split_first()?;
    match raises {
        0 => Some((None, rest)),
        1 => {
            let (session, rest) = rest.split_first_chunk::<16>()?;
            let (assurance, rest) = rest.split_first()?;
            let (max_age, rest) = rest.split_first_chunk::<4>()?;
            let max_age_s = Some(u32::from_be_bytes(*max_age)).filter(|seconds| *seconds != 0);
            let asks = StepUp { assurance: *assurance, max_age_s, services: false };
            Some((Some(Raise { session: Uuid::from_bytes(*session), asks }), rest))
        }
        _ => None,
    }
}

/// Where a cookie belongs: another origin of ours and another name do not open it.
fn place(origin: &str, id: &FlowId) -> Vec<u8> {
    [id.0.as_bytes(), origin.as_bytes()].concat()
}

/// Which of a browser's flows have to go, so that one more of `bytes` fits: the oldest.
#[must_use]
pub fn let_go(mut flows: Vec<(UnixMillis, FlowId, usize)>, bytes: usize) -> Vec<FlowId> {
    flows.sort_by_key(|(begun, _, _)| std::cmp::Reverse(*begun));
    let (mut kept, mut held) = (1, bytes);
    let mut gone = Vec::new();
    for (_, id, size) in flows {
        kept += 1;
        held = held.saturating_add(size);
        if kept > FLOWS_MAX || held > FLOWS_BYTES_MAX {
            gone.push(id);
        }
    }
    gone
}
