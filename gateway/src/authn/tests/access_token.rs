//! Access tokens, on every kind of route and beside every other credential.

use engine::identity::PrincipalKind;
use engine::refusal::Dependency;
use serde_json::{Value, json};
use storage::endings::{Ended, Ending};

use super::*;
use crate::config::providers::TokenTypes;
use crate::oidc::introspection::TOLD_MS;
use crate::oidc::tests::standin::Standin;
use crate::oidc::tests::{self as tokens, Signer, access_claims, changed, of_api};

struct Tokens {
    world: World,
    signer: Signer,
    providers: Arc<Providers>,
}

impl Tokens {
    async fn new() -> Self {
        let signer = Signer::new();
        let settings = [of_api(TokenTypes::Profile)];
        let providers = Providers::with_keys(&settings, &signer.jwks().to_string());
        let world = World::with(providers).await;
        let providers = Arc::clone(world.authn.tokens.providers());
        Self { world, signer, providers }
    }

    fn token(&self, changes: &[(&str, Value)]) -> String {
        tokens::access_token(&self.signer, &changed(access_claims(), changes))
    }

    fn know(&mut self, name: &'static str, changes: &[(&str, Value)]) {
        let token = self.token(changes);
        self.world.known.push((name, token));
    }

    /// At the time of the tokens; `World` has made its own credentials long before.
    async fn ask(&self, letters: &str, now: UnixMillis, headers: &[(&'static str, &str)]) -> String {
        told(&self.whole(letters, now, headers).await)
    }

    async fn whole(
        &self,
        letters: &str,
        now: UnixMillis,
        headers: &[(&'static str, &str)],
    ) -> Result<Identified, Rejection> {
        self.world.ask_at(now, route(letters), false, HOST, headers).await
    }
}

fn principal(asked: Result<Identified, Rejection>) -> Arc<Principal> {
    match asked.map(|identified| identified.identity) {
        Ok(Identity::Known(principal)) => principal,
        other => panic!("{other:?}"),
    }
}

const TOKEN: (&str, &str) = (BEARER, "Bearer <TOKEN>");

#[tokio::test]
async fn tokens_by_route_and_beside_other_credentials() {
    let mut tokens = Tokens::new().await;
    tokens.know("TOKEN", &[]);
    tokens.know("OTHER", &[("jti", json!("2"))]);
    tokens.know("OVER", &[("exp", json!(tokens::NOW.0 / 1000 - 61))]);
    tokens.know("FOREIGN", &[("iss", json!("https://other.example"))]);
    let cases: &[Case] = &[
        ("t", &[TOKEN], "corp:242424 by key"),
        ("skt", &[TOKEN], "corp:242424 by key"),
        ("at", &[TOKEN], "corp:242424 by key"),
        // No cookie brings it along, so another site cannot send it for somebody.
        (
            "tw",
            &[TOKEN, ("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
            "corp:242424 by key",
        ),
        ("t", &[(BEARER, "bearer   <TOKEN> ")], "corp:242424 by key"),
        ("t", &[], "Unauthenticated"),
        ("sk", &[TOKEN], "NotAccepted"),
        ("a", &[TOKEN], "NotAccepted"),
        ("t", &[(BEARER, "Bearer <OVER>")], "Token"),
        ("at", &[(BEARER, "Bearer <OVER>")], "Token"),
        ("t", &[(BEARER, "Bearer <FOREIGN>")], "Token"),
        ("t", &[(BEARER, "Bearer ..")], "Token"),
        ("t", &[(BEARER, "Bearer <TOKEN>A")], "Token"),
        ("t", &[(BEARER, "Bearer <TOKEN>.A")], "BearerUnknown"),
        ("t", &[(BEARER, "Basic <TOKEN>")], "BearerUnknown"),
        ("t", &[(KEY, "<TOKEN>")], "NotAccepted"),
        ("t", &[(BEARER, "Bearer gb_0b_17")], "BearerUnknown"),
        ("t", &[(BEARER, OWN_TOKEN)], "BearerUnknown"),
        // Two stories.
        ("t", &[TOKEN, TOKEN], "Conflicting"),
        ("t", &[(BEARER, "Bearer <TOKEN>, Bearer <OTHER>")], "BearerUnknown"),
        ("kt", &[TOKEN, (KEY, "<KEY>")], "Conflicting"),
        ("kt", &[TOKEN, (KEY, "<REVOKED>")], "KeyUnknown"),
        ("kt", &[(BEARER, "Bearer <OVER>"), (KEY, "<KEY>")], "Token"),
    ];
    for (letters, headers, expected) in cases {
        assert_eq!(tokens.ask(letters, tokens::NOW, headers).await, *expected, "{letters} {headers:?}");
    }
}

#[tokio::test]
async fn a_session_beside_a_token_is_another_story() {
    let mut tokens = Tokens::new().await;
    tokens.know("TOKEN", &[("iat", json!(NOW.0 / 1000)), ("exp", json!(NOW.0 / 1000 + 300))]);
    assert_eq!(tokens.ask("st", NOW, &[TOKEN]).await, "corp:242424 by key");
    assert_eq!(tokens.ask("st", NOW, &[SESSION]).await, "ada by session");
    assert_eq!(tokens.ask("st", NOW, &[SESSION, TOKEN]).await, "Conflicting");
}

#[tokio::test]
async fn whoever_has_a_token_is_the_account_of_its_subject_with_what_the_token_says() {
    let tokens = Tokens::new().await;
    let ask = async |token: &str| {
        principal(tokens.whole("t", tokens::NOW, &[(BEARER, &format!("Bearer {token}"))]).await)
    };
    let plain = tokens.token(&[("acr", json!("urn:two"))]);
    let first = ask(&plain).await;
    let origin = storage::credentials::Origin::new(tokens::ISSUER, "242424").unwrap();
    assert_eq!((first.kind, first.id), (PrincipalKind::User, origin.account_id()));
    assert_eq!((first.scheme, first.assurance), (Scheme::AccessToken, 2));
    assert_eq!((&first.roles, &first.scopes), (&["viewer".to_owned()].into(), &["docs.*".to_owned()].into()));
    assert!(first.expires_at.is_some_and(|ends| ends > tokens::NOW));
    // The same allocation for the same token, so that whoever compares principals sees it at a glance.
    assert!(Arc::ptr_eq(&first, &ask(&plain).await));
    let other = ask(&tokens.token(&[("roles", json!([]))])).await;
    assert_eq!((other.id, other.roles.len()), (first.id, 0));
    assert_ne!(other.credential_id, first.credential_id);
    // What a token says does not change what its person has when they sign in.
    let account = tokens.world.authn.accounts.find(first.id).await.unwrap().unwrap();
    assert_eq!(account.roles, ["viewer".to_owned()].into());
}

#[tokio::test]
async fn what_was_verified_before_is_asked_about_again() {
    let tokens = Tokens::new().await;
    let text = format!("Bearer {}", tokens.token(&[]));
    let headers = [(BEARER, text.as_str())];
    let accept = route("t").accept;
    let authn = &tokens.world.authn;
    let ask = async |now| tokens.ask("t", now, &headers).await;
    let again = async |before: &Identity, now| {
        told(&authn.again(now, before, accept).await.map_err(|refusal| Rejection {
            refusal,
            notes: Vec::new(),
            principal: None,
        }))
    };
    let before = tokens.whole("t", tokens::NOW, &headers).await.unwrap().identity;
    let Identity::Known(known) = &before else { panic!("nobody") };
    let ends = known.expires_at.unwrap();
    assert_eq!(again(&before, tokens::NOW).await, "corp:242424 by key");
    assert_eq!(again(&before, ends).await, "Token");
    let refused = authn.again(tokens::NOW, &before, route("sk").accept).await;
    assert_eq!(refused.err(), Some(Refusal::Unauthenticated), "the route takes none any more");

    // Suspended, and back.
    for (suspended, expected) in [(true, "Suspended"), (false, "corp:242424 by key")] {
        let change = AccountChange { suspended: Some(suspended), ..AccountChange::default() };
        authn.accounts.change(known.id, change).await.unwrap();
        assert_eq!(ask(tokens::NOW).await, expected);
        assert_eq!(again(&before, tokens::NOW).await, expected);
    }
    // Removed: what is open ends, and the next request meets its person anew.
    authn.accounts.remove(known.id).await.unwrap();
    assert_eq!(again(&before, tokens::NOW).await, "Token");
    assert_eq!(ask(tokens::NOW).await, "corp:242424 by key");

    // Its key is taken out of use.
    tokens.providers.rotate(&Signer::new().jwks().to_string());
    assert_eq!(again(&before, tokens::NOW).await, "Token");
    assert_eq!(ask(tokens::NOW).await, "Token");
    tokens.providers.rotate(&tokens.signer.jwks().to_string());
    assert_eq!(ask(tokens::NOW).await, "corp:242424 by key");
    assert_eq!(ask(ends).await, "Token");
}

#[tokio::test]
async fn the_record_names_the_rule_and_never_the_token() {
    let tokens = Tokens::new().await;
    let notes = async |token: &str| {
        let asked = tokens.whole("t", tokens::NOW, &[(BEARER, &format!("Bearer {token}"))]).await;
        asked.map_or_else(|rejection| rejection.notes, |identified| identified.notes)
    };
    let plain = tokens.token(&[]);
    let left_out = "provider corp may not assert these roles, left out: stranger";
    assert_eq!(notes(&plain).await, [left_out]);
    assert!(notes(&plain).await.is_empty(), "told when it is verified, not at each use");
    let foreign = tokens.token(&[("aud", json!("https://other.example"))]);
    assert_eq!(notes(&foreign).await, ["access token: `aud` names none of `api_audiences`"]);
    assert_eq!(notes(OWN_TOKEN.strip_prefix("Bearer ").unwrap()).await, [OWN_TOKEN_NOTE]);
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_makes_no_token_hold_and_none_invalid() {
    let signer = Signer::new();
    // Nothing listens there, and no keys are known yet.
    let mut settings = of_api(TokenTypes::Profile);
    settings.issuer = "http://127.0.0.1:1".to_owned();
    let world = World::with(Providers::alone(&[settings])).await;
    let claims = changed(access_claims(), &[("iss", json!("http://127.0.0.1:1"))]);
    let text = format!("Bearer {}", tokens::access_token(&signer, &claims));
    let asked = world.ask_at(tokens::NOW, route("t"), false, HOST, &[(BEARER, &text)]).await;
    assert_eq!(told(&asked), "Unavailable(IdentityProvider)");
}

/// A world whose provider is asked about opaque tokens, and what it says of every one.
async fn opaque() -> (World, Standin) {
    let standin = Standin::start().await;
    let mut settings = of_api(TokenTypes::Profile);
    settings.issuer.clone_from(&standin.issuer);
    settings.client_secret = Some(Secret::new("a-secret".to_owned()));
    settings.access_tokens.as_mut().unwrap().introspection = true;
    standin.says_this(&active(&standin, &[]));
    (World::with(Providers::alone(&[settings])).await, standin)
}

fn active(standin: &Standin, changes: &[(&str, Value)]) -> Value {
    let issuer = json!(standin.issuer);
    let told = [("iss", issuer), ("active", json!(true)), ("token_type", json!("Bearer"))];
    changed(changed(access_claims(), &told), changes)
}

#[tokio::test]
async fn opaque_tokens_by_route_and_beside_other_credentials() {
    let (world, standin) = opaque().await;
    let ask = async |letters: &str, headers: &[(&'static str, &str)]| {
        told(&world.ask_at(tokens::NOW, route(letters), false, HOST, headers).await)
    };
    let token = (BEARER, "Bearer 0123456789abcdef");
    for (letters, headers, expected) in [
        ("t", &[token][..], "corp:242424 by key"),
        ("at", &[token], "corp:242424 by key"),
        ("tw", &[token, ("sec-fetch-site", "cross-site")], "corp:242424 by key"),
        ("sk", &[token], "NotAccepted"),
        ("a", &[token], "NotAccepted"),
        ("t", &[token, (BEARER, "Bearer 0123456789abcdeg")], "Conflicting"),
        ("kt", &[token, (KEY, "<KEY>")], "Conflicting"),
        ("t", &[(BEARER, "Bearer 0123456789abcde")], "BearerUnknown"),
        ("t", &[(BEARER, "Bearer gb_0123456789abcdef")], "BearerUnknown"),
        ("t", &[(KEY, "0123456789abcdef")], "NotAccepted"),
    ] {
        assert_eq!(ask(letters, headers).await, expected, "{letters} {headers:?}");
    }
    standin.says_this(&json!({"active": false}));
    let other = (BEARER, "Bearer another-text-of-somebody");
    assert_eq!(ask("t", &[other]).await, "Token");
    // A token that does not hold is told also where nobody needs one.
    assert_eq!(ask("at", &[other]).await, "Token");
    // Nobody is asked where no entry says so.
    let silent = Tokens::new().await;
    assert_eq!(silent.ask("t", tokens::NOW, &[token]).await, "BearerUnknown");
}

#[tokio::test]
async fn whatever_rests_on_an_opaque_token_is_asked_about_again() {
    let (world, standin) = opaque().await;
    let headers = [(BEARER, "Bearer 0123456789abcdef")];
    let whole = world.ask_at(tokens::NOW, route("t"), false, HOST, &headers).await;
    let before = Identity::Known(principal(whole));
    let again = async |now| {
        let again = world.authn.again(now, &before, route("t").accept).await;
        again.map(|identified| identified.identity)
    };
    let later = tokens::NOW.plus(TOLD_MS);
    let (Identity::Known(known), Ok(Identity::Known(same))) = (&before, again(later).await) else {
        panic!("nobody")
    };
    assert!(Arc::ptr_eq(known, &same), "the same answer leaves the same principal");
    assert_eq!(standin.asked("/introspect"), 2);
    assert_eq!(world.authn.told_until(&before), Some(later.plus(TOLD_MS)), "what is open asks then");
    // Its provider is away: nobody is known by that.
    standin.says(|_, _| (503, String::new()));
    let later = later.plus(TOLD_MS);
    assert_eq!(again(later).await.err(), Some(Refusal::Unavailable(Dependency::IdentityProvider)));
    let asked = told(&world.ask_at(later, route("t"), false, HOST, &headers).await);
    assert_eq!(asked, "Unavailable(IdentityProvider)");
    // It is back, and says that it has ended: whoever asks, what is open by it is told at once.
    standin.says_this(&json!({"active": false}));
    let mut told_of = world.authn.tokens.providers().endings.changes().listen();
    let asked = told(&world.ask_at(later, route("t"), false, HOST, &headers).await);
    assert_eq!(asked, "Token");
    assert_eq!(told_of.try_recv(), Ok(storage::Change::AccessToken(known.credential_id.unwrap())));
    // A guess is nobody's.
    let guess = [(BEARER, "Bearer a-token-that-nobody-has")];
    assert_eq!(told(&world.ask_at(later, route("t"), false, HOST, &guess).await), "Token");
    assert!(told_of.try_recv().is_err());
    assert_eq!(again(later).await.err(), Some(Refusal::CredentialRejected(CredentialFault::Token)));
    standin.says_this(&active(&standin, &[]));
    assert_eq!(
        again(later).await.err(),
        Some(Refusal::CredentialRejected(CredentialFault::Token)),
        "gone for good"
    );
}

#[tokio::test]
async fn what_a_provider_has_ended_stays_ended_whatever_it_says_of_the_token() {
    let (world, standin) = opaque().await;
    let headers = [(BEARER, "Bearer 0123456789abcdef")];
    let ask = async || told(&world.ask_at(tokens::NOW, route("t"), false, HOST, &headers).await);
    assert_eq!(ask().await, "corp:242424 by key");
    let what = Ended::Subject("242424".to_owned(), tokens::NOW);
    let ending = Ending { issuer: standin.issuer.clone(), what };
    let providers = world.authn.tokens.providers();
    providers.endings.mark(&ending, tokens::NOW).await.unwrap();
    assert_eq!(providers.presented.end(|token| token.is_ended_by(&ending)).len(), 1);
    for _ in 0..2 {
        assert_eq!(ask().await, "Token");
    }
    standin.says_this(&active(&standin, &[("iat", json!(tokens::NOW.0 / 1000 + 1))]));
    assert_eq!(ask().await, "corp:242424 by key", "issued afterwards");
}
