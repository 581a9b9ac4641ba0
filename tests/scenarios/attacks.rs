//! Every attack of `tests/attacks`, over a real socket, against one gateway before an upstream that tells what it saw.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use tests::attack::{self, Case, Connection, Filling};
use tests::client::{Client, Lost, Request, Response};
use tests::gateway::{Gateway, Setup};
use tests::session::{Browser, LOGIN};
use tests::upstream::{Received, Upstream};
use tests::wait::{self, PATIENCE};

/// How long a connection that is to be closed may stay open.
const CLOSING: Duration = Duration::from_secs(8);

/// How long a record may take after the request that caused it; what has not come then is a fault of the case.
const RECORDING: Duration = Duration::from_secs(5);

/// The target that only a smuggled request could reach without the right to it.
const SMUGGLED: &str = "/api/rbac/roles";

struct Range {
    gateway: Gateway,
    upstream: Upstream,
    cookies: HashMap<String, String>,
}

/// What came of one attack.
struct Outcome {
    statuses: Vec<u16>,
    connection: Connection,
    forwarded: Vec<Received>,
    records: Vec<Value>,
}

/// Tries every attack of a file against a gateway of its own.
fn none_works(file: &str) {
    let cases = attack::file(file);
    let mut range = Range::open();
    let mut faults = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let outcome = range.run(case, number);
        faults.extend(judge(case, &outcome).into_iter().map(|fault| format!("{}: {fault}", case.name)));
    }
    assert!(faults.is_empty(), "{} faults in {} attacks:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn no_confusion_of_paths_works() {
    none_works("paths");
}

#[test]
fn no_header_from_outside_is_believed() {
    none_works("headers");
}

#[test]
fn no_framing_puts_the_two_sides_out_of_step() {
    none_works("framing");
}

#[test]
fn every_malformed_request_is_refused_by_its_name() {
    none_works("bounds");
}

#[test]
fn threat_01_botservers_own_doors_stay_shut() {
    none_works("own_doors");
}

#[test]
fn threat_02_identity_in_query_and_cookie_is_not_handed_on() {
    none_works("query_and_cookies");
}

#[test]
fn threat_03_one_resource_has_one_spelling() {
    none_works("spellings");
}

#[test]
fn threat_04_what_users_make_registers_no_service_worker() {
    none_works("shared_origin");
}

#[test]
fn threat_06_no_other_protocol_is_spoken_yet() {
    none_works("upgrades");
}

#[test]
fn threat_12_writes_from_other_sites_are_refused() {
    none_works("cross_site");
}

impl Range {
    fn open() -> Self {
        let upstream = Upstream::start();
        let gateway = Setup::demo().upstream(&upstream.url()).start();
        Self { gateway, upstream, cookies: HashMap::new() }
    }

    fn run(&mut self, case: &Case, number: usize) -> Outcome {
        let cookie = case.cookie_of.as_ref().or(case.bare_cookie_of.as_ref());
        let cookie = cookie.map(|role| self.cookie(role)).unwrap_or_default();
        self.records_since(0, number, 0);
        let host = self.gateway.address().to_string();
        let filling = Filling { host: &host, key: self.gateway.api_key(), cookie: &cookie };
        let seen = self.gateway.audit().records().len();
        self.upstream.forget();
        let mut client = Client::connect(self.gateway.address());
        client.send(&case.bytes(&filling));
        let statuses = answers(&mut client, case);
        let connection = self.connection(&mut client, number);
        let records = self.records_since(seen, number, case.records.unwrap_or(1));
        Outcome { statuses, connection, forwarded: self.upstream.forwarded(), records }
    }

    /// The cookie of an account that holds this role, signed in once.
    fn cookie(&mut self, role: &str) -> String {
        if let Some(cookie) = self.cookies.get(role) {
            return cookie.clone();
        }
        let cookie = self.gateway.signed_in(role).cookie_header();
        self.cookies.insert(role.to_owned(), cookie.clone());
        // Answered a moment before it is recorded: a record that came later would be taken for the attack's.
        let is_sign_in = |record: &Value| {
            record["request"]["path"] == LOGIN
                && record["principal"].is_null()
                && record["answer"]["status"] == 303
        };
        wait::until("the record of the sign-in", PATIENCE, || {
            let records = self.gateway.audit().records();
            (records.iter().filter(|record| is_sign_in(record)).count() >= self.cookies.len()).then_some(())
        });
        cookie
    }

