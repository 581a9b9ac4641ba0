//! A master that is killed under load, and what takes over: limits hold, nobody is signed out, and nobody comes back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;
use tests::process::Process;
use tests::production::Production;
use tests::redis_group::{Group, Kind};
use tests::session::WHOAMI;
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

use crate::limits::{self, key, metric, told_by_admin};
use crate::production::{alike, ask, person, request, sign_in, signing_in};

/// Keys that lie where limits and where sessions do.
const LIMITS: &str = "cedargate:{limits}:x";
const SESSIONS: &str = "cedargate:{session}:x";
/// What the caller asks for: a class of routes of its own, which whoever only looks at sessions does not spend.
const EXPORT: &str = "/api/docs/export/txt?id=one";
/// What the caller has of it, an hour.
const QUOTA: usize = 600;
/// Who asks at the same time.
const CALLERS: usize = 2;
/// People with a session who do nothing meanwhile.
const CROWD: usize = 2;

/// Has replicas waited for.
const REPLICATED: &str = "[session]\nreplicas = 1\n";

/// What happens to a master.
#[derive(Clone, Copy)]
enum Fault<'a> {
    /// The one that has this key is killed, and this part of readiness says so.
    Killed(&'a str, &'a str),
    /// What it has of limits moves to another, and it keeps the rest.
    Moved,
    /// Its replica takes over from it, by an order to the sentinels. It is still there, and takes what it is told until it hears
    /// that it is a replica.
    Relieved,
}

/// Lets those who ask end, also where whoever waits for them panics.
struct Asked<'a>(&'a AtomicBool);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What came of it.
struct Seen {
    /// Requests that were let through.
    let_through: usize,
    /// How many may have been counted by this gateway alone, which counts as if all were asked alike: each weighs as two.
    alone: usize,
    /// How many of them one may have counted of which the other knows nothing.
    lost: usize,
}

/// Two gateways that share limits and sessions.
struct World {
    gateways: Vec<Production>,
    _processes: Vec<Process>,
    _upstream: Upstream,
    /// A key of a service.
    key: String,
    /// Cookies of sessions that are live.
    live: Vec<String>,
    /// Of one that has ended.
    ended: String,
}

impl World {
    /// With these lines besides.
    fn start(group: &Group, more: &str) -> Self {
        let upstream = Upstream::start();
        // The most that there is: replicas have half of it, and a busy machine takes its time.
        let budget = "budget = \"1s\"\n";
        let lines = format!(
            "{more}[limits]\nper_user = \"1000000/1h\"\n[limits.class.files]\nrate = \"{QUOTA}/1h\"\n{}{budget}{}{budget}",
            group.lines_of("limits.redis"),
            group.lines_of("session.redis")
        );
        let mut gateways = alike(2, upstream.address(), &lines, &group.passwords());
        let processes = gateways.iter().map(Production::start).collect();
        for gateway in &gateways {
            both_reach(gateway, "up");
        }
        // By those that are connected: a command by itself gives up where the first try takes too long.
        person(&mut gateways);
        let key = key(&mut gateways[0], "caller");
        let mut cookies: Vec<String> = (0..=CROWD).map(|_| sign_in(&gateways[0], "ada")).collect();
        let values =
            cookies.iter().flat_map(|cookie| cookie.split("; ").filter_map(|pair| pair.split_once('=')));
        let values: Vec<String> =
            values.map(|(_, value)| value.to_owned()).filter(|value| value.len() >= 20).collect();
        for gateway in &mut gateways {
            gateway.secrets.extend(values.iter().cloned());
        }
        let ended = cookies.pop().expect("more than the crowd");
        let world = Self { gateways, _processes: processes, _upstream: upstream, key, live: cookies, ended };
        world.sign_out();
        world
    }

    /// Ends that one session, at a gateway that has not begun it; known to have ended by the other from then on.
    fn sign_out(&self) {
        let me = ask(&self.gateways[0], &with_cookie(&self.ended)).json();
        let id = me["session"]["id"].as_str().expect("its public id").to_owned();
        let (content, said) = self.gateways[1].cli(&["session", "end", &id], "");
        assert!(content, "{said}");
        wait::until("its end", PATIENCE, || (self.who(0, &self.ended) == 401).then_some(()));
    }

    /// Whether the caller is let through at the first gateway; or else told when to come again, and nothing else: because it
    /// has spent what it had, or because nobody can be asked whether its key holds.
    fn is_let_through(&self) -> bool {
        self.asks() == 200
    }

