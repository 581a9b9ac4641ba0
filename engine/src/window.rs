//! A sliding window: never more than N in any period P; the time is an argument.
//!
//! The period is counted in [`PARTS`] parts and the one that goes on, so that what is spent now holds everything that
//! was admitted within the last P. What was admitted is forgotten when its part has left, which is late by one part at
//! most: by P/20, and by 20 ms more where P is no multiple of 20 ms. So it admits never more than N in any P, and no
//! less than N in any P and a part, if they are asked for.

use crate::limit::{Left, Rate};
use crate::time::UnixMillis;

/// Parts of a period. More would forget sooner, and take more memory for each key.
pub const PARTS: usize = 20;
/// Parts that are counted: the period's, and the one that goes on.
pub const COUNTED: usize = PARTS + 1;

/// What was admitted lately under one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Milliseconds of a part; 0 before anything was admitted.
    width_ms: u64,
    /// The newest part that is counted, since 1970.
    part: u64,
    /// How much was admitted in each, the newest first.
    counts: [u32; COUNTED],
}

/// What a window answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slid {
    /// It may happen, and this is the state to keep.
    Admit(Window),
    /// It may not happen yet; the state stays as it is.
    Refuse {
        /// Milliseconds after which the same would be admitted, if nothing else is in between. Exact: one millisecond
        /// earlier it would be refused. `u64::MAX` if it never will.
        retry_after_ms: u64,
    },
}

/// Milliseconds of a part of this limit's period, rounded up, so that no period is longer than its parts.
#[must_use]
pub fn width_ms(rate: Rate) -> u64 {
    rate.period_ms.div_ceil(PARTS as u64).max(1)
}

impl Window {
    /// A state as another store tells it: how many milliseconds of the newest part had passed there, and what was
    /// admitted in each part. Where less of it has passed there than here, parts count as one newer than they are
    /// called, so that nothing is forgotten early.
    #[must_use]
    pub fn told(rate: Rate, now: UnixMillis, passed_ms: u64, counts: &[u32]) -> Self {
        let width_ms = width_ms(rate);
        let newer = usize::from(now.0 % width_ms > passed_ms);
        let mut window = Self { width_ms, part: now.0 / width_ms, counts: [0; COUNTED] };
        for (at, count) in counts.iter().take(COUNTED).enumerate() {
            if let Some(kept) = window.counts.get_mut(at.saturating_sub(newer)) {
                *kept = kept.saturating_add(*count);
            }
        }
        window
    }

    /// The state at this time. What was counted in parts of another width, because the limit was another, and what a
    /// clock that went back has left, counts as admitted now at the latest: nobody waits for longer than a period and a
    /// part.
    #[must_use]
    pub fn at(&self, rate: Rate, now: UnixMillis) -> Self {
        let aged = self.aged(now);
        let width_ms = width_ms(rate);
        if width_ms == aged.width_ms {
            return aged;
        }
        let mut counts = [0; COUNTED];
        if let Some(newest) = counts.first_mut() {
            *newest = u32::try_from(aged.spent()).unwrap_or(u32::MAX);
        }
        Self { width_ms, part: now.0 / width_ms, counts }
    }

    /// The state of a limit that has been this one since then: of what counted at that moment in parts of another width, all
    /// was admitted in that moment.
    #[must_use]
    pub fn since(&self, rate: Rate, since: UnixMillis) -> Self {
        if self.is_of(rate) { *self } else { self.at(rate, since) }
    }

    /// Whether its newest part has not begun yet: a clock that went back has left it.
    #[must_use]
    pub fn is_ahead(&self, now: UnixMillis) -> bool {
        now.0.checked_div(self.width_ms).is_some_and(|part| part < self.part)
    }

    /// Whether it is counted in parts of this limit, or nothing is.
    #[must_use]
    pub fn is_of(&self, rate: Rate) -> bool {
        self.width_ms == 0 || self.width_ms == width_ms(rate)
    }

    /// The state after so much more at this time, in the parts that it is counted in: by whatever limit that was admitted.
    #[must_use]
    pub fn counting(&self, now: UnixMillis, cost: u32) -> Self {
        let mut window = self.aged(now);
        if let Some(newest) = window.counts.first_mut() {
            *newest = newest.saturating_add(cost);
        }
        window
    }

    /// Without the parts that have left.
    fn aged(&self, now: UnixMillis) -> Self {
        let Some(part) = now.0.checked_div(self.width_ms) else { return Self::default() };
        let passed = usize::try_from(part.saturating_sub(self.part)).unwrap_or(usize::MAX);
        let mut counts = [0; COUNTED];
        for (kept, count) in counts.iter_mut().skip(passed).zip(self.counts) {
            *kept = count;
        }
        Self { width_ms: self.width_ms, part, counts }
    }

