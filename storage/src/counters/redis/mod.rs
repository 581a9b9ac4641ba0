//! Counters in a Redis that several gateways share.
//!
//! A request asks once, for all its limits, and waits no longer than the budget. Whether the store answers is found
//! out by [`Redis::tend`], which connects, tries a real take and only then lets requests ask: no request is a trial.
//! An error, or [`LATE_MAX`] late answers in a row, of which those of one stall are one, end that, and the connection with
//! them.
//!
//! While it is away, a table in memory counts. It begins with what the store has last said of each key, and it enforces
//! this gateway's part of each limit (`engine::limit::share`). Both reckon in time, so both say "wholly spent" at the
//! same TAT, and merging is taking the later one: where all gateways are asked alike, that is what they have admitted
//! together; where they are not, it is more. So nobody has a second quota after an outage, and who spoke to one
//! gateway alone may have to wait for longer than a single counter would have made them, by a period at most. What costs
//! more than a part is paid for at the part's pace all the same: of that the store is told no more than the whole limit. Sliding
//! windows do the same with counts: there a take weighs as much as all gateways, and merging is the larger count.

mod alone;
mod behind;
mod leases;
mod owing;
mod packed;
mod script;
mod settings;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use engine::limit::{Left, Rate, left};
use engine::time::UnixMillis;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use self::leases::LeaseSettings;
use self::leases::{Ahead, Leases};
use self::owing::Owing;
use self::script::{Along, Question, Told};
pub use self::settings::RedisSettings;
use super::memory::{Memory, NS_PER_MS, State};
use super::{LimitKey, Looked, Outcome, Stands, Take, Taken, WhenAway};
use crate::redis::{
    Answered, Fault, Finder, IN_FLIGHT_MAX, LATE_MAX, Link, Observer, Pause, STEADY, Standing, Standings,
    Waited, patience,
};

/// How long the store has for what nobody waits for.
const BEHIND: Duration = Duration::from_secs(1);
/// Between two looks at a store that is there: whether it still counts, and what was counted without it.
const LOOK: Duration = Duration::from_millis(250);
/// What marks, in a cluster, the keys of all limits. One request takes from limits of its address and of its principal in
/// one script, and all keys of a script must be on one node (decision 0029).
const TAG: &str = "limits";

pub(super) struct Redis {
    settings: RedisSettings,
    finder: Finder,
    prefix: String,
    observer: Observer,
    memory: Memory,
    owing: Owing,
    leases: Option<Leases>,
    began: Instant,
    link: RwLock<Option<Arc<Link>>>,
    standing: watch::Sender<Standings>,
    lost: Notify,
    in_flight: AtomicUsize,
}

