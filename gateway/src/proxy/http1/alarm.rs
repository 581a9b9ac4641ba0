//! A time that a wait may take, which costs nothing where the wait is short.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The timer of one connection. Waits follow each other by the thousand and each ends later than the one before it may,
/// so the timer stays where it is and is only moved on when it rings.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// What comes of `work`; `None` when it takes longer than `time`. Dropped, `work` has to be none the worse for it.
    pub(super) async fn within<T>(&mut self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut until = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let until = *until.get_or_insert_with(|| Instant::now() + time);
            self.poll_rings(cx, until).map(|()| None)
        })
        .await
    }

    fn poll_rings(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            // It rings for a wait that is over.
            sleep.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_its_own_time_whatever_the_timer_was_set_to() {
        let mut alarm = Alarm::default();
        let begin = Instant::now();
        let done = alarm.within(SECOND, std::future::ready(1)).await;
        assert_eq!((done, begin.elapsed()), (Some(1), Duration::ZERO));
        // Longer, shorter, and longer than the one before; and one in which the timer rings for an earlier wait.
        for (time, took) in [(10, 10), (3, 3), (20, 20)] {
            let before = Instant::now();
            assert_eq!(alarm.within(time * SECOND, std::future::pending::<()>()).await, None);
            assert_eq!(before.elapsed(), took * SECOND, "a wait of {time} s");
        }
        assert_eq!(alarm.within(10 * SECOND, tokio::time::sleep(9 * SECOND)).await, Some(()));
        let before = Instant::now();
        assert_eq!(alarm.within(10 * SECOND, tokio::time::sleep(9 * SECOND)).await, Some(()));
        assert_eq!(before.elapsed(), 9 * SECOND, "the timer of the wait before rang within this one");
    }
}
