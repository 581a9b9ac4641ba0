//! The script that takes from all limits of a request in one round trip, and what it answers.

use std::fmt::Write as _;
use std::net::IpAddr;

use engine::limit::Rate;
use engine::time::UnixMillis;
use engine::window::{COUNTED, Window, width_ms};
use redis::{Cmd, Value};

use super::super::memory::{NS_PER_MS, State};
use super::super::{LimitKey, Outcome, Subject, Take};
use super::leases::{Ahead, Back};
use super::packed::{Packed, numbers};
use crate::redis::{Fault, Link};

/// Its text.
pub(super) const TEXT: &str = include_str!("take.lua");

/// The script reckons in doubles, which are exact below 2^53, and adds two numbers of this size at most: 26 days, where
/// a configured period is one day at most.
const NS_MAX: u128 = 1 << 51;

/// Numbers that the script is told of each limit.
const NUMBERS: usize = 12;

/// One limit of a request, as the script is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// In nanoseconds.
    Rate { wanted: u64, burst: u64, full: u64, owed: u64 },
    /// A part's width in milliseconds.
    Window { wanted: u32, count: u32, width_ms: u64, owed: String },
}

/// What goes with a take on its way to the store and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Along {
    /// What the table of counters knows the key by.
    pub(super) hash: [u64; 2],
    /// What was counted here and is not known there yet.
    pub(super) owed: Option<State>,
    /// What is leased besides, and what comes back.
    pub(super) ahead: Ahead,
}

/// What the script answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Whether the request may go on.
    pub(super) outcome: Outcome,
    /// The state of each limit. Told as a distance from now: the store's clock and ours need not agree.
    pub(super) kept: Vec<State>,
    /// The time of the store.
    pub(super) now_ms: u64,
    /// How many of each limit were leased.
    pub(super) leased: Vec<u32>,
    /// Places of limits that are only tried out and would have refused it.
    pub(super) over: Vec<usize>,
}

/// A question, made ready. It is made before anything is waited for.
pub(super) struct Question {
    limits: Vec<Limit>,
    parts: u32,
    now: UnixMillis,
    time: Option<UnixMillis>,
}

/// All that the script is told of one limit. Times are told as distances, as everything is.
struct Limit {
    key: String,
    asked: Asked,
    /// How many are leased, and how much one is.
    lease: Option<(u32, u64)>,
    /// When it was leased what comes back, and how much that is.
    back: Option<(u64, u64)>,
    period_ms: u64,
    /// For how many milliseconds it has been what it is.
    age_ms: Option<u64>,
    is_tried: bool,
    rate: Rate,
}

