//! The demo as a new user meets it: what README.md promises is what happens.

use std::fs;

use tests::client::{Client, Request};
use tests::gateway::{Gateway, Setup};
use tests::process::cli;
use tests::repository;
use tests::session::WHOAMI;
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

/// The policy that the tour has its reader save.
fn policy_of_the_tour() -> String {
    let readme = repository::text("README.md").expect("the README").content;
    let (_, after) = readme.split_once("```cedar\n").expect("the tour shows a policy");
    after.split_once("```").expect("the policy ends").0.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

fn with_key(gateway: &Gateway, target: &str) -> tests::client::Response {
    let request = Request::new("GET", target)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key());
    Client::connect(gateway.address()).ask(&request).expect("an answer")
}

#[test]
fn the_tour_of_the_readme_is_true() {
    let gateway = Setup::demo().start();
    let anonymous = Request::new("GET", "/api/tickets").with("Host", &gateway.address().to_string());
    assert_eq!(Client::connect(gateway.address()).ask(&anonymous).expect("an answer").status, 401);
    assert_eq!(with_key(&gateway, "/api/tickets").status, 200);

    let mut viewer = gateway.signed_in("viewer");
    let read = viewer.get("/api/docs/list");
    assert_eq!(read.status, 200);
    let received = read.json();
    assert!(received["headers"]["authorization"].as_str().is_some_and(|it| it.starts_with("Bearer ")));
    assert!(received["headers"].get("cookie").is_none(), "{received:#}");
    assert_eq!(viewer.get("/api/tickets").status, 403);

    let file = gateway.directory().join("policies/grants/viewer_tickets.cedar");
    fs::write(file, policy_of_the_tour()).expect("the policy is saved");
    wait::until("the tickets", PATIENCE, || (viewer.get("/api/tickets").status == 200).then_some(()));
    let record = gateway.audit().of(&viewer.get("/api/tickets").request_id());
    assert_eq!(record["decision"]["deciding"][0]["id"], "tickets.viewer", "{record:#}");

    let session = viewer.get(WHOAMI).json()["session"]["id"].as_str().expect("a session").to_owned();
    let directory = gateway.directory().to_string_lossy().into_owned();
    let (status, told) = cli(&["session", "list", "--data-dir", &directory], &[], "");
    assert!(status.success() && told.contains(&session), "{told}");
    let (status, told) = cli(&["session", "end", "--data-dir", &directory, &session], &[], "");
    assert!(status.success(), "{told}");
    assert_eq!(viewer.get("/api/docs/list").status, 401);
}

#[test]
fn a_second_start_knows_its_people_its_service_and_its_sessions() {
    let gateway = Setup::demo().start();
    let (password, key) = (gateway.account("viewer").password.clone(), gateway.api_key().to_owned());
    assert_eq!(gateway.demo().accounts.len(), 17);
    let directory = gateway.kill();
    fs::write(directory.path().join("theirs.txt"), "kept").expect("another file");

    let gateway = Setup::demo().directory(directory).start();
    assert_eq!(gateway.account("viewer").password, password);
    assert_eq!(gateway.api_key(), key);
    assert_eq!(gateway.signed_in("viewer").get("/api/docs/list").status, 200);
    assert_eq!(with_key(&gateway, "/api/tickets").status, 200);
    assert_eq!(fs::read_to_string(gateway.directory().join("theirs.txt")).expect("the file"), "kept");
}

#[test]
fn another_upstream_is_stood_before_and_told_who_asks() {
    let upstream = Upstream::start();
    let gateway = Setup::demo().upstream(&upstream.url()).start();
    assert_eq!(with_key(&gateway, "/api/tickets").status, 200);
    let received = upstream.wait("the request", |received| received.target == "/api/tickets");
    assert!(received.header("authorization").is_some_and(|it| it.starts_with("Bearer ey")));
    assert!(received.header("x-api-key").is_none());
}

#[test]
fn what_the_demo_prints_into_a_file_holds_no_password_and_no_key() {
    let gateway = Setup::demo().start();
    let output = gateway.output();
    assert!(output.contains("demo.json") && output.contains("/.cedargate/login"), "{output}");
    for account in &gateway.demo().accounts {
        assert!(!output.contains(&account.password), "the password of {}", account.login);
    }
    assert!(!output.contains(gateway.api_key()));
}
