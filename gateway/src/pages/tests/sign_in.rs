//! Signing in: who gets a session, who does not, and what either is told.

use super::*;

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
        assert_eq!(held.refusal, Some(Refusal::Throttled { retry_after_s: wait, limit: None }));
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
