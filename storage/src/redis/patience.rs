//! How long one request has waited for a shared store, in all that it asks there.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

/// How late a timer rings on a machine that has nothing else to do: the runtime rounds its end up to a millisecond, and has
/// the kernel wait for whole ones from where it is in this one (`runtime/time` of tokio 1.54, `selector/epoll` of mio 1.2).
const LATENESS: Duration = Duration::from_millis(2);

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

/// Waits for an answer, and no longer than that. What a timer may be late is taken off, down to half of it: a budget is what
/// is waited at most, and not when it is first thought of giving up.
pub(crate) async fn within<T>(budget: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let rings = budget.saturating_sub(LATENESS).max(budget / 2);
    tokio::time::timeout(rings, answer).await.ok()
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

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_longer_than_the_budget() {
        for us in [1_000, 1_400, 3_999, 4_000, 5_000, 100_000, 1_000_000] {
            let (budget, begun) = (Duration::from_micros(us), tokio::time::Instant::now());
            assert_eq!(within(budget, std::future::pending::<()>()).await, None);
            let waited = begun.elapsed();
            // The clock of tests goes by the runtime's milliseconds, and the kernel's are not in it.
            let (rings, late) = (budget.saturating_sub(LATENESS).max(budget / 2), Duration::from_millis(1));
            assert!((rings..=rings + late).contains(&waited), "{budget:?}: {waited:?}");
            assert!(waited <= budget.max(late), "{budget:?}: {waited:?}");
        }
        assert_eq!(within(BUDGET, std::future::ready(1)).await, Some(1));
    }
}
