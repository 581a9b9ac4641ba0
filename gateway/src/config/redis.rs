//! `[limits.redis]` and `[session.redis]`: a Redis, spoken to safely.

use std::time::Duration;

use storage::redis::{
    RedisAddress, RedisCluster, RedisHost, RedisLogin, RedisPlace, RedisReached, RedisSentinels, RedisTls,
};

use super::fault::Place;
use super::reader::{Reader, Section, Written};
use super::redis_url::{Kind, Parts, parts};
use super::tls_files;

const BUDGETS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);

impl Kind {
    const fn remedy(self) -> &'static str {
        match self {
            Self::One => {
                "write rediss://USER:PASSWORD@HOST:PORT/0 into a file of mode 0600, with what is reserved as %40"
            }
            Self::Master => {
                "write rediss://USER:PASSWORD@NAME/0 into a file of mode 0600: NAME is what sentinels call the master"
            }
            Self::Nodes => {
                "write rediss://USER:PASSWORD@HOST:PORT,HOST:PORT into a file of mode 0600, with what is reserved as %40"
            }
            Self::Sentinels => {
                "write rediss://USER:PASSWORD@HOST:PORT,HOST:PORT, or it without USER:PASSWORD@, into a file of mode 0600"
            }
        }
    }
}

/// What a table says of a Redis.
pub(super) enum Named {
    /// There is no such table.
    Absent,
    /// There is one, with faults that were told.
    Faulty,
    /// Where it is, and how long a request waits for it.
    There(RedisPlace, Duration),
}

/// What a table says of where it is.
struct Where<'d> {
    url: Written<'d>,
    ca: Option<Written<'d>>,
    sentinels: Option<Written<'d>>,
    sentinel_ca: Option<Written<'d>>,
    cluster: Option<Written<'d>>,
    insecure: Option<Written<'d>>,
}

/// A URL, and the authorities of its certificates, both where they are written.
struct Found {
    name: String,
    place: Place,
    parts: Parts,
    authorities: Option<(String, Place, Vec<u8>)>,
}

