//! The URL of a Redis, of sentinels, or of nodes of a cluster, taken apart strictly.

use percent_encoding::percent_decode_str;
use storage::redis::{RedisHost, RedisLogin};

use super::secret::Secret;

/// The port of Redis.
pub(super) const PORT: u16 = 6379;
/// The port of sentinels.
pub(super) const SENTINEL_PORT: u16 = 26_379;
/// Hosts of one URL. All are asked at once, and a few are enough to find a cluster of any size.
const HOSTS_MAX: usize = 16;

/// What a URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One server.
    One,
    /// A master, by its name among sentinels.
    Master,
    /// Nodes of a cluster.
    Nodes,
    /// Sentinels.
    Sentinels,
}

/// A URL taken apart.
pub(super) struct Parts {
    /// Whether it is spoken to over TLS.
    pub(super) encrypted: bool,
    /// Who we are there; only sentinels may be asked by nobody.
    pub(super) login: Option<RedisLogin>,
    /// At least one, each once.
    pub(super) hosts: Vec<RedisHost>,
    pub(super) database: u16,
}

/// Takes a URL apart: what the library would ignore, such as `#insecure`, is a fault.
pub(super) fn parts(url: &str, kind: Kind) -> Result<Parts, &'static str> {
    let (encrypted, rest) = match url.split_once("://") {
        Some(("rediss", rest)) => (true, rest),
        Some(("redis", rest)) => (false, rest),
        Some(_) | None => return Err("it begins neither with rediss:// nor with redis://"),
    };
    if rest.contains(['?', '#']) {
        return Err("it has a query or a fragment, which say nothing here");
    }
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(login_of(login)?), place),
        None if kind == Kind::Sentinels => (None, rest),
        None => return Err("it names no user"),
    };
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let database = match database {
        "" => 0,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| "its database is no number up to 65535")?
        }
        _ => return Err("its path is no number of a database"),
    };
    if database != 0 && matches!(kind, Kind::Nodes | Kind::Sentinels) {
        return Err("neither a cluster nor a sentinel has a database other than 0");
    }
    Ok(Parts { encrypted, login, hosts: hosts(authority, kind)?, database })
}

fn hosts(authority: &str, kind: Kind) -> Result<Vec<RedisHost>, &'static str> {
    let mut hosts: Vec<RedisHost> = Vec::new();
    for one in authority.split(',') {
        let (host, port) = host_and_port(one)?;
        if kind == Kind::Master && port.is_some() {
            return Err("it has a port where sentinels say which: its host is the name of the master");
        }
        let usual = if kind == Kind::Sentinels { SENTINEL_PORT } else { PORT };
        let host = RedisHost { host, port: port.unwrap_or(usual) };
        if hosts.contains(&host) {
            return Err("it names a host twice");
        }
        hosts.push(host);
    }
    if hosts.len() > 1 && matches!(kind, Kind::One | Kind::Master) {
        return Err("it names several hosts, which a cluster has alone: `cluster = true`");
    }
    if hosts.len() > HOSTS_MAX { Err("it names more than 16 hosts") } else { Ok(hosts) }
}

