//! What nobody waits for: how a store that is back is told of what was counted without it.

use super::*;

/// How many questions a store was asked since it began.
async fn asked(server: &Server) -> u64 {
    let redis::Value::BulkString(text) = server.say(&["INFO", "commandstats"]).await else {
        panic!("a text")
    };
    let text = String::from_utf8(text).unwrap();
    let of_scripts = text.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    of_scripts.and_then(|said| said.split_once(',')).unwrap().0.parse().unwrap()
}

/// A limit of its own, every other one a window.
fn take(name: &str, number: usize, cost: u32) -> [Take<'_>; 1] {
    [Take::new(LimitKey::everybody(name).sliding(number.is_multiple_of(2)), TEN).costing(cost)]
}

#[tokio::test]
async fn what_was_counted_without_the_store_is_told_in_questions_that_nobody_waits_long_behind() {
    let mut server = Server::start();
    let counters = server.counters(|settings| settings.given_time = true).await;
    server.kill();
    reaches(&counters, away).await;
    for number in 0..100 {
        let name = format!("limit-{number}");
        assert_eq!(admitted(&counters, &take(&name, number, 1), 1).await, 1);
    }
    server.restart();
    reaches(&counters, up).await;
    let asked = asked(&server).await;
    assert!(asked > 100_u64.div_ceil(8), "eight callers in each, and a trial: {asked}");
    for number in 0..100 {
        let name = format!("limit-{number}");
        let all = take(&name, number, 10);
        assert!(matches!(counters.take(&all, NOW).await, Outcome::Refused { .. }), "{name} was told");
    }
}

#[tokio::test]
async fn what_is_over_when_the_store_is_back_is_not_told() {
    // One of ten an hour is over after six minutes, and in a window after an hour and a part of it.
    fn later() -> UnixMillis {
        NOW.plus(63 * 60_000)
    }
    let mut server = Server::start();
    let change = |settings: &mut RedisSettings| {
        settings.given_time = true;
        settings.clock = later;
    };
    let counters = server.counters(change).await;
    server.kill();
    reaches(&counters, away).await;
    for number in 0..400 {
        let name = format!("limit-{number}");
        let now = if number % 20 < 2 { later() } else { NOW };
        assert_eq!(counters.take(&take(&name, number, 1), now).await, Outcome::Admitted);
    }
    server.restart();
    reaches(&counters, up).await;
    let asked = asked(&server).await;
    assert!(asked < 400 / 8, "of forty, eight in each, and trials: {asked}");
    for number in 0..400 {
        let name = format!("limit-{number}");
        let is_whole = counters.take(&take(&name, number, 10), later()).await == Outcome::Admitted;
        assert_eq!(is_whole, number % 20 >= 2, "{name}");
    }
}
