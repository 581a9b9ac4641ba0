//! Counting attempts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Barrier;

use super::*;

/// Threat 11: parallel guesses cannot all read the same count.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_guesses_at_once_count_a_thousand() {
    let attempts = Attempts::open(Store::in_memory(&keyring()).unwrap(), RULES).unwrap();
    let (granted, barrier) = (Arc::new(AtomicU32::new(0)), Arc::new(Barrier::new(1000)));
    let guesses: Vec<_> = (0..1000)
        .map(|_| {
            let (attempts, granted, barrier) = (attempts.clone(), Arc::clone(&granted), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                if let Attempt::Granted(_) = attempts.reserve(&login("ada"), None, NOW) {
                    granted.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for guess in guesses {
        guess.await.unwrap();
    }
    assert_eq!(granted.load(Ordering::Relaxed), N);
}

#[tokio::test]
async fn counters_survive_a_restart_and_a_rotation() {
    let home = tempfile::tempdir().unwrap();
    {
        let attempts = Attempts::open(store(home.path()), RULES).unwrap();
        lock(&attempts, &login("ada"));
        for _ in 0..N {
            drop(attempts.reserve(&login("bob"), None, NOW));
        }
        attempts.flush().await.unwrap();
        let Attempt::Granted(reservation) = attempts.reserve(&login("bob"), None, NOW.plus(1_000)) else {
            panic!("a wait is over")
        };
        attempts.succeed(reservation);
        attempts.flush().await.unwrap();
    }
    let rotated = Keyring::from_master(&[2; 32]).with_old(&[1; 32]);
    for keyring in [keyring(), rotated] {
        let store = Store::open(home.path(), &keyring, Mark::Production).unwrap();
        let attempts = Attempts::open(store, RULES).unwrap();
        let ada = attempts.reserve(&login("ada"), None, NOW.plus(40_000));
        assert!(matches!(ada, Attempt::Locked { until } if until == NOW.plus(31_000 + RULES.lockout_ms)));
        assert!(matches!(attempts.reserve(&login("bob"), None, NOW.plus(1_000)), Attempt::Granted(_)));
    }
}

#[test]
fn unknown_logins_take_bounded_memory_and_do_not_push_a_lock_out() {
    let attempts = Attempts::open(Store::in_memory(&keyring()).unwrap(), RULES).unwrap();
    lock(&attempts, &login("ada"));
    for number in 0..70_000 {
        drop(attempts.reserve(&login(&format!("nobody-{number}")), None, NOW.plus(40_000)));
    }
    assert!(attempts.len() <= 65_536, "{}", attempts.len());
    let ada = attempts.reserve(&login("ada"), None, NOW.plus(40_000));
    assert!(matches!(ada, Attempt::Locked { .. }));
}

#[test]
fn time_forgets_failures_and_a_clock_that_goes_back_locks_nobody_longer() {
    let attempts = Attempts::open(Store::in_memory(&keyring()).unwrap(), RULES).unwrap();
    let ada = login("ada");
    for _ in 0..N {
        drop(attempts.reserve(&ada, None, NOW));
    }
    let day = 24 * 3_600_000;
    assert!(matches!(
        attempts.reserve(&ada, None, UnixMillis(NOW.0 - day)),
        Attempt::Slow { retry_after_ms: 1000 }
    ));
    let next_day = attempts.reserve(&ada, None, NOW.plus(day));
    assert!(matches!(next_day, Attempt::Granted(reservation) if !reservation.warned()));

    let bob = login("bob");
    lock(&attempts, &bob);
    let Attempt::Locked { until } = attempts.reserve(&bob, None, UnixMillis(NOW.0 - day)) else {
        panic!("a lock holds")
    };
    assert_eq!(until, UnixMillis(NOW.0 - day).plus(RULES.lockout_ms));
}
