//! What everything that is kept in a Redis shares: where it is, how it is connected to, and what can go wrong with it.
//!
//! Each keeper has a connection of its own and decides by itself what to do without it: limits go on
//! ([`crate::counters`]), sessions are refused ([`crate::sessions`]).

mod claim;
mod finder;
mod late;
mod link;
pub(crate) mod patience;
mod pause;
#[cfg(test)]
pub(crate) mod server;
mod together;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::Secret;
pub(crate) use finder::Finder;
pub(crate) use link::{Link, fault};
pub use patience::as_one_request;
pub(crate) use pause::{Pause, STEADY};
pub(crate) use together::Together;

/// Questions under way at once of one keeper. More than a Redis answers in the usual budget.
pub(crate) const IN_FLIGHT_MAX: usize = 512;
/// Late answers in a row after which a Redis is taken to be away; of questions that wait at one time one counts. One alone may
/// be the machine's hiccup.
pub(crate) const LATE_MAX: u32 = 3;

/// Where a Redis is, and who we are there.
#[derive(Clone)]
pub struct RedisPlace {
    /// Where it is.
    pub address: RedisAddress,
    /// The ACL user.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
    /// The database's number; a cluster has no other than 0.
    pub database: u16,
    /// What every key begins with, so that several installations can share one server.
    pub prefix: String,
}

impl RedisPlace {
    /// What keys begin with that one script names together. In a cluster a tag keeps them on one node; elsewhere none is
    /// needed.
    pub(crate) fn together(&self, tag: &str) -> String {
        match &self.address {
            RedisAddress::Cluster(_) => format!("{}:{{{tag}}}", self.prefix),
            RedisAddress::Tcp { .. } | RedisAddress::Sentinels(_) => self.prefix.clone(),
            #[cfg(test)]
            RedisAddress::Unix(_) => self.prefix.clone(),
        }
    }
}

impl fmt::Debug for RedisPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisPlace(not shown)")
    }
}

/// Where a Redis is.
#[derive(Clone)]
pub enum RedisAddress {
    /// At one place, for as long as we run.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// How the connection is encrypted; `None` is in clear.
        tls: Option<RedisTls>,
    },
    /// Where sentinels say that the master is.
    Sentinels(Box<RedisSentinels>),
    /// At the node of a cluster that has the keys.
    Cluster(RedisCluster),
    /// A socket on this machine.
    #[cfg(test)]
    Unix(std::path::PathBuf),
}

/// Sentinels, and which master they are asked for.
#[derive(Clone)]
pub struct RedisSentinels {
    /// Where they are.
    pub hosts: Vec<RedisHost>,
    /// Who we are at them; nobody where they ask for nobody.
    pub login: Option<RedisLogin>,
    /// How connections to them are encrypted.
    pub tls: Option<RedisTls>,
    /// What they call the master.
    pub master: String,
    /// How the master is spoken to.
    pub reached: RedisReached,
}

/// A cluster: who is asked which node has what.
#[derive(Clone)]
pub struct RedisCluster {
    /// Nodes of it.
    pub hosts: Vec<RedisHost>,
    /// How all of them are spoken to.
    pub reached: RedisReached,
}

/// How a server is spoken to whose address is not known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisReached {
    /// How connections are encrypted.
    pub tls: Option<RedisTls>,
    /// Whether it may be spoken to in clear off loopback.
    pub in_clear: bool,
}

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RedisHost {
    /// The name or the address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl RedisHost {
    /// Whether nobody but this machine hears what is said to it.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for RedisHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A user of Redis.
#[derive(Clone)]
pub struct RedisLogin {
    /// Its name.
    pub user: String,
    /// Its password.
    pub password: Secret<String>,
}

/// TLS towards a Redis. Its certificate must hold the host's name or address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTls {
    /// The authorities that may have signed it, in PEM; `None` takes the system's.
    pub authorities: Option<Vec<u8>>,
}

/// What became of one question that requests asked a shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The store answered.
    Answered,
    /// It did not answer within the budget.
    Late,
    /// It answered with an error, or the connection ended.
    Failed,
    /// It was not asked, because it is known to be away.
    Away,
    /// It was not asked, because as many questions are under way as may be.
    Crowded,
    /// It was not asked, because what was leased of the limits was enough.
    Leased,
}

