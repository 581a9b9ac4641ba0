//! What becomes of a session by its provider's answer to a refresh token, and how often that is asked for.

use std::sync::Arc;

use storage::credentials::{Accounts, Login, Origin, Person};
use storage::grants::{Grant, Grants};
use storage::sessions::{HINT_BYTES_MAX, NewSession, SessionRules, Sessions, SignOutHint};
use storage::{Keyring, Secret, Store};
use uuid::Uuid;

use super::super::Providers;
use super::super::refresh::{LIFETIME_MS_DEFAULT, LIFETIME_MS_MAX};
use super::super::renewal::{AWAY_MS, GRACE_MS, RENEW_EVERY_MS, Renewals, Renewed, Standing};
use super::standin::Standin;
use super::*;
use crate::admin::metrics::Metrics;

const PATH: &str = "/token";

struct World {
    standin: Standin,
    signer: Signer,
    providers: Arc<Providers>,
    store: Store,
    sessions: Arc<Sessions>,
    accounts: Accounts,
    renewals: Arc<Renewals>,
}

impl World {
    async fn new() -> Self {
        let (standin, signer) = (Standin::start().await, Signer::new());
        let mut settings = provider(Preset::Generic);
        settings.issuer.clone_from(&standin.issuer);
        settings.client_secret = Some(Secret::new("a-secret".to_owned()));
        settings.refresh = true;
        let providers = Arc::new(Providers::with_keys(&[settings], &signer.jwks().to_string()));
        let keyring = Keyring::from_master(&[7; 32]);
        let store = Store::in_memory(&keyring).unwrap();
        let day = 24 * 3600 * 1000;
        let rules = SessionRules { idle_ms: day, absolute_ms: 10 * day, per_account_max: 1000 };
        let sessions = Arc::new(Sessions::memory(keyring, rules));
        let accounts = Accounts::new(store.clone());
        let renewals = opened(&providers, &store, &sessions, &accounts);
        Self { standin, signer, providers, store, sessions, accounts, renewals }
    }

    /// A session of a person, whose provider's word is over now.
    async fn session(&self) -> Uuid {
        let origin = Origin::new(&self.standin.issuer, "242424").unwrap();
        let login = Login::parse("corp:ada").unwrap();
        let person = Person { origin, login, roles: ["viewer".to_owned()].into(), groups: [].into() };
        let account = self.accounts.vouched(person, NOW).await.unwrap().id;
        let new = NewSession::of(account, NOW);
        let session = self.sessions.create(new, NOW).await.unwrap().session;
        let grant = Grant {
            issuer: self.standin.issuer.clone(),
            subject: "242424".to_owned(),
            refresh_token: "the-first".to_owned(),
            counts_until: NOW,
            absolute_end: session.absolute_end,
        };
        self.renewals.begin(session.id, grant).await.unwrap();
        session.id
    }

    fn id_token(&self, changes: &[(&str, Value)]) -> String {
        let own = [("iss", json!(self.standin.issuer)), ("nonce", Value::Null)];
        let claims = changed(changed(claims(), &own), changes);
        self.signer.sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec"}), &claims.to_string())
    }

    async fn lives(&self, session: Uuid) -> bool {
        self.sessions.live(session, NOW).await.unwrap().is_some()
    }

    fn token(&self, session: Uuid) -> Option<String> {
        let grant = Grants::new(self.store.clone()).find(session).unwrap();
        grant.map(|grant| grant.refresh_token.clone())
    }

    async fn roles(&self) -> Vec<String> {
        let origin = Origin::new(&self.standin.issuer, "242424").unwrap();
        let account = self.accounts.find(origin.account_id()).await.unwrap().unwrap();
        account.roles.iter().cloned().collect()
    }
}

fn opened(
    providers: &Arc<Providers>,
    store: &Store,
    sessions: &Arc<Sessions>,
    accounts: &Accounts,
) -> Arc<Renewals> {
    let metrics = Arc::new(Metrics::new().unwrap());
    Arc::new(Renewals::open(providers, Grants::new(store.clone()), sessions, accounts, &metrics).unwrap())
}

