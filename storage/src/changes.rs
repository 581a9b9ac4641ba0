//! Tells whoever lets somebody do something for long that the ground for it may be gone.
//!
//! A request asks the store and is over. An open connection has asked once: it listens here, and asks again when
//! its session, its account or its key is named.

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::endings::Place;

/// Changes that a listener may be behind; one that is further behind is told that it has missed some, and asks
/// about everything.
const BEHIND_MAX: usize = 1024;

/// Something ended or changed that an open connection may rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session was ended, by its public id.
    Session(Uuid),
    /// An account was changed or removed.
    Account(Uuid),
    /// An API key was revoked, by its public id.
    ApiKey(Uuid),
    /// An access token was ended by its provider, by its public id.
    AccessToken(Uuid),
    /// A provider has ended something, at this gateway or another: whatever was issued for what is marked at this place.
    Marked(Place),
    /// It may be anything: nothing was heard for a while.
    Any,
}

/// Where changes are told. Clones share their listeners.
#[derive(Clone, Debug)]
pub struct Changes {
    told: broadcast::Sender<Change>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { told: broadcast::Sender::new(BEHIND_MAX) }
    }
}

impl Changes {
    /// Listens from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Change> {
        self.told.subscribe()
    }

    /// Tells a change that is on disk.
    pub(crate) fn tell(&self, change: Change) {
        // Without a listener there is nobody to whom it matters.
        drop(self.told.send(change));
    }
}
