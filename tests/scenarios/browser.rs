//! As a new user tries it: with a browser, from the login page to being signed out.

use std::fs;

use tests::chromium::Chromium;
use tests::gateway::{Account, Gateway, Setup};
use tests::repository;
use tests::session::{LOGIN, WHOAMI};
use tests::wait::{self, PATIENCE};

fn sign_in(browser: &Chromium, gateway: &Gateway, account: &Account) {
    browser.open(&format!("{}{LOGIN}", gateway.demo().gateway));
    browser.type_into("input[name=login]", &account.login);
    browser.type_into("input[name=password]", &account.password);
    browser.click("button[type=submit]");
    // A click does not wait for the page that it leads to: the next one that is opened would be overtaken by it.
    wait::until("the page of whoever is signed in", PATIENCE, || {
        browser.url().contains(WHOAMI).then_some(())
    });
}

#[test]
fn a_person_signs_in_reads_is_refused_and_is_signed_out_from_a_second_terminal() {
    let gateway = Setup::demo().start();
    let account = gateway.account("standard_user").clone();
    let pictures = repository::root().join("target/screenshots");
    fs::create_dir_all(&pictures).expect("a folder for pictures");
    let browser = Chromium::start();
    let url = |path: &str| format!("{}{path}", gateway.demo().gateway);

    browser.open(&url(LOGIN));
    browser.screenshot(&pictures.join("1-login.png"));
    browser.type_into("input[name=login]", &account.login);
    browser.type_into("input[name=password]", "not the password");
    browser.click("button[type=submit]");
    browser.screenshot(&pictures.join("2-wrong-password.png"));
    assert!(browser.url().contains(LOGIN), "{}", browser.url());

    sign_in(&browser, &gateway, &account);
    browser.open(&url(WHOAMI));
    browser.screenshot(&pictures.join("3-whoami.png"));
    assert!(browser.text().contains(&account.login), "{}", browser.text());

    browser.open(&url("/api/docs/list"));
    assert!(browser.text().contains("\"path\""), "{}", browser.text());
    browser.open(&url("/auth/oauth/google"));
    browser.screenshot(&pictures.join("4-refused.png"));
    assert!(browser.text().to_lowercase().contains("not allowed"), "{}", browser.text());

    browser.open(&url("/health"));
    // BotServer's own pages write with fetch and know no token of ours.
    let written = browser.run("return fetch('/api/docs/save', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}).then(answer => answer.status)");
    assert_eq!(written, 200);

    // From a second terminal: every session of that account ends.
    let (status, said) = gateway.cli(&["session", "end-all", &account.login]);
    assert!(status.success(), "{said}");
    browser.open(&url(WHOAMI));
    browser.screenshot(&pictures.join("5-signed-out.png"));
    assert!(!browser.text().contains(&account.login) || browser.url().contains(LOGIN), "{}", browser.text());
    browser.open(&url("/health"));
    let again = browser.run("return fetch('/api/docs/list', {headers: {Accept: 'application/json'}}).then(answer => answer.status)");
    assert_eq!(again, 401);

    // And once more, to leave by the door.
    sign_in(&browser, &gateway, &account);
    browser.open(&url(WHOAMI));
    browser.click("a.button");
    browser.screenshot(&pictures.join("6-sign-out.png"));
    browser.click("button[type=submit]");
    browser.open(&url(WHOAMI));
    assert!(!browser.text().contains("Signed in"), "{}", browser.text());
}

#[test]
fn a_person_chats_and_is_told_when_the_session_is_ended_from_a_second_terminal() {
    let gateway = Setup::demo().start();
    let account = gateway.account("standard_user").clone();
    let pictures = repository::root().join("target/screenshots");
    fs::create_dir_all(&pictures).expect("a folder for pictures");
    let browser = Chromium::start();
    let url = |path: &str| format!("{}{path}", gateway.demo().gateway);
    let shows = |text: &str| {
        let mut shown = String::new();
        wait::until(&format!("`{text}` on the page"), PATIENCE, || {
            let now = browser.text();
            if now != shown {
                eprintln!("the page shows {now:?} at {}", browser.url());
                shown = now;
            }
            shown.contains(text).then_some(())
        });
    };

    browser.open(&url("/suite/chat"));
    shows("sign in first");
    sign_in(&browser, &gateway, &account);
    browser.open(&url("/suite/chat"));
    shows(&format!("Hello, {}", account.login));
    for text in ["Good morning", "Is anybody there?"] {
        browser.type_into("input[name=text]", text);
        browser.click("form button");
        shows(text);
    }
    browser.screenshot(&pictures.join("7-chat.png"));

    let (status, said) = gateway.cli(&["session", "end-all", &account.login]);
    assert!(status.success(), "{said}");
    shows("You were signed out");
    browser.screenshot(&pictures.join("8-chat-signed-out.png"));
}
