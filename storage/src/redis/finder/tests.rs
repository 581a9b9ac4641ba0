//! Whom it believes of those who say where it is, and what it does with whoever they name.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::super::server::{PATIENCE, Server, place};
use super::super::{RedisCluster, RedisSentinels};
use super::*;

const MASTER: &str = "mymaster";
const SCRIPT: &str = "return 1";
/// Longer than [`ASK`], and so often shorter than [`CONNECT`] that a busy machine makes no difference.
const SLOW: Duration = Duration::from_millis(400);

/// What stands in for a sentinel, and says what a test has it say.
struct Sentinel {
    host: RedisHost,
    says: Arc<Mutex<Says>>,
    speaking: JoinHandle<()>,
}

#[derive(Clone)]
enum Says {
    /// That it is there, by this change.
    At(u64, RedisHost),
    /// The same, so long after the first question of a connection, as if its handshake took its time.
    Slowly(Duration, u64, RedisHost),
    /// These bytes.
    Bytes(&'static str),
    /// Nothing, and stays.
    Nothing,
    /// Nothing, and goes.
    Goes,
}

impl Says {
    /// The bytes of its answers: to the question for the number, and to the one for the place.
    fn bytes(&self) -> Option<[String; 2]> {
        let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        match self {
            Self::At(epoch, RedisHost { host, port }) | Self::Slowly(_, epoch, RedisHost { host, port }) => {
                Some([
                    format!("*2\r\n{}{}", bulk("config-epoch"), bulk(&epoch.to_string())),
                    format!("*2\r\n{}{}", bulk(host), bulk(&port.to_string())),
                ])
            }
            Self::Bytes(bytes) => Some([(*bytes).to_owned(), (*bytes).to_owned()]),
            Self::Nothing | Self::Goes => None,
        }
    }
}

impl Sentinel {
    async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let says = Arc::new(Mutex::new(says));
        let said = Arc::clone(&says);
        let speaking = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let says = Arc::clone(&said);
                tokio::spawn(async move {
                    let (mut number, mut part) = (0, [0; 4096]);
                    while let Ok(count @ 1..) = stream.read(&mut part).await {
                        // Each question comes alone, and ends with the name.
                        assert!(String::from_utf8_lossy(&part[..count]).contains(MASTER));
                        let now = says.lock().unwrap().clone();
                        if let (0, Says::Slowly(time, ..)) = (number, &now) {
                            tokio::time::sleep(*time).await;
                        }
                        match now.bytes() {
                            Some(bytes) => stream.write_all(bytes[number % 2].as_bytes()).await.unwrap(),
                            None if matches!(now, Says::Goes) => break,
                            None => {}
                        }
                        number += 1;
                    }
                });
            }
        });
        let host = RedisHost { host: at.ip().to_string(), port: at.port() };
        Self { host, says, speaking }
    }

    fn say(&self, says: Says) {
        *self.says.lock().unwrap() = says;
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        self.speaking.abort();
    }
}

fn finder(sentinels: &[Sentinel]) -> Finder {
    let address = RedisAddress::Sentinels(Box::new(RedisSentinels {
        hosts: sentinels.iter().map(|sentinel| sentinel.host.clone()).collect(),
        login: None,
        tls: None,
        master: MASTER.to_owned(),
        reached: RedisReached { tls: None, in_clear: false },
    }));
    Finder::new(place(address), "cedargate")
}

async fn sentinels(says: &[Says]) -> Vec<Sentinel> {
    let mut all = Vec::new();
    for says in says {
        all.push(Sentinel::start(says.clone()).await);
    }
    all
}

fn at(port: u16) -> RedisHost {
    RedisHost { host: "127.0.0.1".to_owned(), port }
}

/// Which port it finds.
async fn found(finder: &Finder) -> Result<u16, Fault> {
    finder.found().await.map(|peer| match peer.at {
        At::Tcp(host) => host.port,
        At::Unix(path) => panic!("{path:?}"),
    })
}

#[tokio::test]
async fn the_newest_word_is_believed_and_who_does_not_answer_holds_nobody_up() {
    let old = || Says::At(1, at(1));
    let new = || Says::At(2, at(2));
    let none = |why| Err(Fault::Unfound(why));
    for (says, expected) in [
        ([old(), old(), old()], Ok(1)),
        ([old(), old(), new()], Ok(2)),
        ([new(), Says::Nothing, Says::Goes], Ok(2)),
        ([Says::Nothing, Says::Nothing, old()], Ok(1)),
        ([old(), Says::Bytes("*-1\r\n"), Says::Bytes("+OK\r\n")], Ok(1)),
        ([Says::Nothing, Says::Nothing, Says::Goes], none(Unfound::Silent)),
        (
            [Says::Nothing, Says::Bytes("-ERR No such master with that name\r\n"), Says::Goes],
            none(Unfound::Unknown),
        ),
        ([Says::Goes, Says::Bytes("-NOAUTH Authentication required.\r\n"), Says::Goes], none(Unfound::Login)),
        ([Says::Goes, Says::Bytes("-NOPERM no\r\n"), Says::Goes], none(Unfound::Forbidden)),
        ([Says::Goes, Says::Bytes("HTTP/1.1 400 Bad Request\r\n\r\n"), Says::Goes], none(Unfound::Unknown)),
        // Our password would be heard by all on the way.
        (
            [Says::At(1, RedisHost { host: "192.0.2.1".into(), port: 6379 }), Says::Goes, Says::Goes],
            none(Unfound::InClear),
        ),
        (
            [Says::At(1, RedisHost { host: "redis.internal".into(), port: 6379 }), Says::Goes, Says::Goes],
            none(Unfound::InClear),
        ),
    ] {
        let sentinels = sentinels(&says).await;
        let seen = found(&finder(&sentinels)).await;
        let said: Vec<Option<[String; 2]>> = says.iter().map(Says::bytes).collect();
        assert_eq!(seen, expected, "{said:?}");
    }
}

