//! `[limits.redis]` and `[session.redis]`: a Redis, spoken to safely.

use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use storage::redis::{RedisAddress, RedisPlace, RedisTls};

use super::reader::{Reader, Section, Written};
use super::secret::Secret;
use super::tls_files;

const BUDGETS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(1);
/// The port of Redis.
const PORT: u16 = 6379;
const FORM: &str =
    "write rediss://USER:PASSWORD@HOST:PORT/0 into a file of mode 0600, with what is reserved as %40";

/// What a table says of a Redis.
pub(super) enum Named {
    /// There is no such table.
    Absent,
    /// There is one, with faults that were told.
    Faulty,
    /// Where it is, and how long a request waits for it.
    There(RedisPlace, Duration),
}

/// A URL taken apart.
struct Parts {
    address: RedisAddress,
    user: String,
    password: Secret<String>,
    database: u16,
}

impl Reader<'_> {
    /// The table `redis` of a section; a request waits `usual` for it unless it says otherwise.
    pub(super) fn redis(&mut self, parent: &mut Section<'_>, usual: Duration) -> Named {
        let mut section = self.section(parent, "redis");
        let url = self.pick(&mut section, "url", None);
        let ca = self.pick(&mut section, "ca", None);
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
        match (self.redis_place(url, ca, insecure), prefix) {
            (Some(Parts { address, user, password, database }), Some(prefix)) => {
                Named::There(RedisPlace { address, user, password, database, prefix }, budget)
            }
            (None, _) | (_, None) => Named::Faulty,
        }
    }

    /// Where it is and who we are there, safe against whoever listens between.
    fn redis_place(
        &mut self,
        url: Written<'_>,
        ca: Option<Written<'_>>,
        insecure: Option<Written<'_>>,
    ) -> Option<Parts> {
        let (name, place) = (url.name.clone(), url.place.clone());
        let authorities = match ca {
            None => None,
            Some(ca) => Some((ca.name.clone(), ca.place.clone(), self.redis_authorities(ca)?)),
        };
        let insecure = self.text(insecure).is_some();
        let text = self.secret_text(url)?;
        let mut parts = match parts(&text) {
            Ok(parts) => parts,
            Err(message) => {
                // Never what it says: it holds a password.
                self.fault(place, format!("{name} is no URL of a Redis: {message}"), FORM);
                return None;
            }
        };
        let RedisAddress::Tcp { host, tls, .. } = &mut parts.address;
        match (tls, authorities) {
            (Some(tls), authorities) => tls.authorities = authorities.map(|(_, _, text)| text),
            (None, Some((name, place, _))) => {
                let remedy = "write rediss:// in the URL, or remove it";
                self.fault(place, format!("{name} does nothing without TLS"), remedy);
                return None;
            }
            (None, None) if insecure || is_loopback(host) => {}
            (None, None) => {
                let message =
                    format!("{name} is spoken to in clear off loopback: whoever listens has the password");
                self.fault(place, message, "write rediss://, or say why not: insecure = \"reason\"");
                return None;
            }
        }
        Some(parts)
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

/// Takes a URL apart, strictly: what the library would ignore, such as `#insecure`, is a fault.
fn parts(url: &str) -> Result<Parts, &'static str> {
    let (encrypted, rest) = match url.split_once("://") {
        Some(("rediss", rest)) => (true, rest),
        Some(("redis", rest)) => (false, rest),
        Some(_) | None => return Err("it begins neither with rediss:// nor with redis://"),
    };
    if rest.contains(['?', '#']) {
        return Err("it has a query or a fragment, which say nothing here");
    }
    let (login, place) = rest.rsplit_once('@').ok_or("it names no user")?;
    let (user, password) = login.split_once(':').ok_or("it has no password")?;
    let (user, password) = (decoded(user)?, decoded(password)?);
    if user.is_empty() || user == "default" {
        return Err("it names no user of our own: make one with ACL SETUSER");
    }
    if password.is_empty() {
        return Err("its password is empty");
    }
    let (authority, database) = place.split_once('/').unwrap_or((place, ""));
    let database = match database {
        "" => 0,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| "its database is no number up to 65535")?
        }
        _ => return Err("its path is no number of a database"),
    };
    let (host, port) = host_and_port(authority)?;
    let tls = encrypted.then_some(RedisTls { authorities: None });
    Ok(Parts {
        address: RedisAddress::Tcp { host, port, tls },
        user,
        password: Secret::new(password),
        database,
    })
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

fn host_and_port(authority: &str) -> Result<(String, u16), &'static str> {
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
    let port =
        if port.is_empty() { Some(PORT) } else { port.parse().ok().filter(|port| digits && *port != 0) };
    Ok((host, port.ok_or("its port is no number from 1 to 65535")?))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_14_a_url_is_taken_apart_strictly() {
        let check = |url: &str, expected: Result<(&str, u16, &str, &str, u16, bool), &str>| match (
            parts(url),
            expected,
        ) {
            (Ok(parts), Ok((host, port, user, password, database, encrypted))) => {
                let RedisAddress::Tcp { host: found, port: at, tls } = &parts.address;
                assert_eq!((found.as_str(), *at, tls.is_some()), (host, port, encrypted), "{url}");
                assert_eq!(
                    (parts.user.as_str(), parts.password.expose().as_str()),
                    (user, password),
                    "{url}"
                );
                assert_eq!(parts.database, database, "{url}");
            }
            (Err(message), Err(expected)) => assert!(message.contains(expected), "{url}: {message}"),
            (found, _) => panic!("{url}: {:?}", found.map(|parts| parts.address)),
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
        ] {
            check(url, Err(why));
        }
    }
}
