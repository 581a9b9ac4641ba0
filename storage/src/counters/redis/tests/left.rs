//! What a refusal says to be left is less than the request takes, whoever has refused it.

use super::*;
use crate::counters::Taken;

const HUNDRED: Rate = Rate { count: 100, period_ms: 3_600_000 };

fn of(sliding: bool, cost: u32) -> [Take<'static>; 1] {
    [Take::new(LimitKey::everybody("all").sliding(sliding), HUNDRED).costing(cost)]
}

/// What is left by the refusal of so much; nothing where it is let through.
async fn left(counters: &Counters, takes: &[Take<'_>]) -> Option<u32> {
    let Taken { outcome, left, .. } = counters.take_all(takes, NOW).await;
    matches!(outcome, Outcome::Refused { .. }).then_some(left)
}

#[tokio::test]
async fn a_refusal_says_how_much_is_left_where_it_was_counted() {
    let server = Server::start();
    let redis = server.counters(|settings| settings.given_time = true).await;
    for (name, counters) in [("memory", Arc::new(Counters::memory(1 << 20))), ("redis", redis)] {
        for sliding in [false, true] {
            let case = format!("{name}, sliding: {sliding}");
            let table = [(0, 101, Some(100)), (70, 30, None), (0, 1, Some(0)), (0, 40, Some(0))];
            for (spent, cost, expected) in table {
                assert_eq!(admitted(&counters, &of(sliding, 1), spent).await, spent, "{case}");
                assert_eq!(left(&counters, &of(sliding, cost)).await, expected, "{case}: {cost}");
            }
            counters.reset(&of(sliding, 1)[0].key).await.unwrap();
            assert_eq!(admitted(&counters, &of(sliding, 1), 85).await, 85, "{case}");
            for (cost, expected) in [(20, Some(15)), (16, Some(15)), (100, Some(15)), (15, None)] {
                assert_eq!(left(&counters, &of(sliding, cost)).await, expected, "{case}: {cost}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_leased_is_none_of_what_a_refusal_says_to_be_left() {
    let server = Server::start();
    let counters = server
        .counters(|settings| {
            settings.given_time = true;
            settings.leases = Some(LeaseSettings { percent: 10, idle: Duration::from_secs(60) });
        })
        .await;
    for sliding in [false, true] {
        let case = format!("sliding: {sliding}");
        let known = |cost| counters.known(&of(sliding, cost)[0], NOW).map_or(0, |left| left.count);
        // Until something is leased, and so little is left besides that the two together would be enough.
        while counters.take(&of(sliding, 1), NOW).await == Outcome::Admitted && known(20) > 22 {}
        let (all, refused) = (known(20), left(&counters, &of(sliding, 20)).await);
        assert!(all >= 20, "{case}: {all}");
        assert!(refused.is_some_and(|left| left < 20), "{case}: {refused:?} of {all}");
    }
}

#[tokio::test]
async fn a_late_answer_has_a_part_refuse_and_say_what_is_left_of_the_part() {
    for sliding in [false, true] {
        let server = Server::start();
        let counters = server.counters(|settings| (settings.given_time, settings.gateways) = (true, 2)).await;
        assert_eq!(admitted(&counters, &of(sliding, 1), 30).await, 30, "sliding: {sliding}");
        server.signal(Signal::STOP);
        // From here on it is later only when nothing is left to do.
        tokio::time::pause();
        assert_eq!(left(&counters, &of(sliding, 45)).await, Some(35), "sliding: {sliding}: a half of 70");
        tokio::time::resume();
    }
}
