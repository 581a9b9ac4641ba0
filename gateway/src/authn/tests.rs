//! Every credential, on every kind of route that accepts or does not accept it.

use std::net::{IpAddr, Ipv4Addr};

use engine::audit::RouteNames;
use engine::path::{CanonicalPath, Leniencies};
use engine::query::CanonicalQuery;
use engine::route::{Accept, Hint, Page, Parameters, Target};
use http::{HeaderMap, HeaderValue, Method};
use storage::credentials::{AccountChange, Login, NewAccount, NewApiKey, PasswordHash};
use storage::grants::Grants;
use storage::sessions::{NewSession, SessionRules};
use storage::{Keyring, Secret, Store};
use uuid::Uuid;

use super::site::tests::sites;
use super::*;

mod access_token;
mod renewal;

const NOW: UnixMillis = UnixMillis(1_000_000);
const HOST: &str = "app.example";

/// Schemes over stores in memory, and the credentials that stand in for the names in a case.
struct World {
    authn: Authn,
    known: Vec<(&'static str, String)>,
}

impl World {
    async fn new() -> Self {
        Self::with(Providers::alone(&[])).await
    }

    async fn with(providers: Providers) -> Self {
        let keyring = Keyring::from_master(&[7; 32]);
        let store = Store::in_memory(&keyring).unwrap();
        let rules = SessionRules { idle_ms: 60_000, absolute_ms: 600_000, per_account_max: 10 };
        let sessions = Arc::new(Sessions::memory(keyring, rules));
        let grants = store.clone();
        let (accounts, keys) = (Accounts::new(store.clone()), ApiKeys::new(store));
        let sites = Arc::new(sites(&[(HOST, "https://app.example")], &["https://friend.example"]));
        let metrics = Arc::new(Metrics::new().unwrap());
        let providers = Arc::new(providers);
        let renewals = Renewals::open(&providers, Grants::new(grants), &sessions, &accounts, &metrics);
        let renewals = Arc::new(renewals.unwrap());
        let authn = Authn::new(&sites, &sessions, &accounts, &keys, (&providers, &renewals), &metrics);
        let mut world = Self { authn, known: Vec::new() };
        world.people().await;
        world.services().await;
        world
    }

    async fn people(&mut self) {
        let ada = self.account("ada").await;
        let eve = self.account("eve").await;
        let gone = self.account("gone").await;
        self.session("SESSION", ada).await;
        self.session("OTHER_SESSION", ada).await;
        let ended = self.session("ENDED", ada).await;
        self.authn.sessions.end(ended, NOW).await.unwrap();
        self.session("SUSPENDED", eve).await;
        let change = AccountChange { suspended: Some(true), ..AccountChange::default() };
        self.authn.accounts.change(eve, change).await.unwrap();
        self.session("GONE", gone).await;
        self.authn.accounts.remove(gone).await.unwrap();
    }

    async fn services(&mut self) {
        self.key("KEY", "importer", None).await;
        self.key("OTHER_KEY", "importer", None).await;
        self.key("OLD_KEY", "importer", Some(NOW)).await;
        let revoked = self.key("REVOKED", "importer", None).await;
        self.authn.keys.revoke(revoked, NOW).await.unwrap();
    }

    async fn account(&self, login: &str) -> Uuid {
        let password = PasswordHash::new(&Secret::new("correct horse battery".to_owned())).unwrap();
        let login = Login::parse(login).unwrap();
        let new = NewAccount { login, password, roles: ["viewer".to_owned()].into(), groups: [].into() };
        self.authn.accounts.create(new, NOW).await.unwrap().id
    }

    async fn session(&mut self, name: &'static str, account: Uuid) -> Uuid {
        let new = NewSession::of(account, NOW);
        let created = self.authn.sessions.create(new, NOW).await.unwrap();
        self.known.push((name, created.secret.reveal().to_string()));
        created.session.id
    }

