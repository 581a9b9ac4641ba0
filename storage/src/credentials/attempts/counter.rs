//! One counter, and what time and attempts do to it. `attempts.lua` does the same where gateways share counters.

use engine::time::UnixMillis;

use super::AttemptRules;

/// The first wait, in milliseconds.
pub(super) const WAIT_MS: u64 = 1_000;
/// The longest wait, in milliseconds.
pub(super) const WAIT_MS_MAX: u64 = 60_000;
/// Failures are forgotten after this long without an attempt: a day, in milliseconds.
pub(super) const FORGET_MS: u64 = 24 * 3600 * 1000;

#[derive(Clone, Copy)]
pub(super) struct Counter {
    pub(super) failures: u32,
    /// Attempts that came before their wait was over: they count towards the lock, and make no wait longer.
    pub(super) hurried: u32,
    pub(super) last: UnixMillis,
    pub(super) locked_until: UnixMillis,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// It is granted, and counted as failed.
    Granted {
        /// Whether waiting and a lock come next.
        warned: bool,
    },
    /// Not yet: milliseconds until the next is granted.
    Slow(u64),
    /// Not for some time: when the lock ends.
    Locked(UnixMillis),
}

impl AttemptRules {
    pub(super) fn lock_at(&self) -> u32 {
        self.attempts_max.saturating_mul(2)
    }

    fn wait_ms(&self, failures: u32) -> u64 {
        match failures.checked_sub(self.attempts_max) {
            None => 0,
            Some(doublings) => (WAIT_MS << doublings.min(16)).min(WAIT_MS_MAX),
        }
    }
}

impl Counter {
    pub(super) const fn new(now: UnixMillis) -> Self {
        Self { failures: 0, hurried: 0, last: now, locked_until: UnixMillis(0) }
    }

    pub(super) const fn row(&self) -> (u32, u32, u64, u64) {
        (self.failures, self.hurried, self.last.0, self.locked_until.0)
    }

    /// Counts an attempt. A counter that is locked is left as it is.
    pub(super) fn attempt(&mut self, rules: &AttemptRules, now: UnixMillis) -> Counted {
        self.settle(rules, now);
        if now < self.locked_until {
            return Counted::Locked(self.locked_until);
        }
        let wait = rules.wait_ms(self.failures);
        let waited = now.since(self.last);
        if waited < wait {
            self.hurried = self.hurried.saturating_add(1);
            self.lock(rules, now);
            return if now < self.locked_until {
                Counted::Locked(self.locked_until)
            } else {
                Counted::Slow(wait - waited)
            };
        }
        self.failures += 1;
        self.last = now;
        self.lock(rules, now);
        Counted::Granted { warned: self.failures >= rules.attempts_max }
    }

    /// An attempt that was granted did not happen.
    pub(super) fn give_back(&mut self, rules: &AttemptRules) {
        self.failures = self.failures.saturating_sub(1);
        if self.total() < rules.lock_at() {
            self.locked_until = UnixMillis(0);
        }
    }

    const fn total(&self) -> u32 {
        self.failures.saturating_add(self.hurried)
    }

    fn lock(&mut self, rules: &AttemptRules, now: UnixMillis) {
        if self.total() >= rules.lock_at() {
            self.locked_until = now.plus(rules.lockout_ms);
        }
    }

    /// What time has done to it.
    fn settle(&mut self, rules: &AttemptRules, now: UnixMillis) {
        // A clock that went back must not make anybody wait longer than the rules say.
        self.last = self.last.min(now);
        self.locked_until = self.locked_until.min(now.plus(rules.lockout_ms));
        if now < self.locked_until {
            return;
        }
        if self.total() >= rules.lock_at() {
            // The lock has ended; the waiting has not.
            (self.failures, self.hurried) = (rules.attempts_max, 0);
        }
        if now.since(self.last) >= FORGET_MS {
            (self.failures, self.hurried) = (0, 0);
        }
    }

    /// The higher, the more would be lost with it.
    pub(super) fn weight(&self, now: UnixMillis) -> (bool, u32, UnixMillis) {
        (now < self.locked_until, self.total(), self.last)
    }
}