#[tokio::test]
async fn an_answer_carries_the_session_on_with_what_it_says() {
    let world = World::new().await;
    let seconds = NOW.0 / 1000;
    let second = 1000;
    // What is answered, until when that counts, the token that is kept, and the roles.
    let cases: [(Value, u64, &str, &[&str]); 8] = [
        (json!({"access_token": "a", "expires_in": 300}), 300 * second, "the-first", &["viewer"]),
        (json!({"access_token": "a", "expires_in": "60"}), 60 * second, "the-first", &["viewer"]),
        (json!({"access_token": "a"}), LIFETIME_MS_DEFAULT, "the-first", &["viewer"]),
        (json!({"access_token": "a", "expires_in": u64::MAX}), LIFETIME_MS_MAX, "the-first", &["viewer"]),
        (json!({"access_token": "a", "expires_in": 0}), RENEW_EVERY_MS, "the-first", &["viewer"]),
        (json!({"refresh_token": "another", "expires_in": 60}), 60 * second, "another", &["viewer"]),
        (json!({"refresh_token": "", "expires_in": 60}), 60 * second, "the-first", &["viewer"]),
        (
            json!({"id_token": world.id_token(&[("roles", json!(["user", "stranger"]))]), "expires_in": 60}),
            60 * second,
            "the-first",
            &["user"],
        ),
    ];
    for (answer, counts, token, roles) in cases {
        let session = world.session().await;
        world.standin.says_this(&answer);
        let standing = |at: UnixMillis| world.renewals.standing(session, at);
        assert_eq!((standing(UnixMillis(NOW.0 - 1)), standing(NOW)), (Standing::Stands, Standing::Due));
        assert_eq!(world.renewals.renew(session, NOW).await, Renewed::Stands, "{answer}");
        assert_eq!(standing(UnixMillis(NOW.0 + counts - 1)), Standing::Stands, "{answer}");
        assert_eq!(standing(NOW.plus(counts)), Standing::Due, "{answer}");
        assert_eq!(world.token(session).as_deref(), Some(token), "{answer}");
        assert_eq!(world.roles().await, roles, "{answer}");
    }
    // The nonce of the sign-in is known to nobody any more, and one more token of it does no harm.
    let session = world.session().await;
    let with_nonce = world.id_token(&[("nonce", json!("of-the-sign-in")), ("auth_time", json!(seconds))]);
    world.standin.says_this(&json!({"id_token": with_nonce}));
    assert_eq!(world.renewals.renew(session, NOW).await, Renewed::Stands);
}

#[tokio::test]
async fn a_session_ends_where_its_provider_vouches_for_it_no_more() {
    let world = World::new().await;
    let other = world.id_token(&[("sub", json!("other"))]);
    for (status, answer) in [
        (400, json!({"error": "invalid_grant"})),
        (401, json!({"error": "invalid_grant"})),
        (200, json!({"id_token": other})),
    ] {
        let (session, bystander) = (world.session().await, world.session().await);
        let mut told = world.sessions.changes().listen();
        let text = answer.to_string();
        world.standin.says(move |_, _| (status, text.clone()));
        assert_eq!(world.renewals.renew(session, NOW).await, Renewed::Ended, "{answer}");
        assert!(!world.lives(session).await && world.lives(bystander).await, "{answer}");
        assert_eq!(told.try_recv(), Ok(storage::Change::Session(session)), "whatever is open is told");
        assert_eq!(world.token(session), None, "{answer}");
        assert_eq!(world.renewals.standing(session, NOW), Standing::Stands, "nothing is left to ask about");
    }
    assert_eq!(world.roles().await, ["viewer"], "nobody has become somebody else");
}

