//! What must last: done when replicas have it, and what happens where they do not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::super::testing::{follows, wanting_replicas};
use super::*;
use crate::redis::server::place;
use crate::redis::{RedisAddress, RedisHost, RedisPlace};

/// Sessions of one more gateway that has a replica keep what must last.
fn wanting(place: RedisPlace) -> Arc<Sessions> {
    wanting_replicas(place, &ring(1), RULES)
}

/// Stands between a gateway and servers, and can leave one connection without an answer.
struct Relay {
    port: u16,
    begun: Arc<AtomicUsize>,
    dead: watch::Sender<Option<usize>>,
    settled: Arc<AtomicBool>,
}

impl Relay {
    /// The connections lead to these in turn, until they are settled.
    async fn to(servers: &[&Server]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hosts: Vec<RedisHost> = servers.iter().map(|server| server.host()).collect();
        let (dead, is_dead) = watch::channel(None);
        let begun = Arc::new(AtomicUsize::new(0));
        let settled = Arc::new(AtomicBool::new(false));
        let (begins, is_settled) = (Arc::clone(&begun), Arc::clone(&settled));
        tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let number = begins.fetch_add(1, Ordering::Relaxed);
                let turn = if is_settled.load(Ordering::Relaxed) { 0 } else { number % hosts.len() };
                let host = hosts[turn].clone();
                let mut is_dead = is_dead.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect((host.host, host.port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => return,
                        _ = is_dead.wait_for(|dead| *dead == Some(number)) => {}
                    }
                    // Both ends stay open.
                    std::future::pending::<()>().await;
                });
            }
        });
        Self { port, begun, dead, settled }
    }

    /// How many connections there were: of a gateway that is there, the last two are its own.
    fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    fn place(&self) -> RedisPlace {
        place(RedisAddress::Tcp { host: "127.0.0.1".to_owned(), port: self.port, tls: None })
    }

    /// From now on new connections lead to the first server.
    fn settles(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// From now on nothing passes on this connection.
    fn leaves(&self, number: usize) {
        self.dead.send_replace(Some(number));
    }
}

#[tokio::test]
async fn what_must_last_is_done_when_a_replica_has_it() {
    let (mut master, replica) = (Server::start(), Server::start());
    let sessions = wanting(master.place());
    reaches(&sessions, is_up).await;
    // Nobody would have it if this one server were lost; which is no reason to take it for lost.
    let alone = sessions.create(new(1), NOW).await.err();
    assert!(matches!(alone, Some(StoreError::Shared(Fault::Unkept))), "{alone:?}");
    assert!(is_up(&sessions.standing().unwrap().borrow()));
    follows(&replica, &master, &sessions).await;
    let (kept, ended) =
        (sessions.create(new(2), NOW).await.unwrap(), sessions.create(new(2), NOW).await.unwrap());
    assert!(sessions.end(ended.session.id, NOW).await.unwrap().is_some());
    master.kill();
    let key = |session: &SessionView| String::from_utf8(record_key("cedargate", &session.place)).unwrap();
    assert_eq!(replica.say(&["EXISTS", &key(&kept.session)]).await, Value::Int(1));
    assert_eq!(replica.say(&["EXISTS", &key(&ended.session)]).await, Value::Int(0));
}

