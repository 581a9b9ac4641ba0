//! What every adapter of counters must do.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::redis::server::Server;

/// The adapter that takes some of a limit ahead.
const LEASED: &str = "redis with leases";
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const PER_MINUTE: Rate = Rate { count: 100, period_ms: 60_000 };
const PER_HOUR: Rate = Rate { count: 10, period_ms: 3_600_000 };

/// Counters that a test tries, and the server that they need.
#[derive(Clone)]
struct Tried {
    name: &'static str,
    counters: Arc<Counters>,
    _server: Option<Arc<Server>>,
}

async fn adapters() -> Vec<Tried> {
    let server = Server::start();
    let memory = Arc::new(Counters::memory(MEMORY_BYTES_DEFAULT));
    let redis = server.counters(|settings| settings.given_time = true).await;
    let other = Server::start();
    let leased = other.counters(|settings| {
        settings.given_time = true;
        settings.leases = Some(LeaseSettings { percent: 10, idle: Duration::from_secs(60) });
    });
    let leased = leased.await;
    let nodes = Server::shared_cluster().await;
    let cluster = nodes.counters(|settings| settings.given_time = true).await;
    vec![
        Tried { name: "memory", counters: memory, _server: None },
        Tried { name: "redis", counters: redis, _server: Some(Arc::new(server)) },
        Tried { name: LEASED, counters: leased, _server: Some(Arc::new(other)) },
        Tried { name: "a cluster", counters: cluster, _server: Some(nodes) },
    ]
}

fn address(text: &str) -> LimitKey<'static> {
    LimitKey::address("ip", text.parse::<IpAddr>().unwrap())
}

fn one(key: LimitKey<'_>, rate: Rate) -> [Take<'_>; 1] {
    [Take::new(key, rate)]
}

