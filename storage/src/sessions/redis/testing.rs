//! Sessions in a real redis-server of the test's own.

use std::sync::Arc;
use std::time::Duration;

use engine::time::UnixMillis;
use uuid::Uuid;

use super::super::{NewSession, SessionRules, Sessions, SharedSessions};
use crate::redis::server::{PATIENCE, Server};
use crate::redis::{Observer, RedisPlace, Standing, Standings};
use crate::{Changes, Keyring};

/// Sessions of one more gateway, tended from now on. Its budget is one that no machine exceeds by itself.
pub(crate) fn tended(
    server: &Server,
    keyring: &Keyring,
    rules: SessionRules,
    observer: Observer,
) -> Arc<Sessions> {
    tending(SharedSessions { place: server.place(), budget: PATIENCE, replicas: 0 }, keyring, rules, observer)
}

/// The same with settings of its own.
pub(crate) fn tending(
    shared: SharedSessions,
    keyring: &Keyring,
    rules: SessionRules,
    observer: Observer,
) -> Arc<Sessions> {
    let sessions = Sessions::redis(shared, keyring.clone(), rules, Changes::default(), observer);
    let sessions = Arc::new(sessions);
    let tending = Arc::clone(&sessions);
    tokio::spawn(async move { tending.tend().await });
    sessions
}

/// The same, once it is there.
pub(crate) async fn up(server: &Server, keyring: &Keyring, rules: SessionRules) -> Arc<Sessions> {
    let sessions = tended(server, keyring, rules, Box::new(|_, _| {}));
    reaches(&sessions, |standings| standings.now == Standing::Up).await;
    sessions
}

/// Sessions of one more gateway that has a replica keep what must last, tended from now on. No machine exceeds half of its
/// budget by itself, and a test can wait for that.
pub(crate) fn wanting_replicas(place: RedisPlace, keyring: &Keyring, rules: SessionRules) -> Arc<Sessions> {
    let shared = SharedSessions { place, budget: Duration::from_millis(900), replicas: 1 };
    tending(shared, keyring, rules, Box::new(|_, _| {}))
}

/// Makes a server another's replica, and waits until something has lasted.
pub(crate) async fn follows(replica: &Server, master: &Server, sessions: &Sessions) {
    let host = master.host();
    // Or it would wait for more of them, so that one copy does for all.
    master.say(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await;
    let nobody = NewSession::of(Uuid::from_u128(99), UnixMillis(0));
    let follows = async {
        while replica.try_say(&["REPLICAOF", &host.host, &host.port.to_string()]).await.is_none() {}
        // A replica counts for what was written before it came as soon as it is sent that, so the first success says little.
        for _ in 0..2 {
            while sessions.create(nobody.clone(), UnixMillis(0)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, follows).await.expect("a replica that follows");
}

/// Waits until the store stands so.
pub(crate) async fn reaches(sessions: &Sessions, wanted: impl Fn(&Standings) -> bool) -> Standings {
    let mut standing = sessions.standing().unwrap();
    let waited = tokio::time::timeout(PATIENCE, standing.wait_for(|standings| wanted(standings))).await;
    let last = *sessions.standing().unwrap().borrow();
    *waited.unwrap_or_else(|_| panic!("waited in vain: {last:?}")).unwrap()
}
