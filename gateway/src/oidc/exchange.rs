//! A code becomes tokens, and tokens become claims that hold (RFC 6749, section 4.1.3; OpenID Connect Core 1.0,
//! sections 3.1.3 and 5.3).

use std::time::Duration;

use engine::time::UnixMillis;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use storage::sessions::{HINT_BYTES_MAX, ProviderSession, SignOutHint};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::assertion::{TYPE, assertion};
use super::claims::{self, Mapped};
use super::discovery::Metadata;
use super::flow::Flow;
use super::http::Answer;
use super::id_token::{self, Expected, IdToken, TokenFault};
use super::jose::Object;
use super::keys::SignatureFault;
use super::refresh::Granted;
use super::{Fault, HttpFault, Provider};

/// All questions of one sign-in together: a person waits for them.
const BUDGET: Duration = Duration::from_secs(10);

/// What is escaped in a form: nothing that the form leaves as it is (RFC 6749, appendix B), because providers exist that take
/// id and secret out of the header as they stand there (OpenBao, whose secrets begin with `hvo_secret_`).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// What a token endpoint says when it refuses (RFC 6749, section 5.2). Another word is not repeated.
const REFUSALS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

#[derive(Deserialize, ZeroizeOnDrop)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
    refresh_token: Option<String>,
    #[zeroize(skip)]
    expires_in: Option<Value>,
}

/// Bytes of a pushed request's name: those of real providers have about a hundred.
const REQUEST_URI_BYTES_MAX: usize = 1024;

#[derive(Deserialize)]
struct Pushed {
    request_uri: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Somebody whom a provider vouches for.
#[derive(Clone, Debug)]
pub struct Vouched {
    /// Who it is.
    pub mapped: Mapped,
    /// When they proved it there; 0 where the provider does not say.
    pub authenticated_at: UnixMillis,
    /// When the provider said so, by its clock.
    pub issued: UnixMillis,
    /// Their session there, where it has a name.
    pub session: Option<ProviderSession>,
    /// With what the provider can be asked whether that still stands, where it is to be and has given it.
    pub granted: Option<Granted>,
    /// What it is shown when they sign out there, where it has a place for that.
    pub hint: Option<SignOutHint>,
}

impl Provider {
    /// Exchanges the code that a browser brought back, and tells who signed in.
    ///
    /// # Errors
    /// It is away, refuses, or what it says does not hold.
    pub async fn vouched(
        &self,
        now: UnixMillis,
        flow: &Flow,
        code: &str,
        redirect_uri: &str,
    ) -> Result<Vouched, Fault> {
        let asked = tokio::time::timeout(BUDGET, self.asked(now, flow, code, redirect_uri)).await;
        asked.unwrap_or(Err(Fault::Http { what: "its answers", fault: HttpFault::Timeout }))
    }

    async fn asked(
        &self,
        now: UnixMillis,
        flow: &Flow,
        code: &str,
        redirect_uri: &str,
    ) -> Result<Vouched, Fault> {
        let metadata = self.metadata().await?;
        let tokens = self.tokens(&metadata, flow, code, redirect_uri).await?;
        let access_token = tokens.access_token.as_deref();
        let nonce = flow.nonce();
        let expected = Expected {
            issuer: &self.settings.issuer,
            client_id: &self.settings.client_id,
            audiences: &self.settings.audiences,
            nonce: Some(&nonce),
            access_token,
            now,
        };
        let IdToken { origin, issued, claims } =
            self.verified(&metadata, &tokens.id_token, &expected).await?;
        let session = claims::session(origin.issuer(), &claims);
        // Before userinfo comes to it, which is not signed.
        let authenticated_at = super::times::proved_at(&claims, now);
        let claims = match (&metadata.userinfo_endpoint, access_token) {
            (Some(url), Some(token)) if self.settings.userinfo => {
                let userinfo = self.userinfo(url, token, origin.subject()).await?;
                claims::together(claims, userinfo)
            }
            (Some(_) | None, _) => claims,
        };
        let granted = || Granted::of(tokens.refresh_token.as_deref(), tokens.expires_in.as_ref(), now);
        let granted = self.settings.refresh.then(granted).flatten();
        let mut mapped = claims::map(&self.settings, origin, &claims);
        let hint = metadata.hint(&tokens.id_token);
        if metadata.end_session_endpoint.is_some() && hint.is_none() {
            mapped.notes.push(format!(
                "provider {} is not shown its ID token at sign-out, and may ask: it has more than {HINT_BYTES_MAX} bytes",
                self.name()
            ));
        }
        Ok(Vouched { mapped, authenticated_at, issued, session, granted, hint })
    }

    /// Shows a code that nobody was given, to see whether the provider knows us.
    pub(super) async fn refused_code(&self, metadata: &Metadata, redirect_uri: &str) -> Result<(), Fault> {
        let flow = Flow::begin(UnixMillis(0), &crate::random::bytes(), self.name(), None);
        let asked = self.tokens(metadata, &flow, "a-code-that-nobody-was-given", redirect_uri);
        let asked = tokio::time::timeout(BUDGET, asked).await;
        asked.unwrap_or(Err(Fault::Http { what: "the token endpoint", fault: HttpFault::Timeout })).map(drop)
    }

    async fn tokens(
        &self,
        metadata: &Metadata,
        flow: &Flow,
        code: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, Fault> {
        let verifier = flow.verifier();
        let fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier.as_str()),
        ];
        self.token_answer(metadata, fields).await
    }