fn login_of(text: &str) -> Result<RedisLogin, &'static str> {
    let (user, password) = text.split_once(':').ok_or("it has no password")?;
    let (user, password) = (decoded(user)?, decoded(password)?);
    if user.is_empty() || user == "default" {
        return Err("it names no user of our own: make one with ACL SETUSER");
    }
    if password.is_empty() {
        return Err("its password is empty");
    }
    Ok(RedisLogin { user, password: Secret::new(password) })
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "user or password are no UTF-8")?;
    let bounded = text.len() <= 512 && !text.contains(char::is_control);
    if bounded {
        Ok(text.into_owned())
    } else {
        Err("user or password have control characters or more than 512 bytes")
    }
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let bad = "its host is neither a name nor an address";
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(bad)?;
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| bad)?;
            (address.to_string(), port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or(bad)?)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if host.is_empty() || host.len() > 253 || !host.bytes().all(named) {
                return Err(bad);
            }
            (host.to_owned(), port)
        }
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let number = port.parse().ok().filter(|port| digits && *port != 0);
    if number.is_none() && !port.is_empty() {
        return Err("its port is no number from 1 to 65535");
    }
    Ok((host, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_14_a_url_is_taken_apart_strictly() {
        let check = |url: &str, expected: Result<(&str, u16, &str, &str, u16, bool), &str>| match (
            parts(url, Kind::One),
            expected,
        ) {
            (Ok(parts), Ok((host, port, user, password, database, encrypted))) => {
                let host = RedisHost { host: host.to_owned(), port };
                assert_eq!((parts.hosts, parts.encrypted), (vec![host], encrypted), "{url}");
                let login = parts.login.unwrap();
                assert_eq!(
                    (login.user.as_str(), login.password.expose().as_str()),
                    (user, password),
                    "{url}"
                );
                assert_eq!(parts.database, database, "{url}");
            }
            (Err(message), Err(expected)) => assert!(message.contains(expected), "{url}: {message}"),
            (found, _) => panic!("{url}: {:?}", found.map(|parts| parts.hosts)),
        };
        check(
            "rediss://gate:s3cret@cache.internal:6380/2",
            Ok(("cache.internal", 6380, "gate", "s3cret", 2, true)),
        );
        check("redis://gate:a%40b%3Ac%2F@127.0.0.1", Ok(("127.0.0.1", 6379, "gate", "a@b:c/", 0, false)));
        check("redis://gate:a@b@[::1]:7/", Ok(("::1", 7, "gate", "a@b", 0, false)));
        check("rediss://gate:p@[2001:db8::1]/0", Ok(("2001:db8::1", 6379, "gate", "p", 0, true)));
        for (url, why) in [
            ("", "begins neither"),
            ("http://gate:p@h", "begins neither"),
            ("rediss://h:1", "names no user"),
            ("rediss://gate@h:1", "no password"),
            ("rediss://gate:@h:1", "empty"),
            ("rediss://:p@h:1", "no user of our own"),
            ("rediss://default:p@h:1", "no user of our own"),
            ("rediss://gate:p@h/#insecure", "fragment"),
            ("rediss://gate:p@h?protocol=3", "fragment"),
            ("rediss://gate:p@h/x", "database"),
            ("rediss://gate:p@h/65536", "65535"),
            ("rediss://gate:p@h/-1", "database"),
            ("rediss://gate:p@", "host"),
            ("rediss://gate:p@a b", "host"),
            ("rediss://gate:p@[::1", "host"),
            ("rediss://gate:p@[::1]7", "host"),
            ("rediss://gate:p@h:0", "port"),
            ("rediss://gate:p@h:+7", "port"),
            ("rediss://gate:p@h:65536", "port"),
            ("rediss://ga%0ate:p@h", "control"),
            ("rediss://%ff:p@h", "UTF-8"),
            ("rediss://gate:p@h,i", "several hosts"),
            ("rediss://gate:p@h,h", "twice"),
            ("rediss://gate:p@h,", "host"),
        ] {
            check(url, Err(why));
        }
    }

    #[test]
    fn masters_nodes_and_sentinels_have_urls_of_their_own() {
        let check = |kind: Kind, url: &str, expected: Result<(&str, Option<&str>), &str>| match (
            parts(url, kind),
            expected,
        ) {
            (Ok(parts), Ok((hosts, user))) => {
                let named: Vec<String> = parts.hosts.iter().map(RedisHost::to_string).collect();
                assert_eq!(named.join(" "), hosts, "{url}");
                assert_eq!(parts.login.as_ref().map(|login| login.user.as_str()), user, "{url}");
            }
            (Err(message), Err(expected)) => assert!(message.contains(expected), "{url}: {message}"),
            (found, _) => panic!("{url}: {:?}", found.map(|parts| parts.hosts)),
        };
        check(Kind::Master, "redis://gate:p@mymaster/3", Ok(("mymaster:6379", Some("gate"))));
        check(Kind::Master, "redis://gate:p@mymaster:6379", Err("port where sentinels say which"));
        check(Kind::Master, "redis://gate:p@one,two", Err("several hosts"));
        check(Kind::Master, "redis://mymaster", Err("names no user"));
        check(Kind::Nodes, "rediss://gate:p@a:7000,b,[::1]:7", Ok(("a:7000 b:6379 [::1]:7", Some("gate"))));
        check(Kind::Nodes, "rediss://gate:p@a/1", Err("other than 0"));
        check(Kind::Nodes, "rediss://a,b", Err("names no user"));
        check(Kind::Sentinels, "redis://a,b:7", Ok(("a:26379 b:7", None)));
        check(Kind::Sentinels, "rediss://watch:p@a,b/0", Ok(("a:26379 b:26379", Some("watch"))));
        check(Kind::Sentinels, "rediss://a,a:26379", Err("twice"));
        check(Kind::Sentinels, "rediss://a/1", Err("other than 0"));
        check(Kind::Sentinels, "rediss://default:p@a", Err("no user of our own"));
        check(Kind::Sentinels, "rediss://@a", Err("no password"));
        check(Kind::Sentinels, "rediss://", Err("host"));
        let many: Vec<String> = (0..17).map(|number| format!("h{number}")).collect();
        let all = format!("redis://{}", many.join(","));
        check(Kind::Sentinels, &all, Err("more than 16"));
        assert!(parts(all.rsplit_once(',').unwrap().0, Kind::Sentinels).is_ok());
    }
}
