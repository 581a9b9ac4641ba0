//! What the table knows that another store does not, and what that store has told of it.

use std::sync::PoisonError;

use engine::limit::{Left, left};
use engine::time::UnixMillis;
use engine::window::Window;

use super::slot::{OWED, Slot, bounded};
use super::{Kept, Memory, NS_PER_MS, State, Take, find, shard_of};

impl Memory {
    /// What the other store has to be told of a key: what it does not know, and what it has forgotten by a limit that was
    /// another, and is not over by the one that this has become.
    pub(in super::super) fn owed(&self, hash: [u64; 2], take: &Take<'_>, now: UnixMillis) -> Option<State> {
        if take.key.sliding {
            let windows = self.windows.get()?;
            let slot = windows.find(&mut windows.lock(&[hash]), hash)?;
            let kept = slot.kept(&self.newest, take);
            let window = slot.window_by(take, kept, now);
            let is_news = kept == Kept::Earlier && slot.window.ends_ms() <= now.0;
            return (slot.owed || is_news).then_some(State::Window(window));
        }
        let shard = self.shards.get(shard_of(hash))?.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = find(shard.get(self.place(hash)?)?, hash)?;
        let (kept, tat) = self.standing(Some(slot), take, now);
        let now_ns = now.0.saturating_mul(NS_PER_MS);
        let is_news = kept == Kept::Earlier && slot.tat() <= now_ns && tat > now_ns;
        (slot.is_owed() || is_news).then_some(State::Tat(tat))
    }

    /// Whether the other store has to be told of a key anything that is not over.
    pub(in super::super) fn is_owing(&self, hash: [u64; 2], take: &Take<'_>, now: UnixMillis) -> bool {
        match self.owed(hash, take, now) {
            Some(State::Tat(tat)) => tat > now.0.saturating_mul(NS_PER_MS),
            Some(State::Window(window)) => window.ends_ms() > now.0,
            None => false,
        }
    }

    /// The other store was told `told` of a key, and has answered with the state that it keeps. What was counted here
    /// meanwhile is still to be told. Answers come in any order, so that only what is more is news, unless something was
    /// given back with the question (`falls`): then what is less is.
    pub(in super::super) fn settle(
        &self,
        hash: [u64; 2],
        take: &Take<'_>,
        (told, falls): (Option<State>, bool),
        kept: State,
        now: UnixMillis,
    ) {
        let tat = match kept {
            State::Tat(tat) => tat,
            State::Window(window) => return self.settle_window(hash, take, (told, falls), window, now),
        };
        let Some(shard) = self.shards.get(shard_of(hash)) else { return };
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = self.place(hash).and_then(|at| shard.get_mut(at)) else { return };
        let slot = find(set, hash);
        let (kept, before) = self.standing(slot, take, now);
        let untold = slot.is_some_and(Slot::is_owed) && told != Some(State::Tat(before));
        let known = if falls && !untold { tat } else { tat.max(before) };
        // A TAT that is past says nothing, and takes no slot from anybody.
        if slot.is_some() || known > now.0.saturating_mul(NS_PER_MS) {
            let (tat, period) = Slot::next(slot, take, kept, known, now);
            self.put(set, hash, tat | if untold { OWED } else { 0 }, period, now);
        }
    }

    fn settle_window(
        &self,
        key: [u64; 2],
        take: &Take<'_>,
        (told, falls): (Option<State>, bool),
        kept: Window,
        now: UnixMillis,
    ) {
        let windows = self.windows();
        let mut locked = windows.lock(&[key]);
        let before = windows.find(&mut locked, key);
        let by = before.map_or(Kept::Own, |slot| slot.kept(&self.newest, take));
        if by == Kept::Later {
            // What was said in parts of a limit that holds no more says less than what stands here.
            return;
        }
        let window = before.map(|slot| (slot.owed, slot.window_by(take, by, now)));
        let untold = window.is_some_and(|(owed, window)| owed && told != Some(State::Window(window)));
        let merging = window.filter(|_| untold || !falls);
        let merged = merging.map_or(kept, |(_, window)| window.merged(&kept, take.rate, now));
        if before.is_some() || merged.ends_ms() > now.0 {
            self.count(windows.put(&mut locked, key, merged, untold, now));
        }
    }

    /// How a limit stands by that store's last word of it. Nothing where the table lies further ahead than that store may: there
    /// this gateway's part alone still pays for what cost more than the part, and that store has forgotten it sooner.
    pub(in super::super) fn last_word(&self, take: &Take<'_>, now: UnixMillis) -> Option<Left> {
        if take.key.sliding {
            return Some(self.left(take, now));
        }
        let (slot, tat) = self.with(&take.key, |set, key| {
            let slot = find(set, key);
            (slot, self.standing(slot, take, now).1)
        })?;
        let farthest = bounded(tat, take, now);
        // What that store has not been told yet it will count as all that it can.
        let is_its_word = tat == farthest || slot.is_some_and(Slot::is_owed);
        is_its_word.then(|| left(take.rate, Some(farthest), now))
    }
}
