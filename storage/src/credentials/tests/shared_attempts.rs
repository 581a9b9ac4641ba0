//! Attempts that gateways count together, beside what every counter keeps.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::*;
use crate::StoreError;
use crate::redis::{Fault, Standing};
use crate::sessions::redis::testing::reaches;

/// The counters of one more gateway, and its sessions.
async fn gateway(server: &Server, keyring: &Keyring) -> (Attempts, Arc<Sessions>) {
    let sessions = up(server, keyring, SESSIONS).await;
    (Attempts::by_caller(&sessions, RULES, 1_000).unwrap(), sessions)
}

/// Threat 11: who asks every gateway in turn has as many guesses as who asks one.
#[tokio::test]
async fn threat_11_a_guess_at_one_gateway_is_a_guess_at_all() {
    let server = Server::start();
    let rotated = Keyring::from_master(&[2; 32]).with_old(&[1; 32]);
    let mut gateways = vec![gateway(&server, &keyring()).await, gateway(&server, &keyring()).await];
    // Begun under the older master key, and found by who has rotated meanwhile.
    for at in 0..3 {
        assert!(matches!(asked(&gateways[at % 2].0, &login("ada"), NOW).await, Attempt::Granted(_)));
    }
    gateways.push(gateway(&server, &rotated).await);
    let at = |at: usize| &gateways[at % 3].0;
    for (attempt, after) in [0, 0, 1_000, 3_000, 7_000, 15_000, 31_000].into_iter().enumerate() {
        let granted = asked(at(attempt), &login("ada"), NOW.plus(after)).await;
        assert!(matches!(granted, Attempt::Granted(_)), "{attempt}: {granted:?}");
    }
    for gateway in 0..3 {
        let held = asked(at(gateway), &login("ada"), NOW.plus(31_000)).await;
        let until = NOW.plus(31_000 + RULES.lockout_ms);
        assert!(matches!(held, Attempt::Locked { until: found } if found == until), "{gateway}: {held:?}");
    }
    assert!(at(2).forget(&login("ada")).await.unwrap(), "an administrator lifts it at one");
    assert!(!at(1).forget(&login("ada")).await.unwrap(), "once");
    for gateway in 0..3 {
        assert!(matches!(asked(at(gateway), &login("ada"), NOW.plus(31_000)).await, Attempt::Granted(_)));
    }
}

/// Threat 11: a gateway whose clock is ahead lifts no lock early, and none lays one on for longer.
#[tokio::test]
async fn threat_11_attempts_go_by_one_clock_whatever_those_of_the_gateways_say() {
    let server = Server::start();
    let sessions = up(&server, &keyring(), SESSIONS).await;
    let [one, ahead] = [(); 2].map(|()| Attempts::shared(&sessions, RULES).unwrap());
    let days = 2 * 24 * 3_600_000;
    let clocks = [NOW, NOW.plus(days), UnixMillis(NOW.0 - days)];
    // Each counts, as failed or as one that came before its wait was over.
    for (number, now) in (0..2 * RULES.attempts_max).zip(clocks.into_iter().cycle()) {
        asked(if number % 2 == 0 { &one } else { &ahead }, &login("ada"), now).await;
    }
    for (attempts, now) in [&one, &ahead].into_iter().cycle().zip(clocks) {
        let held = asked(attempts, &login("ada"), now).await;
        // Everybody is told by their own clock how long it lasts.
        let Attempt::Locked { until } = held else { panic!("{held:?}") };
        assert!((1..=RULES.lockout_ms).contains(&until.since(now)), "{until:?}");
    }
}