impl Question {
    /// About these limits, of each of which one of `parts` equal parts of what is left may be leased. `None` where
    /// numbers do not fit: no limit that can be configured is one.
    pub(super) fn new(
        prefix: &str,
        takes: &[Take<'_>],
        along: &[Along],
        parts: u32,
        now: UnixMillis,
        time: Option<UnixMillis>,
    ) -> Option<Self> {
        let limits = takes.iter().zip(along).map(|(take, along)| Limit::of(prefix, take, along, now));
        Some(Self { limits: limits.collect::<Option<_>>()?, parts, now, time })
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut told = Packed::with_capacity(2 + NUMBERS * self.limits.len());
        told.push_some(self.time.map(|time| time.0));
        told.push(self.parts.into());
        let room = self.limits.iter().map(|limit| limit.key.len()).sum::<usize>() + script.len() + 32;
        let mut command = Cmd::with_capacity(4 + self.limits.len(), room + told.as_bytes().len());
        command.arg(verb).arg(script).arg(self.limits.len());
        for limit in &self.limits {
            command.arg(&limit.key);
            limit.tell(&mut told);
        }
        command.arg(told.as_bytes());
        for limit in &self.limits {
            if let Asked::Window { owed, .. } = &limit.asked {
                command.arg(owed);
            }
        }
        command
    }

    /// Asks it there. A server that was restarted, or that dropped the script, is sent its text.
    pub(super) async fn ask(&self, link: &Link) -> Result<Told, Fault> {
        let answer =
            link.together().run((&link.script, TEXT), |verb, script| self.command(verb, script)).await?;
        self.told(&answer).ok_or(Fault::Nonsense)
    }

    fn told(&self, answer: &Value) -> Option<Told> {
        let Value::BulkString(word) = answer else { return None };
        let numbers = numbers(word)?;
        let (&[refused, retry_after_ms, now_ms], mut rest) = numbers.split_first_chunk()?;
        let mut kept = Vec::with_capacity(self.limits.len());
        for limit in &self.limits {
            kept.push(limit.asked.kept(&mut rest, limit.rate, self.now)?);
        }
        let (leased, over) = self.more(rest)?;
        let outcome = match usize::try_from(refused).ok()? {
            0 => Outcome::Admitted,
            place if place <= self.limits.len() => Outcome::Refused { index: place - 1, retry_after_ms },
            _ => return None,
        };
        Some(Told { outcome, kept, now_ms, leased, over })
    }

    /// How many of each limit were leased, and the places of those that are only tried out and would have refused. Nothing is
    /// said where there is neither.
    fn more(&self, said: &[u64]) -> Option<(Vec<u32>, Vec<usize>)> {
        if said.is_empty() {
            return Some((vec![0; self.limits.len()], Vec::new()));
        }
        let (leased, over) = said.split_at_checked(self.limits.len())?;
        if over.len() != self.limits.len() {
            return None;
        }
        let leased = leased.iter().map(|count| u32::try_from(*count).ok()).collect::<Option<_>>()?;
        let over = (0..).zip(over).filter(|(_, over)| **over != 0).map(|(place, _)| place).collect();
        Some((leased, over))
    }
}

impl Limit {
    /// `None` where a number does not fit.
    fn of(prefix: &str, take: &Take<'_>, along: &Along, now: UnixMillis) -> Option<Self> {
        let Ahead { lease, back } = along.ahead;
        // Less than the whole of a limit, so that it fits where the limit does.
        let each = if take.key.sliding { 1 } else { take.rate.interval() };
        Some(Self {
            key: key(prefix, &take.key),
            asked: Asked::of(take, along.owed, now)?,
            lease: (lease > 0).then_some((lease, number(each))),
            back: back.map(|back| (back.granted_ms, number(worth(take, back)))),
            period_ms: take.period_ms,
            age_ms: take.since.map(|since| now.0.saturating_sub(since.0)),
            is_tried: take.tried,
            rate: take.rate,
        })
    }

    /// Its numbers, in the script's order.
    fn tell(&self, told: &mut Packed) {
        let numbers = match &self.asked {
            Asked::Rate { wanted, burst, full, owed } => [*wanted, *burst, *full, 0, *owed],
            Asked::Window { wanted, count, width_ms, .. } => {
                [(*wanted).into(), (*count).into(), 0, *width_ms, 0]
            }
        };
        numbers.into_iter().for_each(|number| told.push(number));
        let (lease, each) = self.lease.unwrap_or_default();
        told.push(lease.into());
        told.push(each);
        told.push_some(self.back.map(|(granted_ms, _)| granted_ms));
        told.push(self.back.map_or(0, |(_, amount)| amount));
        told.push(self.period_ms);
        told.push_some(self.age_ms);
        told.push(self.is_tried.into());
    }
}

impl Asked {
    /// `None` where a number does not fit.
    fn of(take: &Take<'_>, owed: Option<State>, now: UnixMillis) -> Option<Self> {
        let rate = take.rate;
        let within = |ns: u128| u64::try_from(ns).ok().filter(|ns| u128::from(*ns) < NS_MAX);
        if take.key.sliding {
            let width_ms = within(width_ms(rate).into())?;
            let owed = if let Some(State::Window(window)) = owed { window } else { Window::default() };
            let counts: Vec<String> = owed.at(rate, now).counts().iter().map(u32::to_string).collect();
            let owed = format!("{}:{}", now.0 % width_ms, counts.join(","));
            return Some(Self::Window { wanted: take.cost, count: rate.count, width_ms, owed });
        }
        let now_ns = now.0.saturating_mul(NS_PER_MS);
        let interval = rate.interval();
        let full = within(u128::from(rate.period_ms) * u128::from(NS_PER_MS) + u128::from(rate.count))?;
        let owed = if let Some(State::Tat(tat)) = owed { tat.saturating_sub(now_ns) } else { 0 }.min(full);
        let wanted = within(interval.saturating_mul(take.cost.into()))?;
        let burst = within(interval.saturating_mul(rate.count.into()))?;
        Some(Self::Rate { wanted, burst, full, owed })
    }