/// Whatever is no word about the session: it goes on for a while, and then waits for the provider, and lives on after that.
#[tokio::test]
async fn silence_and_nonsense_end_nothing_and_carry_nobody_past_the_grace() {
    let world = World::new().await;
    let foreign = Signer::new().sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec"}), "{}");
    let aud = world.id_token(&[("aud", json!("other"))]);
    let iss = world.id_token(&[("iss", json!("https://other.example"))]);
    let over = world.id_token(&[("exp", json!(NOW.0 / 1000 - 61))]);
    let mut now = NOW;
    for (status, answer) in [
        (400, json!({"error": "invalid_client"}).to_string()),
        (401, json!({"error": "unauthorized_client"}).to_string()),
        (400, json!({"error": "something_else"}).to_string()),
        (403, String::new()),
        (429, String::new()),
        (500, json!({"error": "invalid_grant"}).to_string()),
        (302, String::new()),
        (200, String::new()),
        (200, "[]".to_owned()),
        (200, json!({"refresh_token": "kept", "id_token": foreign}).to_string()),
        (200, json!({"refresh_token": "kept", "id_token": "a.b.c"}).to_string()),
        (200, json!({"refresh_token": "kept", "id_token": aud}).to_string()),
        (200, json!({"refresh_token": "kept", "id_token": over}).to_string()),
        (200, json!({"refresh_token": "kept", "id_token": iss}).to_string()),
    ] {
        let session = world.session().await;
        let rotates = answer.contains("kept");
        let said = answer.clone();
        world.standin.says(move |_, _| (status, said.clone()));
        // Past what the case before has left behind.
        now = now.plus(AWAY_MS);
        assert_eq!(world.renewals.renew(session, now).await, Renewed::Stands, "{status} {answer}");
        assert!(world.lives(session).await);
        let kept = if rotates { "kept" } else { "the-first" };
        assert_eq!(world.token(session).as_deref(), Some(kept), "what was given is kept first: {answer}");
        assert_eq!(world.renewals.standing(session, now), Standing::Stands, "{answer}");
        assert_eq!(world.renewals.standing(session, now.plus(AWAY_MS)), Standing::Due, "{answer}");
    }
    let session = world.session().await;
    world.standin.says(|_, _| (503, String::new()));
    let grace = NOW.plus(GRACE_MS);
    assert_eq!(world.renewals.renew(session, UnixMillis(grace.0 - 1)).await, Renewed::Stands);
    assert_eq!(world.renewals.standing(session, grace), Standing::Held, "without asking anybody");
    let later = grace.plus(AWAY_MS);
    assert_eq!(world.renewals.renew(session, later).await, Renewed::Held);
    assert!(world.lives(session).await, "a provider that is away ends no session");
    world.standin.says_this(&json!({"access_token": "a", "expires_in": 60}));
    assert_eq!(world.renewals.renew(session, later.plus(AWAY_MS)).await, Renewed::Stands);
    assert_eq!(world.renewals.standing(session, later.plus(AWAY_MS)), Standing::Stands);
}

#[tokio::test]
async fn a_provider_that_is_away_is_asked_once_for_all_sessions() {
    let world = World::new().await;
    let (one, other) = (world.session().await, world.session().await);
    world.standin.says(|_, _| (503, String::new()));
    assert_eq!(world.renewals.renew(one, NOW).await, Renewed::Stands);
    assert_eq!(world.renewals.renew(other, NOW.plus(1)).await, Renewed::Stands);
    assert_eq!(world.standin.asked(PATH), 1);
    assert_eq!(world.renewals.renew(other, NOW.plus(AWAY_MS + 1)).await, Renewed::Stands);
    assert_eq!(world.standin.asked(PATH), 2);
}