    fn asks(&self) -> u16 {
        let answer = limits::ask(&self.gateways[0], EXPORT, Some(&self.key));
        assert!(matches!(answer.status, 200 | 429 | 503), "{}: {}", answer.status, answer.text());
        assert_eq!(answer.header("retry-after").is_some(), answer.status != 200, "{:?}", answer.headers);
        answer.status
    }

    /// How a gateway answers whoever comes with these cookies.
    fn who(&self, at: usize, cookie: &str) -> u16 {
        ask(&self.gateways[at], &with_cookie(cookie)).status
    }

    /// Looks at every session at every gateway: refused as long as nobody can be asked, and never taken for another.
    fn look(&self, may_be_away: bool) {
        for at in 0..self.gateways.len() {
            for (cookie, right) in self.live.iter().map(|cookie| (cookie, 200)).chain([(&self.ended, 401)]) {
                let status = self.who(at, cookie);
                assert!(
                    status == right || may_be_away && status == 503,
                    "gateway {at}: {status}, not {right}"
                );
            }
        }
    }

    /// Waits until every gateway has recorded that it was without a store for a moment.
    fn follow(&self, refusal: &str) {
        for gateway in &self.gateways {
            wait::until("a record that it was followed", PATIENCE, || {
                (outages(gateway, refusal) > 0).then_some(())
            });
        }
    }

