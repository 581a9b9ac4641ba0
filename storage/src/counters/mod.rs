//! Counters: how often somebody did something lately.
//!
//! The contract that every adapter keeps (`contract.rs`):
//! - all limits of a request are taken together: one that refuses leaves every other unspent.
//! - what is admitted under one key never exceeds its [`Rate`], however many ask at the same time; under a sliding key
//!   (`engine::window`) never its count in any of its periods.
//! - of several limits that refuse, the one that makes the client wait longest answers.
//! - whoever waits for as long as they were told is admitted, and nobody sooner, whatever others of the same key cost.
//! - a clock that goes back makes nobody wait longer than a period, or than the whole of a limit takes where a gateway
//!   enforces its part of it.
//! - a limit that becomes another gives nobody a second quota and makes nobody wait longer than it says: who has spent a
//!   part of it has spent that part of the new one, and in a window what was admitted stays admitted. Takes by the older
//!   one that come later take their part of the same.
//!
//! Two adapters keep it: memory, for one gateway, and a Redis that several share. A shared one is asked within a budget;
//! while it does not answer, each limit does as its [`WhenAway`] says.

#[cfg(test)]
mod contract;
mod hashed;
mod memory;
mod redis;
mod windows;

use std::net::IpAddr;

use engine::limit::{Left, Rate};
use engine::time::UnixMillis;
use uuid::Uuid;

use self::redis::Redis;
pub use self::redis::{LeaseSettings, RedisSettings};
use crate::address_bucket;
use crate::redis::{Observer, Standings};
use memory::Memory;

/// Bytes of counters in memory, unless configured otherwise: 16 MiB, which is 699,392 keys.
pub const MEMORY_BYTES_DEFAULT: usize = 16 * 1024 * 1024;

/// Where counters are kept.
pub struct Counters {
    adapter: Adapter,
}

/// Closed: a counter store is security code, and its failure has to be configured.
enum Adapter {
    Memory(Memory),
    Redis(Box<Redis>),
}

/// Whose counter of which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitKey<'a> {
    limit: &'a str,
    subject: Subject,
    sliding: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Address(IpAddr),
    Principal(Uuid),
    Everybody,
}

/// One limit that a request spends from.
#[derive(Clone, Copy, Debug)]
pub struct Take<'a> {
    /// Whose counter of which limit.
    pub key: LimitKey<'a>,
    /// The limit.
    pub rate: Rate,
    /// How much of it, usually 1.
    pub cost: u32,
    /// What it does while a shared store is away.
    pub away: WhenAway,
    /// The period of the whole limit, in milliseconds, also where `rate` is a part of it.
    period_ms: u64,
    /// How far a state of it may lie ahead, in milliseconds: the period, of a part of a limit as much as all of the limit
    /// takes there.
    farthest_ms: u64,
    /// Since when the limit is what it is; `None` where it always was.
    since: Option<UnixMillis>,
    /// Whether it is only tried out.
    tried: bool,
}

/// What a limit does while the store that gateways share is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// Each gateway enforces its part of it, and tells the store when it is back.
    #[default]
    Local,
    /// It limits nothing.
    Open,
    /// It admits nothing.
    Closed,
}

impl<'a> Take<'a> {
    /// Takes 1 of a limit, which each gateway enforces its part of while a shared store is away.
    #[must_use]
    pub const fn new(key: LimitKey<'a>, rate: Rate) -> Self {
        Self {
            key,
            rate,
            cost: 1,
            away: WhenAway::Local,
            period_ms: rate.period_ms,
            farthest_ms: rate.period_ms,
            since: None,
            tried: false,
        }
    }

    /// The limit has been what it is since then: of what was taken before, by the same limit with another period, the same
    /// part of it counts as taken.
    #[must_use]
    pub const fn since(self, since: UnixMillis) -> Self {
        Self { since: Some(since), ..self }
    }

    /// Takes so much of it.
    #[must_use]
    pub const fn costing(self, cost: u32) -> Self {
        Self { cost, ..self }
    }

    /// Is only tried out: it is spent where the others let the request through, each for itself, and refuses nobody. In a
    /// request those come last.
    #[must_use]
    pub const fn tried(self) -> Self {
        Self { tried: true, ..self }
    }

