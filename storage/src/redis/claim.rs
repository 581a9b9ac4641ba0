//! What sentinels and nodes say of where something is, and which of it counts.

use std::collections::HashMap;

use redis::{Cmd, Value};

use super::RedisHost;

/// Slots of a cluster.
const SLOTS: u16 = 16_384;
/// Bytes of a host's name.
const HOST_BYTES_MAX: usize = 253;

/// That something is at a place, by a change of this number: whoever knows of a later change knows better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) epoch: u64,
    pub(super) host: RedisHost,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// The master of this name, of a sentinel.
    Master(String),
    /// The node that has this slot, of any node.
    Slot(u16),
}

impl Wanted {
    /// The questions for it, in their order. A sentinel is asked for the change before the place, so that it may say of a
    /// new place that it is old, and never of an old one that it is new.
    pub(super) fn questions(&self) -> Vec<Cmd> {
        match self {
            Self::Master(name) => {
                ["MASTER", "GET-MASTER-ADDR-BY-NAME"].map(|verb| sentinel(verb, name)).into()
            }
            Self::Slot(_) => {
                let mut nodes = redis::cmd("CLUSTER");
                nodes.arg("NODES");
                vec![nodes]
            }
        }
    }

    /// What the answers claim, from who was reached at this host. None where it says nothing that we understand.
    pub(super) fn claimed(&self, answers: &[Value], asked: &RedisHost) -> Option<Claim> {
        match (self, answers) {
            (Self::Master(_), [Value::Array(told), Value::Array(at)]) => {
                let epoch = field(told, "config-epoch")?.parse().ok()?;
                let [host, port] = at.as_slice() else { return None };
                Some(Claim { epoch, host: host_of(text(host)?, text(port)?)? })
            }
            (Self::Slot(slot), [nodes]) => owner(text(nodes)?, *slot, asked),
            _ => None,
        }
    }
}

fn sentinel(verb: &str, name: &str) -> Cmd {
    let mut command = redis::cmd("SENTINEL");
    command.arg(verb).arg(name);
    command
}

fn text(value: &Value) -> Option<&str> {
    let Value::BulkString(bytes) = value else { return None };
    std::str::from_utf8(bytes).ok()
}

/// The value behind this name, where both alternate.
fn field<'v>(told: &'v [Value], name: &str) -> Option<&'v str> {
    let mut told = told.iter();
    while let (Some(key), Some(value)) = (told.next(), told.next()) {
        if text(key) == Some(name) {
            return text(value);
        }
    }
    None
}

fn host_of(host: &str, port: &str) -> Option<RedisHost> {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(named) {
        return None;
    }
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(RedisHost { host: host.to_owned(), port })
}

/// Who has a slot, in the words of `CLUSTER NODES`: `id host:port@bus,name flags master ping pong epoch link slots…`.
fn owner(nodes: &str, slot: u16, asked: &RedisHost) -> Option<Claim> {
    let claim = |line: &str| {
        let mut words = line.split(' ');
        let (at, epoch) = (words.nth(1)?, words.nth(4)?);
        words.next()?;
        if !words.any(|range| holds(range, slot)) {
            return None;
        }
        let epoch = epoch.parse().ok()?;
        let (at, bus) = at.split_once('@')?;
        let (host, port) = at.rsplit_once(':')?;
        // The name that it announces, where it does; what has a `=` is no name.
        let name = bus.split(',').nth(1).filter(|name| !name.is_empty() && !name.contains('='));
        // A node that nobody has told its own address is where it was reached.
        let host = name.unwrap_or(if host.is_empty() { &asked.host } else { host });
        Some(Claim { epoch, host: host_of(host, port)? })
    };
    nodes.lines().filter_map(claim).max_by_key(|claim| claim.epoch)
}

/// Whether a range of slots has this one. One in brackets is on its way elsewhere, and is said to be here besides.
fn holds(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&slot),
        _ => false,
    }
}

/// The slot of a key: of what stands in its first braces, where something does.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let tag = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    // CRC-16/XMODEM.
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

/// The claim that counts of those that were made: the newest, and of those of one number what most say. Nobody's where it is older
/// than what was known, unless all of so many say so: then they were set up anew.
pub(super) fn weigh<'c>(claims: &'c [Claim], of: usize, known: Option<&Claim>) -> Option<&'c Claim> {
    let newest = claims.iter().map(|claim| claim.epoch).max()?;
    if known.is_some_and(|known| newest < known.epoch) && claims.len() < of {
        return None;
    }
    let mut votes: HashMap<&RedisHost, usize> = HashMap::new();
    let newer = || claims.iter().filter(|claim| claim.epoch == newest);
    for claim in newer() {
        let count = votes.entry(&claim.host).or_default();
        *count = count.saturating_add(1);
    }
    // Of as many votes, the first in the order of the configuration.
    newer().rev().max_by_key(|claim| votes.get(&claim.host))
}

