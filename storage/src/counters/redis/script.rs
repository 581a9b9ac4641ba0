//! The script that takes from all limits of a request in one round trip, and what it answers.

use std::fmt::Write as _;
use std::net::IpAddr;

use engine::time::UnixMillis;
use redis::{Cmd, Value};

use super::super::memory::{NS_PER_MS, Owed};
use super::super::{LimitKey, Outcome, Subject, Take};
use crate::redis::{Fault, Link, fault};

/// Its text.
pub(super) const TEXT: &str = include_str!("take.lua");

/// The script reckons in doubles, which are exact below 2^53, and adds two numbers of this size at most: 26 days, where
/// a configured period is one day at most.
const NS_MAX: u128 = 1 << 51;

/// One limit of a request, as the script is told of it, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    wanted: u64,
    burst: u64,
    full: u64,
    owed: u64,
}

/// What the script answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Whether the request may go on.
    pub(super) outcome: Outcome,
    /// How far the state of each limit lies ahead of now, in nanoseconds.
    pub(super) ahead: Vec<u64>,
}

/// A question, made ready. It is made before anything is waited for.
pub(super) struct Question {
    keys: Vec<String>,
    asked: Vec<Asked>,
    time: Option<UnixMillis>,
}

impl Question {
    /// About these limits, of which `owed` is not known there yet. `None` where numbers do not fit: no limit that can be
    /// configured is one.
    pub(super) fn new(
        prefix: &str,
        takes: &[Take<'_>],
        owed: &[Option<Owed>],
        now: UnixMillis,
        time: Option<UnixMillis>,
    ) -> Option<Self> {
        let now_ns = now.0.saturating_mul(NS_PER_MS);
        let mut asked = Vec::with_capacity(takes.len());
        for (take, owed) in takes.iter().zip(owed) {
            let interval = take.rate.interval();
            let full = u128::from(take.rate.period_ms) * u128::from(NS_PER_MS) + u128::from(take.rate.count);
            let within = |ns: u128| u64::try_from(ns).ok().filter(|ns| u128::from(*ns) < NS_MAX);
            let full = within(full)?;
            let owed = owed.map_or(0, |owed| owed.tat.saturating_sub(now_ns)).min(full);
            let wanted = within(interval.saturating_mul(take.cost.into()))?;
            let burst = within(interval.saturating_mul(take.rate.count.into()))?;
            asked.push(Asked { wanted, burst, full, owed });
        }
        Some(Self { keys: takes.iter().map(|take| key(prefix, &take.key)).collect(), asked, time })
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(self.keys.len());
        for key in &self.keys {
            command.arg(key);
        }
        match self.time {
            Some(time) => command.arg(time.0),
            None => command.arg(""),
        };
        for asked in &self.asked {
            command.arg(asked.wanted).arg(asked.burst).arg(asked.full).arg(asked.owed);
        }
        command
    }

    /// Asks it there. A server that was restarted, or that dropped the script, is sent its text.
    pub(super) async fn ask(&self, link: &Link) -> Result<Told, Fault> {
        let mut connection = link.connection();
        let command = self.command("EVALSHA", &link.script);
        let answer = match command.query_async::<Value>(&mut connection).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {
                self.command("EVAL", TEXT).query_async::<Value>(&mut connection).await
            }
            answer => answer,
        };
        self.told(&answer.map_err(|error| fault(&error))?).ok_or(Fault::Nonsense)
    }

    fn told(&self, answer: &Value) -> Option<Told> {
        let Value::Array(items) = answer else { return None };
        let number = |item: &Value| if let Value::Int(number) = item { Some(*number) } else { None };
        let numbers: Vec<i64> = items.iter().filter_map(number).collect();
        let [refused, wait, ahead @ ..] = numbers.as_slice() else { return None };
        let ahead: Vec<u64> = ahead.iter().filter_map(|ns| u64::try_from(*ns).ok()).collect();
        if ahead.len() != self.keys.len() || items.len() != numbers.len() {
            return None;
        }
        let outcome = match usize::try_from(*refused).ok()? {
            0 => Outcome::Admitted,
            place if place <= self.keys.len() => {
                Outcome::Refused { index: place - 1, retry_after_ms: u64::try_from(*wait).ok()? }
            }
            _ => return None,
        };
        Some(Told { outcome, ahead })
    }
}

/// Forgets a key. By a state that is past, and not by removing it: the gateway's user need not be able to.
pub(super) async fn forget(prefix: &str, limit: &LimitKey<'_>, link: &Link) -> Result<(), Fault> {
    let mut command = redis::cmd("SET");
    command.arg(key(prefix, limit)).arg("0.000000").arg("PX").arg(1);
    command.query_async::<()>(&mut link.connection()).await.map_err(|error| fault(&error))
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
    name
}

#[cfg(test)]
mod tests {
    use engine::limit::Rate;
    use uuid::Uuid;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn question(rate: Rate, cost: u32, owed: Option<Owed>) -> Option<Question> {
        let take = Take::new(LimitKey::everybody("all"), rate).costing(cost);
        Question::new("cedargate", &[take], &[owed], NOW, None)
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
    }

    #[test]
    fn numbers_that_a_double_does_not_hold_are_not_sent() {
        let day = 86_400_000;
        let asked = |rate, cost, owed| question(rate, cost, owed).map(|question| question.asked[0]);
        let largest = asked(Rate { count: 1_000_000, period_ms: day }, 1, None).unwrap();
        assert_eq!(
            largest,
            Asked { wanted: 86_400_000, burst: 86_400_000_000_000, full: 86_400_001_000_000, owed: 0 }
        );
        assert_eq!(asked(Rate { count: 1, period_ms: 27 * day }, 1, None), None);
        assert_eq!(asked(Rate { count: u32::MAX, period_ms: u64::MAX }, 1, None), None);
        assert_eq!(asked(Rate { count: 1, period_ms: day }, u32::MAX, None), None);
        let owed = |tat| asked(Rate { count: 1, period_ms: 1_000 }, 1, Some(Owed { tat })).unwrap().owed;
        assert_eq!(owed(NOW.0 * NS_PER_MS - 1), 0);
        assert_eq!(owed(NOW.0 * NS_PER_MS + 7), 7);
        assert_eq!(owed(u64::MAX), 1_000_000_001, "never more than the whole");
    }

    #[test]
    fn answers_that_mean_nothing_are_no_answers() {
        let question = question(Rate { count: 1, period_ms: 1_000 }, 1, None).unwrap();
        let array =
            |numbers: &[i64]| Value::Array(numbers.iter().map(|number| Value::Int(*number)).collect());
        let check = |answer: &Value, outcome: Option<Outcome>| {
            assert_eq!(question.told(answer).map(|told| told.outcome), outcome, "{answer:?}");
        };
        check(&array(&[0, -1, 5]), Some(Outcome::Admitted));
        check(&array(&[1, 3, 5]), Some(Outcome::Refused { index: 0, retry_after_ms: 3 }));
        for nonsense in
            [&[][..], &[0], &[0, -1], &[0, -1, 5, 5], &[2, 3, 5], &[-1, 3, 5], &[1, -1, 5], &[0, -1, -5]]
        {
            check(&array(nonsense), None);
        }
        check(&Value::Okay, None);
        check(&Value::Array(vec![Value::Int(0), Value::Int(-1), Value::Int(5), Value::Nil]), None);
    }
}