#[tokio::test]
async fn without_the_store_nobody_may_try_and_nothing_is_forgotten() {
    let server = Server::start();
    let (attempts, sessions) = gateway(&server, &keyring()).await;
    lock(&attempts, &login("ada")).await;
    let Attempt::Granted(one) = asked(&attempts, &login("bob"), NOW).await else { panic!("the first") };
    let Attempt::Granted(other) = asked(&attempts, &login("bob"), NOW).await else { panic!("the second") };
    server.say(&["ACL", "SETUSER", "cedargate", "off"]).await;
    server.say(&["CLIENT", "KILL", "USER", "cedargate"]).await;
    reaches(&sessions, |standings| matches!(standings.now, Standing::Away(_))).await;
    for name in ["ada", "bob", "nobody"] {
        let found = attempts.reserve(&login(name), None, NOW).await;
        assert!(matches!(found, Err(StoreError::Shared(_))), "{name}: {found:?}");
        assert!(attempts.forget(&login(name)).await.is_err(), "{name}");
    }
    assert!(attempts.succeed(one).await.is_err());
    assert!(attempts.give_back(other).await.is_err());
    server.say(&["ACL", "SETUSER", "cedargate", "on"]).await;
    reaches(&sessions, |standings| standings.now == Standing::Up).await;
    assert!(matches!(asked(&attempts, &login("ada"), NOW.plus(31_000)).await, Attempt::Locked { .. }));
    assert_eq!(attempts.count().await.unwrap(), 2);

    // A memory that is full counts nobody, so nobody may try.
    server.say(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let full = attempts.reserve(&login("eve"), None, NOW).await;
    assert!(matches!(full, Err(StoreError::Shared(Fault::Refused("OOM")))), "{full:?}");
    assert!(attempts.forget(&login("ada")).await.unwrap(), "and an administrator's word holds");
}

#[tokio::test]
async fn the_store_forgets_by_itself_and_names_nobody() {
    let server = Server::start();
    let (attempts, _sessions) = gateway(&server, &keyring()).await;
    lock(&attempts, &login("ada")).await;
    let device = Some(Uuid::from_u128(7));
    attempts.reserve(&login("bob"), device, NOW).await.unwrap();
    let redis::Value::Array(keys) = server.say(&["KEYS", "*:t*"]).await else { panic!("keys") };
    assert_eq!(keys.len(), 4, "{keys:?}");
    let most = 24 * 3_600_000 + 600_000 + 31_000;
    for key in keys {
        let redis::Value::BulkString(key) = key else { panic!("{key:?}") };
        let key = String::from_utf8(key).unwrap();
        let redis::Value::Int(left) = server.say(&["PTTL", &key]).await else { panic!("a number") };
        assert!((1..=most).contains(&left), "{key}: {left}");
        let redis::Value::BulkString(dump) = server.say(&["DUMP", &key]).await else { panic!("bytes") };
        for hidden in [b"ada".as_slice(), login("ada").account_id().as_bytes()] {
            assert!(!dump.windows(hidden.len()).any(|window| window == hidden), "{key}");
        }
    }
    // What is over by the caller's clock is tidied up beside what is counted.
    asked(&attempts, &login("eve"), NOW.plus(2 * 24 * 3_600_000)).await;
    assert_eq!(attempts.count().await.unwrap(), 1);
}

/// What happens to one of three names, so many milliseconds after the one before (or before it).
#[derive(Clone, Debug)]
struct Step {
    who: usize,
    after: i64,
    act: Act,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Fails,
    Succeeds,
    GivesBack,
    IsForgotten,
}

fn step() -> impl Strategy<Value = Step> {
    let after = prop_oneof![
        8 => Just(0_i64),
        4 => prop_oneof![Just(1_i64), Just(999), Just(1_000), Just(2_000), Just(4_000), 0..70_000_i64],
        1 => prop_oneof![Just(899_999_i64), Just(900_000), Just(86_400_000), Just(172_800_000), -100_000..0_i64],
    ];
    let act = prop_oneof![
        12 => Just(Act::Fails), 1 => Just(Act::Succeeds), 2 => Just(Act::GivesBack), 1 => Just(Act::IsForgotten),
    ];
    (0..3_usize, after, act).prop_map(|(who, after, act)| Step { who, after, act })
}

/// What came of a step.
async fn told(attempts: &Attempts, name: &Login, device: Option<Uuid>, now: UnixMillis, act: Act) -> String {
    if let Act::IsForgotten = act {
        // Whether there was one that was over already is up to who tidies up when.
        attempts.forget(name).await.unwrap();
        return "forgotten".to_owned();
    }
    match attempts.reserve(name, device, now).await.unwrap() {
        Attempt::Granted(reservation) => {
            let warned = reservation.warned();
            match act {
                Act::Succeeds => attempts.succeed(reservation).await.unwrap(),
                Act::GivesBack => attempts.give_back(reservation).await.unwrap(),
                Act::Fails | Act::IsForgotten => {}
            }
            format!("granted {warned}")
        }
        Attempt::Slow { retry_after_ms } => format!("slow {retry_after_ms}"),
        Attempt::Locked { until } => format!("locked {}", until.0),
    }
}

/// The script counts as the counter does, whatever happens in which order.
#[test]
fn shared_counters_say_what_one_gateway_alone_would() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Server::start();
    let sessions = runtime.block_on(up(&server, &keyring(), SESSIONS));
    let case = Cell::new(0_u32);
    let rules = (1..=4_u32, prop_oneof![Just(1_000_u64), Just(900_000), Just(172_800_000)]);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(128) });
    let outcome = runner.run(&(rules, vec(step(), 1..60)), |((attempts_max, lockout_ms), steps)| {
        case.set(case.get() + 1);
        let rules = AttemptRules { attempts_max, lockout_ms };
        let alone = Attempts::open(Store::in_memory(&keyring()).unwrap(), rules).unwrap();
        let shared = Attempts::by_caller(&sessions, rules, 65_536).unwrap();
        let mut now = NOW;
        for (number, Step { who, after, act }) in steps.into_iter().enumerate() {
            now = UnixMillis(now.0.saturating_add_signed(after));
            let name = login(&format!("{}-{}", case.get(), who % 2));
            // The third is a device of the second's own.
            let device = (who == 2).then(|| Uuid::from_u128(9));
            let (alone, shared) = runtime.block_on(async {
                (told(&alone, &name, device, now, act).await, told(&shared, &name, device, now, act).await)
            });
            prop_assert_eq!(alone, shared, "step {} at {}", number, now.0);
        }
        Ok(())
    });
    outcome.unwrap();
}