#[tokio::test]
async fn what_a_provider_says_of_one_person_keeps_nobody_else_from_asking() {
    let world = World::new().await;
    let bad = json!({"id_token": "a.b.c"}).to_string();
    for (status, answer) in
        [(400, json!({"error": "something_else"}).to_string()), (403, String::new()), (200, bad)]
    {
        let (one, other) = (world.session().await, world.session().await);
        let asked = world.standin.asked(PATH);
        world.standin.says(move |_, _| (status, answer.clone()));
        assert_eq!(world.renewals.renew(one, NOW).await, Renewed::Stands);
        assert_eq!(world.renewals.renew(other, NOW.plus(1)).await, Renewed::Stands);
        assert_eq!(world.standin.asked(PATH), asked + 2, "{status}");
    }
}

#[tokio::test]
async fn a_crowd_with_one_session_is_one_question() {
    let world = World::new().await;
    let session = world.session().await;
    world.standin.says_this(&json!({"access_token": "a", "refresh_token": "another", "expires_in": 60}));
    let asks = (0..200).map(|_| {
        let renewals = Arc::clone(&world.renewals);
        tokio::spawn(async move { renewals.renew(session, NOW).await })
    });
    for ask in asks.collect::<Vec<_>>() {
        assert_eq!(ask.await.unwrap(), Renewed::Stands);
    }
    assert_eq!(world.standin.asked(PATH), 1);
    assert_eq!(world.token(session).as_deref(), Some("another"));
}

#[tokio::test]
async fn grants_outlive_a_restart_and_end_with_their_sessions() {
    let world = World::new().await;
    let (kept, ended) = (world.session().await, world.session().await);
    world.standin.says_this(&json!({"access_token": "a", "expires_in": 60}));
    assert_eq!(world.renewals.renew(kept, NOW).await, Renewed::Stands);
    let again = opened(&world.providers, &world.store, &world.sessions, &world.accounts);
    assert_eq!(again.standing(kept, NOW), Standing::Due, "nothing is known of it yet");
    assert_eq!(again.renew(kept, NOW).await, Renewed::Stands);
    assert_eq!(
        (again.standing(kept, NOW), world.standin.asked(PATH)),
        (Standing::Stands, 1),
        "its word still counts"
    );

    world.sessions.end(ended, NOW).await.unwrap();
    again.sweep(NOW).await.unwrap();
    assert_eq!((world.token(ended), world.token(kept).is_some()), (None, true));
    again.forget(kept).await.unwrap();
    assert_eq!(world.token(kept), None);
    assert_eq!(again.standing(kept, NOW), Standing::Stands);
}

/// OpenID Connect Core 1.0, section 5.3.4: another person's userinfo could be slipped in.
#[tokio::test]
async fn userinfo_of_somebody_else_changes_nobody() {
    let mut world = World::new().await;
    let mut settings = provider(Preset::Generic);
    settings.issuer.clone_from(&world.standin.issuer);
    settings.client_secret = Some(Secret::new("a-secret".to_owned()));
    (settings.refresh, settings.userinfo) = (true, true);
    world.providers = Arc::new(Providers::with_keys(&[settings], &world.signer.jwks().to_string()));
    world.renewals = opened(&world.providers, &world.store, &world.sessions, &world.accounts);
    // The second past what the first has left behind.
    for (subject, roles, now) in [("other", ["viewer"], NOW), ("242424", ["user"], NOW.plus(AWAY_MS))] {
        let session = world.session().await;
        world.standin.says(move |path, _| {
            let answer = match path {
                "/userinfo" => json!({"sub": subject, "roles": ["user"]}),
                _ => json!({"access_token": "a", "expires_in": 60}),
            };
            (200, answer.to_string())
        });
        assert_eq!(world.renewals.renew(session, now).await, Renewed::Stands);
        assert!(world.lives(session).await);
        assert_eq!(world.roles().await, roles, "{subject}");
    }
}