    /// Lets that happen while all ask, and goes on until another master has taken over.
    fn goes_through(&self, group: &mut Group, fault: Fault<'_>) -> Seen {
        let (done, asked, passed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        let going_on = || !done.load(Ordering::Relaxed);
        let so_many_more = |count: usize| {
            let until = asked.load(Ordering::Relaxed) + count;
            wait::until("requests", PATIENCE, || (asked.load(Ordering::Relaxed) >= until).then_some(()));
        };
        std::thread::scope(|scope| {
            let calling: Vec<_> = (0..CALLERS)
                .map(|_| {
                    scope.spawn(|| {
                        while going_on() {
                            passed.fetch_add(usize::from(self.is_let_through()), Ordering::Relaxed);
                            asked.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            let looking = scope.spawn(|| {
                while going_on() {
                    self.look(true);
                }
            });
            let ended = Asked(&done);
            so_many_more(50);
            let so_far = || [&asked, &passed].map(|count| count.load(Ordering::Relaxed));
            let before = so_far();
            match fault {
                Fault::Killed(master_of, part) => {
                    group.kill_master_of(master_of);
                    for state in ["degraded", "up"] {
                        for gateway in &self.gateways {
                            reaches(gateway, part, state);
                        }
                    }
                }
                Fault::Moved => {
                    group.move_slot_of(LIMITS);
                    self.follow("limits_away");
                }
                Fault::Relieved => {
                    let before = group.connections();
                    group.relieve_master();
                    self.follow("limits_away");
                    self.follow("sessions_away");
                    // Nobody is left behind where nothing is refused.
                    wait::until("all connections at the other", PATIENCE, || {
                        let now = group.connections();
                        let left = before.iter().zip(&now).all(|(before, now)| *before == 0 || *now == 0);
                        (left && now.iter().any(|count| *count > 0)).then_some(())
                    });
                }
            }
            for gateway in &self.gateways {
                both_reach(gateway, "up");
            }
            let after = so_far();
            so_many_more(50);
            drop(ended);
            looking.join().expect("every session was what it is");
            for caller in calling {
                caller.join().expect("every request was answered");
            }
            let [asked, lost] = [after[0] - before[0], after[1] - before[1]];
            let (alone, lost) = match fault {
                Fault::Killed(..) => (0, 0),
                Fault::Moved => (asked, 0),
                Fault::Relieved => (asked, lost),
            };
            Seen { let_through: passed.load(Ordering::Relaxed), alone, lost }
        })
    }
}

fn with_cookie(cookie: &str) -> tests::client::Request {
    request("GET", WHOAMI)
        .with("Cookie", cookie)
        .with("Sec-Fetch-Site", "same-origin")
        .with("Accept", "application/json")
}

/// Waits until a part of readiness says so.
fn reaches(production: &Production, part: &str, state: &str) {
    let told = || told_by_admin(production, "/readyz").json()["parts"][part].clone();
    let reached = wait::within(PATIENCE, || (told()["state"] == state).then_some(()));
    assert!(reached.is_some(), "{part} is not {state}: {}", told());
}

fn both_reach(production: &Production, state: &str) {
    for part in ["limits", "sessions"] {
        reaches(production, part, state);
    }
}

/// How often its records say that a store went away.
fn outages(production: &Production, refusal: &str) -> usize {
    let records = production.audit().records();
    records.iter().filter(|record: &&Value| record["decision"]["refusal"] == refusal).count()
}

/// Lets that happen to masters under load, one after the other. Lines besides are those that have replicas waited for.
fn holds(mut group: Group, more: &str, faults: &[Fault<'_>]) {
    let world = World::start(&group, more);
    let begun = Instant::now();
    let (mut let_through, mut alone, mut lost) = (0, 0, 0);
    for fault in faults {
        let seen = world.goes_through(&mut group, *fault);
        let_through += seen.let_through;
        (alone, lost) = (alone + seen.alone, lost + seen.lost);
        world.look(false);
    }
    let gateway = &world.gateways[0];
    let told =
        |result: &str| metric(gateway, &format!("cedargate_limits_redis_total{{result=\"{result}\"}}"));
    // What is left is taken, until one is refused by the store: then all of it was. One that it was late for, as on a busy
    // machine, may have been counted here alone, and there as well.
    let unanswered = || told("late") + told("failed") + told("away");
    let first = unanswered();
    let mut before = first;
    wait::until("a refusal by the store", 3 * PATIENCE, || {
        let status = world.asks();
        let_through += usize::from(status == 200);
        let last = before;
        if status == 429 {
            before = unanswered();
        }
        (status == 429 && before == last).then_some(())
    });
    let unsure = usize::try_from(before - first).expect("a count");
    (alone, lost) = (alone + unsure, lost + unsure);
    let regained = usize::try_from(begun.elapsed().as_secs()).expect("seconds") * QUOTA / 3_600 + 1;
    let outages = wait::until("a record of each outage", PATIENCE, || {
        Some(outages(gateway, "limits_away")).filter(|count| *count >= 1)
    });
    // What was under way when one was killed may be counted twice for one, or once for two.
    let under_way = CALLERS * outages;
    assert!(
        (QUOTA.saturating_sub(under_way + alone)..=QUOTA + under_way + regained + lost)
            .contains(&let_through),
        "{let_through}, {outages} outages, {regained} regained, {alone} counted alone and {lost} lost at most"
    );
    // Nobody waited for a master that was gone, but each caller three times at most, and whoever was on its way to it then.
    assert_eq!(
        metric(gateway, "cedargate_limits_redis_seconds_count"),
        told("answered") + told("failed") + told("late")
    );
    let waited = 3 * CALLERS + CALLERS - 1;
    assert!(told("late") + told("failed") <= (waited * outages) as u64, "late or failed");
    for gateway in &world.gateways {
        both_reach(gateway, "up");
    }
    if !more.is_empty() {
        let signing_in = || signing_in(gateway, "ada").status;
        if faults.iter().any(|fault| matches!(fault, Fault::Relieved)) {
            // Sentinels make a replica of it when it has gone on as a master for ten seconds.
            wait::until("a replica that has a sign-in", 3 * PATIENCE, || (signing_in() < 400).then_some(()));
        } else {
            // What has taken over has no replica: who signs in is refused, and nobody is signed out by it.
            assert_eq!(signing_in(), 503);
        }
        world.look(false);
    }
}

#[test]
fn a_master_that_is_killed_is_followed_by_the_one_that_its_sentinels_name() {
    holds(Group::start(Kind::Sentinels), REPLICATED, &[Fault::Killed(SESSIONS, "sessions")]);
}

#[test]
fn a_master_that_is_relieved_is_left_though_it_is_still_there() {
    holds(Group::start(Kind::Sentinels), REPLICATED, &[Fault::Relieved]);
}

#[test]
fn a_master_is_followed_over_tls() {
    holds(Group::encrypted("127.0.0.1"), REPLICATED, &[Fault::Killed(SESSIONS, "sessions")]);
}

#[test]
fn threat_14_over_tls_sentinels_are_who_their_certificate_says() {
    let (upstream, group) = (Upstream::start(), Group::encrypted("another.example"));
    let lines = group.lines_of("limits.redis");
    let gateways = alike(1, upstream.address(), &lines, &group.passwords());
    let _process = gateways[0].start();
    limits::reaches(&gateways[0], "degraded", "no sentinel or node that is configured says where it is");
    assert_eq!(group.connections(), [0, 0], "nobody was asked whom they name");
}

#[test]
fn limits_that_move_to_another_node_of_a_cluster_are_followed_and_nothing_of_them_is_lost() {
    holds(Group::start(Kind::Cluster), "", &[Fault::Moved]);
}

#[test]
fn a_node_of_a_cluster_that_is_killed_is_followed_by_its_replica() {
    holds(
        Group::start(Kind::Cluster),
        "",
        &[Fault::Killed(LIMITS, "limits"), Fault::Killed(SESSIONS, "sessions")],
    );
}
