//! Starting, stopping, dying, and a disk that is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use tests::client::{Client, Lost, Request};
use tests::gateway::Setup;
use tests::session::WHOAMI;
use tests::upstream::Upstream;

const READ: &str = "/api/docs/list";

#[test]
fn no_worker_waits_until_a_huge_page_of_memory_is_cleared() {
    let gateway = Setup::demo().start();
    // Since Linux 5.0 the kernel says so.
    assert_eq!(gateway.process().status("THP_enabled").as_deref(), Some("0"));
}

#[test]
fn sigterm_under_load_loses_no_accepted_request_and_no_record() {
    let upstream = Upstream::start();
    let mut gateway = Setup::demo().upstream(&upstream.url()).start();
    let stopping = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let request = Request::new("GET", READ)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key());
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (stopping, answered) = (Arc::clone(&stopping), Arc::clone(&answered));
            let (request, address) = (request.clone(), gateway.address());
            std::thread::spawn(move || load(address, &request, &stopping, &answered))
        })
        .collect();
    tests::wait::until("load", tests::wait::PATIENCE, || {
        (answered.load(Ordering::SeqCst) > 100).then_some(())
    });
    gateway.signal(Signal::TERM);
    stopping.store(true, Ordering::SeqCst);
    let ids: Vec<String> =
        clients.into_iter().flat_map(|client| client.join().expect("no client panics")).collect();
    let status = gateway.wait();
    assert!(status.success(), "it ended with {status}: {}", gateway.output());
    let records = gateway.audit().records();
    for id in &ids {
        let count = records
            .iter()
            .filter(|record| record["request_id"] == id.as_str() && record["kind"] == "request")
            .count();
        assert_eq!(count, 1, "an answered request has {count} records");
    }
}

/// Asks again and again on one connection; the ids of all that was answered. A connection that ends does
/// so between two answers: a request that was accepted is answered whole.
fn load(
    address: std::net::SocketAddr,
    request: &Request,
    stopping: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let Ok(stream) = std::net::TcpStream::connect(address) else {
            assert!(stopping.load(Ordering::SeqCst), "refused before the end");
            return ids;
        };
        drop(stream);
        let mut client = Client::connect(address);
        loop {
            match client.ask(request) {
                Ok(answer) => {
                    assert!(answer.status == 200 || answer.status == 503, "{}", answer.status);
                    ids.push(answer.request_id());
                    answered.fetch_add(1, Ordering::SeqCst);
                    if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                        break;
                    }
                }
                Err(Lost::Closed(rest)) => {
                    assert!(rest.is_empty(), "half an answer: {}", String::from_utf8_lossy(&rest));
                    assert!(stopping.load(Ordering::SeqCst), "closed before the end");
                    return ids;
                }
                Err(Lost::Silent) => panic!("neither answered nor closed"),
            }
            if stopping.load(Ordering::SeqCst) && ids.len() > 100_000 {
                return ids;
            }
        }
    }
}

#[test]
fn a_crash_loses_no_session_and_no_account_that_was_acknowledged() {
    let gateway = Setup::demo().start();
    let mut browser = gateway.signed_in("standard_user");
    assert_eq!(browser.get(WHOAMI).status, 200);
    let password = "a-password-that-survives-27";
    gateway.keep_secret("password of survivor", password);
    let (status, said) =
        gateway.cli_told(&["account", "add", "survivor", "--role", "viewer"], &format!("{password}\n"));
    assert!(status.success(), "{said}");
    let cookies = browser.cookies().to_vec();
    let directory = gateway.kill();
    let gateway = Setup::demo().directory(directory).start();
    let mut browser = tests::session::Browser::new(gateway.address());
    for (name, value) in cookies {
        browser.plant(&name, &value);
    }
    gateway.remember(&browser);
    assert_eq!(browser.get(WHOAMI).status, 200, "the session did not survive kill -9");
    gateway.keep_secret("password of survivor", password);
    let mut survivor = tests::session::Browser::new(gateway.address());
    survivor.sign_in("survivor", password);
    gateway.remember(&survivor);
    assert_eq!(survivor.get(WHOAMI).status, 200, "the account did not survive kill -9");
    // The keys of services survive as well.
    let request = Request::new("GET", READ)
        .with("Host", &gateway.address().to_string())
        .with("X-API-Key", gateway.api_key());
    assert_eq!(Client::connect(gateway.address()).ask(&request).expect("an answer").status, 200);
}

#[test]
fn ctrl_c_ends_everything_cleanly() {
    let mut gateway = Setup::demo().start();
    let (address, admin) = (gateway.address(), gateway.admin());
    gateway.signal(Signal::INT);
    assert!(gateway.wait().success(), "{}", gateway.output());
    for closed in [address, admin] {
        assert!(std::net::TcpStream::connect(closed).is_err(), "{closed} is still open");
    }
}

#[test]
fn a_taken_port_stops_the_start_and_says_so() {
    let gateway = Setup::demo().start();
    let said = Setup::demo().listen(gateway.address()).try_start().expect_err("the port is taken");
    assert!(said.contains(&gateway.address().port().to_string()), "{said}");
}