    /// Asks for `cost` at `now`.
    #[must_use]
    pub fn take(&self, rate: Rate, now: UnixMillis, cost: u32) -> Slid {
        if cost > rate.count {
            return Slid::Refuse { retry_after_ms: u64::MAX };
        }
        let mut window = self.at(rate, now);
        if window.spent() + u64::from(cost) <= u64::from(rate.count) {
            if let Some(newest) = window.counts.first_mut() {
                *newest = newest.saturating_add(cost);
            }
            return Slid::Admit(window);
        }
        Slid::Refuse { retry_after_ms: window.wait(rate, now, cost) }
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn left(&self, rate: Rate, now: UnixMillis) -> Left {
        let window = self.at(rate, now);
        let count = u64::from(rate.count).saturating_sub(window.spent());
        let next_ms = match window.take(rate, now, 1) {
            Slid::Admit(_) => 0,
            Slid::Refuse { retry_after_ms } => retry_after_ms,
        };
        let full_ms = window.ends_ms().saturating_sub(now.0);
        Left { count: u32::try_from(count).unwrap_or(u32::MAX), of: rate.count, next_ms, full_ms }
    }

    /// Of two accounts of one key, in each part the larger.
    #[must_use]
    pub fn merged(&self, other: &Self, rate: Rate, now: UnixMillis) -> Self {
        let (mut merged, other) = (self.at(rate, now), other.at(rate, now));
        for (kept, count) in merged.counts.iter_mut().zip(other.counts) {
            *kept = (*kept).max(count);
        }
        merged
    }

    /// Milliseconds since 1970 at which nothing of it counts any more; 0 where nothing does.
    #[must_use]
    pub fn ends_ms(&self) -> u64 {
        self.counts.iter().position(|count| *count > 0).map_or(0, |newest| self.leaves_ms(newest))
    }

    /// What was admitted in each part, the newest first, without those behind the last that has any.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        let behind = self.counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.counts.get(..behind).unwrap_or_default()
    }

