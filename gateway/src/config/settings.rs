//! The types of [`super::Config`]'s fields: checked once, so that nothing inside checks them again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::limit::Rate;
use storage::counters::{LeaseSettings, MEMORY_BYTES_DEFAULT, WhenAway};
use storage::redis::RedisPlace;

use super::origin::Origin;
use super::secret::Secret;

/// What the gateway runs as; it chooses defaults, never what is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deployment {
    /// People depend on it: INFO, JSON logs, hosts must be named.
    Production,
    /// Somebody works on it: DEBUG, logs for people, loopback hosts by default.
    Development,
}

/// A host that the gateway answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As the `Host` header names it: lower-case, with the port where it is not the scheme's own.
    pub name: String,
    /// The address that people see. It alone decides cookie prefix, `Secure`, HSTS, redirects and the `Origin`
    /// that must match: the listener, `Host` and forwarding headers are the client's or a proxy's word.
    pub public_url: Origin,
}

/// The TLS listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file: the certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM file: the private key.
    pub key: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

/// A TLS version that may be the oldest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246, for clients that cannot do better.
    V1_2,
    /// RFC 8446, the default.
    V1_3,
}

/// The keys. Shown nowhere.
#[derive(Clone)]
pub struct Keys {
    /// `BOTSERVER_ENCRYPTION_KEY`, decoded: the master key that every purpose's key is derived from.
    pub encryption: Secret<[u8; 32]>,
    /// Earlier master keys, newest first: they open and verify, never seal.
    pub previous_encryption: Vec<Secret<[u8; 32]>>,
    /// `DATABASE_ENCRYPTION_KEY`, decoded; nothing is sealed with it yet.
    pub database: Secret<[u8; 32]>,
    /// `BOTSERVER_JWT_SECRET`, the text as written: BotServer keys its HMAC with the text's bytes.
    pub jwt_secret: Secret<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(not shown)")
    }
}

/// When sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEnds {
    /// Without a request for this long.
    pub idle: Duration,
    /// Whatever happens; never shorter than `idle`.
    pub absolute: Duration,
}

/// What password guessing meets: `attempts_max` failures warn and slow down, twice as many lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginLimits {
    /// Failures before the slow-down.
    pub attempts_max: u32,
    /// How long a lock holds.
    pub lockout: Duration,
}

/// The limits, as far as the bundle does not name them. "N per P" is a rate of N/P with a burst of N.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one address, before anything is parsed.
    pub per_address: Rate,
    /// Permitted requests of one principal.
    pub per_user: Rate,
    /// Requests of one principal, or of one address where nobody is known, in each class of routes.
    pub classes: BTreeMap<Arc<str>, Rate>,
    /// Which of them are sliding windows.
    pub sliding: LimitsSliding,
    /// What each does while the store that gateways share is away.
    pub away: LimitsAway,
    /// Which headers tell of a limit that is spent, besides `Retry-After`.
    pub headers: LimitHeaders,
    /// Whether they tell of the limits of what was permitted as well.
    pub headers_on_all: bool,
    /// Bytes of a table of counters.
    pub memory_bytes: usize,
}

impl Default for Limits {
    /// BotServer's figures: 100 a minute for an address, 1000 an hour for a principal, and none for classes.
    fn default() -> Self {
        Self {
            per_address: Rate { count: 100, period_ms: 60_000 },
            per_user: Rate { count: 1_000, period_ms: 3_600_000 },
            classes: BTreeMap::new(),
            sliding: LimitsSliding::default(),
            away: LimitsAway::default(),
            headers: LimitHeaders::default(),
            headers_on_all: false,
            memory_bytes: MEMORY_BYTES_DEFAULT,
        }
    }
}

/// Which headers tell of a limit that is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LimitHeaders {
    /// `RateLimit` and `RateLimit-Policy`.
    #[default]
    Draft,
    /// And `X-RateLimit-Limit`, `-Remaining` and `-Reset`, for clients that read no others.
    Both,
    /// None.
    None,
}

/// What limits do while the store that gateways share is away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsAway {
    /// The limit of an address.
    pub per_address: WhenAway,
    /// The limit of a principal.
    pub per_user: WhenAway,
    /// The limits of classes, where the configuration says so.
    pub classes: BTreeMap<Arc<str>, WhenAway>,
}

/// Which limits are sliding windows: never more than the limit in any period. The others are rates with a burst.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsSliding {
    /// The limit of an address.
    pub per_address: bool,
    /// The limit of a principal.
    pub per_user: bool,
    /// The limits of classes.
    pub classes: BTreeSet<Arc<str>>,
}

impl LimitsAway {
    /// What the limit of a class does. Guesses at passwords are worth more than an outage: sign-ins are closed unless
    /// the configuration says otherwise, where their class has a limit at all.
    #[must_use]
    pub fn class(&self, class: &str) -> WhenAway {
        let usual = if class == "auth" { WhenAway::Closed } else { WhenAway::Local };
        self.classes.get(class).copied().unwrap_or(usual)
    }
}