#[tokio::test]
async fn as_long_as_nobody_has_answered_who_is_slow_is_waited_for() {
    let slow = |epoch: u64, port| Says::Slowly(SLOW, epoch, at(port));
    for (says, expected) in [
        ([slow(1, 1), slow(1, 1), slow(1, 1)], 1),
        ([slow(1, 1), slow(2, 2), slow(1, 1)], 2),
        ([Says::Nothing, slow(1, 1), Says::Goes], 1),
        ([Says::Nothing, slow(1, 1), Says::Bytes("-ERR No such master with that name\r\n")], 1),
    ] {
        let sentinels = sentinels(&says).await;
        let begun = Instant::now();
        assert_eq!(found(&finder(&sentinels)).await, Ok(expected));
        assert!((SLOW..CONNECT).contains(&begun.elapsed()));
    }
}

#[tokio::test]
async fn where_all_hang_it_is_said_that_nobody_says_it_and_not_that_it_cannot_be_reached() {
    let sentinels = sentinels(&[Says::Nothing, Says::Nothing, Says::Goes]).await;
    let begun = Instant::now();
    let seen = finder(&sentinels).connect(SCRIPT).await.map(drop);
    assert_eq!(seen, Err(Fault::Unfound(Unfound::Silent)));
    assert!((CONNECT..CONNECT * 2).contains(&begun.elapsed()));
}

#[tokio::test]
async fn a_handshake_that_takes_longer_than_a_try_is_gone_on_with_by_the_next() {
    let slow = || Says::Slowly(CONNECT + SLOW, 1, at(1));
    let sentinels = sentinels(&[slow(), slow(), Says::Nothing]).await;
    let finder = finder(&sentinels);
    assert_eq!(found(&finder).await, Err(Fault::Unfound(Unfound::Silent)));
    assert_eq!(found(&finder).await, Ok(1));
}

#[tokio::test]
async fn it_has_moved_by_the_word_of_one_that_takes_longer_than_a_look() {
    let all = sentinels(&[Says::At(1, at(1)), Says::At(1, at(1)), Says::Goes]).await;
    let finder = finder(&all);
    assert_eq!(found(&finder).await, Ok(1));
    all[2].say(Says::Slowly(SLOW, 2, at(2)));
    tokio::time::timeout(PATIENCE, finder.moved()).await.expect("it has moved");
}

#[tokio::test]
async fn what_was_said_before_is_not_unsaid_by_who_lags_but_by_all() {
    let all = sentinels(&[Says::At(5, at(5)), Says::Goes, Says::Goes]).await;
    let finder = finder(&all);
    assert_eq!(found(&finder).await, Ok(5));
    all[0].say(Says::Goes);
    for sentinel in &all[1..] {
        sentinel.say(Says::At(4, at(4)));
    }
    assert_eq!(found(&finder).await, Err(Fault::Unfound(Unfound::Older)));
    all[0].say(Says::At(4, at(4)));
    assert_eq!(found(&finder).await, Ok(4), "set up anew");
    all[1].say(Says::At(5, at(6)));
    assert_eq!(found(&finder).await, Ok(6));
}

