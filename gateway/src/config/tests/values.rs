//! Numbers, durations, rates and words.

use std::path::Path;

use proptest::prelude::*;

use super::super::Config;
use super::{check, keys};

#[test]
fn numbers_are_whole_within_bounds_and_plain() {
    for (variable, largest) in [
        ("BOTSERVER_MAX_LOGIN_ATTEMPTS", "1000"),
        ("BOTSERVER_RATE_LIMIT_PER_IP", "1000000"),
        ("BOTSERVER_RATE_LIMIT_PER_USER", "1000000"),
        ("BOTSERVER_MAX_UPLOAD_SIZE", "1099511627776"),
        ("BOTSERVER_LOCKOUT_DURATION", "604800"),
        ("BOTSERVER_SESSION_TIMEOUT", "86400"),
    ] {
        check("", &[(variable, "1")], &[]);
        check("", &[(variable, largest)], &[]);
        for wrong in [
            "0",
            "-1",
            "+5",
            "1.5",
            "1e3",
            "0x10",
            "5m",
            "many",
            "18446744073709551616",
            "99999999999999999999",
        ] {
            check("", &[(variable, wrong)], &[&format!("{variable}: it is not a ")]);
        }
        check("", &[(variable, "")], &[variable, "is empty"]);
        for spaced in [" 5", "5 ", "5\n", "\t5"] {
            check("", &[(variable, spaced)], &[variable, "white space"]);
        }
    }
    for wrong in ["0", "-1", "1001", "99999999999999999999", "1.5", "\"5\"", "true", "[5]", "1979-05-27"] {
        check(&format!("[login]\nattempts_max = {wrong}\n"), &[], &["gate.toml:3: ", "attempts_max"]);
    }
    check("[login]\nattempts_max = 0x10\n", &[], &[]);
    for wrong in ["0s", "1", "s", "1 m", "1w", "-1s", "1.5h", "31d", "18446744073709551615d", ""] {
        check(&format!("[session]\nabsolute = \"{wrong}\"\n"), &[], &["gate.toml:3: ", "session.absolute"]);
    }
    for wrong in
        ["100", "0/1m", "10/0s", "10/1w", "10/25h", "1000001/1m", "a/1m", "10/", "/1m", "10 / 1m", "10/1m/1m"]
    {
        check(
            &format!("[limits.class.chat]\nrate = \"{wrong}\"\n"),
            &[],
            &["gate.toml:3: ", "limits.class.chat.rate"],
        );
    }
}

#[test]
fn bounds_of_connections_fit_each_other() {
    check("[connections]\nmax = 100\nper_address_max = 100\nrequests_max = 1\nhead = \"100ms\"\n", &[], &[]);
    // The usual part of a smaller whole is the whole.
    check("[connections]\nmax = 10\n", &[], &[]);
    for (lines, named) in [
        ("max = 0", "connections.max"),
        ("max = 1000001", "connections.max"),
        ("idle = \"0s\"", "connections.idle"),
        ("head = \"99ms\"", "connections.head"),
        ("body_grace = \"2h\"", "connections.body_grace"),
        ("body_rate_min = 0", "connections.body_rate_min"),
        ("stall = 30", "connections.stall"),
        ("per_adress_max = 1", "did you mean `connections.per_address_max`?"),
    ] {
        check(&format!("[connections]\n{lines}\n"), &[], &["gate.toml:3: ", named]);
    }
    let larger = "[connections]\nrequests_max = 10\nrequests_per_address_max = 11\n";
    check(larger, &[], &["gate.toml:4: ", "more than all addresses may have together"]);
}

#[test]
fn words_are_one_of_the_known_ones() {
    check("", &[("BOTSERVER_ENV", "prod")], &["BOTSERVER_ENV: ", "`production` or `development`"]);
    check("", &[("BOTSERVER_ENV", "Production")], &["BOTSERVER_ENV: "]);
    check("", &[("BOTSERVER_TLS_MIN_VERSION", "1.1")], &["`1.3` or `1.2`"]);
    check("", &[("BOTSERVER_TLS_MIN_VERSION", "TLSv1.3")], &["`1.3` or `1.2`"]);
    for wrong in ["yes", "1", "TRUE", "0", "off"] {
        check("", &[("BOTSERVER_ENABLE_AUDIT", wrong)], &["BOTSERVER_ENABLE_AUDIT: ", "`true` or `false`"]);
        check("", &[("BOTSERVER_REQUIRE_MFA", wrong)], &["BOTSERVER_REQUIRE_MFA: ", "`true` or `false`"]);
    }
    for wrong in ["on", "sample", "sample:0", "sample:-1", "sample:18446744073709551616", "Always"] {
        let named = &["gate.toml:3: ", "`engine.oracle`", "`off`, `always` or `sample:N`"];
        check(&format!("[engine]\noracle = \"{wrong}\"\n"), &[], named);
    }
    for right in ["off", "always", "sample:1", "sample:1000"] {
        check(&format!("[engine]\noracle = \"{right}\"\n"), &[], &[]);
    }
    check("policies_watch = \"true\"\n", &[], &["gate.toml:2: ", "not true or false"]);
    check("[log]\nlevel = \"verbose\"\n", &[], &["gate.toml:3: ", "log.level"]);
    check(
        "[audit.when_full]\nchat = \"ignore\"\n",
        &[],
        &["gate.toml:3: ", "audit.when_full.chat", "`refuse` or `continue`"],
    );
}

#[test]
fn unknown_keys_are_faults_with_the_nearest_known_one() {
    check("lisen = \"127.0.0.1:1\"\n", &[], &["gate.toml:2: unknown key `lisen`", "did you mean `listen`?"]);
    check("colour = 1\n", &[], &["unknown key `colour`", "known here: "]);
    check("[sesion]\nidle = \"1h\"\n", &[], &["did you mean `session`?"]);
    check("[session]\nidel = \"1h\"\n", &[], &["gate.toml:3: ", "did you mean `session.idle`?"]);
    check(
        "[limits.class.chat]\nrate = \"1/1s\"\nburst = 5\n",
        &[],
        &["unknown key `limits.class.chat.burst`"],
    );
    check("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n", &[], &["gate.toml:3: ", "not TOML"]);
    check("listen = \n", &[], &["gate.toml:2: ", "not TOML"]);
    check("\"a\\nb\" = 1\n", &[], &["unknown key `a\u{fffd}b`"]);
}

proptest! {
    /// Whatever a file holds, it is read or refused; each fault has its place within the file and a remedy.
    #[test]
    fn any_text_is_read_or_refused(
        lines in proptest::collection::vec(
            (
                "(|\\[|\\[\\[)(listen|hosts|keys|tls|limits|upstreams|audit|log|session)(\\.[a-z]{1,6})?(|\\]|\\]\\])",
                "( = )?(\"[ -~é]{0,12}\"|-?[0-9]{1,20}|true|\\{[a-z= 1]{0,9}\\}|\\[[0-9, \"]{0,9}\\]|[ -~]{0,8})",
            ),
            0..12,
        ),
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{key}{value}\n")).collect();
        if let Err(faults) = Config::read(Path::new("gate.toml"), &text, &keys()) {
            prop_assert!(!faults.0.is_empty());
            for fault in faults.0 {
                prop_assert!(!fault.remedy.is_empty() && !fault.message.contains('\n'), "{fault}");
                if let super::super::fault::Place::File { line: Some(line), .. } = fault.place {
                    prop_assert!((1..=text.lines().count() + 1).contains(&line), "{line} of {text}");
                }
            }
        }
    }
}
