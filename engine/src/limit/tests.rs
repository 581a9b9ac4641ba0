use proptest::prelude::*;

use super::*;

const MINUTE: Rate = Rate { count: 3, period_ms: 60_000 };
const START: u64 = 1_767_787_200_000;

/// Sends arrivals (milliseconds after `START`) and says at which of them something was admitted.
fn admitted(rate: Rate, arrivals: &[u64]) -> Vec<u64> {
    let mut tat = None;
    let mut admitted = Vec::new();
    for arrival in arrivals {
        if let Gcra::Admit { tat: next } = gcra(rate, tat, UnixMillis(START + arrival), 1) {
            tat = Some(next);
            admitted.push(*arrival);
        }
    }
    admitted
}

#[test]
fn a_burst_then_one_each_interval() {
    let check = |arrivals: &[u64], expected: &[u64]| assert_eq!(admitted(MINUTE, arrivals), expected);
    check(&[0, 0, 0, 0, 0], &[0, 0, 0]);
    check(&[0, 0, 0, 19_999, 20_000, 20_001], &[0, 0, 0, 20_000]);
    check(&[0, 0, 0, 60_000, 60_000, 60_000, 60_000], &[0, 0, 0, 60_000, 60_000, 60_000]);
    check(&[0, 30_000, 60_000, 60_000, 60_000, 60_000], &[0, 30_000, 60_000, 60_000, 60_000]);
    // A clock that steps back admits no more than one that stands.
    check(&[60_000, 0, 0, 0], &[60_000]);
}

#[test]
fn the_ends_of_rates_and_of_time() {
    let check = |rate, tat, now, cost, expected| assert_eq!(gcra(rate, tat, UnixMillis(now), cost), expected);
    let never = Gcra::Refuse { retry_after_ms: u64::MAX };
    check(Rate { count: 0, period_ms: 1_000 }, None, START, 1, never);
    check(MINUTE, None, START, 4, never);
    check(MINUTE, Some(7), 0, 0, Gcra::Admit { tat: 7 });
    check(Rate { count: 1, period_ms: 0 }, Some(0), 5, 1, Gcra::Admit { tat: 5_000_000 });
    check(MINUTE, Some(u64::MAX), u64::MAX, 1, Gcra::Admit { tat: u64::MAX });
    let widest = Rate { count: u32::MAX, period_ms: u64::MAX };
    check(widest, None, u64::MAX, u32::MAX, Gcra::Admit { tat: u64::MAX });
    assert_eq!(remaining(widest, Some(u64::MAX), UnixMillis(0)), u32::MAX - 4_295);
    assert_eq!(remaining(Rate { count: 0, period_ms: 1 }, None, UnixMillis(0)), 0);
}

#[test]
fn rates_are_read_as_they_are_written() {
    for (text, count, period_ms, spelt) in [
        ("100/1m", 100, 60_000, "100/1m"),
        ("1/1s", 1, 1_000, "1/1s"),
        ("1000/60m", 1_000, 3_600_000, "1000/1h"),
        ("7/90s", 7, 90_000, "7/90s"),
        ("7/1500ms", 7, 1_500, "7/1500ms"),
        ("1000000/24h", 1_000_000, 86_400_000, "1000000/1d"),
    ] {
        let rate = Rate { count, period_ms };
        assert_eq!((text.parse(), rate.to_string().as_str()), (Ok(rate), spelt), "{text}");
    }
    for text in [
        "",
        "/",
        "100",
        "100/",
        "/1m",
        "0/1m",
        "1000001/1m",
        "100/999ms",
        "100/25h",
        "100/2d",
        "-1/1m",
        "+1/1m",
        " 1/1m",
        "1/1m ",
        "1/1M",
        "1/1",
        "1.5/1m",
        "1/1m/1",
        "none",
        "99999999999999999999/1m",
        "1/99999999999999999999h",
    ] {
        assert_eq!(text.parse::<Rate>(), Err(NotARate), "{text}");
    }
    assert_eq!(Rate::NONE.to_string(), "none");
    let limit = Limit { rate: MINUTE, sliding: true, shadow: true };
    assert_eq!(limit.to_string(), "3/1m sliding, shadowed");
    assert_eq!(Limit { sliding: false, shadow: false, ..limit }.to_string(), "3/1m");
}

#[test]
fn no_class_has_the_name_of_another_limit() {
    for name in ["a", "llm", "chat-2", "a_b", &"x".repeat(32)] {
        assert_eq!(class_fault(name), None, "{name}");
    }
    for name in ["", "LLM", "a.b", "a b", "é", &"x".repeat(33)] {
        assert_eq!(class_fault(name), Some("names no class"), "{name}");
    }
    for name in ["per-address", "per-user", "refusals", "step-ups"] {
        assert_eq!(class_fault(name), Some("is the name of a limit that everybody has"), "{name}");
    }
}

fn rates() -> impl Strategy<Value = Rate> {
    (1_u32..200, 1_u64..100_000).prop_map(|(count, period_ms)| Rate { count, period_ms })
}