    /// Does this while a shared store is away.
    #[must_use]
    pub const fn when_away(self, away: WhenAway) -> Self {
        Self { away, ..self }
    }
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may, and every limit was spent from.
    Admitted,
    /// It may not, and no limit was spent from.
    Refused {
        /// Which of the limits refused, by its place in the request; of several, the tightest.
        index: usize,
        /// Milliseconds after which this limit would admit it.
        retry_after_ms: u64,
    },
    /// It may not, because the shared store is away and a limit is closed without it. No limit was spent from.
    Away,
}

/// What became of a request, with limits that are only tried out among those that it takes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// By those that refuse.
    pub outcome: Outcome,
    /// How much is left of the limit that refused, by the count that refused: less than the request takes of it, and so 0
    /// where that is 1. 0 where none has refused.
    pub left: u32,
    /// Which of the others would have refused it, by their places in the request; none where it was refused.
    pub over: Vec<usize>,
}

/// How limits stand, told without taking from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Each, in the order that was asked in.
    pub limits: Vec<Stands>,
    /// Why a shared store does not count. Then this is what this gateway holds by itself.
    pub away: Option<crate::redis::Fault>,
}

/// How one limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// So much of it is left.
    Counted(Left),
    /// It limits nothing while the shared store is away.
    Open,
    /// It admits nothing while the shared store is away.
    Closed,
}

impl Counters {
    /// Counters in memory that take `bytes` at most, made at once and never more. They begin anew with the
    /// process.
    #[must_use]
    pub fn memory(bytes: usize) -> Self {
        Self { adapter: Adapter::Memory(Memory::new(bytes)) }
    }

    /// Counters in a Redis that several gateways share. It is connected to by [`Counters::tend`] alone, so that nothing
    /// here waits for a connection.
    #[must_use]
    pub fn redis(settings: RedisSettings, observer: Observer) -> Self {
        Self { adapter: Adapter::Redis(Box::new(Redis::new(settings, observer))) }
    }