    /// Whether the connection answers a request of ours, and with the answer to that very request.
    fn connection(&self, client: &mut Client, number: usize) -> Connection {
        let probe = Request::new("GET", &format!("/probe/{number}"))
            .with("Host", &self.gateway.address().to_string());
        if client.try_send(&probe.to_bytes()).is_err() {
            return Connection::Closed;
        }
        match client.receive() {
            Ok(answer) => {
                let record = self.gateway.audit().of(&answer.request_id());
                let path = record["request"]["path"].as_str().unwrap_or_default();
                assert_eq!(path, format!("/probe/{number}"), "the connection is out of step: {record:#}");
                Connection::Kept
            }
            Err(Lost::Closed(rest)) => {
                assert!(rest.is_empty(), "half an answer: {:?}", String::from_utf8_lossy(&rest));
                Connection::Closed
            }
            Err(Lost::Silent) => panic!("attack {number}: the connection neither answers nor closes"),
        }
    }

    /// The records of the attack: those after what stood there before, without those of our own requests.
    ///
    /// A request that we send now has been recorded before we count, so that one record too many is seen; one
    /// that is still on its way (a connection may end after its answer) is waited for.
    fn records_since(&self, seen: usize, number: usize, expected: usize) -> Vec<Value> {
        let mut browser = Browser::new(self.gateway.address());
        let barrier = browser.get(&format!("/barrier/{number}")).request_id();
        self.gateway.audit().of(&barrier);
        let ours = |record: &Value| {
            let path = record["request"]["path"].as_str().unwrap_or_default();
            path.starts_with("/barrier/") || path.starts_with("/probe/")
        };
        let found = || self.gateway.audit().records().into_iter().skip(seen).filter(|record| !ours(record));
        wait::within(RECORDING, || (found().count() >= expected).then_some(()));
        found().collect()
    }
}

fn answers(client: &mut Client, case: &Case) -> Vec<u16> {
    let method = case.method.as_deref().unwrap_or("GET");
    let mut statuses = Vec::new();
    for _ in &case.expect.status {
        match client.receive_to(method) {
            Ok(Response { status, .. }) => statuses.push(status),
            Err(Lost::Closed(_)) => {
                statuses.push(0);
                break;
            }
            Err(Lost::Silent) => {
                statuses.push(1);
                break;
            }
        }
    }
    if case.expect.connection == Some(Connection::Closed) && client.rest(CLOSING).is_none() {
        statuses.push(2);
    }
    statuses
}

fn judge(case: &Case, outcome: &Outcome) -> Vec<String> {
    let expect = &case.expect;
    let mut faults = Vec::new();
    if outcome.statuses != expect.status {
        faults.push(format!("answered {:?} instead of {:?}", outcome.statuses, expect.status));
    }
    if expect.connection.is_some_and(|wanted| wanted != outcome.connection) {
        faults.push(format!("the connection is {:?}", outcome.connection));
    }
    let records = case.records.unwrap_or(1);
    if outcome.records.len() != records {
        faults.push(format!("{} records instead of {records}: {:?}", outcome.records.len(), outcome.records));
    }
    if let Some(record) = outcome.records.first() {
        faults.extend(judge_record(case, record));
    }
    faults.extend(judge_upstream(case, &outcome.forwarded));
    faults
}

fn judge_record(case: &Case, record: &Value) -> Option<String> {
    let refusal = &record["decision"]["refusal"];
    let wanted = case.expect.code.as_deref()?;
    (refusal != wanted).then(|| format!("the record's refusal is {refusal} instead of {wanted}"))
}

