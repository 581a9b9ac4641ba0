//! The script, held to the engine's arithmetic.

use std::collections::HashMap;

use engine::limit::{Gcra, gcra};
use engine::window::{Slid, Window};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;

/// A request of a case: keys with their rates and costs, and how much later it comes.
type Asked = (Vec<(u8, Rate, u32)>, u64);

/// Rates from the widest that can be configured to those whose interval is no whole number of anything.
fn requests() -> impl Strategy<Value = Vec<Asked>> {
    let rate = prop_oneof![
        Just(Rate { count: 5, period_ms: 1_000 }),
        Just(Rate { count: 7, period_ms: 1_000 }),
        Just(Rate { count: 3, period_ms: 86_400_000 }),
        Just(Rate { count: 1_000_000, period_ms: 1_000 }),
        (1_u32..20, 1_u64..5_000).prop_map(|(count, period_ms)| Rate { count, period_ms }),
    ];
    let later = prop_oneof![0_u64..3, 0_u64..400, 0_u64..100_000_000];
    let take = (0_u8..5, rate, 0_u32..4);
    prop::collection::vec((prop::collection::vec(take, 1..4), later), 1..40)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_decides_as_the_engine_does() {
    let server = Server::start();
    let counters = server.counters(|settings| settings.given_time = true).await;
    let handle = tokio::runtime::Handle::current();
    let case = std::sync::atomic::AtomicU64::new(0);
    let tried = tokio::task::spawn_blocking(move || {
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config).run(&requests(), |requests| {
            let names: Vec<String> = (0..5)
                .map(|key| format!("{key}-{}", case.load(std::sync::atomic::Ordering::Relaxed)))
                .collect();
            case.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let mut model = Model::default();
            let mut now = NOW;
            for (wants, later) in &requests {
                now = now.plus(*later);
                let takes: Vec<Take<'_>> = wants
                    .iter()
                    .map(|(key, rate, cost)| {
                        let limit = LimitKey::everybody(&names[usize::from(*key)]).sliding(slides(*key));
                        Take::new(limit, *rate).costing(*cost)
                    })
                    .collect();
                let expected = expected(&mut model, wants, now);
                let told = handle.block_on(counters.take(&takes, now));
                prop_assert_eq!(told, expected, "{:?} at {:?}", wants, now);
            }
            Ok(())
        })
    });
    tried.await.unwrap().unwrap();
    drop(server);
}

/// Which keys of a case are sliding windows.
const fn slides(key: u8) -> bool {
    key >= 3
}

/// The engine's own states.
#[derive(Clone, Default)]
struct Model {
    rates: HashMap<u8, u64>,
    windows: HashMap<u8, Window>,
}

/// What a table of them answers.
fn expected(model: &mut Model, wants: &[(u8, Rate, u32)], now: UnixMillis) -> Outcome {
    if let Some(index) = wants.iter().position(|(_, rate, cost)| cost > &rate.count) {
        return Outcome::Refused { index, retry_after_ms: u64::MAX };
    }
    // Also whoever is refused is known to have no more to wait for than the first limit of a key says.
    for (at, (key, rate, _)) in wants.iter().enumerate() {
        let is_first = wants.iter().take(at).all(|(other, ..)| other != key);
        if let Some(tat) = model.rates.get_mut(key).filter(|_| is_first) {
            *tat = (*tat).min((now.0 + rate.period_ms) * NS_PER_MS + u64::from(rate.count));
        }
    }
    let mut next = model.clone();
    let mut refused: Option<(usize, u64)> = None;
    for (index, (key, rate, cost)) in wants.iter().enumerate() {
        let waits = if slides(*key) {
            match next.windows.get(key).copied().unwrap_or_default().take(*rate, now, *cost) {
                Slid::Admit(window) => {
                    next.windows.insert(*key, window);
                    None
                }
                Slid::Refuse { retry_after_ms } => Some(retry_after_ms),
            }
        } else {
            let farthest = (now.0 + rate.period_ms) * NS_PER_MS + u64::from(rate.count);
            let tat = next.rates.get(key).map(|tat| *tat.min(&farthest));
            match gcra(*rate, tat, now, *cost) {
                Gcra::Admit { tat } => {
                    next.rates.insert(*key, tat);
                    None
                }
                Gcra::Refuse { retry_after_ms } => Some(retry_after_ms),
            }
        };
        if let Some(wait) = waits
            && refused.is_none_or(|(_, longest)| wait > longest)
        {
            refused = Some((index, wait));
        }
    }
    match refused {
        Some((index, retry_after_ms)) => Outcome::Refused { index, retry_after_ms },
        None => {
            *model = next;
            Outcome::Admitted
        }
    }
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_sent_again() {
    let server = Server::start();
    let (seen, observer) = seeing();
    let counters = tended(RedisSettings { given_time: true, ..server.settings() }, observer);
    reaches(&counters, up).await;
    assert_eq!(admitted(&counters, &one(TEN), 1).await, 1);
    server.say(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(admitted(&counters, &one(TEN), 10).await, 9);
    assert!(seen.lock().unwrap().iter().all(|answered| *answered == Answered::Answered));
}
