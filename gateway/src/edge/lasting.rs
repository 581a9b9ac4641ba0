//! What of a connection's request outlasts its decision: the bridge of a WebSocket, or an answer that is streamed.

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use engine::refusal::Refusal;

use crate::pipeline::Pipeline;
use crate::pipeline::again::Standing;
use crate::proxy::websocket::Bridge;

/// What outlasts the current request's decision.
#[derive(Default)]
pub struct Lasting {
    bridge: Mutex<Option<Box<Bridge>>>,
    stream: Mutex<Option<Standing>>,
    denied: Mutex<Option<Refusal>>,
}

impl Lasting {
    /// The next request on this connection begins.
    pub fn reset(&self) {
        *lock(&self.bridge) = None;
        *lock(&self.stream) = None;
        *lock(&self.denied) = None;
    }

    /// A WebSocket begins once its request has let go of the connection.
    pub fn bridge(&self, bridge: Bridge) {
        *lock(&self.bridge) = Some(Box::new(bridge));
    }

    /// The bridge that was left.
    pub fn take_bridge(&self) -> Option<Box<Bridge>> {
        lock(&self.bridge).take()
    }

    /// The current request's answer goes on for an unknown time.
    pub fn stream(&self, standing: Standing) {
        *lock(&self.stream) = Some(standing);
    }

    /// Resolves when the current request's answer may go on no longer. What begins it is the request itself, so that whoever
    /// polls this after the request, and on the same task, misses nothing and has nobody to be woken by.
    pub async fn denied(&self, pipeline: &Pipeline) {
        let begun = |_: &mut Context<'_>| lock(&self.stream).take().map_or(Poll::Pending, Poll::Ready);
        let mut standing = poll_fn(begun).await;
        loop {
            standing.due().await;
            // Who only reads is told so, and its session is not used by it.
            if let Err(refusal) = standing.ask(pipeline, false).await {
                *lock(&self.denied) = Some(refusal);
                return;
            }
        }
    }

    /// Why it may not.
    pub fn take_denied(&self) -> Option<Refusal> {
        lock(&self.denied).take()
    }
}

impl std::fmt::Debug for Lasting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lasting").finish_non_exhaustive()
    }
}

/// One connection serves one request at a time; nothing under these locks can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
