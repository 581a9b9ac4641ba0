//! How long one request has waited for a shared store, in all that it asks there.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

tokio::task_local! {
    static AWAITED: Cell<Duration>;
}

/// Does what one request has done. For all that it asks of shared sessions, accounts, keys and attempts together it waits no
/// longer than it may for one question. What is begun apart from it, on a task of its own, has a patience of its own.
pub async fn as_one_request<T>(work: impl Future<Output = T>) -> T {
    AWAITED.scope(Cell::new(Duration::ZERO), work).await
}

/// What is left of a budget. Where no request waits, all of it.
pub(crate) fn left(budget: Duration) -> Duration {
    AWAITED.try_with(|awaited| budget.saturating_sub(awaited.get())).unwrap_or(budget)
}

/// So long was waited for an answer.
pub(crate) fn awaited(time: Duration) {
    // Where no request waits there is nothing to add it to.
    AWAITED.try_with(|awaited| awaited.set(awaited.get().saturating_add(time))).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_request_has_one_budget_for_all_that_it_asks() {
        awaited(BUDGET);
        assert_eq!(left(BUDGET), BUDGET, "nobody's");
        as_one_request(async {
            awaited(BUDGET / 4);
            tokio::task::yield_now().await;
            assert_eq!(left(BUDGET), BUDGET * 3 / 4);
            as_one_request(async { assert_eq!(left(BUDGET), BUDGET) }).await;
            tokio::spawn(async { assert_eq!(left(BUDGET), BUDGET) }).await.unwrap();
            awaited(BUDGET);
            assert_eq!(left(BUDGET), Duration::ZERO);
        })
        .await;
        assert_eq!(left(BUDGET), BUDGET);
    }
}
