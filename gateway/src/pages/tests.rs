//! Signing in, being somebody and signing out, as a browser and as a program.

use std::net::Ipv4Addr;

use engine::identity::{Identity, Principal, PrincipalKind, Scheme};
use engine::refusal::{CrossSiteFault, Dependency, Malformed};
use http::StatusCode;
use http::header::{COOKIE, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE};
use storage::credentials::{
    AccountChange, Accounts, AttemptRules, Attempts, DeviceCookies, HashingGate, HashingGateSettings, Login,
    NewAccount, PasswordHash, PasswordVerifier,
};
use storage::sessions::{NewSession, SessionRules, SessionSecret, SessionView};
use storage::{Keyring, Secret, Store};

use super::*;
use crate::authn::site::tests::sites;

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
const HOST: &str = "app.example";
const PASSWORD: &str = "correct horse battery";
const ATTEMPTS_MAX: u32 = 3;

struct World {
    pages: Pages,
    accounts: Accounts,
}

impl World {
    async fn new() -> Self {
        let keyring = Keyring::from_master(&[7; 32]);
        let store = Store::in_memory(&keyring).unwrap();
        let accounts = Accounts::new(store.clone());
        let rules = SessionRules { idle_ms: 60_000, absolute_ms: 600_000, per_account_max: 10 };
        let attempts = AttemptRules { attempts_max: ATTEMPTS_MAX, lockout_ms: 60_000 };
        let sign_in = SignIn::new(
            accounts.clone(),
            Attempts::open(store, attempts).unwrap(),
            HashingGate::new(HashingGateSettings::default()),
            DeviceCookies::new(keyring.clone()),
            PasswordVerifier::new().unwrap(),
        );
        let pages = Pages::new(PagesParts {
            sites: Arc::new(sites(&[(HOST, "https://app.example")], &[])),
            sessions: Arc::new(Sessions::memory(keyring, rules)),
            sign_in,
            form_key: FormKey::new(&[9; 32]),
            keys: serde_json::json!({"keys": []}),
            metrics: Arc::new(Metrics::new().unwrap()),
            notice: None,
        });
        let world = Self { pages, accounts };
        world.account("ada").await;
        let eve = world.account("eve").await;
        let change = AccountChange { suspended: Some(true), ..AccountChange::default() };
        world.accounts.change(eve, change).await.unwrap();
        world
    }

    async fn account(&self, login: &str) -> Uuid {
        let password = PasswordHash::new(&Secret::new(PASSWORD.to_owned())).unwrap();
        let login = Login::parse(login).unwrap();
        let new = NewAccount { login, password, roles: [].into(), groups: [].into() };
        self.accounts.create(new, NOW).await.unwrap().id
    }

    async fn session(&self, account: Uuid) -> (String, SessionView) {
        let new = NewSession { account, assurance: 1, client: None, user_agent: None };
        let created = self.pages.parts.sessions.create(new, NOW).await.unwrap();
        (created.secret.reveal().to_string(), created.session)
    }

    async fn is_live(&self, secret: &str) -> bool {
        let secret = SessionSecret::parse(secret).unwrap();
        self.pages.parts.sessions.find(&secret, NOW).await.unwrap().is_some()
    }

    async fn ask(&self, now: UnixMillis, who: Option<&SessionView>, request: &PageRequest) -> PageAnswer {
        let identity = match who {
            None => Identity::Anonymous,
            Some(session) => Identity::Known(Arc::new(principal(session))),
        };
        self.pages.answer_caller(now, Caller { identity: &identity, session: who }, request).await
    }

    /// A form that was shown, and the cookie that came with it.
    async fn form(&self, now: UnixMillis) -> Shown {
        let answer = self.ask(now, None, &request(Page::SignIn, &[], "")).await;
        Shown {
            token: field(text(&answer), "token"),
            cookie: cookie(&answer, "__Host-cedargate_form").unwrap(),
        }
    }

