//! What takes a processor for a while, beside the requests: on a thread of its own, which yields to them.
//!
//! The threads that requests wait for, those of the runtime and of what may block, are not used for it: where all cores are
//! busy, a bundle that is made there takes its share from requests. A thread that has once yielded cannot take it back
//! without a privilege, so each piece of work has its own.

use std::io;
use std::ops::Deref;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use rustix::process::{getpriority_process, setpriority_process};
use tokio::sync::oneshot;

/// By how much it is nicer than the requests. Five steps are a third of their weight in Linux (sched(7)): on a core that a
/// worker wants whole, work ends in four times its time. A guardrail has to come into force under a flood, too.
const NICER: i32 = 5;

/// Things that wait to be freed, at most; what comes on top is freed where it is let go.
const FREED_MAX: usize = 64;

/// Why work aside has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum Interrupted {
    /// No thread can be started.
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
    /// It panicked.
    #[error("it panicked")]
    Panicked,
}

/// Does something aside, on a thread of this name (15 bytes at most are told by the system).
///
/// # Errors
/// There is no thread, or the work has panicked.
pub async fn run<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Interrupted> {
    let (told, outcome) = oneshot::channel();
    let begun = thread::Builder::new().name(name.to_owned()).spawn(move || {
        yield_to_requests();
        // Whoever asked may have gone.
        told.send(work()).ok();
    });
    begun.map_err(Interrupted::Thread)?;
    outcome.await.map_err(|_gone| Interrupted::Panicked)
}

/// Where things are freed.
#[derive(Debug)]
pub struct Freer<T>(SyncSender<T>);

/// Something that takes long to free: whoever lets it go last, it is freed aside.
#[derive(Debug)]
pub struct Freed<T> {
    thing: Option<T>,
    freer: SyncSender<T>,
}

impl<T: Send + 'static> Freer<T> {
    /// Begins a thread of this name, which ends with the last that it could free. Without one things are freed where they
    /// are let go.
    #[must_use]
    pub fn begin(name: &str) -> Self {
        let (freer, let_go) = sync_channel::<T>(FREED_MAX);
        let begun = thread::Builder::new().name(name.to_owned()).spawn(move || {
            yield_to_requests();
            let_go.into_iter().for_each(drop);
        });
        if let Err(error) = begun {
            tracing::warn!(%error, "no thread can be started to free bundles with; requests will wait for it");
        }
        Self(freer)
    }

    /// Something that will be freed here.
    #[must_use]
    pub fn will_free(&self, thing: T) -> Freed<T> {
        Freed { thing: Some(thing), freer: self.0.clone() }
    }
}

impl<T> Deref for Freed<T> {
    type Target = T;

    #[expect(clippy::expect_used, reason = "it is taken out when this is dropped, and not before")]
    fn deref(&self) -> &T {
        self.thing.as_ref().expect("it is there until this is dropped")
    }
}

impl<T> Drop for Freed<T> {
    fn drop(&mut self) {
        if let Some(thing) = self.thing.take() {
            // Full or gone: it comes back, and is freed here.
            self.freer.try_send(thing).ok();
        }
    }
}

/// Makes the calling thread nicer. Where the system refuses, work takes its share like any other.
fn yield_to_requests() {
    let nicer = getpriority_process(None).and_then(|now| setpriority_process(None, now + NICER));
    if let Err(error) = nicer {
        tracing::debug!(%error, "a thread cannot be made to yield to requests");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells the thread on which it is freed, and how nice that is.
    #[derive(Debug)]
    struct Tells(Sender<(Option<String>, i32)>);

    fn here() -> (Option<String>, i32) {
        (thread::current().name().map(str::to_owned), getpriority_process(None).unwrap())
    }

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(here()).ok();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "one message for each thing that the test frees")]
    fn telling() -> (Tells, Receiver<(Option<String>, i32)>) {
        let (tells, told) = channel();
        (Tells(tells), told)
    }

    fn nicer(than: i32) -> i32 {
        (than + NICER).min(19)
    }

    #[tokio::test]
    async fn work_is_done_on_a_thread_of_its_own_that_yields() {
        let before = here();
        let there = run("aside", here).await.unwrap();
        assert_eq!(there, (Some("aside".to_owned()), nicer(before.1)));
        assert_eq!(here(), before, "whoever asks does not yield");
    }

    #[tokio::test]
    async fn a_panic_is_told() {
        let panicked = run("aside", || -> u8 { panic!("as the test wants") }).await;
        assert!(matches!(panicked, Err(Interrupted::Panicked)));
    }

    #[test]
    fn whoever_lets_it_go_last_it_is_freed_aside() {
        let (thing, told) = telling();
        let freer = Freer::begin("freer");
        let kept = std::sync::Arc::new(freer.will_free(thing));
        let request = std::sync::Arc::clone(&kept);
        drop((kept, freer));
        assert!(told.try_recv().is_err(), "a request still has it");
        drop(request);
        assert_eq!(told.recv().unwrap(), (Some("freer".to_owned()), nicer(here().1)));
    }

    #[test]
    fn where_nobody_frees_it_is_freed_where_it_is_let_go() {
        let (full, receiver) = sync_channel(0);
        let (thing, told) = telling();
        drop(Freed { thing: Some(thing), freer: full });
        assert_eq!(told.try_recv().unwrap(), here());
        let (gone, _) = sync_channel(1);
        let (thing, told) = telling();
        drop((receiver, Freed { thing: Some(thing), freer: gone }));
        assert_eq!(told.try_recv().unwrap(), here());
    }
}
