//! Counting attempts.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Barrier;

use super::*;

/// Counters for each place that they are kept in, and what the shared ones rest on.
async fn counters() -> ([(&'static str, Attempts); 2], (Server, Arc<Sessions>)) {
    let server = Server::start();
    let sessions = up(&server, &keyring(), SESSIONS).await;
    let shared = Attempts::by_caller(&sessions, RULES, 65_536).unwrap();
    let alone = Attempts::open(Store::in_memory(&keyring()).unwrap(), RULES).unwrap();
    ([("alone", alone), ("shared", shared)], (server, sessions))
}

/// Threat 11: parallel guesses cannot all read the same count.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_guesses_at_once_count_a_thousand() {
    let (counters, _shared) = counters().await;
    for (counted, attempts) in counters {
        let (granted, barrier) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(1000)));
        let guesses: Vec<_> = (0..1000)
            .map(|_| {
                let (attempts, granted, barrier) =
                    (attempts.clone(), Arc::clone(&granted), Arc::clone(&barrier));
                tokio::spawn(async move {
                    barrier.wait().await;
                    if let Attempt::Granted(_) = asked(&attempts, &login("ada"), NOW).await {
                        granted.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for guess in guesses {
            guess.await.unwrap();
        }
        assert_eq!(granted.load(Ordering::Relaxed), N, "{counted}");
    }
}

#[tokio::test]
async fn counters_survive_a_restart_and_a_rotation() {
    let home = tempfile::tempdir().unwrap();
    {
        let attempts = Attempts::open(store(home.path()), RULES).unwrap();
        lock(&attempts, &login("ada")).await;
        for _ in 0..N {
            asked(&attempts, &login("bob"), NOW).await;
        }
        attempts.flush().await.unwrap();
        let Attempt::Granted(reservation) = asked(&attempts, &login("bob"), NOW.plus(1_000)).await else {
            panic!("a wait is over")
        };
        attempts.succeed(reservation).await.unwrap();
        attempts.flush().await.unwrap();
    }
    let rotated = Keyring::from_master(&[2; 32]).with_old(&[1; 32]);
    for keyring in [keyring(), rotated] {
        let store = Store::open(home.path(), &keyring, Mark::Production).unwrap();
        let attempts = Attempts::open(store, RULES).unwrap();
        let ada = asked(&attempts, &login("ada"), NOW.plus(40_000)).await;
        assert!(matches!(ada, Attempt::Locked { until } if until == NOW.plus(31_000 + RULES.lockout_ms)));
        assert!(matches!(asked(&attempts, &login("bob"), NOW.plus(1_000)).await, Attempt::Granted(_)));
    }
}

#[tokio::test]
async fn unknown_logins_take_bounded_memory_and_do_not_push_a_lock_out() {
    let server = Server::start();
    let sessions = up(&server, &keyring(), SESSIONS).await;
    let alone = Attempts::open(Store::in_memory(&keyring()).unwrap(), RULES).unwrap();
    let shared = Attempts::by_caller(&sessions, RULES, 100).unwrap();
    for (attempts, strangers, room) in [(alone, 70_000, 65_536), (shared, 400, 100)] {
        lock(&attempts, &login("ada")).await;
        // Failures of somebody who is not locked weigh more than a stranger's one, too.
        for _ in 0..2 {
            asked(&attempts, &login("bob"), NOW).await;
        }
        for number in 0..strangers {
            asked(&attempts, &login(&format!("nobody-{number}")), NOW.plus(40_000)).await;
        }
        let count = attempts.count().await.unwrap();
        assert!(count <= room, "{count}");
        let ada = asked(&attempts, &login("ada"), NOW.plus(40_000)).await;
        assert!(matches!(ada, Attempt::Locked { .. }), "{room}: {ada:?}");
        let mut left = 0;
        while matches!(asked(&attempts, &login("bob"), NOW.plus(40_000)).await, Attempt::Granted(_)) {
            left += 1;
        }
        assert_eq!(left, N - 2, "{room}");
    }
}

#[tokio::test]
async fn time_forgets_failures_and_a_clock_that_goes_back_locks_nobody_longer() {
    let (counters, _shared) = counters().await;
    for (counted, attempts) in counters {
        let ada = login("ada");
        for _ in 0..N {
            asked(&attempts, &ada, NOW).await;
        }
        let day = 24 * 3_600_000;
        assert!(matches!(
            asked(&attempts, &ada, UnixMillis(NOW.0 - day)).await,
            Attempt::Slow { retry_after_ms: 1000 }
        ));
        let next_day = asked(&attempts, &ada, NOW.plus(day)).await;
        assert!(
            matches!(&next_day, Attempt::Granted(reservation) if !reservation.warned()),
            "{counted}: {next_day:?}"
        );

        let bob = login("bob");
        lock(&attempts, &bob).await;
        let Attempt::Locked { until } = asked(&attempts, &bob, UnixMillis(NOW.0 - day)).await else {
            panic!("a lock holds")
        };
        assert_eq!(until, UnixMillis(NOW.0 - day).plus(RULES.lockout_ms), "{counted}");
    }
}