#[tokio::test]
async fn threat_14_what_another_connection_answers_says_nothing_about_the_one_that_hears() {
    let (master, replica) = (Server::start(), Server::start());
    let relay = Relay::to(&[&master]).await;
    let sessions = wanting(relay.place());
    reaches(&sessions, is_up).await;
    follows(&replica, &master, &sessions).await;
    let before = reaches(&sessions, is_up).await.outages;
    relay.leaves(relay.begun() - 2);
    let lost = async {
        while sessions.standing().unwrap().borrow().outages == before {
            sessions.end(Uuid::from_u128(7), NOW).await.ok();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, lost)
        .await
        .expect("what hears nothing is given up, whatever else answers");
    reaches(&sessions, is_up).await;
}

#[tokio::test]
async fn a_connection_to_wait_on_that_is_dead_is_found_out_though_nobody_waits() {
    let master = Server::start();
    let relay = Relay::to(&[&master]).await;
    let sessions = wanting(relay.place());
    // A server may not listen at first; what counts is what comes after.
    let before = reaches(&sessions, is_up).await.outages;
    relay.leaves(relay.begun() - 1);
    let standings = reaches(&sessions, |standings| standings.outages > before).await;
    assert_eq!(standings.last, Some(Fault::Late));
    reaches(&sessions, is_up).await;
}

/// A name, or what spreads connections, may lead elsewhere the second time: the replicas of another server say nothing.
#[tokio::test]
async fn both_connections_have_to_lead_to_one_server() {
    let (one, other) = (Server::start(), Server::start());
    for server in [&one, &other] {
        up(server, &ring(1), RULES).await;
    }
    let relay = Relay::to(&[&one, &other]).await;
    let sessions = wanting(relay.place());
    let standings = reaches(&sessions, |standings| standings.last == Some(Fault::Moved)).await;
    assert_eq!(standings.outages, 1, "it was never there");
    relay.settles();
    reaches(&sessions, is_up).await;
}

#[tokio::test]
async fn who_may_not_wait_is_told_at_the_start_and_loses_the_store_for_nobody() {
    let master = Server::start();
    let alone = up(&master, &ring(1), RULES).await;
    let made = alone.create(new(1), NOW).await.unwrap();
    master.say(&["ACL", "SETUSER", "cedargate", "-wait"]).await;
    let sessions = wanting(master.place());
    let standings = reaches(&sessions, is_away).await;
    assert_eq!(standings.last, Some(Fault::Refused("NOPERM")));
    master.say(&["ACL", "SETUSER", "cedargate", "+wait"]).await;
    let before = reaches(&sessions, is_up).await.outages;
    master.say(&["ACL", "SETUSER", "cedargate", "-wait"]).await;
    let ended = sessions.end(made.session.id, NOW).await;
    assert!(
        matches!(ended, Err(StoreError::Shared(Fault::Unkept))),
        "done, and nobody was asked who has it: {ended:?}"
    );
    assert_eq!(sessions.find(&made.secret, NOW).await.unwrap(), None);
    let standings = *sessions.standing().unwrap().borrow();
    assert_eq!((standings.now, standings.outages), (Standing::Up, before));
}

#[tokio::test]
async fn a_replica_that_is_missing_holds_nobody_up_and_loses_the_store_for_nobody() {
    let master = Server::start();
    let alone = up(&master, &ring(1), RULES).await;
    let mut made = Vec::new();
    for account in 0..40 {
        made.push(alone.create(new(account), NOW).await.unwrap());
    }
    let sessions = wanting(master.place());
    reaches(&sessions, is_up).await;
    let ends: Vec<_> = made
        .iter()
        .map(|made| {
            let (sessions, id) = (Arc::clone(&sessions), made.session.id);
            tokio::spawn(async move { sessions.end(id, NOW).await })
        })
        .collect();
    for end in ends {
        let ended = end.await.unwrap();
        assert!(matches!(ended, Err(StoreError::Shared(Fault::Unkept))), "{ended:?}");
    }
    for made in &made {
        assert_eq!(sessions.find(&made.secret, NOW).await.unwrap(), None, "done all the same");
    }
    let standings = *sessions.standing().unwrap().borrow();
    assert_eq!((standings.now, standings.outages), (Standing::Up, 0));
    // All waited together: one after the other they would have been as many as there are ends.
    let told: String = redis::from_redis_value(master.say(&["INFO", "commandstats"]).await).unwrap();
    let waits = told.split("cmdstat_wait:calls=").nth(1).and_then(|calls| calls.split(',').next());
    let waits: usize = waits.expect("how often it was waited").parse().unwrap();
    assert!((1..made.len() / 2).contains(&waits), "{waits}");
}

#[tokio::test]
async fn sign_ins_that_came_to_nothing_sign_nobody_out() {
    let master = Server::start();
    let alone = up(&master, &ring(1), RULES).await;
    let mut made = Vec::new();
    for at in 0..RULES.per_account_max as u64 {
        made.push(alone.create(new(1), NOW.plus(at)).await.unwrap());
    }
    let sessions = wanting(master.place());
    reaches(&sessions, is_up).await;
    for at in 10..15 {
        let vain = sessions.create(new(1), NOW.plus(at)).await.map(|created| created.session);
        assert!(matches!(vain, Err(StoreError::Shared(Fault::Unkept))), "{vain:?}");
    }
    let ids: Vec<Uuid> = made.iter().map(|made| made.session.id).collect();
    let taken_back = async {
        while alone.list(Some(Uuid::from_u128(1)), NOW.plus(20)).await.unwrap().len() > ids.len() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, taken_back).await.expect("what nobody holds is ended");
    let left = alone.list(Some(Uuid::from_u128(1)), NOW.plus(20)).await.unwrap();
    assert_eq!(left.iter().map(|session| session.id).collect::<Vec<_>>(), ids);

    // One that is kept ends the oldest, as ever.
    let replica = Server::start();
    follows(&replica, &master, &sessions).await;
    let kept = sessions.create(new(1), NOW.plus(30)).await.unwrap();
    let live: Vec<Uuid> = alone
        .list(Some(Uuid::from_u128(1)), NOW.plus(30))
        .await
        .unwrap()
        .iter()
        .map(|session| session.id)
        .collect();
    assert_eq!(live, [&ids[1..], &[kept.session.id]].concat());
    assert_eq!(kept.displaced, ids[..1]);
}