impl Answered {
    /// Every one.
    pub const ALL: [Self; 6] =
        [Self::Answered, Self::Late, Self::Failed, Self::Away, Self::Crowded, Self::Leased];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Away => "away",
            Self::Crowded => "crowded",
            Self::Leased => "leased",
        }
    }
}

/// How long a request has waited for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waited {
    /// Until the answer was there, or it was given up.
    pub time: Duration,
    /// How long of that was past the end of what the request had left of its budget; `None` where it was over before.
    pub overrun: Option<Duration>,
}

impl Waited {
    /// So long, where that much was left.
    pub(crate) fn within(left: Duration, time: Duration) -> Self {
        Self { time, overrun: time.checked_sub(left) }
    }
}

/// Is told what became of each question, and how long a request has waited for it; nothing where it was not asked.
pub type Observer = Box<dyn Fn(Answered, Option<Waited>) + Send + Sync>;

/// Why a shared store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection was made in time, or none at all.
    Unreachable,
    /// Nothing listens there.
    ConnectionRefused,
    /// It closed the connection.
    Gone,
    /// It did not answer within the budget.
    Late,
    /// It does not know the user or the password.
    Login,
    /// It answered with this error; a code of Redis.
    Refused(&'static str),
    /// What it answered was not what we asked for.
    Nonsense,
    /// What it keeps was sealed under a master key that is not among ours.
    OtherKey,
    /// Its address or certificates cannot be used.
    Settings,
    /// It is somewhere else now.
    Moved,
    /// What was done there is not where it would survive it.
    Unkept,
    /// Where it is could not be found out.
    Unfound(Unfound),
}

/// Why it could not be found out where a Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfound {
    /// Nobody answers who could say.
    Silent,
    /// Who could say does not know our user or password.
    Login,
    /// Who could say does not let us ask.
    Forbidden,
    /// Who could say knows of none.
    Unknown,
    /// What is said is older than what was said before.
    Older,
    /// What is named as the master is none.
    NotMaster,
    /// It is named off loopback, where it would be spoken to in clear.
    InClear,
}

/// Whether a server that is there will not do what it was asked: a reason to refuse whoever asks, and none to take it for lost.
pub(crate) fn will_not(fault: Fault) -> bool {
    matches!(fault, Fault::Refused("OOM" | "ERR" | "NOPERM" | "WRONGTYPE"))
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("it cannot be reached, or its TLS does not hold"),
            Self::ConnectionRefused => f.write_str("it refuses connections"),
            Self::Gone => f.write_str("it closed the connection"),
            Self::Late => f.write_str("it did not answer within the budget"),
            Self::Login => f.write_str("it does not accept the user and the password"),
            Self::Refused(code) => write!(f, "it answered with the error {code}"),
            Self::Nonsense => f.write_str("it gave an answer that means nothing"),
            Self::OtherKey => f.write_str("what it keeps was sealed under a master key that is not ours"),
            Self::Settings => f.write_str("its address or its certificates cannot be used"),
            Self::Moved => f.write_str("it is somewhere else now"),
            Self::Unkept => f.write_str("too few of its replicas have what was done"),
            Self::Unfound(why) => write!(f, "{why}"),
        }
    }
}

impl fmt::Display for Unfound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "no sentinel or node that is configured says where it is",
            Self::Login => "its sentinels or nodes do not accept the user and the password",
            Self::Forbidden => "its sentinels or nodes do not let our user ask where it is",
            Self::Unknown => "its sentinels or nodes know of none",
            Self::Older => "what is said of where it is is older than what was said before",
            Self::NotMaster => "what its sentinels name is no master",
            Self::InClear => "it is named off loopback, where it would be spoken to in clear",
        })
    }
}

/// How a shared store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It was not asked yet.
    #[default]
    Starting,
    /// It answers.
    Up,
    /// It does not.
    Away(Fault),
}

/// How a shared store is, and how often it was away: two changes that are seen as one are still counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standings {
    /// How it is.
    pub now: Standing,
    /// How often it has gone away since the start.
    pub outages: u64,
    /// Why it was away last.
    pub last: Option<Fault>,
}

impl Standings {
    /// It does not answer any more, or still not.
    pub(crate) fn leaves(&mut self, fault: Fault) {
        if !matches!(self.now, Standing::Away(_)) {
            self.outages = self.outages.saturating_add(1);
        }
        self.now = Standing::Away(fault);
        self.last = Some(fault);
    }
}