fn judge_upstream(case: &Case, forwarded: &[Received]) -> Vec<String> {
    let mut faults = Vec::new();
    let targets: Vec<&str> = forwarded.iter().map(|received| received.target.as_str()).collect();
    if targets.iter().any(|target| target.contains(SMUGGLED)) {
        faults.push(format!("{SMUGGLED} reached the upstream"));
    }
    match &case.expect.upstream {
        Some(wanted) if targets.first() != Some(&wanted.as_str()) => {
            faults.push(format!("the upstream saw {targets:?} instead of {wanted}"));
        }
        None if case.expect.upstream_begins.is_some() => {
            let begun = |received: &&Received| Some(&received.target) == case.expect.upstream_begins.as_ref();
            if forwarded.iter().any(|received| received.complete || !begun(&received)) {
                faults.push(format!("the upstream saw {targets:?} whole"));
            }
        }
        None if !targets.is_empty() => faults.push(format!("the upstream saw {targets:?}")),
        _ => {}
    }
    if let Some(received) = forwarded.first() {
        let expect = &case.expect;
        let there = |name: &String| received.header(name).is_some();
        faults.extend(
            expect.upstream_lacks.iter().filter(|n| there(n)).map(|n| format!("the upstream saw {n}")),
        );
        faults.extend(
            expect.upstream_has.iter().filter(|n| !there(n)).map(|n| format!("the upstream lacks {n}")),
        );
        for value in &expect.upstream_values_lack {
            if received.headers.iter().any(|(_, found)| found.contains(value.as_str())) {
                faults.push(format!("{value} reached the upstream"));
            }
        }
    }
    faults
}

/// The records of published flaws that are answered here; a case that leaves takes its defence out of sight.
const PUBLISHED: [&str; 47] = [
    "CVE-2026-33494",
    "GHSA-3q34-rx83-r6mq",
    "CVE-2021-43557",
    "CVE-2021-29492",
    "CVE-2019-9901",
    "CVE-2026-73553",
    "CVE-2026-73511",
    "CVE-2025-66490",
    "GHSA-pxq7-h93f-9jrg",
    "CVE-2021-32779",
    "CVE-2021-39206",
    "CVE-2025-54576",
    "GHSA-7rh7-c77v-6434",
    "CVE-2025-46821",
    "GHSA-9f3w-vm54-7gfc",
    "GHSA-6jwx-7vp4-9847",
    "CVE-2021-39155",
    "CVE-2026-95811",
    "CVE-2026-50559",
    "CVE-2026-2293",
    "CVE-2019-9900",
    "CVE-2026-40575",
    "GHSA-7x63-xv5r-3p2x",
    "CVE-2025-64484",
    "GHSA-5m6w-wvh7-57vm",
    "GHSA-6384-m2mw-rf54",
    "CVE-2026-33495",
    "CVE-2025-48865",
    "CVE-2026-44087",
    "CVE-2026-31908",
    "CVE-2023-27487",
    "GHSA-5hvv-m4w4-gf6v",
    "CVE-2026-26308",
    "CVE-2022-24112",
    "CVE-2026-31838",
    "CVE-2021-32777",
    "CVE-2026-73552",
    "CVE-2026-2833",
    "CVE-2026-2835",
    "CVE-2025-4366",
    "pingap #215",
    "CVE-2026-73547",
    "CVE-2026-50572",
    "CVE-2025-64763",
    "BotServer: X-User-ID",
    "BotServer: every identity header",
    "BotServer: the left-most X-Forwarded-For",
];

#[test]
fn every_published_flaw_has_its_case() {
    let files = ["paths", "headers", "framing", "upgrades"];
    let cases: Vec<Case> = files.into_iter().flat_map(attack::file).collect();
    let missing: Vec<_> =
        PUBLISHED.iter().filter(|record| !cases.iter().any(|case| case.name.contains(**record))).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}

#[test]
fn every_file_of_attacks_is_tried() {
    let source = include_str!("attacks.rs");
    for text in tests::repository::texts("tests/attacks", &[".toml"]) {
        let name = text.path.trim_start_matches("tests/attacks/").trim_end_matches(".toml");
        assert!(source.contains(&format!("none_works(\"{name}\")")), "nobody tries {}", text.path);
    }
}
