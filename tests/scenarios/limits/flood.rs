//! A flood from very many addresses.

use tests::client::Lost;

use super::*;

/// Addresses that ask once each.
const ADDRESSES: u32 = 100_000;
/// Connections that they come over, through a proxy that is believed.
const CONNECTIONS: u32 = 8;
/// Requests that are sent before their answers are read.
const AHEAD: usize = 25;
/// The table of counters: 2,688 places, so that nearly all of these addresses drop another's.
const TABLE_BYTES: usize = 65_536;
const PLACES: u64 = 2_688;
/// What the gateway may grow by: the table is there from the beginning, and this is for all that comes with the requests
/// themselves: connections, records on their way to the file, what the allocator keeps.
const GROWS_MAX: usize = 16 * 1024 * 1024;

fn from(target: &str, address: u32) -> Vec<u8> {
    let [_, b, c, d] = address.to_be_bytes();
    let address = format!("10.{b}.{c}.{d}");
    Request::new("GET", target).with("Host", HOST).with("X-Forwarded-For", &address).to_bytes()
}

fn asks(production: &Production, address: &str) -> u16 {
    let request = Request::new("GET", "/health").with("Host", HOST).with("X-Forwarded-For", address);
    Client::connect(production.address()).ask(&request).expect("every request is answered").status
}

/// Sends its part of the flood, and says what the answers were.
fn part(production: &Production, number: u32) -> Result<Vec<u16>, Lost> {
    let mut client = Client::connect(production.address());
    let mut statuses = Vec::new();
    let mut next = number;
    while next < ADDRESSES {
        let some = (next..ADDRESSES).step_by(CONNECTIONS as usize).take(AHEAD);
        client.send(&some.clone().flat_map(|address| from("/flood", address)).collect::<Vec<u8>>());
        for _ in some {
            let answer = client.receive()?;
            statuses.push(answer.status);
            next += CONNECTIONS;
            // So many requests are enough for one connection: what was sent behind them is sent again.
            if answer.header("connection") == Some("close") {
                client = Client::connect(production.address());
                break;
            }
        }
    }
    Ok(statuses)
}

#[test]
fn threat_20_a_flood_of_addresses_takes_bounded_memory_frees_nobody_and_harms_nobody_who_behaves() {
    let upstream = Upstream::start();
    let lines = format!(
        "trusted_proxies = [\"127.0.0.1\"]\n[limits]\nper_address = \"100/24h\"\nmemory_bytes = {TABLE_BYTES}\n"
    );
    let production = Production::before(upstream.address()).with_lines(lines).limiting_addresses();
    let process = production.start();
    // Somebody who has spent all that they have.
    let statuses: Vec<u16> = (0..101).map(|_| asks(&production, "192.0.2.1")).collect();
    assert_eq!((statuses[99], statuses[100]), (200, 429));
    let before = process.memory_peak_bytes();
    let ended = std::sync::atomic::AtomicUsize::new(0);
    let behaves: Vec<u16> = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let (production, ended) = (&production, &ended);
                scope.spawn(move || {
                    let statuses = part(production, number);
                    ended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    statuses.expect("every request is answered")
                })
            })
            .collect();
        // Somebody who asks as often as they may, at most, for as long as the flood lasts.
        let goes_on = || ended.load(std::sync::atomic::Ordering::Relaxed) < flood.len();
        let statuses = (0..100).take_while(|_| goes_on()).map(|_| asks(&production, "192.0.2.2")).collect();
        for part in flood {
            let statuses = part.join().expect("it goes on to the end");
            assert_eq!(statuses.len(), (ADDRESSES / CONNECTIONS) as usize);
            assert!(statuses.iter().all(|status| *status == 404), "{:?}", statuses.iter().max());
        }
        statuses
    });
    assert!(!behaves.is_empty() && behaves.iter().all(|status| *status == 200), "{behaves:?}");
    let grown = process.memory_peak_bytes().saturating_sub(before);
    assert!(grown <= GROWS_MAX, "{grown} bytes more");
    assert_eq!(asks(&production, "192.0.2.1"), 429, "who was refused still is");
    // All have asked once in a day, so that whoever has no place any more had one to be dropped from.
    let dropped = wait::until("word of what was dropped", PATIENCE, || {
        let dropped = metric(&production, "cedargate_limits_evicted_total");
        (dropped >= u64::from(ADDRESSES) - PLACES).then_some(dropped)
    });
    assert!(dropped <= u64::from(ADDRESSES) + 200, "no more than have come: {dropped}");
}
