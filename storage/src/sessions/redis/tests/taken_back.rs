//! Sign-ins that nobody waits for any more: what becomes of their sessions, and of those that they would have displaced.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::testing::follows;
use super::*;
use crate::redis::server::place;
use crate::redis::{RedisAddress, RedisPlace};

/// What becomes of the first question that has a word in it, and of all that is sent behind it on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is on its way.
    Kept,
    /// It arrives.
    Arrives,
    /// The connection ends, and it with it.
    Lost,
}

/// How far a word has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// Nobody has sent it.
    Not,
    /// It is on its way.
    Here,
    /// The server has done all that was sent to it.
    There,
}

/// A way to a server on which one question may be long. Whoever has sent it may give up and close the connection: like a
/// network, it goes on carrying what it was given.
struct Way {
    port: u16,
    watched: watch::Sender<Option<&'static str>>,
    fate: watch::Sender<Fate>,
    came: watch::Sender<Came>,
}

impl Way {
    async fn to(server: &Server) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(Self {
            port,
            watched: watch::Sender::new(None),
            fate: watch::Sender::new(Fate::Kept),
            came: watch::Sender::new(Came::Not),
        });
        let (leads, host) = (Arc::clone(&way), server.host());
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let Ok(far) = TcpStream::connect((host.host.clone(), host.port)).await else { continue };
                tokio::spawn(Arc::clone(&leads).leads(near, far));
            }
        });
        way
    }

    fn place(&self) -> RedisPlace {
        place(RedisAddress::Tcp { host: "127.0.0.1".to_owned(), port: self.port, tls: None })
    }

    async fn leads(self: Arc<Self>, near: TcpStream, far: TcpStream) {
        let ((near, back), (answers, far)) = (near.into_split(), far.into_split());
        let answering = tokio::spawn(brings_back(answers, back));
        match self.carries(near, far).await {
            Some(Fate::Lost) => answering.abort(),
            // The server ends the connection when it has done all that came before the end of it.
            caught => {
                answering.await.unwrap();
                if caught.is_some() {
                    self.came.send_replace(Came::There);
                }
            }
        }
    }

    /// What became of a question that was caught here, once there is no more to carry.
    async fn carries(&self, mut near: OwnedReadHalf, mut far: OwnedWriteHalf) -> Option<Fate> {
        let (mut bytes, mut caught) = (vec![0; 65_536], None);
        while let Ok(count @ 1..) = near.read(&mut bytes).await {
            if self.catches(&bytes[..count]) {
                self.came.send_replace(Came::Here);
                let mut fate = self.fate.subscribe();
                caught = Some(*fate.wait_for(|fate| *fate != Fate::Kept).await.unwrap());
                if caught == Some(Fate::Lost) {
                    break;
                }
            }
            far.write_all(&bytes[..count]).await.ok();
        }
        caught
    }

    /// Only the first question that has the word in it is caught.
    fn catches(&self, bytes: &[u8]) -> bool {
        self.watched.send_if_modified(|watched| {
            let caught = watched.is_some_and(|word| {
                let word = format!("\r\n{word}\r\n");
                bytes.windows(word.len()).any(|part| part == word.as_bytes())
            });
            if caught {
                *watched = None;
            }
            caught
        })
    }

    /// From now on the first question that has this word in it does not arrive.
    fn keeps(&self, word: &'static str) {
        self.fate.send_replace(Fate::Kept);
        self.came.send_replace(Came::Not);
        self.watched.send_replace(Some(word));
    }

    /// Waits until its question is there, or has arrived.
    async fn reaches(&self, wanted: Came) {
        let mut came = self.came.subscribe();
        let reached = tokio::time::timeout(PATIENCE, came.wait_for(|came| *came == wanted)).await;
        assert!(reached.is_ok(), "{wanted:?}, and not {:?}", *self.came.borrow());
    }

    fn lets(&self, fate: Fate) {
        self.fate.send_replace(fate);
    }
}

/// Also what nobody is there to read any more.
async fn brings_back(mut answers: OwnedReadHalf, mut back: OwnedWriteHalf) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = answers.read(&mut bytes).await {
        back.write_all(&bytes[..count]).await.ok();
    }
}