    /// The state that it is told to have: `rest` is left with what is told behind it.
    fn kept(&self, rest: &mut &[u64], rate: Rate, now: UnixMillis) -> Option<State> {
        let (first, mut behind) = rest.split_first()?;
        let state = match self {
            Self::Rate { .. } => State::Tat(now.0.saturating_mul(NS_PER_MS).saturating_add(*first)),
            Self::Window { .. } => {
                let counts;
                (counts, behind) = behind.split_at_checked(COUNTED)?;
                let counts: Vec<u32> =
                    counts.iter().map(|count| u32::try_from(*count).ok()).collect::<Option<_>>()?;
                State::Window(Window::told(rate, now, *first, &counts))
            }
        };
        *rest = behind;
        Some(state)
    }
}

/// What comes back of a lease: of a window so many, of a rate in nanoseconds. What was leased of a limit that was another is
/// the same part of this one, and not as many.
fn worth(take: &Take<'_>, back: Back) -> u128 {
    let count = u128::from(back.count);
    if take.key.sliding {
        count
    } else if back.rate == take.rate {
        count.saturating_mul(take.rate.interval())
    } else {
        let whole = u128::from(take.rate.period_ms) * u128::from(NS_PER_MS);
        count.saturating_mul(whole) / u128::from(back.rate.count.max(1))
    }
}

/// What does not fit is more than any that does.
fn number(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Forgets a key. By a state that is past, and not by removing it: the gateway's user need not be able to.
pub(super) async fn forget(prefix: &str, limit: &LimitKey<'_>, link: &Link) -> Result<(), Fault> {
    let mut command = redis::cmd("SET");
    let past = if limit.sliding { "w1:0:" } else { "0.000000" };
    command.arg(key(prefix, limit)).arg(past).arg("PX").arg(1);
    link.together().ask(command).await.map(drop)
}

/// A key as it is called there: `prefix:{subject}:limit`. What stands in braces says which node of a cluster has it, so
/// that all limits of one subject are on the same.
fn key(prefix: &str, key: &LimitKey<'_>) -> String {
    let mut name = String::with_capacity(prefix.len() + key.limit.len() + 48);
    name.push_str(prefix);
    let written = match key.subject {
        Subject::Address(IpAddr::V4(address)) => write!(name, ":{{ip/{address}}}:"),
        Subject::Address(IpAddr::V6(address)) => write!(name, ":{{ip/{address}/64}}:"),
        Subject::Principal(id) => write!(name, ":{{id/{id}}}:"),
        Subject::Everybody => write!(name, ":{{all}}:"),
    };
    // Writing into a String does not fail.
    written.ok();
    name.push_str(key.limit);
    if key.sliding {
        name.push_str(":sliding");
    }
    name
}

#[cfg(test)]
mod tests {
    use engine::limit::Rate;
    use uuid::Uuid;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn question(rate: Rate, cost: u32, owed: Option<State>) -> Option<Question> {
        let take = Take::new(LimitKey::everybody("all"), rate).costing(cost);
        Question::new("cedargate", &[take], &[Along { owed, ..Along::default() }], 2, NOW, None)
    }

    fn word(numbers: Vec<u64>) -> Value {
        let mut packed = Packed::default();
        numbers.into_iter().for_each(|number| packed.push(number));
        Value::BulkString(packed.as_bytes().to_vec())
    }

    #[test]
    fn names_of_keys() {
        let check = |limit: LimitKey<'_>, name: &str| assert_eq!(key("cedargate", &limit), name);
        check(
            LimitKey::address("per-address", "192.0.2.7".parse().unwrap()),
            "cedargate:{ip/192.0.2.7}:per-address",
        );
        check(
            LimitKey::address("auth", "2001:db8:1:2::7".parse().unwrap()),
            "cedargate:{ip/2001:db8:1:2::/64}:auth",
        );
        check(
            LimitKey::principal("llm", Uuid::from_u128(7)),
            "cedargate:{id/00000000-0000-0000-0000-000000000007}:llm",
        );
        check(LimitKey::everybody("all"), "cedargate:{all}:all");
        check(LimitKey::everybody("all").sliding(true), "cedargate:{all}:all:sliding");
    }

    #[test]
    fn numbers_that_a_double_does_not_hold_are_not_sent() {
        let day = 86_400_000;
        let asked =
            |rate, cost, owed| question(rate, cost, owed).map(|question| question.limits[0].asked.clone());
        let largest = asked(Rate { count: 1_000_000, period_ms: day }, 1, None).unwrap();
        assert_eq!(
            largest,
            Asked::Rate { wanted: 86_400_000, burst: 86_400_000_000_000, full: 86_400_001_000_000, owed: 0 }
        );
        assert_eq!(asked(Rate { count: 1, period_ms: 27 * day }, 1, None), None);
        assert_eq!(asked(Rate { count: u32::MAX, period_ms: u64::MAX }, 1, None), None);
        assert_eq!(asked(Rate { count: 1, period_ms: day }, u32::MAX, None), None);
        let owed = |tat| match asked(Rate { count: 1, period_ms: 1_000 }, 1, Some(State::Tat(tat))) {
            Some(Asked::Rate { owed, .. }) => owed,
            other => panic!("{other:?}"),
        };
        assert_eq!(owed(NOW.0 * NS_PER_MS - 1), 0);
        assert_eq!(owed(NOW.0 * NS_PER_MS + 7), 7);
        assert_eq!(owed(u64::MAX), 1_000_000_001, "never more than the whole");
    }

    #[test]
    fn a_window_is_told_by_its_parts() {
        let rate = Rate { count: 7, period_ms: 60_000 };
        let window = Window::told(rate, UnixMillis(NOW.0 + 1), 1, &[2, 0, 5]);
        let take = Take::new(LimitKey::everybody("all").sliding(true), rate);
        let at = UnixMillis(NOW.0 + 3_500);
        let along = [Along { owed: Some(State::Window(window)), ..Along::default() }];
        let question = Question::new("cedargate", &[take], &along, 2, at, None).unwrap();
        let expected = Asked::Window { wanted: 1, count: 7, width_ms: 3_000, owed: "500:0,2,0,5".to_owned() };
        assert_eq!(question.limits[0].asked, expected);
        let told = |kept: &[u64]| question.told(&word([&[0, 0, 7], kept, &[0, 0]].concat()));
        let mut numbers = [0; COUNTED + 1];
        (numbers[0], numbers[2]) = (500, 3);
        assert_eq!(told(&numbers).unwrap().kept, [State::Window(Window::told(rate, at, 500, &[0, 3]))]);
        let mut many = numbers;
        many[3] = 1 << 32;
        for nonsense in [&numbers[1..], &[], &many] {
            assert_eq!(told(nonsense), None);
        }
        let too_wide =
            Take::new(LimitKey::everybody("all").sliding(true), Rate { count: 1, period_ms: u64::MAX });
        assert!(Question::new("cedargate", &[too_wide], &[Along::default()], 2, NOW, None).is_none());
    }

    #[test]
    fn answers_that_mean_nothing_are_no_answers() {
        let question = question(Rate { count: 1, period_ms: 1_000 }, 1, None).unwrap();
        let check = |numbers: &[u64], outcome: Option<Outcome>| {
            let told = question.told(&word(numbers.to_vec()));
            assert_eq!(told.map(|told| told.outcome), outcome, "{numbers:?}");
        };
        check(&[0, 0, 7, 5, 0, 0], Some(Outcome::Admitted));
        check(&[1, 3, 7, 5, 0, 0], Some(Outcome::Refused { index: 0, retry_after_ms: 3 }));
        let told = |numbers: &[u64]| question.told(&word(numbers.to_vec())).unwrap();
        let whole = told(&[0, 0, 7, 5, 9, 1]);
        assert_eq!((whole.now_ms, whole.leased, whole.over), (7, vec![9], vec![0]));
        let brief = told(&[0, 0, 7, 5]);
        assert_eq!((brief.now_ms, brief.leased, brief.over), (7, vec![0], vec![]));
        for nonsense in [
            &[][..],
            &[0],
            &[0, 0],
            &[0, 0, 7],
            &[0, 0, 7, 5, 0],
            &[0, 0, 7, 5, 0, 0, 0],
            &[2, 3, 7, 5, 0, 0],
            &[0, 0, 7, 5, 1 << 32, 0],
        ] {
            check(nonsense, None);
        }
        let below = [0.0, 0.0, 7.0, -5.0].map(f64::to_le_bytes).concat();
        let odd = vec![0; 33];
        for nonsense in [Value::Okay, Value::Nil, Value::BulkString(below), Value::BulkString(odd)] {
            assert_eq!(question.told(&nonsense), None);
        }
    }
}
