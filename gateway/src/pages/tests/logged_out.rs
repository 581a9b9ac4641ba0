//! What a provider's word ends, and when it is taken.

use serde_json::{Value, json};
use storage::sessions::ProviderSession;

use super::*;
use crate::config::providers::TokenTypes;
use crate::oidc::tests::{ISSUER, Signer, access_claims, access_token, changed, logout_token, of_api};

struct Provider {
    world: World,
    signer: Signer,
    account: Uuid,
}

impl Provider {
    async fn new() -> Self {
        let signer = Signer::new();
        let providers = Providers::with_keys(&[of_api(TokenTypes::Profile)], &signer.jwks().to_string());
        let world = World::with(providers).await;
        let account = storage::credentials::Origin::new(ISSUER, "242424").unwrap().account_id();
        Self { world, signer, account }
    }

    async fn session(&self, account: Uuid, sid: Option<&str>) -> String {
        let provider = sid.and_then(|sid| ProviderSession::new(ISSUER, sid));
        let new = NewSession { provider, ..NewSession::of(account, NOW) };
        let created = self.world.pages.parts.sessions.create(new, NOW).await.unwrap();
        created.secret.reveal().to_string()
    }

    async fn tell(&self, changes: &[(&str, Value)]) -> PageAnswer {
        self.tell_text(&logout_token(&self.signer, changes)).await
    }

    async fn tell_text(&self, token: &str) -> PageAnswer {
        let request = request(Page::OidcLogout, &[], &format!("logout_token={token}"));
        self.world.ask(NOW, None, &request).await
    }

    async fn are_live(&self, secrets: &[&String]) -> Vec<bool> {
        let mut live = Vec::new();
        for secret in secrets {
            live.push(self.world.is_live(secret).await);
        }
        live
    }
}

#[tokio::test]
async fn what_goes_back_to_it_ends_and_nothing_else() {
    let provider = Provider::new().await;
    let other = Uuid::from_u128(9);
    let one = provider.session(provider.account, Some("s1")).await;
    let nameless = provider.session(provider.account, None).await;
    let second = provider.session(provider.account, Some("s2")).await;
    let neighbour = provider.session(other, Some("s1")).await;
    let local = provider.session(other, None).await;
    let all = [&one, &nameless, &second, &neighbour, &local];

    let answer = provider.tell(&[]).await;
    assert_eq!(
        (answer.status, answer.refusal.clone(), answer.body.len()),
        (200, None, 0),
        "{:?}",
        answer.notes
    );
    assert_eq!(header(&answer, &CACHE_CONTROL), Some("no-store"));
    assert!(answer.notes[0].contains("2 sessions and 0 tokens ended here"), "{:?}", answer.notes);
    assert_eq!(provider.are_live(&all).await, [false, false, true, true, true]);
    provider.tell(&[("jti", json!("j2")), ("sub", Value::Null)]).await;
    assert_eq!(provider.are_live(&all).await, [false, false, true, false, true]);
    provider.tell(&[("jti", json!("j3")), ("sid", Value::Null)]).await;
    assert_eq!(provider.are_live(&all).await, [false, false, false, false, true]);
}

#[tokio::test]
async fn a_word_counts_once_and_one_that_does_not_hold_never() {
    let provider = Provider::new().await;
    let token = logout_token(&provider.signer, &[]);
    assert_eq!(provider.tell_text(&token).await.status, 200);
    let session = provider.session(provider.account, Some("s2")).await;
    let strange = logout_token(&Signer::new(), &[("sid", Value::Null)]);
    for (text, why) in [(token.as_str(), "it was taken before"), (&strange, "not believed"), ("", "not read")]
    {
        let answer = provider.tell_text(text).await;
        assert_eq!(answer.status, 400, "{why}");
        assert_eq!(answer.refusal, Some(Refusal::CredentialRejected(CredentialFault::Token)), "{why}");
        assert_eq!(text_of(&answer), r#"{"error":"invalid_request"}"#);
        assert!(answer.notes[0].contains(why), "{why}: {:?}", answer.notes);
        assert_eq!(header(&answer, &CACHE_CONTROL), Some("no-store"), "{why}");
    }
    assert!(provider.world.is_live(&session).await);
    let request = request(Page::OidcLogout, &[], "other=1");
    let answer = provider.world.ask(NOW, None, &request).await;
    assert_eq!((answer.status, answer.refusal.is_some()), (400, true), "no token at all");
}

fn text_of(answer: &PageAnswer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

#[tokio::test]
async fn tokens_end_with_their_session_or_with_their_person() {
    let provider = Provider::new().await;
    let parts = &provider.world.pages.parts;
    let kept = async |changes: &[(&str, Value)]| {
        let text = access_token(&provider.signer, &changed(access_claims(), changes));
        let (token, _) = parts.providers.verified(&text, NOW).await.unwrap();
        let token = Arc::new(token);
        parts.providers.presented.put(crate::oidc::presented::Digest::of(&text), Arc::clone(&token), NOW);
        token
    };
    let of_session = kept(&[("sid", json!("s1"))]).await;
    let other_session = kept(&[("sid", json!("s2"))]).await;
    let of_nobody = kept(&[("sub", json!("other"))]).await;
    let is_kept = |token: &crate::oidc::presented::Token| parts.providers.presented.of_id(token.id).is_some();
    let answer = provider.tell(&[]).await;
    assert!(answer.notes[0].contains("0 sessions and 1 tokens"), "{:?}", answer.notes);
    assert_eq!([&of_session, &other_session, &of_nobody].map(|token| is_kept(token)), [false, true, true]);
    assert!(parts.providers.has_ended(&of_session).await.unwrap(), "nor is it taken when it comes again");
    provider.tell(&[("jti", json!("j2")), ("sid", Value::Null)]).await;
    assert_eq!([&other_session, &of_nobody].map(|token| is_kept(token)), [false, true]);
    assert!(!parts.providers.has_ended(&of_nobody).await.unwrap());
    // One that was issued afterwards is another.
    let later = NOW.plus(1000);
    let text = access_token(&provider.signer, &changed(access_claims(), &[("iat", json!(later.0 / 1000))]));
    let (later, _) = parts.providers.verified(&text, later).await.unwrap();
    assert!(!parts.providers.has_ended(&later).await.unwrap());
}