/// One alone that says a number which none can exceed leads astray for a while, and neither while it speaks nor afterwards
/// for ever.
#[tokio::test(start_paused = true)]
async fn what_most_do_not_come_to_say_is_not_believed_for_ever() {
    let address = RedisAddress::Sentinels(Box::new(RedisSentinels {
        hosts: (1..=3).map(at).collect(),
        login: None,
        tls: None,
        master: MASTER.to_owned(),
        reached: RedisReached { tls: None, in_clear: false },
    }));
    let claims = |claims: &[(u64, u16)]| -> Vec<Claim> {
        claims.iter().map(|(epoch, port)| Claim { epoch: *epoch, host: at(*port) }).collect()
    };
    let (one, most) = (claims(&[(u64::MAX, 9), (1, 1), (1, 1)]), claims(&[(1, 1), (1, 1)]));
    let later = Duration::from_secs(60);
    for still_says in [true, false] {
        let finder = Finder::new(place(address.clone()), "cedargate");
        let port = |claims: &[Claim]| finder.believed(claims, Unfound::Silent).map(|host| host.port);
        assert_eq!(port(&one), Ok(9), "it may be the first to know");
        assert_eq!(port(&most), Err(Fault::Unfound(Unfound::Older)));
        assert!(!finder.is_elsewhere(&one));
        tokio::time::advance(later).await;
        let now = if still_says { &one } else { &most };
        assert!(finder.is_elsewhere(now));
        assert_eq!(port(now), Ok(1));
        assert!(!finder.is_elsewhere(now));
        // What most come to say counts, and stays.
        let changed = claims(&[(u64::MAX, 9), (2, 2), (2, 2)]);
        assert_eq!(port(if still_says { &changed } else { &changed[1..] }), Ok(2));
    }
    let finder = Finder::new(place(address), "cedargate");
    let port = |claims: &[Claim]| finder.believed(claims, Unfound::Silent).map(|host| host.port);
    assert_eq!(port(&claims(&[(2, 2), (1, 1), (1, 1)])), Ok(2));
    assert_eq!(port(&claims(&[(2, 2), (2, 2), (1, 1)])), Ok(2), "most know it by now");
    tokio::time::advance(later).await;
    assert_eq!(
        port(&claims(&[(1, 1), (1, 1)])),
        Err(Fault::Unfound(Unfound::Older)),
        "again only two that lag"
    );
}

#[tokio::test]
async fn whoever_is_named_must_be_a_master() {
    let (master, replica) = (Server::start(), Server::start());
    let all = sentinels(&[Says::At(1, master.host())]).await;
    let finder = finder(&all);
    let until = |wanted: Result<(), Fault>| {
        let finder = &finder;
        async move {
            let connected = async {
                // It may not listen yet.
                loop {
                    let seen = finder.connect(SCRIPT).await.map(drop);
                    if seen == wanted {
                        break;
                    }
                    assert!(matches!(seen, Err(Fault::ConnectionRefused | Fault::Gone)), "{seen:?}");
                }
            };
            tokio::time::timeout(PATIENCE, connected).await.expect("it is there");
        }
    };
    until(Ok(())).await;
    all[0].say(Says::At(2, replica.host()));
    until(Ok(())).await;
    let host = master.host();
    replica.say(&["REPLICAOF", &host.host, &host.port.to_string()]).await;
    until(Err(Fault::Unfound(Unfound::NotMaster))).await;
    replica.say(&["REPLICAOF", "NO", "ONE"]).await;
    until(Ok(())).await;
    // It is asked before anything is left there.
    replica.say(&["ACL", "SETUSER", "cedargate", "-role"]).await;
    until(Err(Fault::Refused("NOPERM"))).await;
}

#[tokio::test]
async fn it_has_moved_when_a_newer_word_says_so() {
    let all = sentinels(&[Says::At(1, at(1)), Says::At(1, at(1)), Says::At(1, at(1))]).await;
    let finder = finder(&all);
    assert_eq!(found(&finder).await, Ok(1));
    let claims = |claims: &[(u64, u16)]| -> Vec<Claim> {
        claims.iter().map(|(epoch, port)| Claim { epoch: *epoch, host: at(*port) }).collect()
    };
    for (said, expected) in [
        (&[][..], false),
        (&[(1, 1)], false),
        (&[(0, 2), (0, 2)], false),
        // Some say another place of the same change: one of them is about to say of which.
        (&[(1, 2), (1, 2), (1, 1)], false),
        (&[(1, 1), (1, 1), (2, 2)], true),
        (&[(0, 2), (0, 2), (0, 2)], true),
        (&[(3, 1)], false),
        (&[(2, 2), (2, 2)], false),
        (&[(4, 2)], true),
    ] {
        assert_eq!(finder.is_elsewhere(&claims(said)), expected, "{said:?}");
    }
    all[2].say(Says::At(9, at(2)));
    tokio::time::timeout(PATIENCE, finder.moved()).await.expect("it has moved");
    assert_eq!(found(&finder).await, Ok(2));
}

#[tokio::test]
async fn a_node_of_a_cluster_says_who_has_the_slot() {
    let server = Server::cluster().await;
    let reached = RedisReached { tls: None, in_clear: false };
    let nowhere = RedisHost { port: 1, ..server.host() };
    let cluster = RedisCluster { hosts: vec![nowhere, server.host()], reached };
    let finder = Finder::new(place(RedisAddress::Cluster(cluster)), "cedargate:{session}");
    let slot = server.say(&["CLUSTER", "KEYSLOT", "cedargate:{session}:x"]).await;
    assert_eq!(slot, Value::Int(claim::slot("cedargate:{session}").into()));
    let peer = finder.found().await.map(|peer| peer.at);
    assert!(matches!(peer, Ok(At::Tcp(host)) if host == server.host()));
    server.say(&["CLUSTER", "DELSLOTSRANGE", "0", "16383"]).await;
    assert_eq!(found(&finder).await, Err(Fault::Unfound(Unfound::Unknown)));
}