/// The claim that more than half of so many make, word for word.
pub(super) fn most(claims: &[Claim], of: usize) -> Option<&Claim> {
    claims.iter().find(|claim| claims.iter().filter(|other| other == claim).count().saturating_mul(2) > of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> RedisHost {
        RedisHost { host: "10.0.0.1".to_owned(), port }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn list(words: &[&str]) -> Value {
        Value::Array(words.iter().map(|word| bulk(word)).collect())
    }

    #[test]
    fn the_newest_word_counts_and_an_older_one_where_all_say_it() {
        let check = |claims: &[(u64, u16)], of: usize, known: Option<u64>, expected: Option<u16>| {
            let claims: Vec<Claim> =
                claims.iter().map(|(epoch, port)| Claim { epoch: *epoch, host: at(*port) }).collect();
            let known = known.map(|epoch| Claim { epoch, host: at(1) });
            let found = weigh(&claims, of, known.as_ref()).map(|claim| claim.host.port);
            assert_eq!(found, expected, "{claims:?} of {of}, {known:?}");
        };
        check(&[], 3, None, None);
        check(&[(0, 1)], 3, None, Some(1));
        check(&[(1, 1), (1, 1), (2, 2)], 3, None, Some(2));
        check(&[(1, 1), (1, 1), (2, 2)], 3, Some(1), Some(2));
        check(&[(1, 1), (1, 1)], 3, Some(2), None);
        check(&[(1, 1), (1, 1), (1, 2)], 3, Some(2), Some(1));
        check(&[(2, 1)], 3, Some(2), Some(1));
        check(&[(2, 1), (2, 2), (2, 2)], 3, Some(1), Some(2));
        check(&[(2, 3), (2, 2)], 3, Some(1), Some(3));
        check(&[(1, 1)], 1, Some(9), Some(1));
    }

    #[test]
    fn what_a_sentinel_says_is_read_strictly() {
        let wanted = Wanted::Master("mymaster".to_owned());
        let check = |told: &[&str], place: Value, expected: Option<(u64, &str, u16)>| {
            let found = wanted.claimed(&[list(told), place.clone()], &at(26379));
            let found = found.as_ref().map(|claim| (claim.epoch, claim.host.host.as_str(), claim.host.port));
            assert_eq!(found, expected, "{told:?} {place:?}");
        };
        let told = ["name", "mymaster", "ip", "10.0.0.9", "config-epoch", "7", "quorum", "2"];
        check(&told, list(&["10.0.0.2", "6379"]), Some((7, "10.0.0.2", 6379)));
        check(&told, list(&["::1", "6379"]), Some((7, "::1", 6379)));
        check(&told, list(&["redis-1.internal", "6379"]), Some((7, "redis-1.internal", 6379)));
        for place in [
            list(&[]),
            list(&["10.0.0.2"]),
            list(&["10.0.0.2", "0"]),
            list(&["10.0.0.2", "65536"]),
            list(&["", "6379"]),
            list(&["a b", "6379"]),
            list(&["a/b", "6379"]),
            list(&["10.0.0.2", "6379", "x"]),
            Value::Nil,
        ] {
            check(&told, place, None);
        }
        let place = || list(&["10.0.0.2", "6379"]);
        for told in
            [&["name", "x"][..], &["config-epoch"], &["config-epoch", "-1"], &["quorum", "config-epoch"]]
        {
            check(told, place(), None);
        }
        for answer in [&[][..], &[place()], &[Value::Nil, place()], &[place(), place(), place()]] {
            assert_eq!(wanted.claimed(answer, &at(1)), None, "{answer:?}");
        }
    }

    #[test]
    fn who_has_a_slot_is_read_from_what_a_node_says() {
        let nodes = "\
07c3 10.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460 [93-<-292f]\n\
292f 10.0.0.2:7002@17002,redis-2.internal master - 0 1 2 connected 5461-10922\n\
67ed 10.0.0.3:7003@17003,,shard-id=ab master,fail - 0 1 3 disconnected 10923-16382 16383\n\
6ec2 10.0.0.4:7004@17004 slave 67ed 0 1 3 connected\n\
824f 10.0.0.5:7005@17005 master - 0 1 9 connected 10923-10999\n\
a1b2 :0@0 master,noaddr - 0 1 9 disconnected 77\n";
        let check = |slot: u16, expected: Option<(u64, &str, u16)>| {
            let found = Wanted::Slot(slot).claimed(&[bulk(nodes)], &at(1));
            let found = found.as_ref().map(|claim| (claim.epoch, claim.host.host.as_str(), claim.host.port));
            assert_eq!(found, expected, "{slot}");
        };
        check(0, Some((1, "10.0.0.1", 7001)));
        check(77, Some((1, "10.0.0.1", 7001)));
        check(5460, Some((1, "10.0.0.1", 7001)));
        check(5461, Some((2, "redis-2.internal", 7002)));
        // Two say that it is theirs: the later change.
        check(10923, Some((9, "10.0.0.5", 7005)));
        check(11000, Some((3, "10.0.0.3", 7003)));
        check(16383, Some((3, "10.0.0.3", 7003)));
        for nonsense in ["", "\n", "a b c", "07c3 :7001 master - 0 0 1 connected 0", "x h:1@2 m - 0 0 -1 c 0"]
        {
            assert_eq!(Wanted::Slot(0).claimed(&[bulk(nonsense)], &at(1)), None, "{nonsense}");
        }
        // One alone that does not know its own address.
        let alone = "07c3 :7001@17001 myself,master - 0 0 0 connected 0-16383";
        let found = Wanted::Slot(9).claimed(&[bulk(alone)], &at(5));
        assert_eq!(found, Some(Claim { epoch: 0, host: at(7001) }));
        assert_eq!(Wanted::Slot(0).claimed(&[Value::Nil], &at(1)), None);
    }

    #[test]
    fn a_slot_is_that_of_the_tag() {
        // The check value of the CRC, and what a Redis says to CLUSTER KEYSLOT.
        assert_eq!(slot("123456789"), 0x31c3 % SLOTS);
        for (key, expected) in [("foo", 12182), ("{user1000}.following", 3443), ("bar", 5061), ("", 0)] {
            assert_eq!(slot(key), expected, "{key}");
        }
        assert_eq!(slot("cedargate:{limits}:{ip/192.0.2.1}:x"), slot("limits"));
        assert_ne!(slot("foo{}{bar}"), slot("bar"));
        assert_eq!(slot("foo{{bar}}zap"), slot("{bar"));
    }
}
