//! Signing in, as a person and as a guesser see it.

use uuid::Uuid;

use super::*;

#[tokio::test]
async fn a_password_signs_its_account_in_and_nobody_else() {
    for desk in desks(HashingGateSettings::default()).await {
        let cases = [
            ("ada", PASSWORD, "accepted"),
            ("ADA", PASSWORD, "accepted"),
            ("ada", "correct horse batterz", "rejected"),
            ("ada", "", "rejected"),
            ("bob", PASSWORD, "rejected"),
            (" ada", PASSWORD, "rejected"),
            ("", PASSWORD, "rejected"),
        ];
        for (name, password, expected) in cases {
            assert_eq!(desk.word(name, password, None, NOW).await, expected, "{name:?} {password:?}");
        }
        let ada = login("ada").account_id();
        let suspend = AccountChange { suspended: Some(true), ..AccountChange::default() };
        desk.accounts.change(ada, suspend).await.unwrap().unwrap();
        assert_eq!(desk.word("ada", PASSWORD, None, NOW).await, "suspended");
        assert_eq!(
            desk.word("ada", "wrong wrong wrong", None, NOW).await,
            "rejected",
            "and only its person learns it"
        );
    }
}

/// Threat 11: what a guesser sees, known login or not, second by second.
#[tokio::test]
async fn failures_warn_then_slow_down_then_lock() {
    for desk in desks(HashingGateSettings::default()).await {
        let steps = [
            (0, "rejected"),
            (0, "rejected"),
            (0, "rejected"),
            (0, "rejected"),
            (0, "warned"),
            (1_000, "warned"),
            (3_000, "warned"),
            (7_000, "warned"),
            (15_000, "warned"),
            (31_000, "warned"),
            (31_000, "locked 931000"),
            (930_999, "locked 931000"),
            (931_000, "warned"),
            (931_000, "slow 2000"),
        ];
        for name in ["ada", "nobody"] {
            for (step, (after, expected)) in steps.into_iter().enumerate() {
                let outcome = desk.word(name, "wrong wrong wrong", None, NOW.plus(after)).await;
                assert_eq!(outcome, expected, "{}: {name}, step {step}", desk.counted);
            }
        }
        assert_eq!(
            desk.word("ada", PASSWORD, None, NOW.plus(931_000)).await,
            "slow 2000",
            "the right one waits too"
        );
        assert_eq!(desk.word("ada", PASSWORD, None, NOW.plus(933_000)).await, "accepted");
        assert_eq!(
            desk.word("ada", "wrong wrong wrong", None, NOW.plus(933_000)).await,
            "rejected",
            "all is forgotten"
        );
    }
}

/// Threat 11: hammering locks as surely as patience, and the wait that is told does not grow by it.
#[tokio::test]
async fn attempts_before_the_wait_is_over_count_towards_the_lock() {
    for desk in desks(HashingGateSettings::default()).await {
        for _ in 0..N {
            desk.word("ada", "wrong wrong wrong", None, NOW).await;
        }
        for (after, expected) in [
            (0, "slow 1000"),
            (500, "slow 500"),
            (999, "slow 1"),
            (1_000, "warned"),
            (1_001, "locked 901001"),
            (901_000, "locked 901001"),
            (901_001, "warned"),
        ] {
            assert_eq!(
                desk.word("ada", "wrong wrong wrong", None, NOW.plus(after)).await,
                expected,
                "{after}"
            );
        }
    }
}

/// Threat 11: a stranger's lock does not keep the account's own browser out.
#[tokio::test]
async fn a_lock_stops_unknown_devices_only() {
    for desk in desks(HashingGateSettings::default()).await {
        let ada = login("ada");
        let SignInOutcome::Accepted { device_cookie, account } =
            desk.attempt("ada", PASSWORD, None, NOW).await
        else {
            panic!("ada signs in")
        };
        let cookie = Some(device_cookie.as_str());
        lock(&desk.attempts, &ada).await;
        let later = NOW.plus(40_000);
        assert!(desk.word("ada", PASSWORD, None, later).await.starts_with("locked"), "a stranger");
        assert_eq!(desk.word("ada", PASSWORD, cookie, later).await, "accepted", "a known browser");

        let devices = DeviceCookies::new(keyring());
        let strange = DeviceCookies::new(Keyring::from_master(&[2; 32]));
        let device = Uuid::from_u128(7);
        let others = [
            ("another account's", devices.make(Uuid::from_u128(1), device, NOW)),
            ("another installation's", strange.make(account.id, device, NOW)),
            ("an old one", devices.make(account.id, device, UnixMillis(NOW.0 - DEVICE_COOKIE_AGE_MAX_MS))),
            ("one from before the password", devices.make(account.id, device, UnixMillis(NOW.0 - 1))),
            ("garbage", "x".repeat(107)),
            ("nothing", String::new()),
        ];
        for (name, other) in others {
            assert!(desk.word("ada", PASSWORD, Some(&other), later).await.starts_with("locked"), "{name}");
        }
        for _ in 0..N {
            desk.word("ada", "wrong wrong wrong", cookie, later).await;
        }
        assert_eq!(
            desk.word("ada", PASSWORD, cookie, later).await,
            "slow 1000",
            "its own counter counts as well"
        );

        let hash = PasswordHash::new(&secret("another good password")).unwrap();
        desk.accounts.set_password(account.id, hash, later.plus(1)).await.unwrap().unwrap();
        let after = desk.word("ada", "another good password", cookie, later.plus(2_000)).await;
        assert!(after.starts_with("locked"), "a new password makes known browsers strangers: {after}");
        assert!(desk.attempts.forget(&ada).await.unwrap(), "an administrator lifts the lock");
        assert_eq!(desk.word("ada", "another good password", None, later.plus(2_000)).await, "accepted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_counts_nobodys_attempt() {
    let settings = HashingGateSettings { concurrency: 1, places_max: 1, per_address_max: 1 };
    for desk in desks(settings).await {
        let desk = Arc::new(desk);
        let attempts: Vec<_> = (0..N + 3)
            .map(|_| {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move { desk.word("ada", "wrong wrong wrong", None, NOW).await })
            })
            .collect();
        let mut words = Vec::new();
        for attempt in attempts {
            words.push(attempt.await.unwrap());
        }
        let looked_at = words.iter().filter(|word| matches!(word.as_str(), "rejected" | "warned")).count();
        assert!((1..=N as usize).contains(&looked_at), "{}: {words:?}", desk.counted);
        assert!(words.iter().any(|word| word == "busy"), "{}: {words:?}", desk.counted);
        let mut left = 0;
        while matches!(asked(&desk.attempts, &login("ada"), NOW).await, Attempt::Granted(_)) {
            left += 1;
        }
        assert_eq!(left, N as usize - looked_at, "what was not looked at did not count: {words:?}");
    }
}