    async fn key(&mut self, name: &'static str, service: &str, expires_at: Option<UnixMillis>) -> Uuid {
        let service = Login::parse(service).unwrap();
        let new = NewApiKey {
            service,
            roles: [].into(),
            groups: [].into(),
            scopes: ["docs.*".to_owned()].into(),
            expires_at,
        };
        let created = self.authn.keys.create(new, NOW).await.unwrap();
        self.known.push((name, created.text.expose().clone()));
        created.key.id
    }

    /// A header value with names in angle brackets replaced by what they stand for.
    fn header(&self, text: &str) -> HeaderValue {
        let text = self
            .known
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value));
        HeaderValue::from_str(&text).unwrap()
    }

    async fn ask(
        &self,
        route: Route,
        upgrade: bool,
        host: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Identified, Rejection> {
        self.ask_at(NOW, route, upgrade, host, headers).await
    }

    async fn ask_at(
        &self,
        now: UnixMillis,
        route: Route,
        upgrade: bool,
        host: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Identified, Rejection> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, self.header(value));
        }
        let path = CanonicalPath::parse(b"/x").unwrap();
        let query = CanonicalQuery::parse(None).unwrap();
        let facts = RequestFacts {
            method: &Method::GET,
            host,
            path: &path,
            query: &query,
            headers: &map,
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tls: true,
            received_at: now,
            request_id: Uuid::nil(),
            content_length: None,
            upgrade,
        };
        let matched = RouteMatch { route: Arc::new(route), parameters: Parameters::new() };
        self.authn.identify(now, &matched, &facts, &Recall::default()).await
    }
}

/// A route that accepts what its letters say: `a`nonymous, `s`ession, `k`ey, `t`oken; `w` for a write, `l` for dropping
/// BotServer bearers.
fn route(letters: &str) -> Route {
    let has = |letter| letters.contains(letter);
    Route {
        name: "GET /x".into(),
        method: Method::GET,
        pattern: "/x".to_owned(),
        parameters: [].into(),
        module: "docs".into(),
        recorded: RouteNames::new("GET /x".into(), "docs.read".into(), "Module::\"docs\"".into()).into(),
        hint: Hint::default(),
        target: Target::Page(Page::WhoAmI),
        action: "docs.read".into(),
        accept: Accept { anonymous: has('a'), session: has('s'), api_key: has('k'), access_token: has('t') },
        step_up: None,
        class: "standard".into(),
        cost: 1,
        conceal: false,
        audited: false,
        websocket: false,
        body_bytes_max: None,
        deadline_s: None,
        leniencies: Leniencies::default(),
        legacy_bearer_drop: has('l'),
        sandbox: false,
        service_worker: false,
        client_sets: Vec::new(),
        sets: Vec::new(),
        named: Vec::new(),
        names: Vec::new(),
        query: [].into(),
        cookies_up: Vec::new(),
        cookies_down: Vec::new(),
        headers_allowed: Vec::new(),
        destinations: Vec::new(),
        read_only: !has('w'),
    }
}

fn told(result: &Result<Identified, Rejection>) -> String {
    match result {
        Ok(Identified { identity: Identity::Anonymous, session: None, .. }) => "anonymous".to_owned(),
        Ok(Identified { identity: Identity::Known(principal), session, .. }) => {
            format!("{}{}", principal.name, if session.is_some() { " by session" } else { " by key" })
        }
        Ok(Identified { identity: Identity::Anonymous, session: Some(_), .. }) => {
            "a session of nobody".to_owned()
        }
        Err(Rejection { refusal: Refusal::CredentialRejected(fault), .. }) => format!("{fault:?}"),
        Err(Rejection { refusal: Refusal::CrossSite(fault), .. }) => format!("cross-site {fault:?}"),
        Err(Rejection { refusal, .. }) => format!("{refusal:?}"),
    }
}

const COOKIE: &str = "cookie";
const BEARER: &str = "authorization";
const KEY: &str = "x-api-key";
const SESSION: (&str, &str) = (COOKIE, "__Host-cedargate=<SESSION>");

/// A route's letters, the request's headers, who is identified.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