    /// Takes from all limits of a request, or from none.
    pub async fn take(&self, takes: &[Take<'_>], now: UnixMillis) -> Outcome {
        self.take_all(takes, now).await.outcome
    }

    /// The same, and says what limits that are only tried out would have done. A shared store is asked for all of them
    /// together.
    pub async fn take_all(&self, takes: &[Take<'_>], now: UnixMillis) -> Taken {
        match self.at_once(takes, now) {
            Ok(taken) => taken,
            // Boxed, so that whoever counts in memory does not carry what waits for a server.
            Err(redis) => Box::pin(redis.take(takes, now)).await,
        }
    }

    /// The same, without waiting, where nobody has to be asked: in memory always, and of a shared store where what was leased of it is enough.
    /// `None` has taken nothing.
    #[must_use]
    pub fn take_at_once(&self, takes: &[Take<'_>], now: UnixMillis) -> Option<Taken> {
        self.at_once(takes, now).ok()
    }

    /// The same, or who has to be asked.
    fn at_once(&self, takes: &[Take<'_>], now: UnixMillis) -> Result<Taken, &Redis> {
        match &self.adapter {
            Adapter::Memory(memory) => {
                Ok(Taken::of(takes, |takes| memory.take(takes, now), |take| memory.left(take, now)))
            }
            Adapter::Redis(redis) if redis.spends_ahead(takes, now) => Ok(Taken::all(Outcome::Admitted)),
            Adapter::Redis(redis) => Err(redis),
        }
    }

    /// How limits stand. Nothing is taken from them; what this gateway has leased of them goes back first.
    pub async fn look(&self, takes: &[Take<'_>], now: UnixMillis) -> Looked {
        match &self.adapter {
            Adapter::Memory(memory) => {
                let stands = |take: &Take<'_>| Stands::Counted(memory.left(take, now));
                Looked { limits: takes.iter().map(stands).collect(), away: None }
            }
            Adapter::Redis(redis) => redis.look(takes, now).await,
        }
    }

    /// What is known here of a limit that was just taken from, without asking anybody: of a shared store its last word,
    /// and what of it is leased; `None` where the limit does not count because that store is away, and where what stands here
    /// is not what that store says.
    #[must_use]
    pub fn known(&self, take: &Take<'_>, now: UnixMillis) -> Option<Left> {
        match &self.adapter {
            Adapter::Memory(memory) => Some(memory.left(take, now)),
            Adapter::Redis(redis) => redis.known(take, now),
        }
    }

    /// Forgets what was taken under a key, so that all of its limit is there again.
    ///
    /// # Errors
    /// A shared store is away: what this gateway has counted by itself is forgotten, and what the store has counted is
    /// not.
    pub async fn reset(&self, key: &LimitKey<'_>) -> Result<(), crate::redis::Fault> {
        match &self.adapter {
            Adapter::Memory(memory) => {
                memory.forget(key);
                Ok(())
            }
            Adapter::Redis(redis) => redis.reset(key).await,
        }
    }

    /// Gives back what was taken ahead of a shared store and was not spent, for nobody asks any more. It takes a second at
    /// most, and for memory there is nothing to do.
    pub async fn give_back(&self, now: UnixMillis) {
        match &self.adapter {
            Adapter::Memory(_) => {}
            Adapter::Redis(redis) => redis.leave(now).await,
        }
    }

    /// Keeps a shared store connected, and tells it what was counted without it. Runs until it is dropped; for memory
    /// there is nothing to do.
    pub async fn tend(&self) {
        match &self.adapter {
            Adapter::Memory(_) => {}
            Adapter::Redis(redis) => match redis.tend().await {},
        }
    }

    /// How a shared store is, and a notice of every change; memory is always there.
    #[must_use]
    pub fn standing(&self) -> Option<tokio::sync::watch::Receiver<Standings>> {
        match &self.adapter {
            Adapter::Memory(_) => None,
            Adapter::Redis(redis) => Some(redis.standing()),
        }
    }

    /// How many counters were dropped before they had recovered, since the start. More than a few say that
    /// there is a flood of addresses, or too little memory.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        match &self.adapter {
            Adapter::Memory(memory) => memory.evicted(),
            Adapter::Redis(redis) => redis.evicted(),
        }
    }
}

impl Taken {
    /// No limit would have refused it that is only tried out.
    const fn all(outcome: Outcome) -> Self {
        Self { outcome, left: 0, over: Vec::new() }
    }

    /// What becomes of a request where `take` takes from all or from none, and `left` says how one stands.
    fn of<'a>(
        takes: &[Take<'a>],
        take: impl Fn(&[Take<'a>]) -> Outcome,
        left: impl Fn(&Take<'a>) -> Left,
    ) -> Self {
        let count = takes.iter().position(|take| take.tried).unwrap_or(takes.len());
        let (enforced, tried) = takes.split_at_checked(count).unwrap_or((takes, &[]));
        let outcome = take(enforced);
        if outcome != Outcome::Admitted {
            return Self::all(outcome).leaving(takes, left);
        }
        if tried.is_empty() {
            return Self::all(outcome);
        }
        let is_over = |one: &Take<'a>| take(std::slice::from_ref(one)) != Outcome::Admitted;
        let over = tried.iter().zip(count..).filter(|(one, _)| is_over(one)).map(|(_, place)| place);
        Self { over: over.collect(), ..Self::all(outcome) }
    }

    /// The same, with how much is left of the limit that refused.
    fn leaving<'a>(self, takes: &[Take<'a>], left: impl Fn(&Take<'a>) -> Left) -> Self {
        let Outcome::Refused { index, .. } = self.outcome else { return self };
        // Nothing is less than one: most refusals, and all of a flood, need not look.
        let Some(take) = takes.get(index).filter(|take| take.cost > 1) else { return self };
        // Others may have given back between the refusal and the look, and that was not there for this request.
        Self { left: left(take).count.min(take.cost.saturating_sub(1)), ..self }
    }
}

impl<'a> LimitKey<'a> {
    /// The counter of an address; an IPv6 network of 64 bits counts as one.
    #[must_use]
    pub fn address(limit: &'a str, address: IpAddr) -> Self {
        Self { limit, subject: Subject::Address(address_bucket(address)), sliding: false }
    }

    /// The counter of a principal.
    #[must_use]
    pub const fn principal(limit: &'a str, principal: Uuid) -> Self {
        Self { limit, subject: Subject::Principal(principal), sliding: false }
    }

    /// The same as a sliding window, where `sliding`: never more than the limit in any period. Otherwise it is a rate
    /// with a burst. The two are counters of their own.
    #[must_use]
    pub const fn sliding(self, sliding: bool) -> Self {
        Self { sliding, ..self }
    }

    /// Which limit it counts.
    #[must_use]
    pub const fn limit(&self) -> &'a str {
        self.limit
    }

    /// The one counter that everybody shares.
    #[must_use]
    pub const fn everybody(limit: &'a str) -> Self {
        Self { limit, subject: Subject::Everybody, sliding: false }
    }
}