    async fn sign_in(&self, now: UnixMillis, login: &str, password: &str) -> PageAnswer {
        let shown = self.form(now).await;
        self.ask(now, None, &shown.post(&[], &format!("login={login}&password={password}"))).await
    }
}

struct Shown {
    token: String,
    cookie: String,
}

impl Shown {
    fn post(&self, headers: &[(HeaderName, &str)], fields: &str) -> PageRequest {
        let mut headers = headers.to_vec();
        let cookie = format!("__Host-cedargate_form={}", self.cookie);
        headers.push((COOKIE, &cookie));
        request(Page::SignInSubmit, &headers, &format!("token={}&{fields}", self.token))
    }
}

fn principal(session: &SessionView) -> Principal {
    Principal {
        kind: PrincipalKind::User,
        id: session.account,
        name: "ada <lovelace>".to_owned(),
        roles: ["viewer".to_owned()].into(),
        groups: [].into(),
        scopes: [].into(),
        scheme: Scheme::Session,
        assurance: 1,
        authenticated_at: NOW,
        credential_id: Some(session.id),
        expires_at: Some(session.absolute_end),
        suspended: false,
    }
}

fn request(page: Page, headers: &[(HeaderName, &str)], body: &str) -> PageRequest {
    let mut map = HeaderMap::new();
    map.append(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    for (name, value) in headers {
        map.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    PageRequest {
        page,
        method: Method::GET,
        host: HOST.to_owned(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        headers: map,
        query: CanonicalQuery::parse(None).unwrap(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        request_id: Uuid::nil(),
        audience: Audience::Person,
    }
}

fn text(answer: &PageAnswer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

fn header<'a>(answer: &'a PageAnswer, name: &HeaderName) -> Option<&'a str> {
    answer.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap())
}

fn cookie(answer: &PageAnswer, name: &str) -> Option<String> {
    let values = answer
        .headers
        .iter()
        .filter(|(known, _)| known == SET_COOKIE)
        .map(|(_, value)| value.to_str().unwrap());
    let pairs = values.filter_map(|value| value.split(';').next()?.split_once('='));
    pairs.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).next_back()
}

/// The value of a form's hidden field.
fn field(page: &str, name: &str) -> String {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_form_is_shown_to_everybody() {
    let world = World::new().await;
    let mut asked = request(Page::SignIn, &[], "");
    asked.query = CanonicalQuery::parse(Some(b"return_to=/api/docs%3Fid=1")).unwrap();
    let answer = world.ask(NOW, None, &asked).await;
    assert_eq!(answer.status, 200);
    assert_eq!(field(text(&answer), "return_to"), "/api/docs?id=1");
    for part in
        ["name=\"login\"", "type=\"password\"", "<label for=\"login\">", "lang=\"en\"", "method=\"post\""]
    {
        assert!(text(&answer).contains(part), "{part}");
    }
    for part in ["<script", "style=", "http://", "https://", "onclick"] {
        assert!(!text(&answer).contains(part), "{part}");
    }
    let policy = header(&answer, &http::header::CONTENT_SECURITY_POLICY).unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    // A second tab keeps the first one's form good.
    let first = cookie(&answer, "__Host-cedargate_form").unwrap();
    let again = request(Page::SignIn, &[(COOKIE, &format!("__Host-cedargate_form={first}"))], "");
    let second = world.ask(NOW, None, &again).await;
    assert_eq!(cookie(&second, "__Host-cedargate_form"), None);
    assert_eq!(field(text(&second), "token"), field(text(&answer), "token"));
    // Elsewhere is no place to return to.
    asked.query = CanonicalQuery::parse(Some(b"return_to=//evil.example")).unwrap();
    assert!(!text(&world.ask(NOW, None, &asked).await).contains("evil"));
}

#[tokio::test]
async fn the_right_password_begins_a_session_and_ends_the_one_before() {
    let world = World::new().await;
    let ada = Login::parse("ada").unwrap().account_id();
    let (old, old_session) = world.session(ada).await;
    for (return_to, location) in [
        ("", WHO_AM_I_PATH),
        ("&return_to=%2Fapi%2Fdocs%3Fid%3D1", "/api/docs?id=1"),
        ("&return_to=%2F%2Fevil.example", WHO_AM_I_PATH),
        ("&return_to=https%3A%2F%2Fevil.example", WHO_AM_I_PATH),
    ] {
        let shown = world.form(NOW).await;
        let password = PASSWORD.replace(' ', "+");
        let mut asked = shown.post(&[], &format!("login=Ada&password={password}{return_to}"));
        let cookies = format!("__Host-cedargate_form={}; __Host-cedargate={old}", shown.cookie);
        asked.headers.insert(COOKIE, HeaderValue::from_str(&cookies).unwrap());
        let answer = world.ask(NOW, None, &asked).await;
        assert_eq!((answer.status, header(&answer, &LOCATION)), (303, Some(location)), "{return_to}");
        let new = cookie(&answer, "__Host-cedargate").unwrap();
        assert!(world.is_live(&new).await && !world.is_live(&old).await && new != old);
        assert_eq!(cookie(&answer, "__Host-cedargate_form").as_deref(), Some(""));
        assert!(cookie(&answer, "__Host-cedargate_device").is_some());
        let note = answer.notes.join("\n");
        assert!(
            note.contains("login succeeded") && note.contains(&ada.to_string()) && !note.contains(PASSWORD)
        );
        assert!(answer.refusal.is_none());
    }
    assert_eq!(world.pages.parts.sessions.end(old_session.id, NOW).await.unwrap(), None);
}

#[tokio::test]
async fn wrong_password_unknown_login_and_suspended_account_look_alike() {
    let world = World::new().await;
    let mut bodies = Vec::new();
    for (login, password) in
        [("ada", "wrong"), ("nobody", "wrong"), ("eve", "wrong"), ("eve", "correct+horse+battery")]
    {
        let answer = world.sign_in(NOW, login, password).await;
        assert_eq!((answer.status, &answer.refusal), (401, &Some(Refusal::Unauthenticated)), "{login}");
        assert_eq!(cookie(&answer, "__Host-cedargate"), None);
        let body = text(&answer);
        assert!(
            body.contains(&format!("value=\"{login}\""))
                && !body.contains("horse")
                && !body.contains("wrong")
        );
        assert!(body.contains("role=\"alert\"") && body.contains("do not go together"));
        let note = answer.notes.join("\n");
        assert!(note.contains(&Login::parse(login).unwrap().account_id().to_string()), "{note}");
        assert!(!note.contains("horse") && !note.contains("wrong"));
        bodies.push(body.replace(&format!("value=\"{login}\""), "").replace(&field(body, "token"), ""));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn threat_11_too_many_failures_wait_and_lock_whether_or_not_there_is_an_account() {
    let world = World::new().await;
    for login in ["ada", "nobody"] {
        let mut held = None;
        for _ in 0..=2 * ATTEMPTS_MAX {
            let answer = world.sign_in(NOW, login, "wrong").await;
            if answer.status == 429 {
                held = Some(answer);
                break;
            }
            assert_eq!(answer.status, 401, "{login}");
        }
        let held = held.unwrap();
        let wait: u32 = header(&held, &RETRY_AFTER).unwrap().parse().unwrap();
        assert!(wait > 0 && text(&held).contains("Try again in"), "{login}");
        assert_eq!(held.refusal, Some(Refusal::Throttled { retry_after_s: wait }));
        // The right password is not looked at meanwhile.
        assert_eq!(world.sign_in(NOW, login, "correct+horse+battery").await.status, 429, "{login}");
    }
    let later = NOW.plus(24 * 60 * 60 * 1000);
    assert_eq!(world.sign_in(later, "ada", "correct+horse+battery").await.status, 303);
}

#[tokio::test]
async fn a_form_that_we_did_not_show_is_refused() {
    let world = World::new().await;
    let (shown, other) = (world.form(NOW).await, world.form(NOW).await);
    let fields = "login=ada&password=correct+horse+battery";
    let body = |token: &str| format!("token={token}&{fields}");
    let cookie = |value: &str| format!("__Host-cedargate_form={value}");
    let fault = async |request: PageRequest| {
        let answer = world.ask(NOW, None, &request).await;
        (answer.status, answer.refusal)
    };
    let token = |fault| (403, Some(Refusal::CrossSite(fault)));
    let post = |cookie: &str, body: &str| request(Page::SignInSubmit, &[(COOKIE, cookie)], body);
    use CrossSiteFault::{FetchSite, FormToken, Origin};
    assert_eq!(fault(post(&cookie(&shown.cookie), fields)).await, token(FormToken));
    assert_eq!(fault(post(&cookie(&other.cookie), &body(&shown.token))).await, token(FormToken));
    assert_eq!(fault(post(&cookie(""), &body(&shown.token))).await, token(FormToken));
    assert_eq!(fault(post("a=b", &body(&shown.token))).await, token(FormToken));
    let cross = HeaderName::from_static("sec-fetch-site");
    assert_eq!(fault(shown.post(&[(cross, "cross-site")], fields)).await, token(FetchSite));
    assert_eq!(fault(shown.post(&[(ORIGIN, "https://evil.example")], fields)).await, token(Origin));
    assert_eq!(fault(shown.post(&[(ORIGIN, "null")], fields)).await, token(CrossSiteFault::Unproven));
    assert_eq!(fault(shown.post(&[(ORIGIN, "https://app.example")], fields)).await, (303, None));
    // The same one may be sent twice: a person who goes back is no attacker.
    assert_eq!(fault(shown.post(&[], fields)).await, (303, None));
}

#[tokio::test]
async fn forms_that_are_not_forms_are_refused_as_everything_else() {
    let world = World::new().await;
    let shown = world.form(NOW).await;
    let malformed = |reason| Some(Refusal::Malformed(Malformed { reason, status: 400 }));
    for (fields, expected) in [
        ("login=ada&login=eve&password=x", malformed("form.repeated_field")),
        ("login=ada", malformed("form.missing_field")),
        ("password=x", malformed("form.missing_field")),
        ("login=%zz&password=x", malformed("form.bad_escape")),
    ] {
        let answer = world.ask(NOW, None, &shown.post(&[], fields)).await;
        assert_eq!((answer.refusal, answer.body.len()), (expected, 0), "{fields}");
    }
    let mut json = shown.post(&[], "login=ada&password=x");
    json.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    assert_eq!(world.ask(NOW, None, &json).await.refusal, malformed("form.content_type"));
    // A program is told by the caller, in its own form.
    let mut program = shown.post(&[], "login=ada&password=wrong");
    program.audience = Audience::Program;
    let answer = world.ask(NOW, None, &program).await;
    assert_eq!((answer.refusal, answer.body.len()), (Some(Refusal::Unauthenticated), 0));
}

#[tokio::test]
async fn signing_out_asks_and_then_ends_this_session_alone() {
    let world = World::new().await;
    let ada = Login::parse("ada").unwrap().account_id();
    let ((secret, session), (other_secret, other)) = (world.session(ada).await, world.session(ada).await);
    let asked = world.ask(NOW, Some(&session), &request(Page::SignOut, &[], "")).await;
    assert!(text(&asked).contains("ada &#60;lovelace&#62;") && world.is_live(&secret).await);
    let token = field(text(&asked), "token");
    let submit = async |session, body: String| {
        world.ask(NOW, Some(session), &request(Page::SignOutSubmit, &[], &body)).await
    };
    for wrong in [String::new(), "token=".to_owned(), format!("token={}", "A".repeat(43))] {
        let answer = submit(&session, wrong).await;
        assert_eq!(answer.refusal, Some(Refusal::CrossSite(CrossSiteFault::FormToken)));
    }
    let answer = submit(&other, format!("token={token}")).await;
    assert_eq!(answer.refusal, Some(Refusal::CrossSite(CrossSiteFault::FormToken)));
    let answer = submit(&session, format!("token={token}")).await;
    assert_eq!((answer.status, &answer.refusal), (200, &None));
    assert!(
        header(&answer, &SET_COOKIE).unwrap().starts_with("__Host-cedargate=; ")
            && text(&answer).contains("Signed out")
    );
    assert!(!world.is_live(&secret).await && world.is_live(&other_secret).await);
    let nobody = world.ask(NOW, None, &request(Page::SignOutSubmit, &[], "token=x")).await;
    assert_eq!(nobody.refusal, Some(Refusal::Unauthenticated));
}

#[tokio::test]
async fn who_the_caller_is() {
    let world = World::new().await;
    let (_, session) = world.session(Uuid::from_u128(5)).await;
    let mut asked = request(Page::WhoAmI, &[], "");
    let page = world.ask(NOW, Some(&session), &asked).await;
    assert!(text(&page).contains("ada &#60;lovelace&#62;") && text(&page).contains("2023-11-14T22:13:20"));
    asked.audience = Audience::Program;
    let answer = world.ask(NOW, Some(&session), &asked).await;
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        told,
        serde_json::json!({
            "id": Uuid::from_u128(5), "name": "ada <lovelace>", "kind": "user", "roles": ["viewer"], "groups": [],
            "assurance": 1,
            "session": {
                "id": session.id, "created": "2023-11-14T22:13:20.000Z", "absolute_end": "2023-11-14T22:23:20.000Z",
            },
        })
    );
    assert_eq!(world.ask(NOW, None, &asked).await.refusal, Some(Refusal::Unauthenticated));
}

#[tokio::test]
async fn keys_and_style_may_be_kept() {
    let world = World::new().await;
    for (page, media_type, part) in [
        (Page::Keys, "application/jwk-set+json", "keys"),
        (Page::Style, "text/css; charset=utf-8", "prefers-color-scheme"),
    ] {
        let answer = world.ask(NOW, None, &request(page, &[], "")).await;
        assert_eq!(StatusCode::from_u16(answer.status).unwrap(), StatusCode::OK);
        assert_eq!(header(&answer, &CONTENT_TYPE), Some(media_type));
        assert_eq!(answer.headers.iter().filter(|(name, _)| name == CACHE_CONTROL).count(), 1);
        assert!(text(&answer).contains(part));
    }
}

#[tokio::test]
async fn a_full_queue_of_hashes_says_so() {
    let world = World::new().await;
    let shown = world.form(NOW).await;
    let gate = HashingGate::new(HashingGateSettings { concurrency: 1, places_max: 1, per_address_max: 1 });
    let (release, held) = std::sync::mpsc::sync_channel::<()>(1);
    let busy = tokio::spawn({
        let gate = gate.clone();
        async move { gate.run(IpAddr::V4(Ipv4Addr::LOCALHOST), move || held.recv().is_ok()).await }
    });
    tokio::task::yield_now().await;
    let keyring = Keyring::from_master(&[7; 32]);
    let attempts = AttemptRules { attempts_max: 3, lockout_ms: 1000 };
    let attempts = Attempts::open(Store::in_memory(&keyring).unwrap(), attempts).unwrap();
    let devices = DeviceCookies::new(keyring);
    let mut parts = world.pages.parts;
    parts.sign_in =
        SignIn::new(world.accounts.clone(), attempts, gate, devices, PasswordVerifier::new().unwrap());
    let world = World { pages: Pages::new(parts), accounts: world.accounts };
    let answer = world.ask(NOW, None, &shown.post(&[], "login=ada&password=x")).await;
    assert_eq!(answer.refusal, Some(Refusal::Unavailable(Dependency::PasswordHashing)));
    assert!(answer.status == 503 && header(&answer, &RETRY_AFTER).is_some());
    release.send(()).unwrap();
    assert_eq!(busy.await.unwrap(), Ok(true));
}
