//! Form tokens: proof that the form which is posted is one that we showed to this browser.
//!
//! `SameSite` and `Sec-Fetch-Site` would do on most browsers; a sign-in with somebody else's account is worth
//! a second lock. Before there is a session, a signed cookie stands for the browser; afterwards its session does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::time::UnixMillis;
use ring::hmac;
use uuid::Uuid;

/// How long a sign-in form may stay open: 2 hours, in milliseconds.
pub const FORM_LIFETIME_MS: u64 = 2 * 60 * 60 * 1000;

const NONCE_BYTES: usize = 16;
const PAYLOAD_BYTES: usize = NONCE_BYTES + 8;
const TAG_BYTES: usize = 32;

/// The key of form tokens.
pub struct FormKey(hmac::Key);

/// A browser that was shown a sign-in form, until a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    payload: [u8; PAYLOAD_BYTES],
}

impl FormKey {
    /// From 32 secret bytes, derived for this purpose and no other.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The browser's cookie value.
    #[must_use]
    pub fn cookie(&self, origin: &str, shown: &Shown) -> String {
        let mut value = shown.payload.to_vec();
        value.extend_from_slice(self.tag("cookie", origin, &shown.payload).as_ref());
        URL_SAFE_NO_PAD.encode(value)
    }

    /// The browser that a cookie value stands for, if we signed it for this origin and it is not over.
    #[must_use]
    pub fn open(&self, origin: &str, now: UnixMillis, cookie: &str) -> Option<Shown> {
        let value = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (payload, tag) = value.split_at_checked(PAYLOAD_BYTES)?;
        let shown = Shown { payload: payload.try_into().ok()? };
        let whole = tag.len() == TAG_BYTES && self.verify("cookie", origin, payload, tag);
        (whole && shown.ends_at() > now).then_some(shown)
    }

    /// The hidden field of a sign-in form.
    #[must_use]
    pub fn sign_in(&self, origin: &str, shown: &Shown) -> String {
        URL_SAFE_NO_PAD.encode(self.tag("sign-in", origin, &shown.payload))
    }

    /// Whether a sign-in form is the one that was shown.
    #[must_use]
    pub fn is_sign_in(&self, origin: &str, shown: &Shown, token: &str) -> bool {
        self.verify_text("sign-in", origin, &shown.payload, token)
    }

    /// The hidden field of the form that ends a session.
    #[must_use]
    pub fn sign_out(&self, origin: &str, session: Uuid) -> String {
        URL_SAFE_NO_PAD.encode(self.tag("sign-out", origin, session.as_bytes()))
    }

    /// Whether a form ends this session and no other.
    #[must_use]
    pub fn is_sign_out(&self, origin: &str, session: Uuid, token: &str) -> bool {
        self.verify_text("sign-out", origin, session.as_bytes(), token)
    }

    fn verify_text(&self, purpose: &str, origin: &str, subject: &[u8], token: &str) -> bool {
        URL_SAFE_NO_PAD.decode(token).is_ok_and(|tag| self.verify(purpose, origin, subject, &tag))
    }

    fn tag(&self, purpose: &str, origin: &str, subject: &[u8]) -> hmac::Tag {
        hmac::sign(&self.0, &message(purpose, origin, subject))
    }

    /// In constant time: `ring` compares the whole tag.
    fn verify(&self, purpose: &str, origin: &str, subject: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, &message(purpose, origin, subject), tag).is_ok()
    }
}

impl Shown {
    /// A browser that is shown a form now; the nonce is 16 random bytes.
    #[must_use]
    pub fn now(now: UnixMillis, nonce: [u8; NONCE_BYTES]) -> Self {
        let mut payload = [0; PAYLOAD_BYTES];
        let bytes = nonce.into_iter().chain(now.plus(FORM_LIFETIME_MS).0.to_be_bytes());
        payload.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        Self { payload }
    }

    /// When its form is over.
    #[must_use]
    pub fn ends_at(&self) -> UnixMillis {
        let (_, end) = self.payload.split_at(NONCE_BYTES);
        UnixMillis(end.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
    }
}

/// Length-prefixed, so that no two different triples spell the same bytes.
fn message(purpose: &str, origin: &str, subject: &[u8]) -> Vec<u8> {
    let mut message = b"cedargate form 1".to_vec();
    for part in [purpose.as_bytes(), origin.as_bytes(), subject] {
        message.extend_from_slice(&(part.len() as u64).to_be_bytes());
        message.extend_from_slice(part);
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: &str = "https://a.example";
    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn key(byte: u8) -> FormKey {
        FormKey::new(&[byte; 32])
    }

    #[test]
    fn a_token_is_good_for_one_purpose_browser_host_and_key() {
        let (shown, other) = (Shown::now(NOW, [1; 16]), Shown::now(NOW, [2; 16]));
        let (session, other_session) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let token = key(1).sign_in(HERE, &shown);
        assert!(key(1).is_sign_in(HERE, &shown, &token));
        assert!(!key(1).is_sign_in(HERE, &other, &token));
        assert!(!key(1).is_sign_in("https://b.example", &shown, &token));
        assert!(!key(2).is_sign_in(HERE, &shown, &token));
        let token = key(1).sign_out(HERE, session);
        assert!(key(1).is_sign_out(HERE, session, &token));
        assert!(!key(1).is_sign_out(HERE, other_session, &token));
        assert!(!key(1).is_sign_in(HERE, &shown, &token));
        assert!(!key(1).is_sign_out(HERE, session, ""));
    }

    #[test]
    fn a_cookie_ends_and_belongs_to_one_host() {
        let shown = Shown::now(NOW, [7; 16]);
        let cookie = key(1).cookie(HERE, &shown);
        let end = NOW.plus(FORM_LIFETIME_MS);
        assert_eq!(shown.ends_at(), end);
        assert_eq!(key(1).open(HERE, UnixMillis(end.0 - 1), &cookie), Some(shown));
        assert_eq!(key(1).open(HERE, end, &cookie), None);
        assert_eq!(key(1).open("http://a.example", NOW, &cookie), None);
        assert_eq!(key(2).open(HERE, NOW, &cookie), None);
        // The hidden field is not the cookie: reading one does not give the other.
        assert_ne!(key(1).sign_in(HERE, &shown), cookie);
    }

    proptest! {
        /// No text opens that we did not sign, cut and lengthened ones included.
        #[test]
        fn only_what_we_signed_opens(text in "[A-Za-z0-9_-]{0,100}", at in 0_usize..74, flip in 1_u8..64) {
            prop_assert_eq!(key(1).open(HERE, NOW, &text), None);
            let cookie = key(1).cookie(HERE, &Shown::now(NOW, [7; 16]));
            prop_assert_eq!(key(1).open(HERE, NOW, cookie.get(..at.min(cookie.len() - 1)).unwrap()), None);
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let mut changed = cookie.clone().into_bytes();
            let at = at % changed.len();
            let was = alphabet.iter().position(|b| *b == changed[at]).unwrap();
            changed[at] = alphabet[(was + usize::from(flip)) % 64];
            prop_assert_eq!(key(1).open(HERE, NOW, std::str::from_utf8(&changed).unwrap()), None);
        }
    }
}