impl Reader<'_> {
    /// The table `redis` of a section; a request waits `usual` for it unless it says otherwise.
    pub(super) fn redis(&mut self, parent: &mut Section<'_>, usual: Duration) -> Named {
        let mut section = self.section(parent, "redis");
        let url = self.pick(&mut section, "url", None);
        let ca = self.pick(&mut section, "ca", None);
        let sentinels = self.pick(&mut section, "sentinels", None);
        let sentinel_ca = self.pick(&mut section, "sentinel_ca", None);
        let cluster = self.pick(&mut section, "cluster", None);
        let insecure = self.pick(&mut section, "insecure", None);
        let budget = self.pick(&mut section, "budget", None);
        let budget = self.duration(budget, BUDGETS).unwrap_or(usual);
        let prefix = self.pick(&mut section, "prefix", None);
        let prefix = self.redis_prefix(prefix);
        self.finish(&section);
        if !section.is_present() {
            return Named::Absent;
        }
        let Some(url) = url else {
            let place = self.in_file(parent.line_of("redis", self));
            let remedy = "name the file that holds it: url = \"file:/path\"";
            self.fault(place, format!("`{}` is not set", section.dotted("url")), remedy);
            return Named::Faulty;
        };
        let place = self.redis_place(Where { url, ca, sentinels, sentinel_ca, cluster, insecure });
        match (place, prefix) {
            (Some((address, RedisLogin { user, password }, database)), Some(prefix)) => {
                Named::There(RedisPlace { address, user, password, database, prefix }, budget)
            }
            (None, _) | (_, None) => Named::Faulty,
        }
    }

    /// Where it is and who we are there, safe against whoever listens between.
    fn redis_place(&mut self, written: Where<'_>) -> Option<(RedisAddress, RedisLogin, u16)> {
        let Where { url, ca, sentinels, sentinel_ca, cluster, insecure } = written;
        let insecure = self.text(insecure).is_some();
        let is_cluster = cluster.as_ref().map(|cluster| cluster.place.clone());
        let is_cluster = is_cluster.filter(|_| self.boolean(cluster).unwrap_or(false));
        let kind = match (&sentinels, is_cluster) {
            (Some(sentinels), Some(place)) => {
                let message = format!("a cluster has no sentinels, and {} names some", sentinels.name);
                self.fault(place, message, "remove one of the two");
                return None;
            }
            (Some(_), None) => Kind::Master,
            (None, Some(_)) => Kind::Nodes,
            (None, None) => Kind::One,
        };
        let found = self.redis_url(url, ca, kind);
        let sentinels = match (sentinels, sentinel_ca) {
            (None, Some(ca)) => {
                self.fault(ca.place, format!("{} does nothing without sentinels", ca.name), "remove it");
                return None;
            }
            (None, None) => None,
            (Some(sentinels), ca) => {
                let found = self.redis_url(sentinels, ca, Kind::Sentinels)?;
                let (hosts, login) = (found.parts.hosts.clone(), found.parts.login.clone());
                Some((hosts, login, self.redis_tls(found, insecure)?))
            }
        };
        let found = found?;
        self.redis_named_by_sentinels(&found, kind)?;
        let (hosts, database) = (found.parts.hosts.clone(), found.parts.database);
        let login = found.parts.login.clone()?;
        // Whom sentinels will name is not known here: what they name off loopback is not spoken to in clear.
        let tls = self.redis_tls(found, insecure || kind == Kind::Master)?;
        Some((address(hosts, sentinels, kind, RedisReached { tls, in_clear: insecure })?, login, database))
    }

    /// Sentinels may be led to name any address, and any authority of the system's has certified whoever is there: TLS to a
    /// master proves something by an authority that is named.
    fn redis_named_by_sentinels(&mut self, found: &Found, kind: Kind) -> Option<()> {
        if kind != Kind::Master || !found.parts.encrypted || found.authorities.is_some() {
            return Some(());
        }
        let ca = found.name.replace("url`", "ca`");
        let message =
            format!("{} names a master whose address sentinels say, and {ca} is not set", found.name);
        let remedy = "name the PEM file of the authorities that signed the certificates of the servers";
        self.fault(found.place.clone(), message, remedy);
        None
    }

    fn redis_url(&mut self, url: Written<'_>, ca: Option<Written<'_>>, kind: Kind) -> Option<Found> {
        let (name, place) = (url.name.clone(), url.place.clone());
        let authorities = match ca {
            None => None,
            Some(ca) => Some((ca.name.clone(), ca.place.clone(), self.redis_authorities(ca)?)),
        };
        let text = self.secret_text(url)?;
        match parts(&text, kind) {
            Ok(parts) => {
                if parts.hosts.len() == 1 && matches!(kind, Kind::Nodes | Kind::Sentinels) {
                    let said = "names one alone: when it is gone, nobody says where a new master is";
                    self.notices.push(format!("{name} {said}"));
                }
                Some(Found { name, place, parts, authorities })
            }
            Err(message) => {
                // Never what it says: it holds a password.
                self.fault(place, format!("{name} is no URL of a Redis: {message}"), kind.remedy());
                None
            }
        }
    }

    /// How it is encrypted; in clear off loopback only where somebody says why.
    fn redis_tls(&mut self, found: Found, in_clear: bool) -> Option<Option<RedisTls>> {
        let Found { name, place, parts, authorities } = found;
        match (parts.encrypted, authorities) {
            (true, authorities) => Some(Some(RedisTls { authorities: authorities.map(|(_, _, text)| text) })),
            (false, Some((name, place, _))) => {
                let remedy = "write rediss:// in the URL, or remove it";
                self.fault(place, format!("{name} does nothing without TLS"), remedy);
                None
            }
            (false, None) if in_clear || parts.hosts.iter().all(RedisHost::is_loopback) => Some(None),
            (false, None) => {
                let message =
                    format!("{name} is spoken to in clear off loopback: whoever listens has the password");
                self.fault(place, message, "write rediss://, or say why not: insecure = \"reason\"");
                None
            }
        }
    }

    fn redis_prefix(&mut self, written: Option<Written<'_>>) -> Option<String> {
        let Some(text) = written else { return Some("cedargate".to_owned()) };
        let text = self.text(Some(text))?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:.".contains(&byte);
        if text.text.len() <= 64 && text.text.bytes().all(plain) {
            return Some(text.text.to_owned());
        }
        let message = format!("{} is no prefix of a key", text.name);
        self.fault(text.place, message, "use 1 to 64 letters, digits, `-`, `_`, `:` and `.`");
        None
    }

    /// The text of a file with authorities, checked here: what is wrong shows at the start and not in an outage.
    fn redis_authorities(&mut self, written: Written<'_>) -> Option<Vec<u8>> {
        let place = written.place.clone();
        let path = self.path(Some(written))?;
        let read = tls_files::certificates(&path)
            .and_then(|_| std::fs::read(&path).map_err(|error| format!("it cannot be read: {error}")));
        match read {
            Ok(text) => Some(text),
            Err(message) => {
                self.fault(
                    place,
                    message,
                    "name a PEM file with the authorities that signed Redis' certificate",
                );
                None
            }
        }
    }
}

/// Where it is, of what its URL names.
fn address(
    hosts: Vec<RedisHost>,
    sentinels: Option<(Vec<RedisHost>, Option<RedisLogin>, Option<RedisTls>)>,
    kind: Kind,
    reached: RedisReached,
) -> Option<RedisAddress> {
    if kind == Kind::Nodes {
        return Some(RedisAddress::Cluster(RedisCluster { hosts, reached }));
    }
    let RedisHost { host, port } = hosts.into_iter().next()?;
    Some(match sentinels {
        Some((hosts, login, tls)) => {
            RedisAddress::Sentinels(Box::new(RedisSentinels { hosts, login, tls, master: host, reached }))
        }
        None => RedisAddress::Tcp { host, port, tls: reached.tls },
    })
}
