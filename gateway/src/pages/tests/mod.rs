//! Signing in, being somebody and signing out, as a browser and as a program.

mod logged_out;
mod sign_in;
mod signed_in;

use std::net::Ipv4Addr;

use engine::identity::{Identity, Principal, PrincipalKind, Scheme};
use engine::refusal::{CredentialFault, CrossSiteFault, Dependency, Malformed};
use http::StatusCode;
use http::header::{COOKIE, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE};
use storage::credentials::{
    AccountChange, Accounts, AttemptRules, Attempts, DeviceCookies, HashingGate, HashingGateSettings, Login,
    NewAccount, PasswordHash, PasswordVerifier,
};
use storage::grants::Grants;
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
        Self::with(Providers::alone(&[])).await
    }

    async fn with(providers: Providers) -> Self {
        let keyring = Keyring::from_master(&[7; 32]);
        let store = Store::in_memory(&keyring).unwrap();
        let (accounts, grants) = (Accounts::new(store.clone()), store.clone());
        let rules = SessionRules { idle_ms: 60_000, absolute_ms: 600_000, per_account_max: 10 };
        let attempts = AttemptRules { attempts_max: ATTEMPTS_MAX, lockout_ms: 60_000 };
        let sign_in = SignIn::new(
            accounts.clone(),
            Attempts::open(store, attempts).unwrap(),
            HashingGate::new(HashingGateSettings::default()),
            DeviceCookies::new(keyring.clone()),
            PasswordVerifier::new().unwrap(),
        );
        let (providers, metrics) = (Arc::new(providers), Arc::new(Metrics::new().unwrap()));
        let sessions = Arc::new(Sessions::memory(keyring.clone(), rules));
        let renewals = Renewals::open(&providers, Grants::new(grants), &sessions, &accounts, &metrics);
        let pages = Pages::new(PagesParts {
            sites: Arc::new(sites(&[(HOST, "https://app.example")], &[])),
            sessions,
            sign_in,
            accounts: accounts.clone(),
            providers,
            renewals: Arc::new(renewals.unwrap()),
            form_key: FormKey::new(&[9; 32]),
            keys: serde_json::json!({"keys": []}),
            metrics,
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
        let new = NewSession::of(account, NOW);
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
