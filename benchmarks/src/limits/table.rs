//! The table that a gateway counts in, asked alone.

use std::net::{IpAddr, Ipv4Addr};

use engine::limit::Rate;
use gateway::clock;
use storage::counters::{Counters, LimitKey, MEMORY_BYTES_DEFAULT, Outcome, Stands, Take};

use crate::Failure;
use crate::figures::Figure;
use crate::load::on_core;
use crate::process::memory;

/// Keys that have been counted and not recovered.
const LIVE: u32 = 1_000_000;
/// Bytes of a table that holds them with hardly one dropped.
const LIVE_BYTES: usize = 64 * 1024 * 1024;
/// Checks that are timed together.
const CHECKS: u32 = 1_000_000;
/// How often; the median is told.
const ROUNDS: usize = 5;
/// A limit that never binds here: one of it lasts for 20 microseconds.
const RATE: Rate = Rate { count: u32::MAX, period_ms: 86_400_000 };
/// What keeps a key live for 200 seconds.
const LASTING: u32 = 10_000_000;

fn take(number: u32, cost: u32) -> Take<'static> {
    Take::new(LimitKey::address("per-address", IpAddr::V4(Ipv4Addr::from_bits(number))), RATE).costing(cost)
}

/// Nanoseconds of a check with one live key and with a million, and the bytes that a key takes.
///
/// # Errors
/// A check refuses, or the kernel tells no memory.
pub(super) fn figures(core: usize) -> Result<Vec<Figure>, Failure> {
    on_core(core, || async {
        // Before anything that is given back and used again.
        let bytes = bytes().await?;
        let one = checks(&Counters::memory(LIVE_BYTES), 1).await?;
        let many = Counters::memory(LIVE_BYTES);
        for number in 0..LIVE {
            admitted(&many, take(number, LASTING)).await?;
        }
        let (live, evicted) = (held(&many, LIVE).await, many.evicted());
        let asked = checks(&many, LIVE).await?;
        let mut figures = vec![
            Figure::median("limits.check_ns.1", &one, "ns").ok_or("no round")?,
            Figure::median(format!("limits.check_ns.{LIVE}"), &asked, "ns").ok_or("no round")?,
            Figure::once("limits.live_keys", f64::from(live), "keys"),
        ];
        #[expect(clippy::cast_precision_loss, reason = "a count of one run, far below 2^52")]
        figures.push(Figure::once("limits.evicted", evicted as f64, "keys"));
        figures.push(bytes);
        Ok(figures)
    })
}

/// Nanoseconds of a check, round by round. Keys come in an order in which none finds its neighbour in a cache.
async fn checks(counters: &Counters, keys: u32) -> Result<Vec<f64>, Failure> {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let begun = clock::instant();
        for number in 0..CHECKS {
            admitted(counters, take(number.wrapping_mul(2_654_435_761) % keys, 1)).await?;
        }
        rounds.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(CHECKS));
    }
    Ok(rounds)
}

async fn admitted(counters: &Counters, take: Take<'_>) -> Result<(), Failure> {
    match counters.take(&[take], clock::now()).await {
        Outcome::Admitted => Ok(()),
        Outcome::Refused { .. } | Outcome::Away => Err("a limit that never binds has refused".into()),
    }
}

/// How many of the first `keys` are known.
async fn held(counters: &Counters, keys: u32) -> u32 {
    let (mut held, now) = (0, clock::now());
    for number in 0..keys {
        let looked = counters.look(&[take(number, 1)], now).await;
        held += u32::from(matches!(looked.limits.first(), Some(Stands::Counted(left)) if left.full_ms > 0));
    }
    held
}

/// Memory that a table of the usual size holds once it is full, for each of its keys.
async fn bytes() -> Result<Figure, Failure> {
    let own = std::process::id();
    let before = memory(own, "VmRSS:")?;
    let counters = Counters::memory(MEMORY_BYTES_DEFAULT);
    for number in 0..2 * LIVE {
        admitted(&counters, take(number, LASTING)).await?;
    }
    let grown = memory(own, "VmRSS:")?.saturating_sub(before);
    let held = held(&counters, 2 * LIVE).await.max(1);
    #[expect(clippy::cast_precision_loss, reason = "bytes of one machine's memory")]
    Ok(Figure::once("limits.bytes_per_key", grown as f64 / f64::from(held), "bytes"))
}
