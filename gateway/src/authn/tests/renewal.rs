//! Sessions that go on by their provider's word, on every kind of route.

use storage::credentials::{Login, Origin, Person};
use storage::grants::Grant;

use super::*;
use crate::config::providers::TokenTypes;
use crate::oidc::renewal::{AWAY_MS, GRACE_MS};
use crate::oidc::tests::of_api;
use crate::oidc::tests::standin::Standin;

async fn world() -> (World, Standin, Uuid) {
    let standin = Standin::start().await;
    let mut settings = of_api(TokenTypes::Profile);
    settings.issuer.clone_from(&standin.issuer);
    settings.refresh = true;
    let mut world = World::with(Providers::alone(&[settings])).await;
    let origin = Origin::new(&standin.issuer, "ada").unwrap();
    let login = Login::parse("corp:ada").unwrap();
    let person = Person { origin, login, roles: [].into(), groups: [].into() };
    let account = world.authn.accounts.vouched(person, NOW).await.unwrap().id;
    let session = world.session("TIED", account).await;
    let grant = Grant {
        issuer: standin.issuer.clone(),
        subject: "ada".to_owned(),
        refresh_token: "a-token".to_owned(),
        counts_until: NOW.plus(10),
        absolute_end: NOW.plus(600_000),
    };
    world.authn.renewals.begin(session, grant).await.unwrap();
    (world, standin, session)
}

const TIED: (&str, &str) = ("cookie", "__Host-cedargate=<TIED>");

#[tokio::test]
async fn a_session_waits_for_its_providers_word_and_nobody_elses_does() {
    let (world, standin, _) = world().await;
    let ask = async |letters: &str, now, header| {
        told(&world.ask_at(now, route(letters), false, HOST, &[header]).await)
    };
    assert_eq!(ask("s", NOW, TIED).await, "corp:ada by session");
    assert_eq!(standin.asked("/token"), 0);
    // Away: for a while, and then no more; a page for everybody shows all the same.
    standin.says(|_, _| (503, String::new()));
    let now = NOW.plus(10);
    assert_eq!(ask("s", now, TIED).await, "corp:ada by session");
    assert_eq!(standin.asked("/token"), 1);
    assert_eq!(ask("s", now.plus(AWAY_MS - 1), TIED).await, "corp:ada by session");
    assert_eq!(standin.asked("/token"), 1);
    assert_eq!(ask("s", NOW, SESSION).await, "ada by session");
}

#[tokio::test]
async fn past_the_grace_a_session_is_neither_believed_nor_ended() {
    let (world, standin, session) = world().await;
    standin.says(|_, _| (503, String::new()));
    // The rules of these sessions are shorter than the grace, so the grant is one of long ago.
    let grant = Grant {
        issuer: standin.issuer.clone(),
        subject: "ada".to_owned(),
        refresh_token: "a-token".to_owned(),
        counts_until: UnixMillis(NOW.0 - GRACE_MS),
        absolute_end: NOW.plus(600_000),
    };
    world.authn.renewals.begin(session, grant).await.unwrap();
    let ask = async |letters: &str, now, header| {
        told(&world.ask_at(now, route(letters), false, HOST, &[header]).await)
    };
    for _ in 0..2 {
        assert_eq!(ask("s", NOW, TIED).await, "Unavailable(IdentityProvider)");
        assert_eq!(ask("as", NOW, TIED).await, "anonymous");
    }
    assert_eq!(standin.asked("/token"), 1);
    assert_eq!(ask("s", NOW, SESSION).await, "ada by session");
    standin.says(|_, _| (200, r#"{"access_token": "a", "expires_in": 60}"#.to_owned()));
    let later = NOW.plus(AWAY_MS);
    assert_eq!(ask("s", later, TIED).await, "corp:ada by session");

    // What is open with it asks the same way, and ends with it.
    let whole = world.ask_at(later, route("s"), false, HOST, &[TIED]).await.unwrap();
    let later = later.plus(59_000);
    assert!(world.authn.sessions.touch(whole.session.as_ref().unwrap(), later).await.unwrap());
    let again = async |now| world.authn.again(now, &whole.identity, route("s").accept).await.err();
    let later = later.plus(1_000);
    standin.says(|_, _| (400, r#"{"error": "invalid_grant"}"#.to_owned()));
    assert_eq!(again(later).await, Some(Refusal::CredentialRejected(CredentialFault::SessionEnded)));
    assert_eq!(ask("s", later, TIED).await, "SessionEnded");
}
