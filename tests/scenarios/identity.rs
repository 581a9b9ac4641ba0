//! Who someone is: signing in, staying signed in, being signed out.

use tests::client::{Client, Request, Response};
use tests::gateway::{Gateway, Setup};
use tests::session::{self, Browser, LOGIN, LOGOUT, WHOAMI};

const READ: &str = "/api/docs/list";

fn ask(gateway: &Gateway, headers: &[(&str, &str)]) -> Response {
    let request = Request::new("GET", READ).with("Host", &gateway.address().to_string());
    let request = headers.iter().fold(request, |request, (name, value)| request.with(name, value));
    Client::connect(gateway.address()).ask(&request).expect("an answer")
}

/// The cookie that carries the session: the one that whoami needs.
fn session_cookie(browser: &Browser) -> (String, String) {
    let mut cookies = browser.cookies().iter();
    cookies.find(|(name, _)| name.contains("session")).expect("a session cookie").clone()
}

#[test]
fn a_session_is_opaque_bound_to_this_origin_and_new_at_each_sign_in() {
    let gateway = Setup::demo().start();
    let account = gateway.account("standard_user").clone();
    let mut browser = Browser::new(gateway.address());
    assert_eq!(browser.get(WHOAMI).status, 401);
    let answer = browser.sign_in(&account.login, &account.password);
    gateway.remember(&browser);
    let (name, value) = session_cookie(&browser);
    let line =
        answer.all("set-cookie").find(|line| line.starts_with(&name)).expect("the cookie is set").to_owned();
    let attributes = line.to_ascii_lowercase();
    for attribute in ["httponly", "samesite=", "path=/"] {
        assert!(attributes.contains(attribute), "no {attribute} in {line}");
    }
    assert!(!attributes.contains("domain="), "the cookie is for this host alone: {line}");
    // 256 bits in base64url.
    assert!(value.len() >= 43, "{} characters", value.len());
    let whoami = browser.get(WHOAMI);
    assert_eq!(whoami.status, 200);
    assert!(whoami.text().contains(&account.login), "{}", whoami.text());

    browser.sign_in(&account.login, &account.password);
    gateway.remember(&browser);
    assert_ne!(session_cookie(&browser).1, value, "a sign-in rotates the secret");
}

#[test]
fn a_planted_session_is_not_taken_over_by_the_one_who_signs_in() {
    let gateway = Setup::demo().start();
    let attacker = gateway.signed_in("guest_user");
    let (name, planted) = session_cookie(&attacker);
    let mut victim = Browser::new(gateway.address());
    victim.plant(&name, &planted);
    let account = gateway.account("global_admin").clone();
    victim.sign_in(&account.login, &account.password);
    gateway.remember(&victim);
    assert_ne!(session_cookie(&victim).1, planted, "the planted secret was kept (session fixation)");
    let mut attacker = attacker;
    assert!(!attacker.get(WHOAMI).text().contains(&account.login), "the attacker's cookie became the victim");
}

#[test]
fn sign_out_ends_the_session_at_once_for_every_copy_of_its_cookie() {
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("standard_user");
    let mut copy = browser.clone();
    assert_eq!(copy.get(READ).status, 200);
    let page = browser.navigate(LOGOUT).text();
    let form = session::form(&[], &page);
    let request = browser
        .request("POST", LOGOUT)
        .with("Origin", &format!("http://{}", gateway.address()))
        .body("application/x-www-form-urlencoded", form.as_bytes());
    let answer = browser.ask(&request);
    assert!(matches!(answer.status, 200 | 303), "{} {}", answer.status, answer.text());
    assert_eq!(copy.get(READ).status, 401, "a copy of the cookie still works");
    assert_eq!(copy.get(WHOAMI).status, 401);
}

#[test]
fn a_wrong_password_and_an_unknown_name_are_answered_alike() {
    let gateway = Setup::demo().start();
    let login = gateway.account("standard_user").login.clone();
    let known = Browser::new(gateway.address()).sign_in(&login, "not the password");
    let unknown = Browser::new(gateway.address()).sign_in("nobody-of-this-name", "not the password");
    assert_eq!(known.status, unknown.status);
    assert!((400..500).contains(&known.status), "{}", known.status);
    let strip = |answer: &Response, login: &str| {
        let mut text = answer.text().replace(&answer.request_id(), "").replace(login, "");
        for (_, value) in session::hidden_fields(&text) {
            text = text.replace(&value, "");
        }
        text
    };
    assert_eq!(strip(&known, &login), strip(&unknown, "nobody-of-this-name"));
}

