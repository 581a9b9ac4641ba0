//! Sessions in a real redis-server of the test's own.

use std::sync::Arc;

use super::super::{SessionRules, Sessions, SharedSessions};
use crate::redis::server::{PATIENCE, Server};
use crate::redis::{Observer, Standing, Standings};
use crate::{Changes, Keyring};

/// Sessions of one more gateway, tended from now on. Its budget is one that no machine exceeds by itself.
pub(crate) fn tended(
    server: &Server,
    keyring: &Keyring,
    rules: SessionRules,
    observer: Observer,
) -> Arc<Sessions> {
    let shared = SharedSessions { place: server.place(), budget: PATIENCE, replicas: 0 };
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

/// Waits until the store stands so.
pub(crate) async fn reaches(sessions: &Sessions, wanted: impl Fn(&Standings) -> bool) -> Standings {
    let mut standing = sessions.standing().unwrap();
    let waited = tokio::time::timeout(PATIENCE, standing.wait_for(|standings| wanted(standings))).await;
    let last = *sessions.standing().unwrap().borrow();
    *waited.unwrap_or_else(|_| panic!("waited in vain: {last:?}")).unwrap()
}