    fn spent(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// When so much has left that `cost` fits.
    fn wait(&self, rate: Rate, now: UnixMillis, cost: u32) -> u64 {
        let mut spent = self.spent();
        for (at, count) in self.counts.iter().enumerate().rev() {
            spent -= u64::from(*count);
            if spent + u64::from(cost) <= u64::from(rate.count) {
                return self.leaves_ms(at).saturating_sub(now.0);
            }
        }
        u64::MAX
    }

    /// When a part is counted no longer, by its place.
    fn leaves_ms(&self, at: usize) -> u64 {
        let part = self.part.saturating_sub(at as u64);
        part.saturating_add(COUNTED as u64).saturating_mul(self.width_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_767_787_200_000;
    const MINUTE: Rate = Rate { count: 3, period_ms: 60_000 };

    /// Sends costs at times (milliseconds after `START`) and says at which of them how much was admitted.
    fn admitted(rate: Rate, arrivals: &[(u64, u32)]) -> Vec<(u64, u32)> {
        let mut window = Window::default();
        let mut admitted = Vec::new();
        for (at, cost) in arrivals {
            if let Slid::Admit(next) = window.take(rate, UnixMillis(START + at), *cost) {
                window = next;
                admitted.push((*at, *cost));
            }
        }
        admitted
    }

    #[test]
    fn a_whole_limit_at_once_and_nothing_more_until_it_is_forgotten() {
        let check = |arrivals: &[u64], expected: &[u64]| {
            let arrivals: Vec<(u64, u32)> = arrivals.iter().map(|at| (*at, 1)).collect();
            let told: Vec<u64> = admitted(MINUTE, &arrivals).into_iter().map(|(at, _)| at).collect();
            assert_eq!(told, expected);
        };
        // A part is 3 s: what came at 0 is forgotten at 63 s.
        check(&[0, 0, 0, 0, 59_999, 60_000, 62_999, 63_000, 63_000], &[0, 0, 0, 63_000, 63_000]);
        check(&[0, 30_000, 45_000, 60_000, 63_000, 92_999, 93_000], &[0, 30_000, 45_000, 63_000, 93_000]);
        check(&[2_999, 2_999, 2_999, 62_999, 63_000], &[2_999, 2_999, 2_999, 63_000]);
    }

    #[test]
    fn the_ends_of_limits_and_of_time() {
        let never = Slid::Refuse { retry_after_ms: u64::MAX };
        let fresh = Window::default();
        assert_eq!(fresh.take(MINUTE, UnixMillis(START), 4), never);
        assert_eq!(fresh.take(Rate { count: 0, period_ms: 1 }, UnixMillis(START), 1), never);
        assert!(matches!(fresh.take(MINUTE, UnixMillis(u64::MAX), 3), Slid::Admit(_)));
        assert!(matches!(fresh.take(Rate::NONE, UnixMillis(0), u32::MAX), Slid::Admit(_)));
        let full = |window: &Window, now| window.take(MINUTE, now, 1);
        let Slid::Admit(spent) = fresh.take(MINUTE, UnixMillis(START), 3) else { panic!("it is empty") };
        // A clock that goes back by a day frees nobody, and makes nobody wait for longer than a period and a part.
        let day_before = UnixMillis(START - 86_400_000);
        assert_eq!(full(&spent, day_before), Slid::Refuse { retry_after_ms: 63_000 });
        // Another period: what was spent counts as spent now.
        let hour = Rate { count: 3, period_ms: 3_600_000 };
        assert_eq!(spent.take(hour, UnixMillis(START), 1), Slid::Refuse { retry_after_ms: 3_780_000 });
        // And as spent at the moment at which it became that, however late somebody asks.
        let (later, moment) = (UnixMillis(START + 600_000), UnixMillis(START + 1_000));
        assert_eq!(
            spent.since(hour, moment).take(hour, later, 1),
            Slid::Refuse { retry_after_ms: 3_180_000 }
        );
        assert!(matches!(spent.take(hour, later, 3), Slid::Admit(_)), "which it would not know by itself");
        assert_eq!(spent.since(MINUTE, later), spent, "the same limit has no such moment");
        assert_eq!(fresh.since(hour, moment), fresh);
        // Told by a store whose clock is elsewhere in its part, nothing is forgotten early.
        let told = |passed| Window::told(MINUTE, UnixMillis(START + 1_000), passed, &[0, 3]);
        assert_eq!(told(1_000).ends_ms(), START + 60_000);
        assert_eq!(told(999).ends_ms(), START + 63_000);
        assert_eq!(Window::told(MINUTE, UnixMillis(START), 0, &[7; 50]).spent(), 7 * COUNTED as u64);
        assert_eq!(Window::default().ends_ms(), 0);
    }

    fn cases() -> impl Strategy<Value = (Rate, Vec<(u64, u32)>)> {
        let rate = (1_u32..40, 1_u64..5_000).prop_map(|(count, period_ms)| Rate { count, period_ms });
        let gap = prop_oneof![Just(0_u64), 0_u64..20, 0_u64..400, 0_u64..6_000];
        (rate, prop::collection::vec((gap, 1_u32..5), 1..200)).prop_map(|(rate, gaps)| {
            let mut at = 0;
            let arrivals = gaps.into_iter().map(|(gap, cost)| {
                at += gap;
                (at, cost)
            });
            (rate, arrivals.collect())
        })
    }

    proptest! {
        #[test]
        fn no_period_holds_more_than_the_limit_and_none_waits_for_longer_than_a_part_more(
            (rate, arrivals) in cases(),
        ) {
            let (mut window, mut log) = (Window::default(), Vec::<(u64, u32)>::new());
            let late = COUNTED as u64 * width_ms(rate);
            for (at, cost) in arrivals {
                let within = |span: u64| -> u64 {
                    log.iter().filter(|(then, _)| at - then < span).map(|(_, cost)| u64::from(*cost)).sum()
                };
                let now = UnixMillis(START + at);
                match window.take(rate, now, cost) {
                    Slid::Admit(next) => {
                        prop_assert!(within(rate.period_ms) + u64::from(cost) <= u64::from(rate.count));
                        window = next;
                        log.push((at, cost));
                    }
                    Slid::Refuse { retry_after_ms: u64::MAX } => prop_assert!(cost > rate.count),
                    Slid::Refuse { retry_after_ms } => {
                        // A log that remembers for a part more would refuse as well.
                        prop_assert!(within(late) + u64::from(cost) > u64::from(rate.count));
                        prop_assert!(retry_after_ms <= late);
                        let admits = |ms| matches!(window.take(rate, now.plus(ms), cost), Slid::Admit(_));
                        prop_assert!(admits(retry_after_ms) && !admits(retry_after_ms - 1));
                    }
                }
                let left = window.left(rate, now);
                let admits = |ms, cost| matches!(window.take(rate, now.plus(ms), cost), Slid::Admit(_));
                prop_assert!(admits(0, left.count) && !admits(0, left.count + 1));
                prop_assert!(admits(left.next_ms, 1) && (left.next_ms == 0 || !admits(left.next_ms - 1, 1)));
                prop_assert!(admits(left.full_ms, rate.count));
                prop_assert!(left.full_ms == 0 || !admits(left.full_ms - 1, rate.count));
            }
        }

        #[test]
        fn no_argument_overflows(
            count: u32, period_ms: u64, now: u64, later: u64, cost: u32, counts in prop::collection::vec(any::<u32>(), 0..30),
        ) {
            let rate = Rate { count, period_ms };
            let window = Window::told(rate, UnixMillis(now), later, &counts);
            let at = UnixMillis(now.wrapping_add(later));
            prop_assert!(window.left(rate, at).count <= count);
            if let Slid::Admit(next) = window.take(rate, at, cost) {
                prop_assert!(next.spent() <= u64::from(count));
                prop_assert!(next.merged(&window, rate, at).spent() >= next.spent());
            }
        }
    }
}
