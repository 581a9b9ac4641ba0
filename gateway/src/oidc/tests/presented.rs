//! What is kept of tokens that were verified.

use std::sync::Arc;

use super::super::presented::{Digest, KEPT_BYTES_MAX, Presented, Token};
use super::super::{Fault, Providers};
use super::*;
use engine::identity::Identity;

fn providers(signer: &Signer) -> Providers {
    let settings = [of_api(TokenTypes::Profile)];
    Providers::with_keys(&settings, &signer.jwks().to_string())
}

async fn verified(providers: &Providers, signer: &Signer, changes: &[(&str, Value)]) -> (Digest, Arc<Token>) {
    let text = access_token(signer, &changed(access_claims(), changes));
    let (token, _) = providers.verified(&text, NOW).await.unwrap();
    (Digest::of(&text), Arc::new(token))
}

#[tokio::test]
async fn a_token_is_known_by_its_whole_digest_and_while_its_key_is_there() {
    let signer = Signer::new();
    let (providers, presented) = (providers(&signer), Presented::default());
    let (digest, token) = verified(&providers, &signer, &[]).await;
    assert!(presented.find(&digest).is_none());
    presented.put(digest, Arc::clone(&token), NOW);
    assert!(Arc::ptr_eq(&presented.find(&digest).unwrap().0, &token));
    assert!(Arc::ptr_eq(&presented.of_id(token.id).unwrap().0, &token));
    // Another token, in nothing but one byte of its signature.
    assert!(presented.find(&Digest::of("another")).is_none());

    let ends = token.token.times.ends;
    assert!(token.stands(UnixMillis(ends.0 - 1)) && !token.stands(ends));
    // The same key among others, in another place of a set that was fetched anew.
    let mut keys = signer.jwks();
    keys["keys"].as_array_mut().unwrap().reverse();
    providers.rotate(&keys.to_string());
    assert!(token.stands(NOW));
    let same_name = json!({"keys": [Signer::new().jwks()["keys"][1]]});
    for gone in [Signer::new().jwks(), same_name] {
        providers.rotate(&gone.to_string());
        assert!(!token.stands(NOW), "its key is gone");
    }
}

#[tokio::test]
async fn only_providers_that_say_so_are_asked_about_tokens() {
    let signer = Signer::new();
    let text = access_token(&signer, &access_claims());
    let silent = Provider { access_tokens: None, ..of_api(TokenTypes::Profile) };
    let elsewhere = Provider { issuer: "https://other.example".to_owned(), ..of_api(TokenTypes::Profile) };
    for settings in [vec![], vec![silent.clone()], vec![elsewhere], vec![silent]] {
        let taken = settings.iter().any(|settings| settings.access_tokens.is_some());
        let providers = Providers::with_keys(&settings, &signer.jwks().to_string());
        assert_eq!(providers.take_access_tokens(), taken);
        let fault = providers.verified(&text, NOW).await.err();
        assert_eq!(fault, Some(Fault::AccessToken(super::super::access_token::AccessFault::Issuer)));
    }
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_whoever_rests_on_a_token_keeps_it() {
    let signer = Signer::new();
    let (providers, presented) = (providers(&signer), Presented::default());
    let (digest, rested_on) = verified(&providers, &signer, &[]).await;
    presented.put(digest, Arc::clone(&rested_on), NOW);
    let Identity::Known(principal) = crate::pipeline::testing::known(1, 2) else { panic!("nobody") };
    presented.know(rested_on.id, (Arc::new(account(&rested_on)), Arc::clone(&principal)));
    // As many as fit, and more; the texts are made up, because signing each would take long.
    let (_, other) = verified(&providers, &signer, &[("sub", json!("somebody"))]).await;
    let mut most = 0;
    for number in 0..20_000 {
        let text = format!("a.{number}.c");
        let token = Arc::new(renamed(&other, &text));
        presented.put(Digest::of(&text), token, NOW);
        let (count, bytes) = presented.kept();
        assert!(bytes <= KEPT_BYTES_MAX);
        most = most.max(count);
    }
    assert!((1_000..20_000).contains(&most), "{most}");
    assert!(presented.find(&digest).is_some(), "an open socket rests on it");
    // Nobody does any more.
    drop(principal);
    for number in 20_000..40_000 {
        let text = format!("a.{number}.c");
        presented.put(Digest::of(&text), Arc::new(renamed(&other, &text)), NOW);
    }
    assert!(presented.find(&digest).is_none());
    // One that is kept again replaces itself.
    let before = presented.kept();
    let text = "a.39999.c";
    presented.put(Digest::of(text), Arc::new(renamed(&other, text)), NOW);
    assert_eq!(presented.kept(), before);
}

#[tokio::test]
async fn a_mark_is_of_the_tokens_of_its_subject_or_its_session_and_may_be_of_what_is_known_no_more() {
    let signer = Signer::new();
    let providers = providers(&signer);
    let (digest, token) = verified(&providers, &signer, &[("sub", json!("ada")), ("sid", json!("s1"))]).await;
    providers.presented.put(digest, Arc::clone(&token), NOW);
    let issuer = token.token.origin.issuer();
    for (issuer, subject, sid, expected) in [
        (issuer, "ada", Some("s1"), [true, true]),
        (issuer, "bob", Some("s1"), [true, false]),
        (issuer, "ada", Some("s2"), [false, true]),
        (issuer, "bob", Some("s2"), [false, false]),
        (issuer, "s1", Some("ada"), [false, false]),
        ("https://other.example", "ada", Some("s1"), [false, false]),
    ] {
        let places = providers.endings.places(issuer, subject, sid);
        let concerned: Vec<bool> =
            places.iter().map(|place| providers.is_marked_at(token.id, place)).collect();
        assert_eq!(concerned, expected, "{issuer} {subject} {sid:?}");
        assert!(places.iter().all(|place| providers.is_marked_at(uuid::Uuid::nil(), place)));
    }
}

fn renamed(token: &Token, text: &str) -> Token {
    token.under(Digest::of(text))
}

fn account(token: &Token) -> storage::credentials::Account {
    let person = token.person.clone();
    storage::credentials::Account {
        id: person.origin.account_id(),
        login: person.login,
        origin: Some(person.origin),
        roles: person.roles,
        groups: person.groups,
        suspended: false,
        created_at: NOW,
        password_changed_at: NOW,
        version: 1,
        vouched_at: None,
    }
}
