//! A gateway that crashes at any moment while people sign in and out: what it has said holds, at every gateway.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tests::client::{Client, Request, Response};
use tests::production::{Production, random_hex};
use tests::redis::Redis;
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

use crate::fleet::{Fleet, signing_out_by};
use crate::production::{add_account, cookies, signing_in_by};

const PEOPLE: [&str; 3] = ["ada", "grace", "alan"];
/// How often the gateway is killed.
const CRASHES: usize = 6;
/// Sessions that a person keeps. With one more, and those of which nothing is known after each crash, they stay below what an
/// account may have.
const KEPT: usize = 1;

/// What a gateway has said to one person.
#[derive(Default)]
struct Said {
    live: Vec<String>,
    ended: Vec<String>,
}

/// How far they have come.
#[derive(Default)]
struct Progress {
    done: AtomicBool,
    answers: AtomicUsize,
    ends: AtomicUsize,
}

impl Progress {
    /// One answer, where it comes.
    fn ask(&self, gateway: &Production, request: &Request) -> Option<Response> {
        let answer = Client::try_connect(gateway.address()).ok()?.ask(request).ok()?;
        self.answers.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    /// Signs a person in and out, again and again, unless too little is known of what came of it.
    fn goes_on(&self, gateway: &Production, login: &str) -> Said {
        let (mut said, mut unknown) = (Said::default(), 0);
        while !self.done.load(Ordering::Relaxed) && unknown <= CRASHES {
            let is_known = if said.live.len() > KEPT {
                let cookie = said.live.remove(0);
                let answer = signing_out_by(&cookie, |request| self.ask(gateway, request));
                let has_ended = answer.is_some_and(|answer| answer.status == 200);
                said.ended.extend(has_ended.then_some(cookie));
                self.ends.fetch_add(usize::from(has_ended), Ordering::Relaxed);
                has_ended
            } else {
                let answer = signing_in_by(login, |request| self.ask(gateway, request));
                let cookie = answer.filter(|answer| answer.status < 400).map(|answer| cookies(&answer));
                let is_there = cookie.is_some();
                said.live.extend(cookie);
                is_there
            };
            if !is_known {
                unknown += 1;
                wait::until("a gateway with its redis", PATIENCE, || is_up(gateway).then_some(()));
            }
        }
        said
    }
}

/// Whether a gateway says that it has its sessions.
fn is_up(gateway: &Production) -> bool {
    let request = Request::new("GET", "/readyz").with("Host", &gateway.admin().to_string());
    let told = Client::try_connect(gateway.admin()).ok().and_then(|mut admin| admin.ask(&request).ok());
    told.is_some_and(|told| told.json()["parts"]["sessions"]["state"] == "up")
}

/// Has everybody stop, also where a test has failed: they would be waited for.
struct Stops<'a>(&'a Progress);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Relaxed);
    }
}

/// A number below this one.
fn random_below(bound: usize) -> usize {
    let text = random_hex();
    let (head, _) = text.split_at(8);
    usize::from_str_radix(head, 16).expect("hexadecimal") % bound
}

#[test]
fn whatever_moment_a_gateway_crashes_at_no_login_is_lost_and_no_session_lives_again() {
    let (upstream, redis) = (Upstream::start(), Redis::start());
    let mut fleet = Fleet::with(2, upstream.address(), &redis, "");
    for login in &PEOPLE[1..] {
        add_account(&mut fleet.gateways[0], login, "standard_user");
    }
    let (progress, said) = (Progress::default(), Mutex::new(Vec::new()));
    let Fleet { gateways, processes } = &mut fleet;
    let (gateway, process) = (&gateways[0], &mut processes[0]);
    std::thread::scope(|scope| {
        let _stops = Stops(&progress);
        for login in PEOPLE {
            let (progress, said) = (&progress, &said);
            scope.spawn(move || {
                let told = progress.goes_on(gateway, login);
                said.lock().expect("nobody panics with it").push(told);
            });
        }
        for crash in 0..CRASHES {
            let until = progress.answers.load(Ordering::Relaxed) + 1 + random_below(16);
            wait::until(&format!("answers before crash {crash}"), PATIENCE, || {
                (progress.answers.load(Ordering::Relaxed) >= until).then_some(())
            });
            process.kill();
            *process = gateway.start();
        }
        wait::until("a session that has ended", PATIENCE, || {
            (progress.ends.load(Ordering::Relaxed) > 0).then_some(())
        });
    });
    let said = said.into_inner().expect("nobody panicked");
    assert_eq!(said.len(), PEOPLE.len());
    let (live, ended): (Vec<_>, Vec<_>) = said.iter().map(|said| (&said.live, &said.ended)).unzip();
    let (live, ended): (Vec<_>, Vec<_>) =
        (live.into_iter().flatten().collect(), ended.into_iter().flatten().collect());
    assert!(!live.is_empty() && !ended.is_empty(), "{} live, {} ended", live.len(), ended.len());
    for at in 0..2 {
        for cookie in &live {
            fleet.answers(at, cookie, 200, &format!("an acknowledged login, gateway {at}"));
        }
        for cookie in &ended {
            fleet.answers(at, cookie, 401, &format!("an ended session, gateway {at}"));
        }
    }
}
