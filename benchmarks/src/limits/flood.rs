//! How one who behaves is served in a flood of requests from very many addresses, each of which takes another's place in
//! the table of counters.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use gateway::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::house::Serving;
use crate::Failure;
use crate::cores::Cores;
use crate::figures::Figure;
use crate::gateways::HOST;
use crate::load::{self, answer_end, closes};
use crate::served::{self, Client};

/// What the gateway is started with: a proxy that is believed, and so small a table that nearly all of these addresses drop
/// another's, while a limit of a day lets through whoever behaves for as long as it is looked at.
pub(super) const PROXIED: &str = "trusted_proxies = [\"127.0.0.1\"]\n";
pub(super) const SMALL: &str = "per_address = \"100000/1d\"\nper_user = \"none\"\nmemory_bytes = 65536\n";

/// Requests a second of the one who behaves, and connections that carry them.
const RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();
const CONNECTIONS: u32 = 16;
/// Rounds in which that one is looked at, before the flood and in it.
const ROUNDS: usize = 5;
/// Connections of the flood. Each asks anew as it is answered, always from an address that nobody has asked from.
const FLOODING: u32 = 8;

/// Looks before and in the flood.
///
/// # Errors
/// Somebody who behaves was not served, or the flood was not answered.
pub(super) fn figures(cores: Cores, serving: &Serving) -> Result<Vec<Figure>, Failure> {
    let client = Client { cores, connections: CONNECTIONS, rate: RATE };
    // The first requests of all fill pools and caches.
    client.look(&serving.target, 1)?;
    eprintln!("a flood of addresses …");
    let quiet = client.look(&serving.target, ROUNDS)?;
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let begun = clock::instant();
    let flooded = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| load::on_core(cores.load, || flood(serving, &over, &asked)));
        let flooded = client.look(&serving.target, ROUNDS);
        over.store(true, Ordering::Release);
        flooding.join().map_err(|_panic| "the flood panicked")??;
        flooded
    })?;
    let rate = f64::from(asked.load(Ordering::Acquire)) / begun.elapsed().as_secs_f64();
    let mut figures = served::told("limits.flood", &[("_quiet", &quiet), ("", &flooded)])?;
    figures.push(Figure::once("limits.flood.rate", rate, "requests/s"));
    Ok(figures)
}

/// Asks until it is over. Whatever the answer is, it has been counted.
async fn flood(serving: &Serving, over: &Arc<AtomicBool>, asked: &Arc<AtomicU32>) -> Result<(), Failure> {
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..FLOODING {
        let (target, over, asked) = (serving.target.clone(), over.clone(), asked.clone());
        asking.spawn(async move {
            let mut stream = load::connect(target.address, std::net::Ipv4Addr::LOCALHOST).await?;
            let mut answer = Vec::new();
            while !over.load(Ordering::Acquire) {
                let [_, b, c, d] = asked.fetch_add(1, Ordering::AcqRel).to_be_bytes();
                let request =
                    format!("GET /flood HTTP/1.1\r\nHost: {HOST}\r\nX-Forwarded-For: 10.{b}.{c}.{d}\r\n\r\n");
                stream.write_all(request.as_bytes()).await?;
                answer.clear();
                while answer_end(&answer).is_none_or(|end| answer.len() < end) {
                    if stream.read_buf(&mut answer).await? == 0 {
                        return Err("the gateway closed a connection before its answer".into());
                    }
                }
                if closes(&answer) {
                    stream = load::connect(target.address, std::net::Ipv4Addr::LOCALHOST).await?;
                }
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(one) = asking.join_next().await {
        one??;
    }
    Ok(())
}
