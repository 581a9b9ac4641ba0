//! What ends, as every gateway hears it: from itself at once, from the others over the channel.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use uuid::Uuid;

use super::super::touch::part;
use super::script::{self, Said};
use crate::keyring::Digest;
use crate::recent::{Epoch, Epochs, Reach};
use crate::{Change, Changes};

/// Endings that were told lately. The same one comes twice at most, within a round trip: as an answer and over the channel.
const TOLD_MAX: usize = 1_024;

pub(super) struct Heard {
    epochs: Epochs,
    changes: Changes,
    told: Mutex<VecDeque<Uuid>>,
}

impl Heard {
    pub(super) fn new(changes: Changes) -> Self {
        Self { epochs: Epochs::new(), changes, told: Mutex::default() }
    }

    /// The epoch of whatever lies at this place. Taken before the store is asked.
    pub(super) fn epoch(&self, place: &Digest) -> Epoch {
        self.epochs.of(part(place))
    }

    /// A session has ended: what was read of it stands no longer, and whoever rests on it is told.
    pub(super) fn ended(&self, place: &Digest, id: Uuid) {
        self.epochs.end(Reach::Part(part(place)));
        {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.contains(&id) {
                return;
            }
            if told.len() >= TOLD_MAX {
                told.pop_front();
            }
            told.push_back(id);
        }
        self.changes.tell(Change::Session(id));
    }

    /// Something was changed here, which no other gateway needs to know.
    pub(super) fn changed(&self, place: &Digest) {
        self.epochs.end(Reach::Part(part(place)));
    }

    /// The epoch of an account or a key. Taken before the store is asked.
    pub(super) fn epoch_of(&self, id: Uuid) -> Epoch {
        self.epochs.of(part_of(id))
    }

    /// An account or a key was written, and is nothing else to whoever rests on it.
    pub(super) fn rewritten(&self, id: Uuid) {
        self.epochs.end(Reach::Part(part_of(id)));
    }

    /// An account or a key is something else now: what was read of it stands no longer, and whoever rests on it asks again.
    pub(super) fn became(&self, id: Uuid, change: Change) {
        self.epochs.end(Reach::Part(part_of(id)));
        self.changes.tell(change);
    }

    /// An identity provider has ended something: what was read of that stands no longer, and whoever rests on a token for
    /// which a mark would be at this place asks again.
    pub(super) fn marked(&self, place: &Digest) {
        self.epochs.end(Reach::Part(part(place)));
        self.changes.tell(Change::Marked((*place).into()));
    }

    /// Something was said on the channel. What cannot be read could be about anybody.
    pub(super) fn said(&self, text: &[u8]) {
        match script::said(text) {
            Some(Said::Ended(place, id)) => self.ended(&place, id),
            Some(Said::Changed(id, change)) => self.became(id, change),
            Some(Said::Marked(place)) => self.marked(&place),
            None => {
                self.forgets();
                self.asks_again();
            }
        }
    }

    /// Nothing that was read stands any longer.
    pub(super) fn forgets(&self) {
        self.epochs.end(Reach::All);
    }

    /// Whoever rests on a session asks again.
    pub(super) fn asks_again(&self) {
        self.changes.tell(Change::Any);
    }
}

/// The part that what is read of an id belongs to.
fn part_of(id: Uuid) -> u8 {
    let [.., last] = id.into_bytes();
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keyring;
    use crate::keyring::Purpose;

    #[test]
    fn an_end_is_told_once_and_what_cannot_be_read_concerns_everybody() {
        let changes = Changes::default();
        let mut told = changes.listen();
        let heard = Heard::new(changes);
        let place = Keyring::from_master(&[1; 32]).digest(Purpose::SessionDigest, b"secret");
        let id = Uuid::from_u128(7);
        let epoch = heard.epoch(&place);
        heard.ended(&place, id);
        assert_ne!(heard.epoch(&place), epoch);
        let epoch = heard.epoch(&place);
        heard.said(format!("{} {id}", script::hex(&place)).as_bytes());
        assert_ne!(heard.epoch(&place), epoch, "what was read in between is forgotten all the same");
        assert_eq!(told.try_recv(), Ok(Change::Session(id)));
        assert!(told.try_recv().is_err(), "once");
        let of = heard.epoch_of(id);
        heard.said(format!("account {id}").as_bytes());
        assert_ne!(heard.epoch_of(id), of);
        assert_eq!(told.try_recv(), Ok(Change::Account(id)));
        let epoch = heard.epoch(&place);
        heard.said(format!("ending {}", script::hex(&place)).as_bytes());
        assert_eq!(told.try_recv(), Ok(Change::Marked(place.into())));
        assert_ne!(heard.epoch(&place), epoch);
        let epoch = heard.epoch(&place);
        heard.said(b"nonsense");
        assert_eq!(told.try_recv(), Ok(Change::Any));
        assert_ne!(heard.epoch(&place), epoch);
    }
}