/// One of the questions that may be under way.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Redis {
    pub(super) fn new(settings: RedisSettings, observer: Observer) -> Self {
        let prefix = settings.place.together(TAG);
        Self {
            finder: Finder::new(settings.place.clone(), &prefix),
            prefix,
            memory: Memory::owing(settings.memory_bytes, settings.gateways),
            leases: settings.leases.map(Leases::new),
            began: Instant::now(),
            settings,
            observer,
            owing: Owing::default(),
            link: RwLock::default(),
            standing: watch::Sender::default(),
            lost: Notify::new(),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub(super) fn standing(&self) -> watch::Receiver<Standings> {
        self.standing.subscribe()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.memory.evicted()
    }

    pub(super) async fn take(&self, takes: &[Take<'_>], now: UnixMillis) -> Taken {
        // No answer from anywhere changes this one.
        if let Some(index) = takes.iter().position(|take| !take.tried && take.cost > take.rate.count) {
            let never = Outcome::Refused { index, retry_after_ms: u64::MAX };
            return Taken::all(never).leaving(takes, |take| self.memory.left(take, now));
        }
        let Some(link) = self.link() else { return self.unasked(Answered::Away, takes, now) };
        let Some(_place) = self.place() else { return self.unasked(Answered::Crowded, takes, now) };
        let asking =
            self.leasing(takes).map(|leases| leases.ask(takes, |take| self.hash(take), self.at(now)));
        let along = match &asking {
            Some(asking) => self.along(takes, asking.ahead().iter().copied(), now),
            None => self.along(takes, takes.iter().map(|take| self.unleased(take)), now),
        };
        let begun = Instant::now();
        let budget = self.settings.budget;
        let answer = self.ask(&link, takes, &along, now, budget).await;
        let waited = Some(Waited::within(budget, begun.elapsed()));
        match answer {
            Ok(told) => {
                link.answered();
                (self.observer)(Answered::Answered, waited);
                if let Some(asking) = asking {
                    asking.granted(takes, &told.leased, told.now_ms);
                }
                let taken = Taken { over: told.over, ..Taken::all(told.outcome) };
                // By what the store has refused with: what is leased besides is no part of that.
                let Outcome::Refused { index, .. } = told.outcome else { return taken };
                let Some(kept) = told.kept.get(index) else { return taken };
                taken.leaving(takes, |take| stands(take, *kept, now))
            }
            Err(fault) => {
                let late = fault == Fault::Late;
                (self.observer)(if late { Answered::Late } else { Answered::Failed }, waited);
                // A limit that the script cannot reckon with says nothing about the store.
                if fault != Fault::Settings && (!late || link.was_late(begun) >= LATE_MAX) {
                    self.lose(&link, fault);
                }
                self.without(takes, now)
            }
        }
    }

    /// Whether what was leased before is enough for a request: then it was spent, and the store need not be asked, whether
    /// or not it is there.
    pub(super) fn spends_ahead(&self, takes: &[Take<'_>], now: UnixMillis) -> bool {
        let Some(leases) = self.leasing(takes) else { return false };
        let spent = leases.spend(takes, |take| self.hash(take), self.at(now));
        if spent {
            (self.observer)(Answered::Leased, None);
        }
        spent
    }

    /// The leases, where all of these may be leased.
    fn leasing(&self, takes: &[Take<'_>]) -> Option<&Leases> {
        self.leases.as_ref().filter(|leases| leases.serve(takes))
    }

    fn hash(&self, take: &Take<'_>) -> [u64; 2] {
        self.memory.hash(&take.key)
    }

    /// How limits stand. Nobody's request waits for it.
    pub(super) async fn look(&self, takes: &[Take<'_>], now: UnixMillis) -> Looked {
        match self.asked_nothing(takes, now).await {
            Ok(kept) => {
                let stands = |(take, kept): (&Take<'_>, State)| Stands::Counted(stands(take, kept, now));
                Looked { limits: takes.iter().zip(kept).map(stands).collect(), away: None }
            }
            Err(fault) => {
                let stands = |take: &Take<'_>| match take.away {
                    WhenAway::Local => Stands::Counted(self.left_of_part(take, now)),
                    WhenAway::Open => Stands::Open,
                    WhenAway::Closed => Stands::Closed,
                };
                Looked { limits: takes.iter().map(stands).collect(), away: Some(fault) }
            }
        }
    }

    /// How a limit stands by the store's last word of it, where there is one, or by what this gateway counts without it.
    pub(super) fn known(&self, take: &Take<'_>, now: UnixMillis) -> Option<Left> {
        if self.link().is_none() {
            return (take.away == WhenAway::Local).then(|| self.left_of_part(take, now));
        }
        let left = self.memory.last_word(take, now)?;
        let leases = self.leases.as_ref();
        let held = leases.map_or(0, |leases| leases.held(self.hash(take), take, self.at(now)));
        Some(Left { count: left.count.saturating_add(held).min(left.of), ..left })
    }

    /// The states, by a take of nothing.
    async fn asked_nothing(&self, takes: &[Take<'_>], now: UnixMillis) -> Result<Vec<State>, Fault> {
        let link = self.link().ok_or_else(|| self.fault())?;
        let nothing: Vec<Take<'_>> = takes.iter().map(|take| take.costing(0)).collect();
        let back = |take| {
            let hash = self.hash(take);
            (hash, Ahead { lease: 0, back: self.leases.as_ref().and_then(|leases| leases.give_up(hash)) })
        };
        let along = self.along(takes, takes.iter().map(back), now);
        self.ask(&link, &nothing, &along, now, BEHIND).await.map(|told| told.kept)
    }

    /// Forgets what was taken under a key, here and there. Other gateways keep what they would begin with if the store
    /// went away.
    pub(super) async fn reset(&self, key: &LimitKey<'_>) -> Result<(), Fault> {
        self.memory.forget(key);
        if let Some(leases) = &self.leases {
            leases.give_up(self.memory.hash(key));
        }
        let link = self.link().ok_or_else(|| self.fault())?;
        let done = script::forget(&self.prefix, key, &link);
        tokio::time::timeout(BEHIND, done).await.unwrap_or(Err(Fault::Late))
    }

    /// Why the store does not count.
    fn fault(&self) -> Fault {
        self.standing.borrow().last.unwrap_or(Fault::Unreachable)
    }

    fn unasked(&self, why: Answered, takes: &[Take<'_>], now: UnixMillis) -> Taken {
        (self.observer)(why, None);
        self.without(takes, now)
    }

    fn link(&self) -> Option<Arc<Link>> {
        self.link.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn place(&self) -> Option<Place<'_>> {
        let place = Place(&self.in_flight);
        // Counted before it is looked at, so that no two take the last one; taken back as it is dropped.
        (self.in_flight.fetch_add(1, Ordering::Relaxed) < IN_FLIGHT_MAX).then_some(place)
    }

    /// What goes along with each take, by the hash of its key: what was counted here and is not known there, and what is
    /// leased.
    fn along(
        &self,
        takes: &[Take<'_>],
        keys: impl Iterator<Item = ([u64; 2], Ahead)>,
        now: UnixMillis,
    ) -> Vec<Along> {
        let along = |(take, (hash, ahead)): (&Take<'_>, _)| {
            let owed = self.memory.owed(hash, take, now);
            Along { hash, owed, ahead }
        };
        takes.iter().zip(keys).map(along).collect()
    }

    /// The hash of a key of which nothing is leased with the question.
    fn unleased(&self, take: &Take<'_>) -> ([u64; 2], Ahead) {
        (self.hash(take), Ahead::default())
    }

    /// Asks, for so long at most, and remembers what was said.
    async fn ask(
        &self,
        link: &Link,
        takes: &[Take<'_>],
        along: &[Along],
        now: UnixMillis,
        budget: Duration,
    ) -> Result<Told, Fault> {
        // Half of what is left, if all gateways lease at once.
        let parts = self.settings.gateways.saturating_mul(2);
        let question =
            Question::new(&self.prefix, takes, along, parts, now, self.time(now)).ok_or(Fault::Settings)?;
        let told = patience::within(budget, question.ask(link)).await.unwrap_or(Err(Fault::Late))?;
        for ((take, along), kept) in takes.iter().zip(along).zip(&told.kept) {
            let (told, falls) = (along.owed, along.ahead.back.is_some());
            self.memory.settle(along.hash, take, (told, falls), *kept, now);
        }
        Ok(told)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests give the time, and nobody else")]
    const fn time(&self, _now: UnixMillis) -> Option<UnixMillis> {
        None
    }

    #[cfg(test)]
    fn time(&self, now: UnixMillis) -> Option<UnixMillis> {
        self.settings.given_time.then_some(now)
    }

    /// Now, by a clock that never goes back: in milliseconds since this was made.
    fn at(&self, now: UnixMillis) -> u64 {
        let passed = || u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.time(now).map_or_else(passed, |given| given.0)
    }

    /// Requests ask on this connection no longer.
    fn lose(&self, link: &Arc<Link>, fault: Fault) {
        let mut current = self.link.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            *current = None;
            self.standing.send_modify(|standings| standings.leaves(fault));
            self.lost.notify_one();
        }
    }

    /// Keeps the store connected. Ends when it is dropped.
    pub(super) async fn tend(&self) -> Infallible {
        let mut pause = Pause::default();
        loop {
            match self.connected().await {
                Ok(link) => {
                    let since = Instant::now();
                    self.serve(&link).await;
                    if since.elapsed() >= STEADY {
                        pause = Pause::default();
                    }
                }
                Err(fault) => self.standing.send_modify(|standings| standings.leaves(fault)),
            }
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// A connection over which a take was answered in time, after the store was told what it has missed.
    async fn connected(&self) -> Result<Arc<Link>, Fault> {
        let link = self.finder.connect(script::TEXT).await?;
        self.trial(&link).await?;
        self.merge(&link).await?;
        Ok(Arc::new(link))
    }

    /// A take of our own, a real one: a store that can be read and not written, or that is full, would answer anything
    /// else.
    async fn trial(&self, link: &Link) -> Result<(), Fault> {
        let trial = Take::new(LimitKey::everybody("trial"), Rate { count: 1_000, period_ms: 1_000 });
        let now = (self.settings.clock)();
        let along = self.along(&[trial], std::iter::once(self.unleased(&trial)), now);
        self.ask(link, &[trial], &along, now, self.settings.budget).await.map(drop)
    }

    /// Lets requests ask until the connection is lost. Where nobody asks, a trial finds that out.
    async fn serve(&self, link: &Arc<Link>) {
        {
            let mut current = self.link.write().unwrap_or_else(PoisonError::into_inner);
            *current = Some(link.clone());
            self.standing.send_modify(|standings| standings.now = Standing::Up);
        }
        let moved = self.finder.moved();
        tokio::pin!(moved);
        loop {
            tokio::select! {
                () = self.lost.notified() => return,
                () = &mut moved => {
                    self.lose(link, Fault::Moved);
                    return self.lost.notified().await;
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            let asked = Instant::now();
            let looked = match self.trial(link).await {
                Ok(()) => {
                    link.answered();
                    self.brought_up_to_date(link).await
                }
                Err(Fault::Late) if link.was_late(asked) < LATE_MAX => Ok(()),
                Err(fault) => Err(fault),
            };
            if let Err(fault) = looked {
                self.lose(link, fault);
            }
        }
    }
}

/// How a limit stands by what the store keeps of it.
fn stands(take: &Take<'_>, kept: State, now: UnixMillis) -> Left {
    match kept {
        State::Tat(tat) => {
            let ahead = tat > now.0.saturating_mul(NS_PER_MS);
            left(take.rate, ahead.then_some(tat), now)
        }
        State::Window(window) => window.left(take.rate, now),
    }
}
