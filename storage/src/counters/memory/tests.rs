//! What the table of rates does beside the contract.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU32;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn take(key: LimitKey<'_>, count: u32, period_ms: u64, cost: u32) -> Take<'_> {
    Take::new(key, Rate { count, period_ms }).costing(cost)
}

fn address(number: u32) -> LimitKey<'static> {
    LimitKey::address("ip", IpAddr::V4(Ipv4Addr::from_bits(number)))
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
    let memory = Memory::owing(64 * 1024);
    let (key, ns) = (address(1), NOW.0 * NS_PER_MS);
    let one = [take(key, 10, 1_000, 1)];
    assert_eq!(memory.owed(&key), None, "nothing was counted");
    memory.settle(&one[0], (None, false), State::Tat(ns), NOW);
    assert_eq!(memory.owed(&key), None, "what is past is not kept");
    // Known from there: eight of ten are spent, so that two are left here.
    memory.settle(&one[0], (None, false), State::Tat(ns + 800_000_000), NOW);
    assert_eq!(memory.owed(&key), None, "what came from there is not owed");
    assert_eq!(memory.take(&one, NOW), Outcome::Admitted);
    let first = memory.owed(&key);
    assert_eq!(first, Some(State::Tat(ns + 900_000_000)));
    // While the store is told of it, one more is counted.
    assert_eq!(memory.take(&one, NOW), Outcome::Admitted);
    memory.settle(&one[0], (first, false), State::Tat(ns + 900_000_000), NOW);
    let second = memory.owed(&key);
    assert_eq!(second, Some(State::Tat(ns + 1_000_000_000)), "the second is still owed");
    assert_eq!(memory.take(&one, NOW), Outcome::Refused { index: 0, retry_after_ms: 100 });
    memory.settle(&one[0], (second, false), State::Tat(ns + 500_000_000), NOW);
    assert_eq!(memory.owed(&key), None, "all of it was told");
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

proptest! {
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