fn arrivals() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..200, 1..300).prop_map(|gaps| {
        let mut at = 0;
        gaps.into_iter()
            .map(|gap| {
                // Most arrivals stand close together, as in a flood; every tenth gap is long.
                at += if gap % 10 == 0 { gap * 100 } else { gap / 40 };
                at
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn no_span_holds_more_than_its_budget(rate in rates(), arrivals in arrivals()) {
        let admitted = admitted(rate, &arrivals);
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let count = (last - first + 1) as u128;
                let (n, p) = (u128::from(rate.count), u128::from(rate.period_ms));
                let span = u128::from(to - from);
                prop_assert!(count * p <= n * p + n * span, "{count} in {span} ms");
            }
        }
    }

    #[test]
    fn what_64_bits_hold_is_the_same_in_128(
        count in prop_oneof![0..=3_u32, 1..=RATE_COUNT_MAX, any::<u32>()],
        period_ms in prop_oneof![0..100_000_u64, PERIOD_MS_MIN..=PERIOD_MS_MAX, any::<u64>()],
        tat in prop_oneof![
            Just(None),
            (0..200_000_u64).prop_map(|ms| Some((START + ms) * 1_000_000)),
            any::<u64>().prop_map(Some),
        ],
        now in prop_oneof![START..START + 200_000, any::<u64>()],
        part in prop_oneof![Just(1.0), 0.0..=1.0],
    ) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a count")]
        let cost = (f64::from(count) * part) as u32;
        let (rate, now) = (Rate { count, period_ms }, UnixMillis(now));
        let (exact, narrow) = (wide(rate, tat, now, cost), narrow(rate, tat, now, cost));
        prop_assert!(narrow.is_none_or(|narrow| narrow == exact), "{narrow:?}");
        prop_assert_eq!(gcra(rate, tat, now, cost), exact);
        let is_written = count <= RATE_COUNT_MAX && period_ms <= PERIOD_MS_MAX;
        let is_near = now.0 < START + 200_000 && tat.is_none_or(|tat| tat < u64::MAX / 2);
        prop_assert!(!(is_written && is_near) || narrow.is_some(), "all that can be written is narrow");
    }

    #[test]
    fn retry_after_is_exact(rate in rates(), arrivals in arrivals(), cost in 1_u32..200) {
        let mut tat = None;
        for arrival in arrivals {
            let now = UnixMillis(START + arrival);
            match gcra(rate, tat, now, cost) {
                Gcra::Admit { tat: next } => {
                    prop_assert!(remaining(rate, tat, now) >= cost);
                    tat = Some(next);
                }
                Gcra::Refuse { retry_after_ms: u64::MAX } => prop_assert!(cost > rate.count),
                Gcra::Refuse { retry_after_ms } => {
                    prop_assert!(remaining(rate, tat, now) < cost);
                    let later = |ms| gcra(rate, tat, now.plus(ms), cost);
                    let admits = matches!(later(retry_after_ms), Gcra::Admit { .. });
                    prop_assert!(admits, "refused after {retry_after_ms} ms");
                    let refuses = matches!(later(retry_after_ms - 1), Gcra::Refuse { .. });
                    prop_assert!(refuses, "admitted before {retry_after_ms} ms");
                }
            }
        }
    }

    #[test]
    fn shares_together_never_admit_faster_than_the_whole(
        rate in rates(), gateways in 1_u32..20, cost in 0_u32..300,
    ) {
        let part = share(rate, gateways, cost);
        prop_assert!(part.interval() >= rate.interval() * u128::from(gateways) - u128::from(gateways));
        prop_assert!(part.count <= (rate.count / gateways).max(cost).max(1));
        prop_assert!(part.count >= 1 && (part.count >= cost || cost > rate.count));
        prop_assert_eq!(share(rate, 1, cost), rate);
        // And the part is not less than it should be, by more than a millisecond of its period.
        let exact = u128::from(rate.period_ms) * u128::from(part.count) * u128::from(gateways);
        prop_assert!(u128::from(part.period_ms) * u128::from(rate.count) < exact + u128::from(rate.count));
    }

    #[test]
    fn what_is_left_is_what_is_admitted(rate in rates(), arrivals in arrivals()) {
        let mut tat = None;
        for arrival in arrivals {
            let now = UnixMillis(START + arrival);
            let told = left(rate, tat, now);
            let admits = |later, cost| matches!(gcra(rate, tat, now.plus(later), cost), Gcra::Admit { .. });
            prop_assert!(admits(0, told.count) && !admits(0, told.count + 1));
            prop_assert!(admits(told.next_ms, 1) && (told.next_ms == 0 || !admits(told.next_ms - 1, 1)));
            prop_assert!(admits(told.full_ms, rate.count));
            prop_assert!(told.full_ms == 0 || !admits(told.full_ms - 1, rate.count));
            if let Gcra::Admit { tat: next } = gcra(rate, tat, now, 1) {
                tat = Some(next);
            }
        }
    }

    #[test]
    fn no_argument_overflows(count: u32, period_ms: u64, tat: Option<u64>, now: u64, cost: u32) {
        let rate = Rate { count, period_ms };
        let now = UnixMillis(now);
        let told = left(rate, tat, now);
        prop_assert!(told.count <= count && told.of == count);
        prop_assert!(share(rate, cost, cost).count <= count);
        if let Gcra::Admit { tat: next } = gcra(rate, tat, now, cost) {
            prop_assert!(next >= tat.unwrap_or(0));
        }
    }
}