/// How many of `asked` are admitted.
async fn admitted(counters: &Counters, takes: &[Take<'_>], asked: u32, now: UnixMillis) -> u32 {
    let mut count = 0;
    for _ in 0..asked {
        count += u32::from(counters.take(takes, now).await == Outcome::Admitted);
    }
    count
}

#[tokio::test]
async fn a_burst_is_admitted_and_then_one_each_interval() {
    for Tried { name, counters, _server } in adapters().await {
        let takes = one(address("192.0.2.1"), PER_MINUTE);
        assert_eq!(admitted(&counters, &takes, 150, NOW).await, 100, "{name}: the burst");
        let refused = Outcome::Refused { index: 0, retry_after_ms: 600 };
        assert_eq!(counters.take(&takes, NOW).await, refused, "{name}: exact");
        assert_eq!(admitted(&counters, &takes, 2, NOW.plus(599)).await, 0, "{name}: a moment too early");
        assert_eq!(admitted(&counters, &takes, 2, NOW.plus(600)).await, 1, "{name}: in time");
        assert_eq!(admitted(&counters, &takes, 150, NOW.plus(120_000)).await, 100, "{name}: recovered");
    }
}

#[tokio::test]
async fn subjects_and_limits_are_counted_apart_and_a_network_as_one() {
    for Tried { name, counters, _server } in adapters().await {
        let user = Uuid::from_u128(7);
        let spend = [
            ("one address", address("2001:db8::1"), 10),
            ("its neighbour in the same network", address("2001:db8::ffff"), 0),
            ("the next network", address("2001:db8:0:1::1"), 10),
            ("another limit", LimitKey::address("files", "2001:db8::1".parse().unwrap()), 10),
            ("a principal", LimitKey::principal("ip", user), 10),
            ("the same principal", LimitKey::principal("ip", user), 0),
            ("everybody", LimitKey::everybody("ip"), 10),
        ];
        for (case, key, expected) in spend {
            let count = admitted(&counters, &one(key, PER_HOUR), 11, NOW).await;
            assert_eq!(count, expected, "{name}: {case}");
        }
    }
}

#[tokio::test]
async fn a_request_takes_from_all_its_limits_or_from_none() {
    for Tried { name, counters, _server } in adapters().await {
        let (wide, narrow) = (address("192.0.2.1"), LimitKey::principal("user", Uuid::from_u128(1)));
        let both = [Take::new(wide, PER_MINUTE), Take::new(narrow, PER_HOUR)];
        assert_eq!(admitted(&counters, &both, 50, NOW).await, 10, "{name}: the narrow one decides");
        let refused = counters.take(&both, NOW).await;
        assert_eq!(refused, Outcome::Refused { index: 1, retry_after_ms: 360_000 }, "{name}");
        let rest = admitted(&counters, &one(wide, PER_MINUTE), 150, NOW).await;
        assert_eq!(rest, 90, "{name}: refused requests spent nothing of the wide one");
        let tightest = counters.take(&both, NOW).await;
        assert_eq!(tightest, Outcome::Refused { index: 1, retry_after_ms: 360_000 }, "{name}: of both");
    }
}

#[tokio::test]
async fn a_request_takes_all_that_it_costs_or_nothing() {
    for (Tried { name, counters, _server }, sliding) in
        adapters().await.into_iter().flat_map(|tried| [false, true].map(|sliding| (tried.clone(), sliding)))
    {
        let fifty = Rate { count: 50, ..PER_HOUR };
        let key = address("192.0.2.9").sliding(sliding);
        let (dear, cheap) = (one(key, fifty).map(|take| take.costing(20)), one(key, fifty));
        assert_eq!(admitted(&counters, &dear, 5, NOW).await, 2, "{name}, sliding: {sliding}");
        let Outcome::Refused { index: 0, retry_after_ms } = counters.take(&dear, NOW).await else {
            panic!("{name}, sliding: {sliding}: 10 are not 20")
        };
        // Ten more of 50 an hour; or all that is in the newest part.
        let wait_ms = if sliding { 21 * 180_000 } else { 10 * 72_000 };
        assert_eq!(retry_after_ms, wait_ms, "{name}, sliding: {sliding}");
        let known = counters.known(&dear[0], NOW).map(|left| left.count);
        assert_eq!(known, Some(10), "{name}, sliding: {sliding}");
        assert_eq!(admitted(&counters, &cheap, 9, NOW).await, 9, "{name}, sliding: {sliding}");
        assert_eq!(admitted(&counters, &dear, 1, NOW).await, 0, "{name}, sliding: {sliding}");
        assert_eq!(admitted(&counters, &cheap, 5, NOW).await, 1, "{name}, sliding: {sliding}");
    }
}

#[tokio::test]
async fn what_can_never_be_admitted_says_so_and_a_clock_that_goes_back_harms_little() {
    for Tried { name, counters, _server } in adapters().await {
        let takes = [Take::new(address("192.0.2.1"), PER_HOUR).costing(11)];
        let never = Outcome::Refused { index: 0, retry_after_ms: u64::MAX };
        assert_eq!(counters.take(&takes, NOW).await, never, "{name}");

        let takes = one(address("192.0.2.2"), PER_MINUTE);
        assert_eq!(admitted(&counters, &takes, 100, NOW).await, 100, "{name}");
        let before = UnixMillis(NOW.0 - 24 * 3_600_000);
        match counters.take(&takes, before).await {
            Outcome::Admitted | Outcome::Away => panic!("{name}: a clock that goes back frees nobody"),
            Outcome::Refused { retry_after_ms, .. } => assert!(retry_after_ms <= 601, "{name}"),
        }
    }
}

#[tokio::test]
async fn no_bound_is_exceeded_however_many_ask_at_once() {
    for (Tried { name, counters, _server }, sliding) in
        adapters().await.into_iter().flat_map(|tried| [false, true].map(|sliding| (tried.clone(), sliding)))
    {
        let asking: Vec<_> = (0..200_u32)
            .map(|number| {
                let counters = counters.clone();
                tokio::spawn(async move {
                    let user = LimitKey::principal("user", Uuid::from_u128(u128::from(number % 2)));
                    let all = LimitKey::everybody("all").sliding(sliding);
                    let takes = [Take::new(user, PER_MINUTE), Take::new(all, PER_HOUR)];
                    counters.take(&takes, NOW).await == Outcome::Admitted
                })
            })
            .collect();
        let mut admitted = 0;
        for asked in asking {
            admitted += u32::from(asked.await.unwrap());
        }
        // One that was leased as the last refused is nobody's.
        let least = if name == LEASED { 9 } else { 10 };
        assert!((least..=10).contains(&admitted), "{name}, sliding: {sliding}: {admitted}");
    }
}

#[tokio::test]
async fn a_look_takes_nothing_and_a_reset_gives_all_of_it_back_to_one_alone() {
    for Tried { name, counters, _server } in adapters().await {
        let [mine, theirs] = ["192.0.2.1", "192.0.2.2"].map(|text| Take::new(address(text), PER_MINUTE));
        let narrow = Take::new(LimitKey::principal("user", Uuid::from_u128(1)), PER_HOUR);
        let all = [mine, narrow, theirs];
        let left = |count, of, next_ms, full_ms| Stands::Counted(Left { count, of, next_ms, full_ms });
        let untouched = left(100, 100, 0, 0);
        let check = async |now, expected: [Stands; 3], when: &str| {
            // Twice: looking changes nothing.
            for _ in 0..2 {
                let looked = counters.look(&all, now).await;
                assert_eq!(looked, Looked { limits: expected.to_vec(), away: None }, "{name}: {when}");
            }
        };
        check(NOW, [untouched, left(10, 10, 0, 0), untouched], "untouched").await;
        assert_eq!(admitted(&counters, &[theirs], 1, NOW).await, 1, "{name}");
        assert_eq!(admitted(&counters, &[mine, narrow], 20, NOW).await, 10, "{name}");
        let theirs_left = left(99, 100, 0, 600);
        let spent = left(0, 10, 360_000, 3_600_000);
        check(NOW, [left(90, 100, 0, 6_000), spent, theirs_left], "spent").await;
        let later = [left(90, 100, 0, 5_999), left(0, 10, 359_999, 3_599_999), left(99, 100, 0, 599)];
        check(NOW.plus(1), later, "a moment later").await;
        counters.reset(&narrow.key).await.unwrap();
        check(NOW, [left(90, 100, 0, 6_000), left(10, 10, 0, 0), theirs_left], "reset").await;
        assert_eq!(admitted(&counters, &[mine, narrow], 20, NOW).await, 10, "{name}");
        // What nobody has taken from is reset to the same.
        counters.reset(&address("192.0.2.3")).await.unwrap();
        assert_eq!(
            admitted(&counters, &one(address("192.0.2.3"), PER_MINUTE), 150, NOW).await,
            100,
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_is_left_is_known_after_each_take_without_asking() {
    for Tried { name, counters, _server } in adapters().await {
        for sliding in [false, true] {
            let take = Take::new(address("192.0.2.1").sliding(sliding), PER_MINUTE);
            let left = || counters.known(&take, NOW).map(|left| (left.count, left.of));
            assert_eq!(left(), Some((100, 100)), "{name}, sliding: {sliding}");
            for spent in 1..=100 {
                assert_eq!(counters.take(&[take], NOW).await, Outcome::Admitted, "{name}");
                assert_eq!(left(), Some((100 - spent, 100)), "{name}, sliding: {sliding}");
            }
            let next_ms = counters.known(&take, NOW).map(|left| left.next_ms);
            assert_eq!(next_ms, Some(if sliding { 63_000 } else { 600 }), "{name}");
        }
    }
}

#[tokio::test]
async fn a_window_admits_never_more_than_the_limit_in_any_period() {
    for Tried { name, counters, _server } in adapters().await {
        // A part of the minute is 3 s: what came now is forgotten after 63 s.
        let takes = one(address("192.0.2.1").sliding(true), PER_MINUTE);
        assert_eq!(admitted(&counters, &takes, 60, NOW).await, 60, "{name}");
        assert_eq!(admitted(&counters, &takes, 60, NOW.plus(30_000)).await, 40, "{name}: the rest of it");
        let refused = Outcome::Refused { index: 0, retry_after_ms: 33_000 };
        assert_eq!(counters.take(&takes, NOW.plus(30_000)).await, refused, "{name}");
        assert_eq!(admitted(&counters, &takes, 9, NOW.plus(62_999)).await, 0, "{name}: a moment too early");
        assert_eq!(admitted(&counters, &takes, 150, NOW.plus(63_000)).await, 60, "{name}: in time");
        let rate = one(address("192.0.2.1"), PER_MINUTE);
        assert_eq!(admitted(&counters, &rate, 150, NOW).await, 100, "{name}: a rate is a counter of its own");
        // Both kinds in one request are taken from together, or not at all.
        let narrow = LimitKey::principal("user", Uuid::from_u128(1)).sliding(true);
        let both = [Take::new(address("192.0.2.9"), PER_MINUTE), Take::new(narrow, PER_HOUR)];
        assert_eq!(admitted(&counters, &both, 50, NOW).await, 10, "{name}");
        let refused = Outcome::Refused { index: 1, retry_after_ms: 21 * 180_000 };
        assert_eq!(counters.take(&both, NOW).await, refused, "{name}");
        assert_eq!(admitted(&counters, &one(address("192.0.2.9"), PER_MINUTE), 150, NOW).await, 90, "{name}");
        let left = Left { count: 0, of: 10, next_ms: 21 * 180_000, full_ms: 21 * 180_000 };
        let looked = counters.look(&both[1..], NOW).await;
        assert_eq!(looked, Looked { limits: vec![Stands::Counted(left)], away: None }, "{name}");
        counters.reset(&narrow).await.unwrap();
        assert_eq!(admitted(&counters, &one(narrow, PER_HOUR), 20, NOW).await, 10, "{name}: reset");
        let twice = [Take::new(narrow, PER_HOUR), Take::new(narrow, PER_HOUR)];
        counters.reset(&narrow).await.unwrap();
        assert_eq!(admitted(&counters, &twice, 20, NOW).await, 5, "{name}: twice in one request");
    }
}

#[tokio::test]
async fn what_is_only_tried_out_is_spent_where_the_others_let_the_request_through_and_each_for_itself() {
    for Tried { name, counters, _server } in adapters().await {
        for sliding in [false, true] {
            let own = |limit, count| {
                let key = LimitKey::principal(limit, Uuid::from_u128(u128::from(sliding))).sliding(sliding);
                Take::new(key, Rate { count, ..PER_HOUR })
            };
            let takes = [own("real", 3), own("one", 1).tried(), own("two", 2).tried()];
            for over in [vec![], vec![1], vec![1, 2]] {
                let taken = Taken { outcome: Outcome::Admitted, left: 0, over };
                assert_eq!(counters.take_all(&takes, NOW).await, taken, "{name}, sliding: {sliding}");
            }
            let takes = [own("real", 3), own("three", 3).tried()];
            let taken = counters.take_all(&takes, NOW).await;
            assert!(matches!(taken.outcome, Outcome::Refused { index: 0, .. }), "{name}: {taken:?}");
            assert!(taken.over.is_empty(), "{name}");
            let Stands::Counted(left) = counters.look(&takes[1..], NOW).await.limits[0] else {
                panic!("{name}")
            };
            assert_eq!(left.count, 3, "{name}: who is refused spends nothing of it");
            // Where nothing else is asked.
            let alone = [own("one", 1).tried()];
            let taken = Taken { outcome: Outcome::Admitted, left: 0, over: vec![0] };
            assert_eq!(counters.take_all(&alone, NOW).await, taken, "{name}");
        }
    }
}

#[tokio::test]
async fn a_limit_that_becomes_another_is_spent_as_far_as_it_was() {
    let per_minute = Rate { period_ms: 60_000, ..PER_HOUR };
    for Tried { name, counters, _server } in adapters().await {
        for (number, (sliding, before, after, wait_ms)) in [
            (false, per_minute, PER_HOUR, 360_000),
            (true, per_minute, PER_HOUR, 21 * 180_000),
            (false, PER_HOUR, per_minute, 6_000),
            (true, PER_HOUR, per_minute, 63_000),
        ]
        .into_iter()
        .enumerate()
        {
            let case = format!("{name}, {before} to {after}, sliding: {sliding}");
            let key = LimitKey::principal("user", Uuid::from_u128(number as u128)).sliding(sliding);
            let before = Take::new(key, before).since(UnixMillis(0));
            assert_eq!(admitted(&counters, &[before], 20, NOW).await, 10, "{case}");
            let after = Take::new(key, after).since(NOW);
            let refused = Outcome::Refused { index: 0, retry_after_ms: wait_ms };
            assert_eq!(counters.take(&[after], NOW).await, refused, "{case}");
            let early = admitted(&counters, &[after], 5, NOW.plus(wait_ms - 1)).await;
            let back = if sliding { 5 } else { 1 };
            let in_time = admitted(&counters, &[after], 5, NOW.plus(wait_ms)).await;
            assert_eq!((early, in_time), (0, back), "{case}");
        }
    }
}

#[tokio::test]
async fn what_was_spent_comes_back_by_the_new_limit_since_it_is_the_new_one_whenever_somebody_asks() {
    let per_minute = Rate { period_ms: 60_000, ..PER_HOUR };
    for Tried { name, counters, _server } in adapters().await {
        let (rate, window) = (address("192.0.2.1"), address("192.0.2.1").sliding(true));
        for key in [rate, window] {
            let before = Take::new(key, PER_HOUR).since(UnixMillis(0));
            assert_eq!(admitted(&counters, &[before], 20, NOW).await, 10, "{name}");
        }
        // Twenty minutes later a third has come back to the rate; the window has forgotten nothing.
        let since = NOW.plus(1_200_000);
        let after = |key| [Take::new(key, per_minute).since(since)];
        assert_eq!(admitted(&counters, &after(rate), 20, since.plus(11_000)).await, 5, "{name}");
        assert_eq!(admitted(&counters, &after(window), 20, since.plus(62_999)).await, 0, "{name}");
        assert_eq!(admitted(&counters, &after(window), 20, since.plus(63_000)).await, 10, "{name}");
    }
}

#[tokio::test]
async fn who_was_under_way_when_a_limit_became_another_spends_its_part_and_frees_nobody() {
    for Tried { name, counters, _server } in adapters().await {
        for sliding in [false, true] {
            for (before, after) in [(60_000, 3_600_000), (3_600_000, 60_000)] {
                let case = format!("{name}, {before} to {after} ms, sliding: {sliding}");
                let key = LimitKey::principal(&case, Uuid::from_u128(1)).sliding(sliding);
                let of = |period_ms, since| [Take::new(key, Rate { period_ms, ..PER_HOUR }).since(since)];
                let (now, before) = (NOW.plus(1), of(before, UnixMillis(0)));
                let after = of(after, NOW);
                assert_eq!(admitted(&counters, &before, 3, NOW).await, 3, "{case}");
                let mut let_through = 3;
                for _ in 0..10 {
                    for takes in [&after, &before] {
                        let_through += u32::from(counters.take(takes, now).await == Outcome::Admitted);
                    }
                }
                // Rounding may cost one, and one that was leased as the last refused is nobody's.
                let least = if name == LEASED { 8 } else { 9 };
                assert!((least..=10).contains(&let_through), "{case}: {let_through}");
                assert!(matches!(counters.take(&after, now).await, Outcome::Refused { .. }), "{case}");
            }
        }
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_keeps_nobody_out_for_longer_than_a_period() {
    for Tried { name, counters, _server } in adapters().await {
        for sliding in [false, true] {
            let takes = one(address("192.0.2.1").sliding(sliding), PER_MINUTE);
            assert_eq!(admitted(&counters, &takes, 150, NOW).await, 100, "{name}");
            // Whoever is refused once is let in after a period, though the clock is a day behind what it was.
            let before = UnixMillis(NOW.0 - 24 * 3_600_000);
            let wait_ms = if sliding { 63_000 } else { 600 };
            match counters.take(&takes, before).await {
                Outcome::Refused { retry_after_ms, .. } => assert!(retry_after_ms <= wait_ms + 1, "{name}"),
                Outcome::Admitted | Outcome::Away => panic!("{name}: it frees nobody"),
            }
            let later = before.plus(wait_ms + 1);
            assert_eq!(counters.take(&takes, later).await, Outcome::Admitted, "{name}, sliding: {sliding}");
        }
    }
}
