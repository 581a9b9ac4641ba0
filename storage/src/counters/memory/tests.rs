//! What the table of rates does beside the contract.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU32;

use engine::limit::Rate;
use proptest::prelude::*;
use uuid::Uuid;

use super::slot::{period, spelt};
use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn take(key: LimitKey<'_>, count: u32, period_ms: u64, cost: u32) -> Take<'_> {
    Take::new(key, Rate { count, period_ms }).costing(cost)
}

fn address(number: u32) -> LimitKey<'static> {
    LimitKey::address("ip", IpAddr::V4(Ipv4Addr::from_bits(number)))
}

fn owed(memory: &Memory, take: &Take<'_>, now: UnixMillis) -> Option<State> {
    memory.owed(memory.hash(&take.key), take, now)
}

fn settle(memory: &Memory, take: &Take<'_>, told: (Option<State>, bool), kept: State, now: UnixMillis) {
    memory.settle(memory.hash(&take.key), take, told, kept, now);
}

#[test]
fn no_bound_is_exceeded_however_many_ask_at_once() {
    let memory = Memory::new(1 << 20);
    let (own, shared) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8_u128 {
            let (memory, own, shared) = (&memory, &own, &shared);
            scope.spawn(move || {
                for _ in 0..500 {
                    let takes = [
                        take(LimitKey::principal("user", Uuid::from_u128(thread % 2)), 700, 60_000, 1),
                        take(LimitKey::everybody("all"), 1000, 60_000, 1),
                    ];
                    // Half of the threads ask in the other order: locks must not depend on it.
                    let takes = if thread % 2 == 0 { takes } else { [takes[1], takes[0]] };
                    if memory.take(&takes, NOW) == Outcome::Admitted {
                        shared.fetch_add(1, Ordering::Relaxed);
                        own.fetch_add(u32::from(thread % 2 == 0), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(shared.into_inner(), 1000, "the shared limit is used up exactly");
    assert!(own.into_inner() <= 700, "and no user's own is exceeded");
}

#[test]
fn a_flood_of_keys_takes_no_memory_and_frees_nobody() {
    let memory = Memory::new(64 * 1024);
    let slots = |memory: &Memory| -> usize {
        memory.shards.iter().map(|shard| shard.lock().unwrap().len() * WAYS).sum()
    };
    let (before, victim) = (slots(&memory), address(u32::MAX));
    assert!(before * size_of::<Slot>() <= 64 * 1024);
    while memory.take(&[take(victim, 100, 60_000, 1)], NOW) == Outcome::Admitted {}
    for number in 0..100_000 {
        assert_eq!(memory.take(&[take(address(number), 100, 60_000, 1)], NOW), Outcome::Admitted);
    }
    assert_eq!(slots(&memory), before);
    assert!(memory.evicted() > 90_000);
    let refused = memory.take(&[take(victim, 100, 60_000, 1)], NOW);
    assert_eq!(refused, Outcome::Refused { index: 0, retry_after_ms: 600 });
}

#[test]
fn what_is_counted_here_is_owed_until_the_other_store_was_told_all_of_it() {
    let memory = Memory::owing(64 * 1024, 1);
    let (key, ns) = (address(1), NOW.0 * NS_PER_MS);
    let one = [take(key, 10, 1_000, 1)];
    assert_eq!(owed(&memory, &one[0], NOW), None, "nothing was counted");
    settle(&memory, &one[0], (None, false), State::Tat(ns), NOW);
    assert_eq!(owed(&memory, &one[0], NOW), None, "what is past is not kept");
    // Known from there: eight of ten are spent, so that two are left here.
    settle(&memory, &one[0], (None, false), State::Tat(ns + 800_000_000), NOW);
    assert_eq!(owed(&memory, &one[0], NOW), None, "what came from there is not owed");
    assert_eq!(memory.take(&one, NOW), Outcome::Admitted);
    let first = owed(&memory, &one[0], NOW);
    assert_eq!(first, Some(State::Tat(ns + 900_000_000)));
    // While the store is told of it, one more is counted.
    assert_eq!(memory.take(&one, NOW), Outcome::Admitted);
    settle(&memory, &one[0], (first, false), State::Tat(ns + 900_000_000), NOW);
    let second = owed(&memory, &one[0], NOW);
    assert_eq!(second, Some(State::Tat(ns + 1_000_000_000)), "the second is still owed");
    assert_eq!(memory.take(&one, NOW), Outcome::Refused { index: 0, retry_after_ms: 100 });
    settle(&memory, &one[0], (second, false), State::Tat(ns + 500_000_000), NOW);
    assert_eq!(owed(&memory, &one[0], NOW), None, "all of it was told");
    assert_eq!(memory.take(&one, NOW), Outcome::Refused { index: 0, retry_after_ms: 100 }, "and counts on");
}

#[test]
fn slots_that_recovered_are_reused_without_loss() {
    let memory = Memory::new(64 * 1024);
    for number in 0..50_000 {
        // A millisecond later, the one before has recovered.
        let now = NOW.plus(u64::from(number) * 2);
        memory.take(&[take(address(number), 1000, 1000, 1)], now);
    }
    assert_eq!(memory.evicted(), 0);
}

#[test]
fn a_limit_that_becomes_another_gives_nobody_a_second_quota() {
    // Spends some of one limit at once, and says how much of the other is admitted at once when it holds, and so long later.
    let check =
        |before: (u32, u64), spent: u32, after: (u32, u64), at_once: u32, later_ms: u64, later: u32| {
            let memory = Memory::new(1 << 20);
            let one = |(count, period_ms), since| take(address(1), count, period_ms, 1).since(since);
            let admitted = |limit, since, at: UnixMillis| {
                (0..2_000).take_while(|_| memory.take(&[one(limit, since)], at) == Outcome::Admitted).count()
            };
            for _ in 0..spent {
                assert_eq!(memory.take(&[one(before, UnixMillis(0))], NOW), Outcome::Admitted);
            }
            let left = memory.left(&one(after, NOW), NOW);
            assert_eq!(left.count, at_once, "{before:?} {spent} {after:?}: told");
            assert_eq!(admitted(after, NOW, NOW), at_once as usize, "{before:?} {spent} {after:?}");
            assert_eq!(
                admitted(after, NOW, NOW.plus(later_ms)),
                later as usize,
                "{before:?} {spent} {after:?}: later"
            );
        };
    const MINUTE: u64 = 60_000;
    // Wholly spent stays wholly spent, and comes back as the new limit says.
    check((10, MINUTE), 10, (10, 60 * MINUTE), 0, 6 * MINUTE, 1);
    check((10, MINUTE), 10, (1_000, 60 * MINUTE), 0, 6 * MINUTE, 100);
    check((10, MINUTE), 10, (20, MINUTE), 0, 3_000, 1);
    check((1_000, 60 * MINUTE), 1_000, (10, MINUTE), 0, 6_000, 1);
    check((1_000, 60 * MINUTE), 1_000, (10, 1_000), 0, 100, 1);
    // A half stays a half, whatever the limit.
    check((10, MINUTE), 5, (10, 60 * MINUTE), 5, 6 * MINUTE, 1);
    check((10, MINUTE), 5, (100, MINUTE), 50, 0, 0);
    check((1_000, 60 * MINUTE), 500, (10, MINUTE), 4, 6_001, 1);
    // Nothing spent is nothing spent; and what has come back before is there.
    check((10, MINUTE), 0, (10, 60 * MINUTE), 10, 6 * MINUTE, 1);
}

#[test]
fn a_limit_that_becomes_what_it_was_counts_on() {
    let memory = Memory::new(1 << 20);
    let one = |count, period_ms, since: u64| [take(address(1), count, period_ms, 1).since(NOW.plus(since))];
    let admitted = |takes: &[Take<'_>], at: u64| {
        (0..100).take_while(|_| memory.take(takes, NOW.plus(at)) == Outcome::Admitted).count()
    };
    assert_eq!(admitted(&one(10, 60_000, 0), 0), 10);
    // Ten seconds later a sixth of it has come back. It is an hourly one for a moment, and then again what it was.
    assert_eq!(admitted(&one(10, 3_600_000, 10_000), 10_000), 1);
    let again = admitted(&one(10, 60_000, 20_000), 20_000);
    assert_eq!(again, 0, "what was spent of the hour is spent of the minute");
    assert_eq!(admitted(&one(10, 60_000, 20_000), 80_000), 10, "and comes back within it");
}

#[test]
fn whoever_is_refused_by_a_limit_that_became_another_is_set_free_by_no_flood() {
    for kind in [false, true] {
        let memory = Memory::new(64 * 1024);
        let key = |number| address(number).sliding(kind);
        let one =
            |number, period_ms, since: u64| [take(key(number), 10, period_ms, 1).since(NOW.plus(since))];
        for _ in 0..10 {
            assert_eq!(memory.take(&one(u32::MAX, 60_000, 0), NOW), Outcome::Admitted);
        }
        let refused = |now| {
            let asked = memory.take(&one(u32::MAX, 3_600_000, 1), now);
            assert!(matches!(asked, Outcome::Refused { .. }), "sliding: {kind}");
        };
        refused(NOW.plus(1));
        // By the limit that was, all would have come back by now.
        let now = NOW.plus(120_000);
        for number in 0..20_000 {
            assert_eq!(memory.take(&one(number, 60_000, 1), now), Outcome::Admitted);
        }
        refused(now);
        // Also where it is one of several.
        let both = [one(u32::MAX, 3_600_000, 1)[0], one(7, 3_600_000, 1)[0]];
        assert!(matches!(memory.take(&both, now), Outcome::Refused { index: 0, .. }), "sliding: {kind}");
    }
}

#[test]
fn a_store_is_told_what_it_has_forgotten_by_the_limit_that_was_and_is_not_over_by_the_one_that_is() {
    let memory = Memory::owing(64 * 1024, 1);
    let minute = take(address(1), 10, 60_000, 1).since(UnixMillis(0));
    let ns = NOW.0 * NS_PER_MS;
    // The store has said that half of it is spent.
    settle(&memory, &minute, (None, false), State::Tat(ns + 30_000_000_000), NOW);
    assert_eq!(owed(&memory, &minute, NOW), None);
    let hour = take(address(1), 10, 3_600_000, 1).since(NOW);
    assert_eq!(owed(&memory, &hour, NOW.plus(29_999)), None, "what it knows yet it reckons itself");
    let (half, later) = (State::Tat(ns + 1_800_000_000_000), NOW.plus(30_000));
    assert_eq!(owed(&memory, &hour, later), Some(half));
    // It keeps that, and need not be told again.
    settle(&memory, &hour, (Some(half), false), half, later);
    assert_eq!(owed(&memory, &hour, later), None);
    assert_eq!(memory.left(&hour, NOW).count, 5);
    // A take that knows no time changes neither.
    let merging = take(address(1), 10, 60_000, 0);
    settle(&memory, &merging, (None, false), State::Tat(ns), NOW);
    assert_eq!(memory.left(&hour, NOW).count, 5);
}

#[test]
fn periods_are_kept_in_few_bits() {
    for period_ms in [1_u64, 2, 999, 1_000, 1_500, 60_000, 90_000, 3_600_000, 86_400_000, u64::MAX >> 2] {
        let kept = period(spelt(period_ms));
        assert!(kept <= period_ms && period_ms - kept <= period_ms / 1_000, "{period_ms} {kept}");
    }
    assert_eq!((spelt(0), period(0)), (0, 0));
    assert_eq!(period(spelt(u64::MAX)) >> 62, 1, "what is too long is long");
}

proptest! {
    /// However one limit became the other, no more is admitted at once than the part of it that was not spent.
    #[test]
    fn a_part_that_is_spent_stays_spent(
        (before, after) in ((1_u32..100, 1_000_u64..100_000), (1_u32..100, 1_000_u64..100_000)),
        spent in 0_u32..100,
        (switch, ask) in (0_u64..50_000, 0_u64..50_000),
    ) {
        let memory = Memory::new(1 << 20);
        let of = |(count, period_ms): (u32, u64), since| take(address(1), count, period_ms, 1).since(since);
        let (since, now) = (NOW.plus(switch), NOW.plus(switch + ask));
        for _ in 0..spent.min(before.0) {
            memory.take(&[of(before, NOW)], NOW);
        }
        let interval = Rate { count: before.0, period_ms: before.1 }.interval();
        let ahead_ns = (u128::from(spent.min(before.0)) * interval).saturating_sub(u128::from(switch) * 1_000_000);
        // In units of the new limit, what was spent when it became so and what has come back since.
        let whole = u128::from(after.0);
        let spent_of = |ahead: u128| whole * ahead / (u128::from(before.1) * 1_000_000);
        let back = whole * u128::from(ask) / u128::from(after.1);
        let left = u128::from(memory.left(&of(after, since), now).count);
        let free = (whole + back + 1).saturating_sub(spent_of(ahead_ns)).min(whole);
        prop_assert!(left <= free, "{left} of {free}");
        let least = free.saturating_sub(3 + whole / 500);
        prop_assert!(before.1 == after.1 || left >= least, "{left} of {least}");
    }

    #[test]
    fn it_decides_as_a_table_without_bounds_does(
        requests in proptest::collection::vec(
            (proptest::collection::vec((0_u32..4, 1_u32..3), 1..4), 0_u64..400),
            1..200,
        ),
    ) {
        let memory = Memory::new(1 << 20);
        let mut model: HashMap<u32, u64> = HashMap::new();
        let mut now = NOW;
        for (wants, later) in requests {
            now = now.plus(later);
            let takes: Vec<_> = wants.iter().map(|(key, cost)| take(address(*key), 5, 1000, *cost)).collect();
            let mut next = model.clone();
            let mut expected = Outcome::Admitted;
            for (index, (key, cost)) in wants.iter().enumerate() {
                match gcra(takes[index].rate, next.get(key).copied(), now, *cost) {
                    Gcra::Admit { tat } => drop(next.insert(*key, tat)),
                    Gcra::Refuse { retry_after_ms } => match expected {
                        Outcome::Refused { retry_after_ms: longest, .. } if longest >= retry_after_ms => {}
                        Outcome::Admitted | Outcome::Refused { .. } | Outcome::Away => {
                            expected = Outcome::Refused { index, retry_after_ms };
                        }
                    },
                }
            }
            if expected == Outcome::Admitted {
                model = next;
            }
            prop_assert_eq!(memory.take(&takes, now), expected);
        }
    }
}
