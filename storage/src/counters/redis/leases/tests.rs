use engine::limit::Rate;

use super::*;
use crate::counters::LimitKey;

const HUNDRED: Rate = Rate { count: 100, period_ms: 60_000 };
const SETTINGS: LeaseSettings = LeaseSettings { percent: 10, idle: Duration::from_secs(1) };
/// The store's clock is elsewhere, and means nothing but where a part begins: 3,000 ms are a part, and 500 have passed.
const THERE: u64 = 1_800_000_000_500;

fn take(limit: &'static str) -> Take<'static> {
    Take::new(LimitKey::everybody(limit), HUNDRED)
}

/// A key by the length of its limit's name; windows are others.
fn hash(take: &Take<'_>) -> [u64; 2] {
    [take.key.limit().len() as u64, u64::from(take.key.sliding)]
}

/// Asks and is granted all: how many were asked for, and what went back.
fn granted(leases: &Leases, takes: &[Take<'_>], at: u64) -> Vec<Ahead> {
    let asking = leases.ask(takes, hash, at);
    let ahead: Vec<Ahead> = asking.ahead().iter().map(|(_, ahead)| *ahead).collect();
    let leased: Vec<u32> = ahead.iter().map(|ahead| ahead.lease).collect();
    asking.granted(takes, &leased, THERE);
    ahead
}

/// How many are spent before one is not.
fn spent(leases: &Leases, takes: &[Take<'_>], at: u64) -> u32 {
    (0..).find(|_| !leases.spend(takes, hash, at)).unwrap()
}

const fn back(count: u32) -> Option<Back> {
    Some(Back { granted_ms: THERE, count, rate: HUNDRED })
}

#[test]
fn a_key_that_is_asked_for_often_is_leased_more_and_more_up_to_its_share() {
    let leases = Leases::new(SETTINGS);
    let takes = [take("all")];
    for (asked, expected) in [0, 1, 2, 4, 8, 10, 10].into_iter().enumerate() {
        assert_eq!(granted(&leases, &takes, 0), [Ahead { lease: expected, back: None }], "{asked}");
        assert_eq!(spent(&leases, &takes, 999), expected, "{asked}: as many as were leased");
        assert_eq!(granted(&Leases::new(SETTINGS), &takes, 0)[0].lease, 0, "a cold key");
        // Touched at 999, so that it is not idle when it is asked for again.
    }
    assert_eq!(granted(&leases, &takes, 1_999), [Ahead::default()], "idle for a second: it begins anew");
    assert_eq!(granted(&leases, &takes, 1_999), [Ahead { lease: 1, back: None }]);
}

#[test]
fn a_limit_of_which_the_share_is_less_than_a_request_has_no_lease_and_neither_have_those_beside_it() {
    let check = |rate: Rate, sliding: bool, cost: u32, expected: bool| {
        let leases = Leases::new(SETTINGS);
        let take = Take::new(LimitKey::everybody("all").sliding(sliding), rate).costing(cost);
        assert_eq!(leases.serve(&[take]), expected, "{take:?}");
        let wide = Take::new(LimitKey::everybody("wide"), Rate { count: u32::MAX, period_ms: u64::MAX });
        assert_eq!(leases.serve(&[wide, take]), expected, "{take:?}");
    };
    let rate = |count, period_ms| Rate { count, period_ms };
    check(rate(10, 60_000), false, 1, true);
    check(rate(9, 60_000), false, 1, false);
    check(rate(100, 60_000), false, 10, true);
    check(rate(100, 60_000), false, 11, false);
    check(rate(100, 60_000), false, 0, false);
    check(rate(0, 60_000), false, 1, false);
    check(rate(100, 1_981), true, 1, true);
    check(rate(100, 1_980), true, 1, false);
    check(rate(100, 1_980), false, 1, true);
    assert!(!Leases::new(SETTINGS).serve(&[]));
    assert!(!Leases::new(LeaseSettings { percent: 0, ..SETTINGS }).serve(&[take("all")]));
}

#[test]
fn a_request_spends_from_all_its_leases_or_from_none() {
    let leases = Leases::new(SETTINGS);
    let (one, three) = (take("a"), take("bcd"));
    for _ in 0..3 {
        granted(&leases, &[three], 0);
        spent(&leases, &[three], 0);
    }
    assert_eq!(granted(&leases, &[three], 0)[0].lease, 4);
    granted(&leases, &[one], 0);
    assert_eq!(granted(&leases, &[one], 0)[0].lease, 1);
    assert_eq!(spent(&leases, &[three, one], 0), 1);
    assert_eq!(spent(&leases, &[three, one], 0), 0);
    assert_eq!(spent(&leases, &[three, take("unknown")], 0), 0);
    assert_eq!(spent(&leases, &[three, three], 0), 1, "twice in one request is twice");
    assert_eq!(spent(&leases, &[three], 0), 1, "and what was put back is there");
}

#[test]
fn what_is_put_back_does_not_come_into_another_lease() {
    let leases = Leases::new(SETTINGS);
    let all = take("all");
    granted(&leases, &[all], 0);
    granted(&leases, &[all], 0);
    let key = hash(&all);
    let of = leases.spend_one(key, &all, 0).unwrap();
    leases.unspend(key, 1, of + 1);
    assert_eq!(spent(&leases, &[all], 0), 0);
    leases.unspend(key, 1, of);
    assert_eq!(spent(&leases, &[all], 0), 1);
    leases.give_up(key);
    leases.unspend(key, 1, of);
    assert_eq!(spent(&leases, &[all], 0), 0);
}

#[test]
fn a_lease_of_a_window_ends_with_its_part_and_of_a_rate_when_it_is_idle() {
    let (rate, window) = (take("all"), Take::new(LimitKey::everybody("all").sliding(true), HUNDRED));
    let both = [rate, window];
    let leases = Leases::new(LeaseSettings { idle: Duration::from_secs(10), ..SETTINGS });
    for _ in 0..3 {
        granted(&leases, &both, 7_000);
    }
    // 2,500 ms of the part are left, less what two roundings may hide.
    assert!(leases.spend(&both, hash, 9_497));
    assert!(!leases.spend(&both, hash, 9_498), "the window's part has ended");
    assert!(leases.spend(&[rate], hash, 9_498));
    assert_eq!(granted(&leases, &[window], 9_498), [Ahead { lease: 4, back: back(1) }], "and goes back");
    let leases = Leases::new(SETTINGS);
    for _ in 0..2 {
        granted(&leases, &[rate], 0);
    }
    assert!(!leases.spend(&[rate], hash, 1_000), "a second without a request");
    assert!(leases.spend(&[rate], hash, 999));
}

#[test]
fn what_is_left_of_an_idle_lease_goes_back_and_never_twice() {
    let leases = Leases::new(SETTINGS);
    let takes = [take("a"), take("bc"), take("def")];
    for _ in 0..3 {
        granted(&leases, &takes, 0);
    }
    assert_eq!(spent(&leases, &takes[..1], 0), 2);
    assert!(leases.idle(999, 64).is_empty());
    let told = |leases: &Leases, count| -> Vec<Back> {
        leases.idle(1_000, count).into_iter().map(|(_, back)| back).collect()
    };
    // One of the three has nothing left, and is forgotten.
    assert_eq!(told(&leases, 1), [back(2).unwrap()]);
    assert_eq!(told(&leases, 64), [back(2).unwrap()]);
    assert!(told(&leases, 64).is_empty());
    // Of one that is asked for, what is left goes along with the question.
    let dear = [take("all").costing(3)];
    for expected in [Ahead::default(), Ahead { lease: 3, back: None }, Ahead { lease: 6, back: back(3) }] {
        assert_eq!(granted(&leases, &dear, 0), [expected]);
    }
    assert_eq!(granted(&leases, &dear, 5_000), [Ahead { lease: 0, back: back(6) }]);
    assert_eq!(leases.give_up(hash(&dear[0])), None);
}

#[test]
fn one_question_at_a_time_leases_of_a_key_also_where_it_is_dropped() {
    let leases = Leases::new(SETTINGS);
    let takes = [take("all")];
    granted(&leases, &takes, 0);
    let first = leases.ask(&takes, hash, 0);
    assert_eq!(first.ahead().iter().map(|(_, ahead)| ahead.lease).collect::<Vec<_>>(), [1]);
    assert_eq!(granted(&leases, &takes, 0), [Ahead::default()], "another asks for no lease");
    assert!(leases.idle(5_000, 64).is_empty(), "and it is not idle while it is asked for");
    drop(first);
    let second = leases.ask(&takes, hash, 0);
    leases.give_up(hash(&takes[0]));
    second.granted(&takes, &[2], THERE);
    assert_eq!(spent(&leases, &takes, 0), 0, "what was given up meanwhile is not held");
    granted(&leases, &takes, 0);
    let third = leases.ask(&takes, hash, 0);
    third.granted(&takes, &[u32::MAX], THERE);
    assert_eq!(spent(&leases, &takes, 0), 1, "never more than was asked for");
}

#[test]
fn a_flood_of_keys_takes_no_more_than_its_bound_and_leaves_others_theirs() {
    let leases = Leases::new(SETTINGS);
    let all = [take("all")];
    for _ in 0..2 {
        granted(&leases, &all, 0);
    }
    for number in 0..100_000_u64 {
        leases.ask(&all, |_| [number, 7], 0);
    }
    let held = leases.shards.iter().map(|shard| shard.lock().unwrap().len());
    assert!(held.max().is_some_and(|most| most <= KEYS_MAX));
    assert_eq!(spent(&leases, &all, 0), 1);
    leases.idle(1_000, 64);
    assert!(leases.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
}