/// The operator has taken `refresh` out, or the provider: what was tied goes on by itself.
#[tokio::test]
async fn what_is_no_longer_configured_ties_nobody() {
    let world = World::new().await;
    let session = world.session().await;
    let mut settings = provider(Preset::Generic);
    settings.issuer.clone_from(&world.standin.issuer);
    for providers in [Providers::alone(&[settings]), Providers::alone(&[])] {
        let session = if world.token(session).is_some() { session } else { world.session().await };
        let renewals = opened(&Arc::new(providers), &world.store, &world.sessions, &world.accounts);
        assert_eq!(renewals.renew(session, NOW).await, Renewed::Stands);
        assert_eq!((world.token(session), world.standin.asked(PATH)), (None, 0));
        assert!(world.lives(session).await);
    }
}

#[tokio::test]
async fn what_is_shown_at_sign_out_is_the_newest_that_the_provider_has_given_and_fits() {
    let world = World::new().await;
    let session = world.session().await;
    let first = world.id_token(&[]);
    world.sessions.replace_hint(session, SignOutHint::new(&first).unwrap(), NOW).await.unwrap();
    let newer = world.id_token(&[("roles", json!(["user"]))]);
    let long = world.id_token(&[("roles", json!(["r".repeat(HINT_BYTES_MAX)]))]);
    let other = world.id_token(&[("sub", json!("171717"))]);
    let mut now = NOW;
    for (answer, shown, standing) in [
        (json!({"access_token": "a"}), Some(&first), Renewed::Stands),
        (json!({"id_token": &newer}), Some(&newer), Renewed::Stands),
        (json!({"id_token": long}), Some(&newer), Renewed::Stands),
        (json!({"id_token": "a.b.c"}), Some(&newer), Renewed::Stands),
        (json!({"id_token": other}), None, Renewed::Ended),
    ] {
        world.standin.says_this(&changed(answer.clone(), &[("expires_in", json!(5))]));
        while world.renewals.standing(session, now) != Standing::Due {
            now = now.plus(1000);
        }
        assert_eq!(world.renewals.renew(session, now).await, standing, "{answer}");
        let hint = world.sessions.hint(session, now).await.unwrap();
        assert_eq!(hint.as_ref().map(SignOutHint::reveal), shown.map(String::as_str), "{answer}");
    }
}

#[tokio::test]
async fn what_a_person_has_ended_is_taken_back_and_nobody_waits_for_it() {
    let world = World::new().await;
    let (tell, mut told) = tokio::sync::mpsc::channel(8);
    world.standin.says(move |path, form| {
        tell.try_send((path.to_owned(), form.to_owned())).unwrap();
        (200, String::new())
    });
    let (ended, other) = (world.session().await, world.session().await);
    world.renewals.give_back(ended).await.unwrap();
    assert_eq!((world.token(ended), world.token(other).as_deref()), (None, Some("the-first")));
    let (path, form) = told.recv().await.unwrap();
    assert_eq!((path.as_str(), form.as_str()), ("/revoke", "token=the-first&token_type_hint=refresh_token"));
    // What has no grant is nothing to give back, nor is what was given back before.
    world.renewals.give_back(ended).await.unwrap();
    world.renewals.give_back(Uuid::from_u128(7)).await.unwrap();
    // An end that is not its person's own takes nothing back: another session may rest on the same grant.
    world.renewals.forget(other).await.unwrap();
    assert_eq!(world.token(other), None);
    let last = world.session().await;
    world.renewals.give_back(last).await.unwrap();
    assert_eq!(told.recv().await.unwrap().0, "/revoke");
    assert!(told.try_recv().is_err());
    assert_eq!(world.standin.asked("/revoke"), 2);
}

#[tokio::test]
async fn a_provider_that_takes_nothing_back_keeps_nobody_signed_in() {
    let world = World::new().await;
    for answer in [(503, ""), (400, r#"{"error":"unsupported_token_type"}"#)] {
        let (tell, mut told) = tokio::sync::mpsc::channel(8);
        world.standin.says(move |_, _| {
            tell.try_send(()).unwrap();
            (answer.0, answer.1.to_owned())
        });
        let session = world.session().await;
        world.renewals.give_back(session).await.unwrap();
        assert_eq!(world.token(session), None);
        told.recv().await.unwrap();
    }
}