#[tokio::test]
async fn credentials_by_route() {
    let world = World::new().await;
    let cases: &[Case] = &[
        // Nothing presented.
        ("a", &[], "anonymous"),
        ("sk", &[], "Unauthenticated"),
        ("ask", &[], "anonymous"),
        // Sessions.
        ("s", &[SESSION], "ada by session"),
        ("as", &[SESSION], "ada by session"),
        ("s", &[(COOKIE, "a=b; __Host-cedargate=<SESSION>; c=d")], "ada by session"),
        ("a", &[SESSION], "anonymous"),
        ("k", &[SESSION], "NotAccepted"),
        ("s", &[(COOKIE, "cedargate_session=<SESSION>")], "Unauthenticated"),
        ("s", &[(COOKIE, "__Host-cedargate=<ENDED>")], "SessionEnded"),
        ("s", &[(COOKIE, "__Host-cedargate=<GONE>")], "SessionEnded"),
        ("s", &[(COOKIE, "__Host-cedargate=<SUSPENDED>")], "Suspended"),
        ("s", &[(COOKIE, "__Host-cedargate=")], "SessionEnded"),
        ("s", &[(COOKIE, "__Host-cedargate=<KEY>")], "SessionEnded"),
        ("s", &[(COOKIE, "__Host-cedargate=<SESSION>A")], "SessionEnded"),
        ("s", &[(COOKIE, "__Host-cedargate=\"<SESSION>\"")], "SessionEnded"),
        ("as", &[(COOKIE, "__Host-cedargate=<ENDED>")], "anonymous"),
        ("as", &[(COOKIE, "__Host-cedargate=<SUSPENDED>")], "anonymous"),
        ("as", &[(COOKIE, "__Host-cedargate=x")], "anonymous"),
        ("s", &[SESSION, SESSION], "Conflicting"),
        ("s", &[(COOKIE, "__Host-cedargate=<SESSION>; __Host-cedargate=<OTHER_SESSION>")], "Conflicting"),
        ("as", &[SESSION, (COOKIE, "__Host-cedargate=<ENDED>")], "anonymous"),
        ("as", &[SESSION, SESSION], "anonymous"),
        // API keys.
        ("k", &[(KEY, "<KEY>")], "importer by key"),
        ("k", &[(BEARER, "Bearer <KEY>")], "importer by key"),
        ("k", &[(BEARER, "bearer <KEY>")], "importer by key"),
        ("k", &[(KEY, "<KEY>"), (BEARER, "Bearer <KEY>")], "importer by key"),
        ("k", &[(KEY, "<KEY>"), (BEARER, "Bearer <OTHER_KEY>")], "Conflicting"),
        ("k", &[(KEY, "<KEY>"), (BEARER, "Bearer <REVOKED>")], "KeyUnknown"),
        ("k", &[(KEY, "<KEY>"), (KEY, "<KEY>")], "Conflicting"),
        ("k", &[(BEARER, "Bearer <KEY>"), (BEARER, "Bearer <KEY>")], "Conflicting"),
        ("k", &[(KEY, "<REVOKED>")], "KeyUnknown"),
        ("k", &[(KEY, "<OLD_KEY>")], "KeyUnknown"),
        ("k", &[(KEY, "<SESSION>")], "KeyUnknown"),
        ("k", &[(KEY, "<KEY>A")], "KeyUnknown"),
        ("k", &[(KEY, "<KEY>, <KEY>")], "KeyUnknown"),
        ("k", &[(KEY, "")], "KeyUnknown"),
        ("k", &[(BEARER, "<KEY>")], "BearerUnknown"),
        ("k", &[(BEARER, "Basic <KEY>")], "BearerUnknown"),
        ("k", &[(BEARER, "")], "BearerUnknown"),
        ("s", &[(KEY, "<KEY>")], "NotAccepted"),
        ("a", &[(KEY, "<KEY>")], "NotAccepted"),
        ("as", &[(BEARER, "Bearer <KEY>")], "NotAccepted"),
        // Two stories.
        ("sk", &[SESSION, (KEY, "<KEY>")], "Conflicting"),
        ("sk", &[SESSION, (KEY, "<REVOKED>")], "KeyUnknown"),
        ("sk", &[(COOKIE, "__Host-cedargate=<ENDED>"), (KEY, "<KEY>")], "SessionEnded"),
        ("ask", &[(COOKIE, "__Host-cedargate=<ENDED>"), (KEY, "<KEY>")], "importer by key"),
        // BotServer's bearers.
        ("sl", &[SESSION, (BEARER, "Bearer gb_0b_17")], "ada by session"),
        ("s", &[SESSION, (BEARER, "Bearer gb_0b_17")], "BearerUnknown"),
        ("sl", &[(BEARER, "Bearer gb_0b_17")], "BearerUnknown"),
        ("asl", &[(BEARER, "Bearer gb_0b_17")], "BearerUnknown"),
        ("asl", &[(COOKIE, "__Host-cedargate=<ENDED>"), (BEARER, "Bearer gb_0b_17")], "BearerUnknown"),
        ("sl", &[SESSION, (BEARER, "Bearer xyz")], "BearerUnknown"),
        ("sl", &[SESSION, (BEARER, "Bearer gb_1"), (BEARER, "Bearer gb_1")], "Conflicting"),
        ("a", &[(BEARER, "Bearer xyz")], "BearerUnknown"),
        // What BotServer believes, and we never do.
        (
            "s",
            &[("x-user-id", "0b0f"), ("x-session-id", "<SESSION>"), (COOKIE, "session_id=<SESSION>")],
            "Unauthenticated",
        ),
    ];
    for (letters, headers, expected) in cases {
        let result = world.ask(route(letters), false, HOST, headers).await;
        assert_eq!(told(&result), *expected, "{letters} {headers:?}");
    }
}

