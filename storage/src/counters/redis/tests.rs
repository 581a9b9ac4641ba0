//! What the shared counters do beside the contract: how they decide, and how they go on without their store.

mod behind;
mod fleet;
mod late;
mod leases;
mod left;
mod script;
mod stalls;
mod sums;
mod swapped;
mod waits;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::limit::{Left, Rate};
use engine::time::UnixMillis;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::testing::{reaches, settings, tended};
use super::*;
use crate::counters::{Counters, Take, WhenAway};
use crate::redis::RedisAddress;
use crate::redis::server::Server;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const TEN: Rate = Rate { count: 10, period_ms: 3_600_000 };

fn one(rate: Rate) -> [Take<'static>; 1] {
    [Take::new(LimitKey::everybody("all"), rate)]
}

async fn admitted(counters: &Counters, takes: &[Take<'_>], asked: u32) -> u32 {
    let mut count = 0;
    for _ in 0..asked {
        count += u32::from(counters.take(takes, NOW).await == Outcome::Admitted);
    }
    count
}

/// What became of the questions so far.
type Seen = Arc<Mutex<Vec<Answered>>>;

fn seeing() -> (Seen, Observer) {
    let seen = Seen::default();
    let told = seen.clone();
    (seen, Box::new(move |answered, _| told.lock().unwrap().push(answered)))
}

fn up(standings: &Standings) -> bool {
    standings.now == Standing::Up
}

fn away(standings: &Standings) -> bool {
    matches!(standings.now, Standing::Away(_))
}

/// What is said to a server, one after the other.
type Words = &'static [&'static [&'static str]];

#[tokio::test]
async fn gateways_that_share_a_store_share_the_limit() {
    let server = Server::start();
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(server.counters(|settings| settings.given_time = true).await);
    }
    let hundred = Rate { count: 100, period_ms: 60_000 };
    // At the same moment, and for a window once more at the last one before anything is forgotten.
    for (sliding, at, expected) in [(false, 0, 100), (true, 0, 100), (true, 62_999, 0), (true, 63_000, 100)] {
        let asking: Vec<_> = (0..300_usize)
            .map(|number| {
                let gateway = gateways[number % 3].clone();
                let takes = [Take::new(LimitKey::everybody("all").sliding(sliding), hundred)];
                tokio::spawn(async move { gateway.take(&takes, NOW.plus(at)).await == Outcome::Admitted })
            })
            .collect();
        let mut admitted = 0;
        for asked in asking {
            admitted += u32::from(asked.await.unwrap());
        }
        assert_eq!(admitted, expected, "sliding: {sliding}, after {at} ms");
    }
}

#[tokio::test]
async fn the_servers_own_time_counts_and_a_state_ends_with_it() {
    let server = Server::start();
    let counters = server.counters(|_| {}).await;
    // What the caller believes the time to be is years off, and means nothing.
    assert_eq!(admitted(&counters, &one(TEN), 12).await, 10);
    let Outcome::Refused { retry_after_ms, .. } = counters.take(&one(TEN), NOW).await else {
        panic!("the limit is spent")
    };
    assert!((1..=360_000).contains(&retry_after_ms), "{retry_after_ms}");
    let redis::Value::Int(left) = server.say(&["PTTL", "cedargate:{all}:all"]).await else {
        panic!("a number")
    };
    assert!((1..=3_600_001).contains(&left), "{left}");
}

#[tokio::test]
async fn a_state_that_cannot_be_read_counts_as_spent_and_ends() {
    let server = Server::start();
    let counters = server.counters(|settings| settings.given_time = true).await;
    for put in [
        &["SET", "cedargate:{all}:all", "open sesame"][..],
        &["SET", "cedargate:{all}:all", ""],
        &["SET", "cedargate:{all}:all", "-1.000000"],
        &["SET", "cedargate:{all}:all", "w1:0:"],
        &["LPUSH", "cedargate:{all}:all", "x"],
    ] {
        server.say(&["DEL", "cedargate:{all}:all"]).await;
        server.say(put).await;
        assert_eq!(
            counters.take(&one(TEN), NOW).await,
            Outcome::Refused { index: 0, retry_after_ms: 360_001 },
            "{put:?}"
        );
        assert_eq!(counters.take(&one(TEN), NOW.plus(360_001)).await, Outcome::Admitted, "{put:?}");
    }
    let window = [Take::new(LimitKey::everybody("all").sliding(true), TEN)];
    for text in ["", "open sesame", "1.000000", "w180000:1", "w0:x:1", "w0:1:1"] {
        server.say(&["SET", "cedargate:{all}:all:sliding", text]).await;
        let refused = Outcome::Refused { index: 0, retry_after_ms: 21 * 180_000 };
        assert_eq!(counters.take(&window, NOW).await, refused, "{text}");
        assert_eq!(counters.take(&window, NOW.plus(21 * 180_000)).await, Outcome::Admitted, "{text}");
    }
    assert!(up(&counters.standing().unwrap().borrow()), "and it is no reason to go without the store");
}

#[tokio::test]
async fn without_the_store_each_limit_does_as_it_says() {
    let mut server = Server::start();
    server.kill();
    let counters = tended(RedisSettings { gateways: 4, ..server.settings() }, Box::new(|_, _| {}));
    assert_eq!(reaches(&counters, away).await.outages, 1);
    let take = |limit, away| Take::new(LimitKey::everybody(limit), TEN).when_away(away);
    let admitted = async |takes: &[Take<'_>]| admitted(&counters, takes, 30).await;
    assert_eq!(admitted(&[take("local", WhenAway::Local)]).await, 2, "a fourth of ten");
    assert_eq!(admitted(&[take("open", WhenAway::Open)]).await, 30);
    assert_eq!(admitted(&[take("closed", WhenAway::Closed)]).await, 0);
    assert_eq!(
        counters.take(&[take("closed", WhenAway::Closed)], NOW).await,
        Outcome::Away,
        "which is no word about the caller"
    );
    let mixed = [take("open", WhenAway::Open), take("other", WhenAway::Local)];
    assert_eq!(admitted(&mixed).await, 2);
    assert_eq!(
        counters.take(&mixed, NOW).await,
        Outcome::Refused { index: 1, retry_after_ms: 1_440_000 },
        "the one that refuses is named by its place in the request"
    );
    let closed = [take("third", WhenAway::Local), take("closed", WhenAway::Closed)];
    assert_eq!(admitted(&closed).await, 0);
    assert_eq!(admitted(&[take("third", WhenAway::Local)]).await, 2, "what is closed spends nothing else");
}

#[tokio::test]
async fn without_the_store_a_look_says_what_is_held_here_and_a_reset_forgets_that_alone() {
    let mut server = Server::start();
    let counters = server
        .counters(|settings| {
            settings.given_time = true;
            settings.gateways = 2;
        })
        .await;
    let limits = [WhenAway::Local, WhenAway::Open, WhenAway::Closed];
    let takes = ["all", "open", "closed"].map(|limit| Take::new(LimitKey::everybody(limit), TEN));
    let takes: Vec<Take<'_>> = takes.iter().zip(limits).map(|(take, away)| take.when_away(away)).collect();
    assert_eq!(admitted(&counters, &takes, 4).await, 4);
    server.kill();
    // Whether it is found out by a request, a trial or this look is the same to whoever looks.
    let part = |count, next_ms| {
        // A half of the limit, of which the store has last said that four of ten are spent.
        Stands::Counted(Left { count, of: 5, next_ms, full_ms: 4 * 360_000 })
    };
    let mut looked = counters.look(&takes, NOW).await;
    assert!(looked.away.take().is_some());
    assert_eq!(looked.limits, [part(3, 0), Stands::Open, Stands::Closed]);
    reaches(&counters, away).await;
    assert!(counters.reset(&LimitKey::everybody("all")).await.is_err(), "the store was not told");
    assert_eq!(admitted(&counters, &takes[..1], 20).await, 5, "and its part is whole again here");
    server.restart();
    reaches(&counters, up).await;
    let looked = counters.look(&takes[..1], NOW).await;
    let spent = Left { count: 0, of: 10, next_ms: 360_000, full_ms: 3_600_000 };
    assert_eq!(looked, Looked { limits: vec![Stands::Counted(spent)], away: None });
    counters.reset(&LimitKey::everybody("all")).await.unwrap();
    assert_eq!(admitted(&counters, &takes[..1], 20).await, 10);
}

#[tokio::test]
async fn an_outage_gives_nobody_a_second_quota() {
    let mut server = Server::start();
    let change = |settings: &mut RedisSettings| {
        settings.given_time = true;
        settings.gateways = 2;
    };
    let (mine, other) = (server.counters(change).await, server.counters(change).await);
    let outages = mine.standing().unwrap().borrow().outages;
    assert_eq!(admitted(&mine, &one(TEN), 4).await, 4);
    server.kill();
    reaches(&mine, away).await;
    reaches(&other, away).await;
    // Six are left of ten, and half of them are this gateway's.
    let known = |away| mine.known(&one(TEN)[0].when_away(away), NOW).map(|left| (left.count, left.of));
    assert_eq!(known(WhenAway::Local), Some((3, 5)));
    assert_eq!((known(WhenAway::Open), known(WhenAway::Closed)), (None, None), "nothing is counted");
    assert_eq!(admitted(&mine, &one(TEN), 20).await, 3);
    // It comes back with nothing of what it knew.
    server.restart();
    reaches(&mine, up).await;
    reaches(&other, up).await;
    assert_eq!(admitted(&other, &one(TEN), 20).await, 0, "the store was told before anybody asked it again");
    assert_eq!(admitted(&mine, &one(TEN), 20).await, 0);
    let later = NOW.plus(360_000);
    assert_eq!(mine.take(&one(TEN), later).await, Outcome::Admitted, "and it recovers as it would have");
    assert_eq!(other.take(&one(TEN), later).await, Outcome::Refused { index: 0, retry_after_ms: 360_000 });
    assert_eq!(mine.standing().unwrap().borrow().outages, outages + 1);
}

#[tokio::test]
async fn an_outage_gives_nobody_a_second_window() {
    let mut server = Server::start();
    let change = |settings: &mut RedisSettings| {
        settings.given_time = true;
        settings.gateways = 2;
    };
    let (mine, other) = (server.counters(change).await, server.counters(change).await);
    let takes = [Take::new(LimitKey::everybody("all").sliding(true), TEN)];
    assert_eq!(admitted(&mine, &takes, 4).await, 4);
    server.kill();
    reaches(&mine, away).await;
    reaches(&other, away).await;
    let part = Left { count: 3, of: 5, next_ms: 0, full_ms: 21 * 180_000 };
    assert_eq!(mine.look(&takes, NOW).await.limits, [Stands::Counted(part)]);
    assert_eq!(
        admitted(&mine, &takes, 20).await,
        3,
        "six are left of ten, and half of them are this gateway's"
    );
    // It comes back with nothing of what it knew.
    server.restart();
    reaches(&mine, up).await;
    reaches(&other, up).await;
    assert_eq!(admitted(&other, &takes, 20).await, 0, "the store was told before anybody asked it again");
    assert_eq!(admitted(&mine, &takes, 20).await, 0);
    for (at, count) in [(3_600_000, 0), (21 * 180_000 - 1, 0), (21 * 180_000, 10)] {
        let mut admitted = 0;
        for _ in 0..20 {
            admitted += u32::from(mine.take(&takes, NOW.plus(at)).await == Outcome::Admitted);
        }
        assert_eq!(admitted, count, "{at}");
    }
    // A limit that is smaller than the number of gateways admits one at each.
    let one = [Take::new(LimitKey::everybody("one").sliding(true), Rate { count: 1, ..TEN })];
    server.kill();
    reaches(&mine, away).await;
    assert_eq!(admitted(&mine, &one, 5).await, 1);
}

#[tokio::test]
async fn what_was_counted_without_it_is_merged_even_by_a_request_that_is_refused() {
    let mut server = Server::start();
    server.kill();
    let settings = RedisSettings { given_time: true, ..server.settings() };
    let counters = tended(settings, Box::new(|_, _| {}));
    reaches(&counters, away).await;
    assert_eq!(admitted(&counters, &one(TEN), 5).await, 5);
    server.restart();
    reaches(&counters, up).await;
    let wide = Take::new(LimitKey::everybody("all"), TEN).costing(9);
    assert_eq!(counters.take(&[wide], NOW).await, Outcome::Refused { index: 0, retry_after_ms: 4 * 360_000 });
    let fresh = server.counters(|settings| settings.given_time = true).await;
    assert_eq!(admitted(&fresh, &one(TEN), 20).await, 5);
}

#[tokio::test]
async fn a_store_is_asked_once_whatever_is_tried_out_and_without_it_the_same_is_spent() {
    let mut server = Server::start();
    let (seen, observer) = seeing();
    let counters = tended(RedisSettings { given_time: true, ..server.settings() }, observer);
    reaches(&counters, up).await;
    let of = |limit, count| Take::new(LimitKey::everybody(limit), Rate { count, ..TEN });
    let takes = [of("real", 3), of("one", 1).tried(), of("two", 2).tried()];
    let over = async || counters.take_all(&takes, NOW).await.over;
    assert!(over().await.is_empty());
    assert_eq!(over().await, [1]);
    assert_eq!(*seen.lock().unwrap(), [Answered::Answered; 2]);
    server.kill();
    reaches(&counters, away).await;
    assert_eq!(over().await, [1, 2]);
    assert!(matches!(counters.take(&takes, NOW).await, Outcome::Refused { index: 0, .. }));
    // What is closed without the store would have refused, and what is open would not.
    let takes = [of("four", 4), of("five", 5).tried().when_away(WhenAway::Closed)];
    let taken = counters.take_all(&takes, NOW).await;
    assert_eq!((taken.outcome, taken.over), (Outcome::Admitted, vec![1]));
    let takes = [of("four", 4), of("one", 1).tried().when_away(WhenAway::Open)];
    assert!(counters.take_all(&takes, NOW).await.over.is_empty());
}

#[tokio::test]
async fn what_is_left_without_the_store_is_told_in_what_a_limit_counts_whatever_a_request_costs() {
    let mut server = Server::start();
    let change = |settings: &mut RedisSettings| (settings.given_time, settings.gateways) = (true, 2);
    let counters = server.counters(change).await;
    server.kill();
    reaches(&counters, away).await;
    for sliding in [false, true] {
        let key = LimitKey::everybody("all").sliding(sliding);
        let dear = Take::new(key, Rate { count: 100, ..TEN }).costing(20);
        let left = || counters.known(&dear, NOW).map(|left| (left.count, left.of));
        assert_eq!(left(), Some((50, 50)), "a half, sliding: {sliding}");
        assert_eq!(admitted(&counters, &[dear], 1).await, 1, "sliding: {sliding}");
        assert_eq!(left(), Some((30, 50)), "sliding: {sliding}");
        assert_eq!(admitted(&counters, &[dear], 5).await, 1, "sliding: {sliding}");
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_waited_for_three_times_and_asked_no_more() {
    let server = Server::start();
    let (seen, observer) = seeing();
    let budget = Duration::from_secs(1);
    let counters = tended(RedisSettings { budget, ..server.settings() }, observer);
    let outages = reaches(&counters, up).await.outages;
    assert_eq!(admitted(&counters, &one(TEN), 1).await, 1);
    seen.lock().unwrap().clear();
    server.signal(Signal::STOP);
    // Each is answered: by the store's last word, and by what is counted here.
    assert_eq!(admitted(&counters, &one(TEN), 20).await, 9);
    let answered: Vec<Answered> = seen.lock().unwrap().clone();
    // Our own trials come too late as well, and count.
    let late = answered.iter().take_while(|answered| **answered == Answered::Late).count();
    assert!((1..=3).contains(&late), "{answered:?}");
    assert!(answered[late..].iter().all(|answered| *answered == Answered::Away), "{answered:?}");
    assert_eq!(reaches(&counters, away).await.outages, outages + 1);
    server.signal(Signal::CONT);
    reaches(&counters, up).await;
    assert_eq!(admitted(&counters, &one(TEN), 20).await, 0, "and no second quota");
}

#[tokio::test]
async fn what_a_request_waits_ends_with_its_budget() {
    let server = Server::start();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let counters = tended(server.settings(), Box::new(move |_, waited| told.lock().unwrap().push(waited)));
    reaches(&counters, up).await;
    assert_eq!(admitted(&counters, &one(TEN), 1).await, 1);
    server.signal(Signal::STOP);
    // From here on it is later only when nothing is left to do: what a busy machine adds is not ours.
    tokio::time::pause();
    assert_eq!(admitted(&counters, &one(TEN), 5).await, 5);
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().flatten().all(|waited| waited.overrun.is_none()), "{seen:?}");
    let late: Vec<Duration> = seen[1..].iter().map_while(|waited| Some((*waited)?.time)).collect();
    assert!((1..=3).contains(&late.len()), "{seen:?}");
    let budget = server.settings().budget;
    assert!(late.iter().all(|time| (budget - Duration::from_millis(2)..=budget).contains(time)), "{late:?}");
    assert!(seen[1 + late.len()..].iter().all(Option::is_none), "nobody waits for it any more: {seen:?}");
}

#[tokio::test]
async fn every_way_to_refuse_is_told_and_none_lets_more_through() {
    let server = Server::start();
    let counters = server.counters(|settings| settings.gateways = 2).await;
    let faults: [(Words, Words, Fault); 4] = [
        (
            &[&["CONFIG", "SET", "maxmemory", "1"]],
            &[&["CONFIG", "SET", "maxmemory", "0"]],
            Fault::Refused("OOM"),
        ),
        (&[&["REPLICAOF", "127.0.0.1", "1"]], &[&["REPLICAOF", "NO", "ONE"]], Fault::Refused("READONLY")),
        (
            &[&["ACL", "SETUSER", "cedargate", "resetkeys"]],
            &[&["ACL", "SETUSER", "cedargate", "~cedargate:*"]],
            Fault::Refused("NOPERM"),
        ),
        (
            &[
                &["ACL", "SETUSER", "cedargate", "resetpass", ">another"],
                &["CLIENT", "KILL", "USER", "cedargate"],
            ],
            &[&["ACL", "SETUSER", "cedargate", "resetpass", ">the-password-of-a-test"]],
            Fault::Login,
        ),
    ];
    let outages = counters.standing().unwrap().borrow().outages;
    for (number, (breaks, mends, fault)) in (1_u64..).zip(faults) {
        let limit = number.to_string();
        let takes = [Take::new(LimitKey::everybody(&limit), TEN)];
        for words in breaks {
            server.say(words).await;
        }
        assert_eq!(admitted(&counters, &takes, 20).await, 5, "{fault}");
        let standings = reaches(&counters, |standings| standings.now == Standing::Away(fault)).await;
        assert_eq!(standings.outages, outages + number, "{fault}");
        for words in mends {
            server.say(words).await;
        }
        reaches(&counters, up).await;
        let left = admitted(&counters, &takes, 20).await;
        assert_eq!(left, 0, "{fault}: no second quota");
    }
}

#[tokio::test]
async fn a_store_that_is_none_is_never_taken_for_one() {
    for (says, fault) in [
        (&b""[..], Fault::Unreachable),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Fault::Nonsense),
        (b"+OK\r\n", Fault::Nonsense),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let speaking = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                // The same to whatever is asked; nothing is the end.
                while !says.is_empty() && stream.read(&mut asked).await.is_ok_and(|count| count > 0) {
                    stream.write_all(says).await.ok();
                }
            }
        });
        let address = RedisAddress::Tcp { host: address.ip().to_string(), port: address.port(), tls: None };
        let counters = tended(settings(address), Box::new(|_, _| {}));
        let standings = reaches(&counters, away).await;
        assert_eq!(standings.last, Some(fault), "{:?}", String::from_utf8_lossy(says));
        assert_eq!(admitted(&counters, &one(TEN), 20).await, 10);
        speaking.abort();
    }
}
