//! A store that is held up for a moment, while many wait for it.

use super::*;

#[tokio::test]
async fn however_many_wait_in_one_stall_it_is_late_once() {
    let server = Server::start();
    let gateways = late::gateways(&server).await;
    let asks = async || {
        let asking = (0..20).map(|_| {
            let gateway = gateways[0].clone();
            tokio::spawn(async move { gateway.take(&one(Rate { count: 1_000, ..TEN }), NOW).await })
        });
        for asked in asking.collect::<Vec<_>>() {
            assert_eq!(asked.await.unwrap(), Outcome::Admitted);
        }
        leases::of(&gateways[0]).link().is_some()
    };
    server.signal(Signal::STOP);
    // From here on it is later only when nothing is left to do.
    tokio::time::pause();
    assert!(asks().await, "the first that it is late for");
    assert!(asks().await, "and the second");
    tokio::time::resume();
    server.signal(Signal::CONT);
    assert!(asks().await, "they are answered in time");
    server.signal(Signal::STOP);
    tokio::time::pause();
    for stall in 1..=LATE_MAX {
        assert_eq!(asks().await, stall < LATE_MAX, "stall {stall}");
    }
}
