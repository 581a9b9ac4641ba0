//! Guesses at a password, at gateways that share sessions: they count at all, and without the store nobody may guess.

use tests::client::{Request, Response};
use tests::production::HOST;
use tests::redis::{Break, Redis};
use tests::session::{LOGIN, form};
use tests::upstream::Upstream;
use tests::wait::{self, PATIENCE};

use crate::fleet::{Fleet, reaches};
use crate::production::{PASSWORD, ask, request};

/// A login form as one gateway has shown it, with the cookie that came along: it is every gateway's.
struct Shown {
    page: String,
    cookie: String,
}

impl Shown {
    fn by(fleet: &Fleet) -> Self {
        let page = ask(&fleet.gateways[0], &request("GET", LOGIN).with("Sec-Fetch-Site", "none"));
        let cookies = page.all("set-cookie").map(|line| line.split(';').next().unwrap_or_default());
        let cookie = cookies.collect::<Vec<_>>().join("; ");
        Self { page: page.text(), cookie }
    }

    /// What this gateway says to who signs in so, as a program.
    fn sent(&self, fleet: &Fleet, at: usize, login: &str, password: &str) -> Response {
        let filled = form(&[("login", login), ("password", password)], &self.page);
        ask(&fleet.gateways[at], &self.post(&filled))
    }

    fn post(&self, filled: &str) -> Request {
        request("POST", LOGIN)
            .with("Cookie", &self.cookie)
            .with("Sec-Fetch-Site", "same-origin")
            .with("Origin", &format!("https://{HOST}"))
            .with("Accept", "application/json")
            .body("application/x-www-form-urlencoded", filled.as_bytes())
    }
}

/// All that an answer tells, but for the request's own id and for how long is left to wait.
fn told(answer: &Response) -> (u16, Vec<String>, String) {
    let names = answer.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    let text = answer.text().replace(&answer.request_id(), "");
    let text: String = text.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    (answer.status, names, text)
}

fn wait_s(answer: &Response) -> u64 {
    answer.header("retry-after").and_then(|text| text.parse().ok()).unwrap_or(0)
}

const WRONG: &str = "not-the-password-of-anybody";

#[test]
fn threat_11_guesses_count_at_every_gateway_alike_and_an_unlock_at_one_is_one_at_all() {
    let (upstream, mut redis) = (Upstream::start(), Redis::start());
    let login = "[login]\nattempts_max = 2\nlockout = \"1h\"\n";
    let fleet = Fleet::with(2, upstream.address(), &redis, login);
    let shown = Shown::by(&fleet);
    // Twice the bound at two gateways together, whether the login exists or not: a failure or an attempt before its wait is
    // over, both count.
    let mut firsts = Vec::new();
    for name in ["ada", "nobody"] {
        for guess in 0..4 {
            let answer = shown.sent(&fleet, guess % 2, name, WRONG);
            assert!(matches!(answer.status, 401 | 429), "{name}, guess {guess}: {}", answer.text());
            if guess == 0 {
                firsts.push(told(&answer));
            }
        }
    }
    assert_eq!(firsts[0], firsts[1], "nobody learns whose login there is");
    assert_eq!(firsts[0].0, 401);
    for at in 0..2 {
        let (known, unknown) =
            (shown.sent(&fleet, at, "ada", PASSWORD), shown.sent(&fleet, at, "nobody", WRONG));
        assert_eq!(told(&known), told(&unknown), "gateway {at}: nor while it is locked");
        assert_eq!(known.status, 429, "gateway {at}: the right password is not looked at");
        assert!(wait_s(&known) > 60, "gateway {at}: a lock and not a wait: {}", wait_s(&known));
    }

    // Without the store nobody counts, so nobody may guess; and that says nothing of anybody either.
    redis.breaks(Break::Stopped);
    reaches(&fleet.gateways[0], "degraded", "passwords and keys are refused");
    let refused = [("ada", PASSWORD), ("ada", WRONG), ("nobody", WRONG)]
        .map(|(name, password)| shown.sent(&fleet, 0, name, password));
    for answer in &refused {
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(told(answer), told(&refused[0]));
        assert!(wait_s(answer) > 0, "{:?}", answer.headers);
    }
    redis.mends(Break::Stopped);
    for gateway in &fleet.gateways {
        reaches(gateway, "up", "redis");
    }
    assert_eq!(shown.sent(&fleet, 1, "ada", PASSWORD).status, 429, "an outage lifts no lock");

    fleet.cli(0, &["account", "unlock", "ada"]);
    for at in 0..2 {
        let answer = shown.sent(&fleet, at, "ada", PASSWORD);
        assert!(answer.status < 400, "gateway {at}, unlocked: {} {}", answer.status, answer.text());
        assert_eq!(shown.sent(&fleet, at, "nobody", WRONG).status, 429, "gateway {at}: others stay locked");
    }
    wait::until("the records of the lock", PATIENCE, || {
        let records = fleet.gateways[1].audit().records();
        let locked =
            |record: &&serde_json::Value| record["notes"].to_string().contains("login locked: account");
        (records.iter().filter(locked).count() >= 3).then_some(())
    });
}