/// A value cut anywhere is no credential, however long what is left of it is.
#[tokio::test]
async fn cut_credentials_are_none() {
    let world = World::new().await;
    for (name, value) in &world.known {
        for length in 0..value.len() {
            let cut = value.get(..length).unwrap();
            let (route, header) = match name.contains("KEY") || *name == "REVOKED" {
                true => (route("k"), (KEY, cut.to_owned())),
                false => (route("s"), (COOKIE, format!("__Host-cedargate={cut}"))),
            };
            let result = world.ask(route, false, HOST, &[(header.0, &header.1)]).await;
            assert!(
                matches!(result, Err(Rejection { refusal: Refusal::CredentialRejected(_), .. })),
                "{name} {length}"
            );
        }
    }
}

#[tokio::test]
async fn notes_for_the_record() {
    let world = World::new().await;
    let notes = |result: Result<Identified, Rejection>| match result {
        Ok(identified) => identified.notes,
        Err(rejection) => rejection.notes,
    };
    let legacy = [SESSION, (BEARER, "Bearer gb_0b_17")];
    assert_eq!(notes(world.ask(route("sl"), false, HOST, &legacy).await), [LEGACY_BEARER_NOTE]);
    let stale = [(COOKIE, "__Host-cedargate=<ENDED>")];
    assert_eq!(notes(world.ask(route("as"), false, HOST, &stale).await), [STALE_SESSION_NOTE]);
    assert_eq!(notes(world.ask(route("as"), false, HOST, &[SESSION, SESSION]).await), [TWO_SESSIONS_NOTE]);
    assert!(notes(world.ask(route("s"), false, HOST, &[SESSION]).await).is_empty());
    assert!(world.authn.metrics.text().unwrap().contains("cedargate_dropped_bearers_total 1"));
}

/// {"alg":"HS256"} . {"iss":"general-bots","sub":"x"} . signature
const OWN_TOKEN: &str = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJnZW5lcmFsLWJvdHMiLCJzdWIiOiJ4In0.c2ln";

