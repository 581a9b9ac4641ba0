//! A gateway that crashes at any moment while people sign in and out: what it has said holds, at every gateway.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

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
/// Sessions that a person keeps. With one more, and those of which nothing is known, they stay below what an account may have.
const KEPT: usize = 1;
/// How often nothing may be known of what came of what one person did: one answer is lost at each crash, and a signing out
/// more that a busy machine was late to answer.
const UNKNOWN_MAX: usize = CRASHES + 1;

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
    /// Who goes on no longer.
    stopped: AtomicUsize,
}

/// What came of signing in or out.
enum Came {
    /// It was done.
    Done(Response),
    /// It was not, and may be tried again after that.
    NotNow(Duration),
    /// Nobody here knows.
    Unknown,
}

impl Progress {
    /// One answer, where it comes.
    fn ask(&self, gateway: &Production, request: &Request) -> Option<Response> {
        let answer = Client::try_connect(gateway.address()).ok()?.ask(request).ok()?;
        self.answers.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    /// What came of a form that is sent once its page has come, where this status says that it was done. Whether it was is
    /// not known of one that `may_be_done` by who says 503.
    fn sends(
        &self,
        gateway: &Production,
        (form, may_be_done): (impl FnOnce(&dyn Fn(&Request) -> Option<Response>) -> Option<Response>, bool),
        is_done: impl Fn(u16) -> bool,
    ) -> Came {
        let (refused, is_form) = (Cell::new(None), Cell::new(false));
        let answer = form(&|request| {
            let may_be_done = may_be_done && is_form.replace(true);
            let answer = self.ask(gateway, request)?;
            let came = match answer.status {
                503 if may_be_done => Came::Unknown,
                429 | 503 => {
                    let wait = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
                    Came::NotNow(Duration::from_secs(wait.unwrap_or(0)))
                }
                _ => return Some(answer),
            };
            refused.set(Some(came));
            None
        });
        match answer {
            Some(answer) if is_done(answer.status) => Came::Done(answer),
            Some(answer) => panic!("{}: {}", answer.status, answer.text()),
            None => refused.take().unwrap_or(Came::Unknown),
        }
    }

    /// Signs a person in and out, again and again, unless too little is known of what came of it.
    fn goes_on(&self, gateway: &Production, login: &str) -> Said {
        let _stopped = Counts(&self.stopped);
        let (mut said, mut unknown) = (Said::default(), 0);
        while !self.done.load(Ordering::Relaxed) && unknown <= UNKNOWN_MAX {
            let came = if said.live.len() > KEPT {
                let cookie = said.live.remove(0);
                let signs_out = |ask: &dyn Fn(&Request) -> Option<Response>| signing_out_by(&cookie, ask);
                let came = self.sends(gateway, (signs_out, true), |status| status == 200);
                match came {
                    Came::Done(_) => {
                        said.ended.push(cookie);
                        self.ends.fetch_add(1, Ordering::Relaxed);
                    }
                    Came::NotNow(_) => said.live.push(cookie),
                    Came::Unknown => {}
                }
                came
            } else {
                let signs_in = |ask: &dyn Fn(&Request) -> Option<Response>| signing_in_by(login, ask);
                let came = self.sends(gateway, (signs_in, false), |status| status < 400);
                if let Came::Done(answer) = &came {
                    said.live.push(cookies(answer));
                }
                came
            };
            let wait = match came {
                Came::Done(_) => continue,
                Came::NotNow(wait) => wait,
                Came::Unknown => {
                    unknown += 1;
                    Duration::ZERO
                }
            };
            // Whoever comes again before that is refused for it.
            let is_done = || self.done.load(Ordering::Relaxed).then_some(());
            wait::within(wait, is_done);
            wait::until("a gateway with its redis", PATIENCE, || {
                is_done().or_else(|| is_up(gateway).then_some(()))
            });
        }
        said
    }

    /// Waits until it is so, or nobody goes on.
    fn reaches(&self, why: &str, is_so: impl Fn(&Self) -> bool) {
        wait::until(why, PATIENCE, || {
            (is_so(self) || self.stopped.load(Ordering::Relaxed) == PEOPLE.len()).then_some(())
        });
    }
}

/// Counts one more when it is dropped.
struct Counts<'a>(&'a AtomicUsize);

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
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
    let mut fleet = Fleet::within("1s", 2, upstream.address(), &redis, "");
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
            progress.reaches(&format!("answers before crash {crash}"), |progress| {
                progress.answers.load(Ordering::Relaxed) >= until
            });
            process.kill();
            *process = gateway.start();
        }
        progress.reaches("a session that has ended", |progress| progress.ends.load(Ordering::Relaxed) > 0);
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