/// The Redis that gateways share limits in.
#[derive(Clone, Debug)]
pub struct SharedLimits {
    /// Where it is, and who we are there.
    pub place: RedisPlace,
    /// How long a request waits for it at most.
    pub budget: Duration,
    /// How many gateways share the limits.
    pub gateways: u32,
    /// How much of a limit a gateway takes ahead; nothing where every request asks.
    pub leases: Option<LeaseSettings>,
}

/// How many connections and requests are held at once, and how slow they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Client connections at once.
    pub max: u32,
    /// Of them from one address (an IPv6 address is its /64); those of trusted proxies are not counted.
    pub per_address_max: u32,
    /// Requests under way at once. A connection that has become a WebSocket is none.
    pub requests_max: u32,
    /// Of them from one client's address, also behind a trusted proxy.
    pub requests_per_address_max: u32,
    /// How long a connection may wait for its next request.
    pub idle: Duration,
    /// From the first byte of a head to its last one.
    pub head: Duration,
    /// How long a body may keep us waiting in all, besides what its bytes earn it.
    pub body_grace: Duration,
    /// Bytes of a body that earn it a second more.
    pub body_rate_min: u64,
    /// How long a client may take nothing of its answer.
    pub stall: Duration,
}

impl Default for Connections {
    /// An idle connection holds some 35 kB, so that the most of them are 360 MB; one address may be an office behind
    /// one router. A head is one packet, a body over a phone's poor line a few kilobytes a second.
    fn default() -> Self {
        Self {
            max: 10_240,
            per_address_max: 2_048,
            requests_max: 4_096,
            requests_per_address_max: 1_024,
            idle: Duration::from_secs(60),
            head: Duration::from_secs(15),
            body_grace: Duration::from_secs(20),
            body_rate_min: 500,
            stall: Duration::from_secs(30),
        }
    }
}

/// What an open WebSocket may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSockets {
    /// Bytes of one message, in either direction, at most.
    pub message_bytes_max: u64,
    /// Messages of the client; pings and tiny fragments count as messages.
    pub message_rate: Rate,
    /// Open ones of one principal, at most.
    pub per_user_max: usize,
    /// Silence of the client after which it is asked for a sign of life.
    pub ping: Duration,
    /// Silence after which it is given up; longer than `ping`.
    pub idle: Duration,
}

/// A service that permitted requests are forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its addresses, tried in turn; at least one, no duplicates.
    pub addresses: Vec<SocketAddr>,
    /// How its connections are encrypted; `None` is plain HTTP.
    pub tls: Option<UpstreamTls>,
    /// The identity that it is told.
    pub identity: UpstreamIdentity,
    /// The bounds of its connections.
    pub timeouts: Timeouts,
    /// A path that answers 2xx while it is well; `None` asks only whether it accepts connections.
    pub health_path: Option<String>,
    /// Why it may be reached without encryption or verification off loopback; `None` where that is not so.
    pub insecure: Option<String>,
}

/// TLS towards an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The DNS name that its certificate must hold, sent as SNI. `None` verifies nothing and needs `insecure`.
    pub name: Option<String>,
    /// PEM file of the authorities that may have signed it; `None` takes the system's.
    pub ca: Option<PathBuf>,
}

/// The identity that an upstream is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamIdentity {
    /// The HS256 token that BotServer reads.
    BotServer,
    /// An Ed25519 token, verified with the key that the gateway publishes.
    Ed25519 {
        /// The token's `aud`.
        audience: String,
    },
    /// None.
    None,
}

/// The bounds of an upstream's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP and TLS handshake together.
    pub connect: Duration,
    /// Silence of the upstream while we wait for it.
    pub read: Duration,
    /// Silence of the upstream while it takes our bytes.
    pub write: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
}

/// How many decisions are asked of Cedar's own `Authorizer` as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oracle {
    /// None.
    #[default]
    Off,
    /// The first of every so many.
    Sample(NonZeroU64),
    /// All.
    Always,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// `BOTSERVER_ENABLE_AUDIT`: whether events are exported as well. The file is always written.
    pub export: bool,
    /// Days that its files are kept.
    pub retain_days: u32,
    /// What happens when it cannot be written, by limit class.
    pub when_full: BTreeMap<Arc<str>, WhenFull>,
}

impl Audit {
    /// What requests of a class meet when the audit log cannot be written. A class that nobody named continues;
    /// routes marked `audited` refuse whatever this says.
    #[must_use]
    pub fn when_full(&self, class: &str) -> WhenFull {
        self.when_full.get(class).copied().unwrap_or(WhenFull::Continue)
    }
}

/// What a request meets when its record cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused.
    Refuse,
    /// It goes on, and the loss is loud.
    Continue,
}

/// The program's own log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// What is written.
    pub level: LogLevel,
    /// Where its daily files go, besides stderr.
    pub directory: PathBuf,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For eyes.
    People,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// What broke.
    Error,
    /// And what should not be.
    Warn,
    /// And what happens.
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}