/// One more gateway. Its budget is one that no machine exceeds by itself.
async fn gateway(way: &Way, replicas: u8, rules: SessionRules) -> Arc<Sessions> {
    let shared = SharedSessions { place: way.place(), budget: PATIENCE, replicas };
    let sessions = tending(shared, &ring(1), rules, Box::new(|_, _| {}));
    reaches(&sessions, is_up).await;
    sessions
}

/// Ada signs in.
fn signs_in(sessions: &Arc<Sessions>, at: u64) -> JoinHandle<Result<CreatedSession, StoreError>> {
    let sessions = Arc::clone(sessions);
    tokio::spawn(async move { sessions.create(new(1), NOW.plus(at)).await })
}

/// As many sessions of Ada as there may be.
async fn as_many_as_may_be(sessions: &Sessions, rules: SessionRules) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for at in 0..rules.per_account_max as u64 {
        ids.push(sessions.create(new(1), NOW.plus(at)).await.unwrap().session.id);
    }
    ids
}

/// Those that live, the oldest first.
async fn live(sessions: &Sessions) -> Vec<Uuid> {
    let listed = sessions.list(Some(Uuid::from_u128(1)), NOW.plus(100)).await.unwrap();
    listed.iter().map(|session| session.id).collect()
}

/// How many places are closed to whatever comes.
async fn tombstones(server: &Server) -> usize {
    let redis::Value::Array(keys) = server.say(&["KEYS", "*:x:*"]).await else { panic!("keys") };
    keys.len()
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}

#[tokio::test]
async fn a_sign_in_that_arrives_after_it_was_taken_back_begins_no_session_and_ends_nobodys() {
    let server = Server::start();
    let (way, alone) = (Way::to(&server).await, up(&server, &ring(1), RULES).await);
    let before = as_many_as_may_be(&alone, RULES).await;
    let shared = SharedSessions { place: way.place(), budget: Duration::from_millis(400), replicas: 0 };
    let (observed, mut answered) = watch::channel(0);
    let observer =
        move |answer, _| observed.send_modify(|count| *count += usize::from(answer == Answered::Answered));
    let sessions = tending(shared, &ring(1), RULES, Box::new(observer));
    reaches(&sessions, is_up).await;
    way.keeps("create");
    let vain = sessions.create(new(1), NOW.plus(10)).await.map(|created| created.session);
    assert!(matches!(vain, Err(StoreError::Shared(Fault::Late))), "{vain:?}");
    // Over the connection that comes after the one on which nothing is answered.
    let taken_back = tokio::time::timeout(PATIENCE, answered.wait_for(|count| *count == 1)).await;
    taken_back.expect("it is taken back").unwrap();
    way.lets(Fate::Arrives);
    way.reaches(Came::There).await;
    assert_eq!(live(&alone).await, before);
    let told: String = redis::from_redis_value(server.say(&["INFO", "commandstats"]).await).unwrap();
    let scripts = told.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap();
    assert!(scripts.ends_with(",failed_calls=1"), "it has arrived, and was refused: {scripts}");
    // It ends as any tombstone does.
    let redis::Value::Array(keys) = server.say(&["KEYS", "*:x:*"]).await else { panic!("keys") };
    let key: String = redis::from_redis_value(keys[0].clone()).unwrap();
    let redis::Value::Int(left) = server.say(&["PTTL", &key]).await else { panic!("a number") };
    let most = RULES.absolute_ms as i64 + 600_000;
    assert!((most - 60_000..=most).contains(&left), "{left}");
}

#[tokio::test]
async fn a_sign_in_whose_browser_gives_up_leaves_no_session_that_nobody_holds() {
    // What arrives before it is taken back may have displaced somebody.
    for (replicas, word, displaced) in [(0, "create", 1), (1, "create", 0), (1, "displace", 1)] {
        let (server, replica) = (Server::start(), Server::start());
        let (way, alone) = (Way::to(&server).await, up(&server, &ring(1), RULES).await);
        let sessions = gateway(&way, replicas, RULES).await;
        if replicas > 0 {
            follows(&replica, &server, &sessions).await;
        }
        let before = as_many_as_may_be(&alone, RULES).await;
        let closed = tombstones(&server).await;
        way.keeps(word);
        let browser = signs_in(&sessions, 10);
        way.reaches(Came::Here).await;
        browser.abort();
        assert!(browser.await.is_err_and(|ended| ended.is_cancelled()));
        way.lets(Fate::Arrives);
        let case = format!("{replicas}: {word}");
        until(&case, async || tombstones(&server).await == closed + displaced + 1).await;
        assert_eq!(live(&alone).await, before[displaced..], "{case}");
    }
}

