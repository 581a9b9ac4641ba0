//! Something of a provider that is fetched once for everybody, kept for a while, and used past it while it cannot be had.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what was fetched counts as fresh.
pub(super) const FRESH: Duration = Duration::from_secs(60 * 60);
/// How long it is used while it cannot be had anew.
pub(super) const STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two tries that fail.
pub(super) const COOL_DOWN: Duration = Duration::from_secs(10);
/// Between two fetches because something was missing in it, whatever came of the first: a thousand forged key names
/// are one question.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);

/// What is kept. One task fetches at a time; the others wait for what it brings.
pub(super) struct Kept<T, F> {
    state: Mutex<State<T, F>>,
    fetching: tokio::sync::Mutex<()>,
}

struct State<T, F> {
    value: Option<(Arc<T>, Instant)>,
    tried: Option<Instant>,
    fault: Option<F>,
}

impl<T, F: Clone> Kept<T, F> {
    pub(super) fn new() -> Self {
        let state = State { value: None, tried: None, fault: None };
        Self { state: Mutex::new(state), fetching: tokio::sync::Mutex::new(()) }
    }

    /// What is kept and fresh, or what is fetched now; what is stale where that fails.
    pub(super) async fn fresh(
        &self,
        now: Instant,
        fetch: impl AsyncFnOnce() -> Result<T, F>,
    ) -> Result<Arc<T>, F> {
        self.had(now, FRESH, COOL_DOWN, fetch).await
    }

    /// What is fetched now, unless it was fetched just before.
    pub(super) async fn renewed(
        &self,
        now: Instant,
        fetch: impl AsyncFnOnce() -> Result<T, F>,
    ) -> Result<Arc<T>, F> {
        self.had(now, RENEW_EVERY, RENEW_EVERY, fetch).await
    }

    /// What is kept and not too old to be used, without asking anybody: whoever cannot wait leaves asking to others.
    pub(super) fn standing(&self, now: Instant) -> Option<Arc<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stale(now)
    }

    /// Why the last try failed, if it did.
    pub(super) fn fault(&self) -> Option<F> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).fault.clone()
    }

    #[cfg(test)]
    pub(super) fn set(&self, value: T, now: Instant) {
        let mut state = self.state.lock().unwrap();
        *state = State { value: Some((Arc::new(value), now)), tried: Some(now), fault: None };
    }

    async fn had(
        &self,
        now: Instant,
        fresh: Duration,
        cool_down: Duration,
        fetch: impl AsyncFnOnce() -> Result<T, F>,
    ) -> Result<Arc<T>, F> {
        if let Some(kept) = self.kept(now, fresh, cool_down) {
            return kept;
        }
        let _one = self.fetching.lock().await;
        // Somebody may have brought it while we waited.
        if let Some(kept) = self.kept(now, fresh, cool_down) {
            return kept;
        }
        let fetched = fetch().await;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tried = Some(now);
        match fetched {
            Ok(value) => {
                let value = Arc::new(value);
                state.value = Some((Arc::clone(&value), now));
                state.fault = None;
                Ok(value)
            }
            Err(fault) => {
                state.fault = Some(fault.clone());
                state.stale(now).ok_or(fault)
            }
        }
    }

    /// What needs no fetch: the fresh value, or, soon after a failure, what there is.
    fn kept(&self, now: Instant, fresh: Duration, cool_down: Duration) -> Option<Result<Arc<T>, F>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((value, at)) = &state.value
            && now.saturating_duration_since(*at) < fresh
        {
            return Some(Ok(Arc::clone(value)));
        }
        let fault = state.fault.clone()?;
        let cooling = state.tried.is_some_and(|tried| now.saturating_duration_since(tried) < cool_down);
        cooling.then(|| state.stale(now).ok_or(fault))
    }
}

impl<T, F> State<T, F> {
    fn stale(&self, now: Instant) -> Option<Arc<T>> {
        let (value, at) = self.value.as_ref()?;
        (now.saturating_duration_since(*at) < STALE_MAX).then(|| Arc::clone(value))
    }
}