#[tokio::test]
async fn threat_08_our_own_upstream_token_is_refused_everywhere_and_noted() {
    let world = World::new().await;
    let own = (BEARER, OWN_TOKEN);
    let cases: &[(&str, &[(&str, &str)])] = &[
        ("a", &[own]),
        ("s", &[own]),
        ("k", &[own]),
        ("askl", &[own]),
        ("s", &[SESSION, own]),
        ("askl", &[SESSION, own]),
        ("k", &[(KEY, "<KEY>"), own]),
    ];
    for (letters, headers) in cases {
        let rejection = world.ask(route(letters), false, HOST, headers).await.unwrap_err();
        let refusal = Refusal::CredentialRejected(CredentialFault::BearerUnknown);
        assert_eq!(rejection.refusal, refusal, "{letters} {headers:?}");
        assert_eq!(rejection.notes, [OWN_TOKEN_NOTE], "{letters} {headers:?}");
    }
}

#[tokio::test]
async fn threat_12_cookie_borne_writes_and_upgrades_are_judged() {
    let world = World::new().await;
    let same = ("sec-fetch-site", "same-origin");
    let cross = ("sec-fetch-site", "cross-site");
    let evil = ("origin", "https://evil.example");
    let check = async |letters: &str, upgrade: bool, headers: &[(&'static str, &str)], expected: &str| {
        let result = world.ask(route(letters), upgrade, HOST, headers).await;
        assert_eq!(told(&result), expected, "{letters} {upgrade} {headers:?}");
    };
    check("sw", false, &[SESSION, same], "ada by session").await;
    check("sw", false, &[SESSION, cross], "cross-site FetchSite").await;
    check("sw", false, &[SESSION, evil], "cross-site Origin").await;
    check("sw", false, &[SESSION], "cross-site Unproven").await;
    check("sw", false, &[SESSION, cross, ("origin", "https://friend.example")], "ada by session").await;
    check("sw", false, &[SESSION, ("origin", "https://app.example")], "ada by session").await;
    check("asw", false, &[SESSION, cross], "cross-site FetchSite").await;
    // The record says whose browser was used.
    let rejection = world.ask(route("sw"), false, HOST, &[SESSION, cross]).await.unwrap_err();
    assert_eq!(rejection.principal.unwrap().name, "ada");
    // A read may come from anywhere: its answer is not readable there. An upgrade's is.
    check("s", false, &[SESSION, cross], "ada by session").await;
    check("s", true, &[SESSION, cross], "cross-site FetchSite").await;
    check("s", true, &[SESSION, evil], "cross-site Origin").await;
    // No cookie, no cross-site request: a page elsewhere does not know the key.
    check("kw", false, &[(KEY, "<KEY>"), cross], "importer by key").await;
    check("aw", false, &[SESSION, cross], "anonymous").await;
}

#[tokio::test]
async fn the_configured_address_decides_and_not_what_is_asked_for() {
    let world = World::new().await;
    let result = world.ask(route("s"), false, "other.example", &[SESSION]).await;
    assert_eq!(told(&result), "Unauthenticated");
    let result = world.ask(route("s"), false, "app.example:8443", &[SESSION]).await;
    assert_eq!(told(&result), "ada by session");
}

#[tokio::test]
async fn what_changes_holds_for_the_very_next_request() {
    let world = World::new().await;
    let ask = async || world.ask(route("s"), false, HOST, &[SESSION]).await;
    let Ok(Identified { identity: Identity::Known(principal), session: Some(session), .. }) = ask().await
    else {
        panic!("nobody is signed in");
    };
    assert_eq!(principal.roles, ["viewer".to_owned()].into());
    assert_eq!(principal.credential_id, Some(session.id));
    let change = AccountChange { roles: Some(["editor".to_owned()].into()), ..AccountChange::default() };
    world.authn.accounts.change(session.account, change).await.unwrap();
    let Ok(Identified { identity: Identity::Known(principal), .. }) = ask().await else {
        panic!("signed out")
    };
    assert_eq!(principal.roles, ["editor".to_owned()].into());
    let change = AccountChange { suspended: Some(true), ..AccountChange::default() };
    world.authn.accounts.change(session.account, change).await.unwrap();
    assert_eq!(told(&ask().await), "Suspended");
    world.authn.sessions.end(session.id, NOW).await.unwrap();
    assert_eq!(told(&ask().await), "SessionEnded");
}