#[tokio::test]
async fn a_sign_in_at_a_cluster_whose_browser_gives_up_leaves_no_session_either_and_none_where_its_memory_is_full()
 {
    let node = Server::cluster().await;
    let sessions = up(&node, &ring(1), RULES).await;
    for (before, maxmemory) in ["0", "1"].into_iter().enumerate() {
        node.say(&["CONFIG", "SET", "maxmemory", maxmemory]).await;
        node.signal(Signal::STOP);
        let browser = signs_in(&sessions, 0);
        // Sent or not.
        tokio::task::yield_now().await;
        browser.abort();
        assert!(browser.await.is_err_and(|ended| ended.is_cancelled()), "{maxmemory}");
        node.signal(Signal::CONT);
        until(maxmemory, async || tombstones(&node).await == before + 1).await;
        assert!(live(&sessions).await.is_empty(), "{maxmemory}");
    }
}

#[tokio::test]
async fn a_session_that_a_replica_has_stays_whatever_becomes_of_its_displacement_which_is_made_up_for() {
    for is_refused in [true, false] {
        let (server, replica) = (Server::start(), Server::start());
        let (way, alone) = (Way::to(&server).await, up(&server, &ring(1), RULES).await);
        let sessions = gateway(&way, 1, RULES).await;
        follows(&replica, &server, &sessions).await;
        let before = as_many_as_may_be(&alone, RULES).await;
        let created = if is_refused {
            // What cannot be told does not end.
            server.say(&["ACL", "SETUSER", "cedargate", "-publish"]).await;
            signs_in(&sessions, 10).await
        } else {
            way.keeps("displace");
            let signing_in = signs_in(&sessions, 10);
            way.reaches(Came::Here).await;
            way.lets(Fate::Lost);
            signing_in.await
        };
        let created = created.unwrap().unwrap_or_else(|error| panic!("refused: {is_refused}: {error:?}"));
        assert!(created.displaced.is_empty(), "refused: {is_refused}");
        if is_refused {
            assert_eq!(live(&alone).await, [&before[..], &[created.session.id]].concat());
            server.say(&["ACL", "SETUSER", "cedargate", "+publish"]).await;
        }
        let after = [&before[1..], &[created.session.id]].concat();
        until("the oldest ends", async || live(&alone).await == after).await;
        assert!(alone.find(&created.secret, NOW.plus(100)).await.unwrap().is_some(), "refused: {is_refused}");
    }
}

#[tokio::test]
async fn a_displacement_that_comes_late_ends_nothing_that_began_after_what_it_is_for() {
    let rules = SessionRules { per_account_max: 1, ..RULES };
    let (server, replica) = (Server::start(), Server::start());
    let (straight, way) = (Way::to(&server).await, Way::to(&server).await);
    let alone = up(&server, &ring(1), rules).await;
    let (one, other) = (gateway(&straight, 1, rules).await, gateway(&way, 1, rules).await);
    follows(&replica, &server, &one).await;
    let oldest = as_many_as_may_be(&alone, rules).await;
    // The first sign-in ends nobody's session yet, and neither does the second.
    server.say(&["ACL", "SETUSER", "cedargate", "-publish"]).await;
    let first = signs_in(&one, 10).await.unwrap().unwrap().session.id;
    way.keeps("displace");
    let second = signs_in(&other, 20);
    way.reaches(Came::Here).await;
    server.say(&["ACL", "SETUSER", "cedargate", "+publish"]).await;
    until("the oldest ends", async || !live(&alone).await.contains(&oldest[0])).await;
    let [still, newer] = live(&alone).await[..] else { panic!("both of these: {:?}", live(&alone).await) };
    assert_eq!(still, first);
    way.lets(Fate::Arrives);
    let second = second.await.unwrap().unwrap();
    assert_eq!((second.session.id, second.displaced), (newer, vec![first]));
    assert_eq!(live(&alone).await, [newer]);
}
