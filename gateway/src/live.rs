//! What goes on after its request was decided: open sockets and streamed answers. Each holds a [`Lease`], and is
//! woken when what it was decided on may be gone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::identity::{Identity, Scheme};
use storage::Change;
use tokio::sync::{Notify, broadcast, watch};
use uuid::Uuid;

use crate::named::Named;
use crate::oidc::Providers;

/// Everything that goes on. It is woken by name: asking for all at each sign-out would make each cost as much as
/// everything that is open.
#[derive(Debug, Default)]
pub struct Live {
    state: Mutex<State>,
    changes: AtomicU64,
}

/// How much had changed at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u64);

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
    sockets: HashMap<Uuid, usize>,
}

#[derive(Debug)]
struct Open {
    principal: Option<Uuid>,
    credential: Option<Uuid>,
    by_token: bool,
    socket: bool,
    wake: Arc<Notify>,
}

/// One thing that goes on; forgotten when dropped.
#[derive(Debug)]
pub struct Lease {
    live: Arc<Live>,
    id: u64,
    wake: Arc<Notify>,
}

/// The principal has as many sockets open as one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Live {
    /// This moment. Whoever takes it before deciding and hands it over with what was decided misses no change in
    /// between: an identity may be gone before what it opens is known here.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment(self.changes.load(Ordering::Acquire))
    }

    /// A streamed answer begins, decided after `since`.
    #[must_use]
    pub fn stream(self: &Arc<Self>, identity: &Identity, since: Moment) -> Lease {
        self.open(&mut self.state(), identity, since, false)
    }

    /// A socket is about to open, decided after `since`; it counts from now on.
    ///
    /// # Errors
    /// Its principal has `sockets_max` open.
    pub fn socket(
        self: &Arc<Self>,
        identity: &Identity,
        since: Moment,
        sockets_max: usize,
    ) -> Result<Lease, TooMany> {
        let mut state = self.state();
        if let Identity::Known(principal) = identity {
            let count = state.sockets.entry(principal.id).or_default();
            if *count >= sockets_max {
                return Err(TooMany);
            }
            *count = count.saturating_add(1);
        }
        Ok(self.open(&mut state, identity, since, true))
    }

    /// Wakes whatever rests on what has changed.
    pub fn changed(&self, change: Change) {
        self.wake(|open| match change {
            Change::Session(id) | Change::ApiKey(id) | Change::AccessToken(id) => open.credential == Some(id),
            Change::Account(id) => open.principal == Some(id),
            // Whose it is, is known to whoever has the tokens.
            Change::Marked(_) => open.by_token,
            Change::Any => true,
        });
    }

    /// Wakes what was let in by a token that `is_concerned`. Each is asked about once and aside, so that nothing that opens
    /// or ends meanwhile waits for it.
    pub fn marked(&self, is_concerned: impl Fn(Uuid) -> bool) {
        let mut tokens: HashSet<Uuid> = {
            let state = self.state();
            // What opens from here on was decided after the mark, or sees that something has changed.
            self.changes.fetch_add(1, Ordering::AcqRel);
            let by_token = state.open.values().filter(|open| open.by_token);
            by_token.filter_map(|open| open.credential).collect()
        };
        tokens.retain(|token| is_concerned(*token));
        if !tokens.is_empty() {
            self.wake(|open| open.by_token && open.credential.is_some_and(|token| tokens.contains(&token)));
        }
    }

    /// Wakes everything.
    pub fn all(&self) {
        self.wake(|_| true);
    }

    fn open(self: &Arc<Self>, state: &mut State, identity: &Identity, since: Moment, socket: bool) -> Lease {
        let (principal, credential, by_token) = match identity {
            Identity::Anonymous => (None, None, false),
            Identity::Known(principal) => {
                (Some(principal.id), principal.credential_id, principal.scheme == Scheme::AccessToken)
            }
        };
        let (id, wake) = (state.next, Arc::new(Notify::new()));
        if since != self.moment() {
            wake.notify_one();
        }
        state.next = state.next.wrapping_add(1);
        state.open.insert(id, Open { principal, credential, by_token, socket, wake: wake.clone() });
        Lease { live: self.clone(), id, wake }
    }

    fn wake(&self, concerns: impl Fn(&Open) -> bool) {
        let state = self.state();
        // Under the lock: what opens is either found here, or sees that something has changed.
        self.changes.fetch_add(1, Ordering::AcqRel);
        for open in state.open.values().filter(|open| concerns(open)) {
            // It stays woken until it has looked, also when it is busy at this moment.
            open.wake.notify_one();
        }
    }

    /// No change under this lock can be left half done by a panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Resolves when it should ask again.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.live.state();
        let Some(open) = state.open.remove(&self.id) else { return };
        if let (true, Some(principal)) = (open.socket, open.principal)
            && let Some(count) = state.sockets.get_mut(&principal)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.sockets.remove(&principal);
            }
        }
    }
}

