//! What is asked where nobody waits for it any more: of sign-ins that came to nothing, and of those that are done but for
//! the sessions that they displace.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::line::{BEHIND, Line};
use super::script::Question;
use crate::redis::{IN_FLIGHT_MAX, Pause, Standing};

/// How long it is tried: longer than it takes to start a Redis, or to replace it.
const TRIED: Duration = Duration::from_secs(300);

/// Where it is asked.
pub(super) struct Afterwards {
    line: Arc<Line>,
    /// Room for all that may have been under way when a store went away.
    room: Arc<Semaphore>,
}

/// A session that is being made and that nobody holds yet. Dropped as that, which it is as well when whoever wanted it stops
/// waiting, it is undone.
pub(super) struct Unheld<'a> {
    afterwards: &'a Afterwards,
    undo: Option<Question>,
}

impl Afterwards {
    pub(super) fn new(line: Arc<Line>) -> Self {
        Self { line, room: Arc::new(Semaphore::new(IN_FLIGHT_MAX)) }
    }

    /// A session that this undoes. Where there is no store to ask it is not made either.
    pub(super) fn unheld(&self, undo: Question) -> Unheld<'_> {
        Unheld { afterwards: self, undo: self.line.is_there().then_some(undo) }
    }

    /// Asks, once the store is there. What it takes away all gateways hear of, as of all ends.
    pub(super) fn ask(&self, question: Question, otherwise: &'static str) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!("{otherwise}: too much is to be done already");
            return;
        };
        // Of a process that ends nobody is left to ask.
        let Ok(runtime) = Handle::try_current() else {
            tracing::warn!("{otherwise}: the gateway ends");
            return;
        };
        let line = Arc::clone(&self.line);
        runtime.spawn(async move {
            let _room = room;
            if tokio::time::timeout(TRIED, asked(&line, &question)).await.is_err() {
                tracing::warn!("{otherwise}");
            }
        });
    }
}

/// Asks until there is an answer.
async fn asked(line: &Line, question: &Question) {
    let (mut standing, mut pause) = (line.standing(), Pause::default());
    loop {
        // It says how it is for as long as there is a line.
        standing.wait_for(|standings| standings.now == Standing::Up).await.ok();
        match line.ask(question, BEHIND).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(%error, "it is asked again"),
        }
        tokio::time::sleep(pause.next()).await;
    }
}

impl Unheld<'_> {
    /// Its secret is on its way to whoever wanted it.
    pub(super) fn is_held(&mut self) {
        self.undo = None;
    }

    /// This undoes it.
    pub(super) fn undone_by(&mut self, undo: Question) {
        if self.undo.is_some() {
            self.undo = Some(undo);
        }
    }
}

impl Drop for Unheld<'_> {
    fn drop(&mut self) {
        if let Some(undo) = self.undo.take() {
            self.afterwards.ask(undo, "a session that nobody holds may be left in the store");
        }
    }
}
