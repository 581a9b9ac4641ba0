//! What happens when a part that a request needs is away or full.

use serde_json::Value;
use tests::client::{Client, Request, Response};
use tests::gateway::{Gateway, Setup};
use tests::session::Browser;
use tests::wait::{self, PATIENCE};

const READ: &str = "/api/docs/list";
/// A write of which an opening record must be on disk before it is forwarded.
const AUDITED: &str = "/api/users/provision";

fn provision(gateway: &Gateway, cookie: &str) -> Response {
    let request = Request::new("POST", AUDITED)
        .with("Host", &gateway.address().to_string())
        .with("Cookie", cookie)
        .with("Sec-Fetch-Site", "same-origin")
        .body("application/json", b"{}");
    Client::connect(gateway.address()).ask(&request).expect("an answer")
}

fn readyz(gateway: &Gateway) -> Value {
    let request = Request::new("GET", "/readyz").with("Host", &gateway.admin().to_string());
    Client::connect(gateway.admin()).ask(&request).expect("an answer").json()
}

#[test]
fn threat_21_a_full_audit_disk_is_loud_stops_audited_routes_and_heals() {
    let gateway = Setup::demo().disk("audit", 512 * 1024).start();
    let mut browser = gateway.signed_in("global_admin");
    let cookie = browser.cookie_header();
    assert_eq!(provision(&gateway, &cookie).status, 200);
    gateway.disk().fill();
    let refused = wait::until("a refusal", PATIENCE, || {
        Some(provision(&gateway, &cookie)).filter(|answer| answer.status == 503)
    });
    assert!(refused.header("retry-after").is_some());
    // Other classes go on, as they are configured to, and the loss is told.
    assert_eq!(browser.get(READ).status, 200);
    wait::until("word of it", PATIENCE, || {
        (readyz(&gateway)["parts"]["audit_log"]["state"] != "up").then_some(())
    });
    assert!(gateway.output().contains("audit"), "the loss is loud");

    gateway.disk().free();
    wait::until("its recovery", PATIENCE, || (provision(&gateway, &cookie).status == 200).then_some(()));
    // Every line of the file is whole: a record that was cut by the full disk is not left in the middle.
    let after = browser.get(READ);
    gateway.audit().of(&after.request_id());
}

#[test]
fn a_full_store_refuses_sign_ins_and_loses_nobody() {
    let gateway = Setup::demo().disk("store", 8 * 1024 * 1024).start();
    let account = gateway.account("standard_user").clone();
    let mut browser = gateway.signed_in("standard_user");
    gateway.disk().fill();
    let mut refused = None;
    for _ in 0..400 {
        let mut other = Browser::new(gateway.address());
        let answer = other.sign_in(&account.login, &account.password);
        gateway.remember(&other);
        if answer.status >= 500 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a full disk takes sign-ins for ever");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(gateway.audit().of(&refused.request_id())["decision"]["refusal"], "unavailable");
    // Who is signed in stays so.
    let answer = browser.get(READ);
    assert!(answer.status == 200 || answer.status == 503, "{}", answer.status);
    gateway.disk().free();
    wait::until("its recovery", PATIENCE, || (browser.get(READ).status == 200).then_some(()));
    let mut again = Browser::new(gateway.address());
    wait::until("sign-ins again", PATIENCE, || {
        (again.sign_in(&account.login, &account.password).status < 400).then_some(())
    });
    gateway.remember(&again);
}

#[test]
fn threat_11_a_queue_of_password_hashes_is_bounded() {
    let gateway = Setup::demo().start();
    assert_eq!(gateway.gets_ready()["ready"], true);
    let address = gateway.address();
    let attempts: Vec<_> = (0..80)
        .map(|number| {
            std::thread::spawn(move || {
                Browser::new(address).sign_in(&format!("nobody-{number}"), "a wrong guess")
            })
        })
        .collect();
    let answers: Vec<Response> =
        attempts.into_iter().map(|attempt| attempt.join().expect("an answer")).collect();
    let full: Vec<&Response> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!full.is_empty(), "eighty hashes at once were all queued");
    assert!(full.iter().all(|answer| answer.header("retry-after").is_some()));
    // Health does not wait behind it.
    assert_eq!(readyz(&gateway)["ready"], true);
}