    /// What the token endpoint answers.
    pub(super) async fn token_answer<T: DeserializeOwned>(
        &self,
        metadata: &Metadata,
        fields: Vec<(&str, &str)>,
    ) -> Result<T, Fault> {
        let what = "the token endpoint";
        let answer = self.as_client(metadata, &metadata.token_endpoint, fields).await;
        let answer = answer.map_err(|fault| Fault::Http { what, fault })?;
        taken(what, &answer, &[200], Fault::TokenResponse)
    }

    /// Tells the provider of a sign-in (RFC 9126, section 2): the name by which a browser is sent to it.
    pub(super) async fn pushed(
        &self,
        metadata: &Metadata,
        url: &reqwest::Url,
        fields: Vec<(&str, &str)>,
    ) -> Result<String, Fault> {
        let what = "the endpoint for pushed requests";
        let answer = tokio::time::timeout(BUDGET, self.as_client(metadata, url, fields)).await;
        let answer =
            answer.unwrap_or(Err(HttpFault::Timeout)).map_err(|fault| Fault::Http { what, fault })?;
        let Pushed { request_uri } = taken(what, &answer, &[201, 200], Fault::Pushed)?;
        let sound = (1..=REQUEST_URI_BYTES_MAX).contains(&request_uri.len());
        if sound { Ok(request_uri) } else { Err(Fault::Pushed) }
    }

    /// Asks as the client that we are there.
    pub(super) async fn as_client(
        &self,
        metadata: &Metadata,
        url: &reqwest::Url,
        mut fields: Vec<(&str, &str)>,
    ) -> Result<Answer, HttpFault> {
        let (id, secret) = (self.settings.client_id.as_str(), self.settings.client_secret.as_ref());
        // RFC 6749, section 2.3.1: both are escaped before they become a header.
        let escaped_id = escaped(id);
        let escaped_secret = secret.map(|secret| escaped(secret.expose()));
        let mut basic = None;
        let key = self.settings.client_key.as_ref();
        let proof = key.map(|key| assertion(key, id, &self.settings.issuer, crate::clock::now()));
        // Without randomness nothing is sent.
        let proof = proof.map(|proof| proof.ok_or(HttpFault::Broken)).transpose()?;
        if let Some(proof) = &proof {
            fields.extend([("client_assertion_type", TYPE), ("client_assertion", proof.as_str())]);
        }
        match (secret, &escaped_secret) {
            (Some(secret), _) if metadata.secret_in_body => {
                fields.extend([("client_id", id), ("client_secret", secret.expose().as_str())]);
            }
            (Some(_), Some(escaped_secret)) => basic = Some((escaped_id.as_str(), escaped_secret.as_str())),
            (Some(_) | None, _) => fields.push(("client_id", id)),
        }
        // A pushed request names the client by itself.
        let mut named = false;
        fields.retain(|(name, _)| *name != "client_id" || !std::mem::replace(&mut named, true));
        self.http.post(url, form(&fields), basic).await
    }

    /// Verifies an ID token; where its key is not there, once more with keys that are asked for anew.
    pub(super) async fn verified(
        &self,
        metadata: &Metadata,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<IdToken, Fault> {
        let keys = self.keys(metadata, false).await?;
        match id_token::verify(token, &keys, expected) {
            Err(TokenFault::Signature(SignatureFault::UnknownKey)) => {
                let keys = self.keys(metadata, true).await?;
                Ok(id_token::verify(token, &keys, expected)?)
            }
            verified => Ok(verified?),
        }
    }

    pub(super) async fn userinfo(
        &self,
        url: &reqwest::Url,
        token: &str,
        subject: &str,
    ) -> Result<Map<String, Value>, Fault> {
        let what = "userinfo";
        let bytes = self.http.get(url, Some(token)).await.map_err(|fault| Fault::Http { what, fault })?;
        let Object(claims) = serde_json::from_slice(&bytes).map_err(|_| Fault::Userinfo)?;
        // Core 1.0, section 5.3.4: without this check another person's answer could be slipped in.
        let same = claims.get("sub").and_then(Value::as_str) == Some(subject);
        if same { Ok(claims) } else { Err(Fault::Userinfo) }
    }
}

/// What an endpoint answers that we ask as a client, or the word by which it refuses.
fn taken<T: DeserializeOwned>(
    what: &'static str,
    answer: &Answer,
    well: &[u16],
    unread: Fault,
) -> Result<T, Fault> {
    match answer.status {
        status if well.contains(&status) => serde_json::from_slice(&answer.body).map_err(|_| unread),
        status @ (400 | 401 | 403) => {
            let said = serde_json::from_slice::<Refusal>(&answer.body).ok();
            let known = said.and_then(|said| REFUSALS.into_iter().find(|word| *word == said.error));
            Err(known.map_or(Fault::Http { what, fault: HttpFault::Status(status) }, Fault::Refused))
        }
        status => Err(Fault::Http { what, fault: HttpFault::Status(status) }),
    }
}

fn escaped(text: &str) -> Zeroizing<String> {
    Zeroizing::new(utf8_percent_encode(text, ESCAPED).to_string())
}

fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", &*escaped(value)));
    Zeroizing::new(pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_escapes_what_it_must_and_nothing_else() {
        for (text, form) in [
            ("hvo_secret_4711-a.b*", "hvo_secret_4711-a.b*"),
            // The example of RFC 6749, appendix B, with the other spelling of a space, which whoever reads no form takes, too.
            (" %&+\u{a3}\u{20ac}", "%20%25%26%2B%C2%A3%E2%82%AC"),
            ("gateway@app:/~=", "gateway%40app%3A%2F%7E%3D"),
        ] {
            assert_eq!(*escaped(text), form);
        }
    }
}