/// Wakes what changes concern, until `stop` says true. `swaps` changes with each bundle that is put in place.
pub async fn follow(
    (live, named, providers): (Arc<Live>, Arc<Named>, Arc<Providers>),
    mut changes: broadcast::Receiver<Change>,
    mut swaps: watch::Receiver<u64>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            change = changes.recv() => match change {
                Ok(Change::Marked(place)) => live.marked(|token| providers.is_marked_at(token, &place)),
                Ok(change) => {
                    live.changed(change);
                    named.changed(change);
                }
                // What was missed could concern anybody.
                Err(broadcast::error::RecvError::Lagged(_)) => live.all(),
                Err(broadcast::error::RecvError::Closed) => return,
            },
            swapped = swaps.changed() => match swapped {
                Ok(()) => live.all(),
                Err(_gone) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::identity::Principal;
    use futures_util::FutureExt;

    use super::*;
    use crate::pipeline::testing::known;

    fn with_token(id: u128, credential: u128) -> Identity {
        let Identity::Known(principal) = known(id, credential) else { panic!("somebody is known") };
        let by_token = Principal { scheme: Scheme::AccessToken, ..(*principal).clone() };
        Identity::Known(Arc::new(by_token))
    }

    fn is_woken(lease: &Lease) -> bool {
        lease.woken().now_or_never().is_some()
    }

    #[tokio::test]
    async fn only_what_a_change_concerns_is_woken() {
        let live = Arc::new(Live::default());
        let (ada, bob) = (known(1, 10), known(2, 20));
        let since = live.moment();
        let leases = [&ada, &bob, &Identity::Anonymous].map(|identity| live.stream(identity, since));
        let check = |expected: [bool; 3]| assert_eq!(leases.each_ref().map(is_woken), expected);
        check([false, false, false]);
        live.changed(Change::Session(Uuid::from_u128(10)));
        check([true, false, false]);
        live.changed(Change::Account(Uuid::from_u128(2)));
        check([false, true, false]);
        live.changed(Change::ApiKey(Uuid::from_u128(20)));
        check([false, true, false]);
        live.changed(Change::Account(Uuid::from_u128(10)));
        check([false, false, false]);
        live.marked(|_| true);
        check([false, false, false]);
        for wake in [|live: &Live| live.all(), |live: &Live| live.changed(Change::Any)] {
            wake(&live);
            check([true, true, true]);
        }
    }

    #[tokio::test]
    async fn the_end_of_a_token_asks_nothing_for_whoever_came_with_another() {
        let live = Arc::new(Live::default());
        let open = |id: u128| live.socket(&with_token(id % 7, 100 + id % 50), live.moment(), 100).unwrap();
        let sockets: Vec<Lease> = (0..100).map(open).collect();
        let session = live.socket(&known(1, 101), live.moment(), 100).unwrap();
        let woken = || sockets.iter().filter(|lease| is_woken(lease)).count();
        let asked = std::cell::Cell::new(0);
        let marked = |token: u128| {
            asked.set(0);
            live.marked(|id| {
                asked.set(asked.get() + 1);
                id == Uuid::from_u128(token)
            });
        };
        marked(7);
        assert_eq!((asked.get(), woken()), (50, 0), "each token is looked at once, and nobody asks");
        marked(101);
        assert_eq!((asked.get(), woken()), (50, 2), "two came with it");
        assert!(!is_woken(&session), "a session of the same id is none");
        // Whoever was decided on before it and opens after it asks for themselves.
        let since = live.moment();
        marked(7);
        assert!(is_woken(&live.stream(&with_token(9, 900), since)));
        assert!(!is_woken(&live.stream(&with_token(9, 900), live.moment())));
    }

    #[tokio::test]
    async fn what_changed_between_a_decision_and_what_it_opens_is_not_missed() {
        let live = Arc::new(Live::default());
        let ada = known(1, 10);
        let since = live.moment();
        assert!(!is_woken(&live.stream(&ada, since)));
        live.changed(Change::Session(Uuid::from_u128(10)));
        let (stream, socket) = (live.stream(&ada, since), live.socket(&ada, since, 1).unwrap());
        assert!(is_woken(&stream) && is_woken(&socket));
        assert!(!is_woken(&stream), "once, not for ever");
        assert!(!is_woken(&live.stream(&ada, live.moment())));
    }

    #[test]
    fn sockets_are_counted_by_principal_and_given_back() {
        let live = Arc::new(Live::default());
        let ada = known(1, 10);
        let since = live.moment();
        let first = live.socket(&ada, since, 2).unwrap();
        let second = live.socket(&known(1, 11), since, 2).unwrap();
        assert_eq!(live.socket(&ada, since, 2).err(), Some(TooMany), "by principal, not by credential");
        drop((live.stream(&ada, since), live.socket(&known(2, 20), since, 2).unwrap()));
        drop(first);
        drop(live.socket(&ada, since, 2).unwrap());
        drop(second);
        assert!(live.state().sockets.is_empty() && live.state().open.is_empty());
    }
}