#[test]
fn an_api_key_proves_a_service_in_both_places_and_two_that_disagree_prove_nothing() {
    let gateway = Setup::demo().start();
    let key = gateway.api_key().to_owned();
    assert_eq!(ask(&gateway, &[("X-API-Key", &key)]).status, 200);
    assert_eq!(ask(&gateway, &[("Authorization", &format!("Bearer {key}"))]).status, 200);
    let wrong = format!("{}x", &key[..key.len() - 1]);
    for headers in [
        vec![("X-API-Key", wrong.as_str())],
        vec![("X-API-Key", ""), ("X-API-Key", &key)],
        vec![("X-API-Key", &key), ("Authorization", "Bearer xyz")],
        vec![("Authorization", "Bearer xyz")],
        vec![("Authorization", "Basic YTpi")],
    ] {
        let answer = ask(&gateway, &headers);
        assert_eq!(answer.status, 401, "{:?}", headers.iter().map(|(name, _)| name).collect::<Vec<_>>());
        let record = gateway.audit().of(&answer.request_id());
        assert!(record["principal"].is_null(), "{record:#}");
    }
    // A session of a person beside the key of a service: neither is believed.
    let browser = gateway.signed_in("standard_user");
    let answer = ask(&gateway, &[("X-API-Key", &key), ("Cookie", &browser.cookie_header())]);
    assert_eq!(answer.status, 401, "a key beside somebody's session");
}

#[test]
fn the_legacy_bearer_of_botservers_client_is_dropped_beside_a_session_and_never_believed() {
    let gateway = Setup::demo().start();
    let browser = gateway.signed_in("standard_user");
    let cookie = browser.cookie_header();
    let legacy = "Bearer gb_6f9619ff-8b86-4d01-b42d-00cf4fc964ff_1764000000";
    let session_id = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    let answer =
        ask(&gateway, &[("Cookie", &cookie), ("Authorization", legacy), ("X-Session-ID", session_id)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let upstream = answer.json()["headers"].to_string();
    assert!(!upstream.contains("gb_6f9619ff"), "the legacy bearer went upstream: {upstream}");
    assert!(answer.json()["headers"]["x-session-id"].is_null());
    assert_eq!(ask(&gateway, &[("Authorization", legacy)]).status, 401);
}

#[test]
fn threat_11_a_lock_stops_unknown_devices_only() {
    let gateway = Setup::demo().environment("BOTSERVER_MAX_LOGIN_ATTEMPTS", "2").start();
    let account = gateway.account("global_admin").clone();
    let mut own_browser = gateway.signed_in("global_admin");
    let mut attacker = Browser::new(gateway.address());
    for _ in 0..4 {
        let refused = attacker.sign_in(&account.login, "a wrong guess");
        assert!(refused.status >= 400, "{}", refused.status);
    }
    let locked = attacker.sign_in(&account.login, &account.password);
    assert!(
        locked.status >= 400,
        "the right password from an unknown device passes a lock: {}",
        locked.status
    );
    assert_eq!(attacker.get(WHOAMI).status, 401);
    // A lock ends no session, and the device that has signed in before can do so again.
    assert_eq!(own_browser.get(WHOAMI).status, 200);
    own_browser.forget("session");
    let again = own_browser.sign_in(&account.login, &account.password);
    gateway.remember(&own_browser);
    assert!(
        again.status < 400,
        "the lock keeps the owner's own browser out: {} {}",
        again.status,
        again.text()
    );
    assert_eq!(own_browser.get(WHOAMI).status, 200);
}

#[test]
fn threat_11_parallel_guesses_are_counted_each() {
    let gateway = Setup::demo().environment("BOTSERVER_MAX_LOGIN_ATTEMPTS", "2").start();
    let account = gateway.account("standard_user").clone();
    let address = gateway.address();
    // The forms are fetched first, so that the guesses themselves meet in time.
    let guesses: Vec<_> = (0..12)
        .map(|_| {
            let login = account.login.clone();
            std::thread::spawn(move || Browser::new(address).sign_in(&login, "a wrong guess").status)
        })
        .collect();
    let statuses: Vec<u16> = guesses.into_iter().map(|guess| guess.join().expect("an answer")).collect();
    assert!(statuses.iter().all(|status| *status >= 400), "{statuses:?}");
    let hashed =
        gateway.audit().records().iter().filter(|record| record["request"]["method"] == "POST").count();
    assert!(hashed <= 12);
    let locked = Browser::new(address).sign_in(&account.login, &account.password);
    assert!(locked.status >= 400, "twelve parallel guesses did not lock: {}", locked.status);
}

#[test]
fn a_login_form_from_elsewhere_is_refused() {
    let gateway = Setup::demo().start();
    let account = gateway.account("standard_user").clone();
    let mut browser = Browser::new(gateway.address());
    browser.navigate(LOGIN);
    let form = session::form(&[("login", &account.login), ("password", &account.password)], "");
    let request = browser.request("POST", LOGIN).body("application/x-www-form-urlencoded", form.as_bytes());
    let answer = browser.ask(&request);
    assert!(answer.status >= 400, "a form without our token signs in (login CSRF): {}", answer.status);
    assert_eq!(browser.get(WHOAMI).status, 401);
}
