//! The Redis that gateways share limits in.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use storage::counters::WhenAway;
use storage::redis::RedisAddress;

use super::super::settings::SharedLimits;
use super::{HOSTS, check, keys, read};

/// A file with this URL, and the lines that name it.
pub(super) fn naming(url: &str, lines: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, url).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let toml = format!("[limits.redis]\nurl = \"file:{}\"\n{lines}", file.display());
    (folder, toml)
}

fn shared(toml: &str) -> (Option<SharedLimits>, Vec<String>) {
    let config = read(&format!("{HOSTS}{toml}"), &keys()).unwrap();
    (config.shared_limits.clone(), config.notices().to_vec())
}

#[test]
fn without_a_redis_every_gateway_counts_for_itself() {
    assert!(shared("").0.is_none());
    let (none, notices) = shared("[limits]\ngateways = 3\n");
    assert!(none.is_none());
    assert!(
        notices.iter().any(|notice| notice.contains("does nothing without `limits.redis`")),
        "{notices:?}"
    );
}

#[test]
fn a_redis_and_its_defaults() {
    let (_folder, toml) = naming("redis://gate:s3cret@127.0.0.1:7000/3\n", "");
    let (found, notices) = shared(&toml);
    let found = found.unwrap();
    let RedisAddress::Tcp { host, port, tls } = &found.place.address else { panic!("one server") };
    assert_eq!((host.as_str(), *port, tls.is_some()), ("127.0.0.1", 7000, false));
    assert_eq!(
        (found.place.user.as_str(), found.place.password.expose().as_str(), found.place.database),
        ("gate", "s3cret", 3)
    );
    assert_eq!(
        (found.place.prefix.as_str(), found.budget, found.gateways),
        ("cedargate", Duration::from_millis(5), 1)
    );
    assert!(notices.iter().any(|notice| notice.contains("`limits.gateways` is not set")), "{notices:?}");
    assert!(!format!("{found:?}").contains("s3cret"));

    let (_folder, toml) = naming("rediss://gate:p@cache.internal", "budget = \"20ms\"\nprefix = \"a:b\"\n");
    let (found, _) = shared(&format!("[limits]\ngateways = 7\n{toml}"));
    let found = found.unwrap();
    assert!(matches!(&found.place.address, RedisAddress::Tcp { tls: Some(_), .. }));
    assert_eq!(
        (found.place.prefix.as_str(), found.budget, found.gateways),
        ("a:b", Duration::from_millis(20), 7)
    );
}

#[test]
fn leases_are_asked_for_and_bounded() {
    use storage::counters::LeaseSettings;
    let (_folder, redis) = naming("redis://gate:s3cret@127.0.0.1:7000", "");
    let leases = |lines: &str| shared(&format!("[limits]\ngateways = 3\n{lines}{redis}")).0.unwrap().leases;
    let second = Duration::from_secs(1);
    for (lines, expected) in [
        ("", None),
        ("lease_idle = \"2s\"\n", None),
        ("lease_percent = 0\n", None),
        ("lease_percent = 1\n", Some(LeaseSettings { percent: 1, idle: second })),
        (
            "lease_percent = 10\nlease_idle = \"100ms\"\n",
            Some(LeaseSettings { percent: 10, idle: second / 10 }),
        ),
    ] {
        assert_eq!(leases(lines), expected, "{lines}");
    }
    for wrong in ["lease_percent = 11", "lease_percent = -1", "lease_percent = \"5%\""] {
        check(&format!("[limits]\n{wrong}\n"), &[], &["gate.toml:3: ", "limits.lease_percent"]);
    }
    for wrong in ["lease_idle = \"99ms\"", "lease_idle = \"61s\"", "lease_idle = 1"] {
        check(&format!("[limits]\n{wrong}\n"), &[], &["gate.toml:3: ", "limits.lease_idle"]);
    }
    let (none, notices) = shared("[limits]\nlease_percent = 5\n");
    assert!(none.is_none());
    let told = "`limits.lease_percent` does nothing without `limits.redis`";
    assert!(notices.iter().any(|notice| notice.contains(told)), "{notices:?}");
}

#[test]
fn which_headers_tell_of_a_limit() {
    use super::super::settings::LimitHeaders;
    let headers = |toml: &str| read(&format!("{HOSTS}{toml}"), &keys()).unwrap().limits.headers;
    assert_eq!(headers(""), LimitHeaders::Draft);
    assert_eq!(headers("[limits]\nheaders = \"both\"\n"), LimitHeaders::Both);
    assert_eq!(headers("[limits]\nheaders = \"none\"\n"), LimitHeaders::None);
    check("[limits]\nheaders = \"X\"\n", &[], &["gate.toml:3: ", "limits.headers", "`both`"]);
    let on_all = |toml: &str| read(&format!("{HOSTS}{toml}"), &keys()).unwrap().limits.headers_on_all;
    assert!(!on_all("") && !on_all("[limits]\nheaders_for = \"refused\"\n"));
    assert!(on_all("[limits]\nheaders_for = \"all\"\n"));
    check("[limits]\nheaders_for = true\n", &[], &["gate.toml:3: ", "limits.headers_for"]);
}

#[test]
fn a_limit_is_taken_away_by_the_file_alone_and_that_is_told() {
    let none = "[limits]\nper_address = \"none\"\nper_user = \"none\"\n";
    let config = read(&format!("{HOSTS}{none}"), &keys()).unwrap();
    assert!(!config.limits.per_address.limits() && !config.limits.per_user.limits());
    let told = config.notices().join("\n");
    assert!(
        told.contains("`limits.per_address` is \"none\"") && told.contains("`limits.per_user`"),
        "{told}"
    );
    let usual = read(HOSTS, &keys()).unwrap();
    assert!(usual.limits.per_address.limits() && usual.limits.per_user.limits());
    for word in ["None", "", "0", "none/1m"] {
        check(&format!("[limits]\nper_user = \"{word}\"\n"), &[], &["gate.toml:3: ", "limits.per_user"]);
    }
    check("[limits.class.llm]\nrate = \"none\"\n", &[], &["gate.toml:3: ", "limits.class.llm.rate"]);
    check("", &[("BOTSERVER_RATE_LIMIT_PER_IP", "none")], &["BOTSERVER_RATE_LIMIT_PER_IP"]);
}

#[test]
fn how_a_limit_counts() {
    let sliding = |toml: &str| read(&format!("{HOSTS}{toml}"), &keys()).unwrap().limits.sliding;
    let usual = sliding("[limits.class.llm]\nrate = \"5/1m\"\nalgorithm = \"rate\"\n");
    assert!(!usual.per_address && !usual.per_user && usual.classes.is_empty());
    let chosen = sliding(
        "[limits]\nper_address_algorithm = \"rate\"\nper_user_algorithm = \"sliding\"\n[limits.class.llm]\nrate = \"5/1m\"\nalgorithm = \"sliding\"\n",
    );
    assert!(!chosen.per_address && chosen.per_user && chosen.classes.contains("llm"));
    let wrong = "[limits]\nper_user_algorithm = \"window\"\n";
    check(wrong, &[], &["gate.toml:3: ", "limits.per_user_algorithm", "`sliding`"]);
    let wrong = "[limits.class.llm]\nrate = \"5/1m\"\nalgorithm = true\n";
    check(wrong, &[], &["gate.toml:4: ", "limits.class.llm.algorithm"]);
}

#[test]
fn what_limits_do_while_it_is_away() {
    let away = |toml: &str| read(&format!("{HOSTS}{toml}"), &keys()).unwrap().limits.away;
    let usual = away("");
    assert_eq!((usual.per_address, usual.per_user), (WhenAway::Local, WhenAway::Local));
    assert_eq!((usual.class("auth"), usual.class("llm")), (WhenAway::Closed, WhenAway::Local));
    let chosen = away(
        "[limits]\nper_address_away = \"open\"\nper_user_away = \"closed\"\n[limits.class.auth]\nrate = \"5/1m\"\naway = \"local\"\n",
    );
    assert_eq!((chosen.per_address, chosen.per_user), (WhenAway::Open, WhenAway::Closed));
    assert_eq!(chosen.class("auth"), WhenAway::Local);
    check(
        "[limits]\nper_user_away = \"shut\"\n",
        &[],
        &["gate.toml:3: ", "limits.per_user_away", "`closed`"],
    );
    check(
        "[limits.class.llm]\nrate = \"5/1m\"\naway = 3\n",
        &[],
        &["gate.toml:4: ", "limits.class.llm.away"],
    );
}

#[test]
fn threat_14_a_redis_that_is_not_safe_stops_the_start_and_is_never_quoted() {
    let check = |url: &str, lines: &str, parts: &[&str]| {
        let (_folder, toml) = naming(url, lines);
        check(&toml, &[], parts);
        if let Err(faults) = read(&format!("{HOSTS}{toml}"), &keys()) {
            assert!(!faults.contains("s3cret"), "{faults}");
        }
    };
    let clear = "redis://gate:s3cret@cache.internal:6379";
    check(clear, "", &["gate.toml:3: ", "in clear off loopback"]);
    check(clear, "insecure = \"a wire of our own\"\n", &[]);
    check("redis://gate:s3cret@localhost", "", &[]);
    check("redis://gate:s3cret@[::1]", "", &[]);
    check("redis://:s3cret@127.0.0.1", "", &["gate.toml:3: ", "no user of our own"]);
    check("rediss://gate:s3cret@h#insecure", "", &["fragment"]);
    check(
        "rediss://gate:s3cret@127.0.0.1",
        "ca = \"none.pem\"\n",
        &["gate.toml:4: ", "no certificate is read"],
    );
    let made = rcgen::generate_simple_self_signed(vec!["cache.internal".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).unwrap();
    let ca = format!("ca = {pem:?}\n");
    check("rediss://gate:s3cret@cache.internal", &ca, &[]);
    check("redis://gate:s3cret@127.0.0.1", &ca, &["gate.toml:4: ", "does nothing without TLS"]);
    check("redis://gate:s3cret@127.0.0.1", "budget = \"2s\"\n", &["gate.toml:4: ", "limits.redis.budget"]);
    check("redis://gate:s3cret@127.0.0.1", "prefix = \"a b\"\n", &["gate.toml:4: ", "limits.redis.prefix"]);
    check("redis://gate:s3cret@127.0.0.1", "timeout = 5\n", &["unknown key `limits.redis.timeout`"]);
}

/// What the tables say, with each of these texts in a file whose name stands in its place as `{}`, in order.
fn with_files(texts: &[&str], toml: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut toml = toml.to_owned();
    for (number, text) in texts.iter().enumerate() {
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        toml = toml.replacen("{}", &format!("file:{}", file.display()), 1);
    }
    (folder, toml)
}

#[test]
fn a_redis_is_found_by_sentinels_or_in_a_cluster() {
    let toml = "[limits.redis]\nurl = \"{}\"\nsentinels = \"{}\"\n";
    let (_folder, toml) = with_files(
        &["redis://gate:s3cret@mymaster/3", "rediss://watch:s3cret@a.internal,b.internal:7"],
        toml,
    );
    let (found, notices) = shared(&toml);
    let place = found.unwrap().place;
    let RedisAddress::Sentinels(sentinels) = &place.address else { panic!("sentinels") };
    let hosts: Vec<String> = sentinels.hosts.iter().map(ToString::to_string).collect();
    assert_eq!(
        (sentinels.master.as_str(), hosts.join(" ")),
        ("mymaster", "a.internal:26379 b.internal:7".into())
    );
    assert_eq!((place.user.as_str(), place.database), ("gate", 3));
    assert_eq!(sentinels.login.as_ref().map(|login| login.user.as_str()), Some("watch"));
    // Each with TLS of its own; a master that they name off loopback is not spoken to in clear.
    assert!(sentinels.tls.is_some() && sentinels.reached.tls.is_none() && !sentinels.reached.in_clear);
    assert!(!notices.iter().any(|notice| notice.contains("names one alone")), "{notices:?}");

    let toml = "[limits.redis]\nurl = \"{}\"\nsentinels = \"{}\"\ninsecure = \"a wire of our own\"\n";
    let (_folder, toml) = with_files(&["redis://gate:s3cret@mymaster", "redis://a.internal"], toml);
    let (found, notices) = shared(&toml);
    let RedisAddress::Sentinels(sentinels) = found.unwrap().place.address else { panic!("sentinels") };
    assert!(sentinels.login.is_none() && sentinels.tls.is_none() && sentinels.reached.in_clear);
    assert!(notices.iter().any(|notice| notice.contains("names one alone")), "{notices:?}");

    let toml = "[session.redis]\nurl = \"{}\"\ncluster = true\n";
    let (_folder, toml) = with_files(&["rediss://gate:s3cret@a.internal:7001,b.internal:7002"], toml);
    let config = read(&format!("{HOSTS}{toml}"), &keys()).unwrap();
    let place = config.shared_sessions.as_ref().unwrap().place.clone();
    let RedisAddress::Cluster(cluster) = &place.address else { panic!("a cluster") };
    assert!(cluster.hosts.len() == 2 && cluster.reached.tls.is_some());
    let (_folder, toml) = with_files(
        &["redis://gate:s3cret@127.0.0.1:7001"],
        "[limits.redis]\nurl = \"{}\"\ncluster = false\n",
    );
    assert!(matches!(shared(&toml).0.unwrap().place.address, RedisAddress::Tcp { .. }));
}

#[test]
fn threat_14_sentinels_and_nodes_that_are_not_safe_stop_the_start_and_are_never_quoted() {
    let check = |texts: &[&str], lines: &str, parts: &[&str]| {
        let (_folder, toml) = with_files(texts, &format!("[limits.redis]\nurl = \"{{}}\"\n{lines}"));
        check(&toml, &[], parts);
        if let Err(faults) = read(&format!("{HOSTS}{toml}"), &keys()) {
            assert!(!faults.contains("s3cret"), "{faults}");
        }
    };
    const MASTER: &str = "redis://gate:s3cret@mymaster";
    let sentinels = "sentinels = \"{}\"\n";
    check(
        &[MASTER, "redis://a.internal"],
        sentinels,
        &["gate.toml:4: ", "`limits.redis.sentinels` is spoken to in clear"],
    );
    check(&[MASTER, "redis://watch:s3cret@127.0.0.1,localhost:7,[::1]"], sentinels, &[]);
    check(&[MASTER, "redis://watch:s3cret@127.0.0.1,a.internal"], sentinels, &["gate.toml:4: ", "in clear"]);
    check(
        &["redis://gate:s3cret@mymaster:6379", "redis://localhost"],
        sentinels,
        &["gate.toml:3: ", "name of the master"],
    );
    check(&["redis://mymaster", "redis://localhost"], sentinels, &["gate.toml:3: ", "names no user"]);
    check(
        &[MASTER, "redis://watch:s3cret@h?x"],
        sentinels,
        &["gate.toml:4: ", "`limits.redis.sentinels` is no URL", "without USER"],
    );
    check(&[MASTER], "sentinels = \"redis://localhost\"\n", &["gate.toml:4: ", "holds a secret itself"]);
    check(
        &[MASTER, "redis://localhost"],
        "sentinels = \"{}\"\ncluster = true\n",
        &["gate.toml:5: ", "no sentinels"],
    );
    // Any authority of the system's has a certificate for whatever address sentinels may be led to name.
    const OVER_TLS: &str = "rediss://gate:s3cret@mymaster";
    check(&[OVER_TLS, "rediss://a.internal"], sentinels, &["gate.toml:3: ", "`limits.redis.ca`"]);
    let made = rcgen::generate_simple_self_signed(vec!["cache.internal".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).unwrap();
    check(&[OVER_TLS, "rediss://a.internal"], &format!("{sentinels}ca = {pem:?}\n"), &[]);
    check(
        &[MASTER, "rediss://localhost"],
        "sentinels = \"{}\"\nsentinel_ca = \"none.pem\"\n",
        &["gate.toml:5: ", "no certificate is read"],
    );
    check(
        &["redis://gate:s3cret@localhost"],
        "sentinel_ca = \"none.pem\"\n",
        &["gate.toml:4: ", "does nothing without sentinels"],
    );
    check(
        &["redis://gate:s3cret@a.internal,b.internal"],
        "cluster = true\n",
        &["gate.toml:3: ", "in clear off loopback"],
    );
    check(&["redis://gate:s3cret@127.0.0.1,localhost"], "", &["gate.toml:3: ", "`cluster = true`"]);
    check(&["redis://gate:s3cret@127.0.0.1/1"], "cluster = true\n", &["gate.toml:3: ", "other than 0"]);
    check(
        &["redis://gate:s3cret@127.0.0.1"],
        "cluster = \"yes\"\n",
        &["gate.toml:4: ", "limits.redis.cluster"],
    );
}

#[test]
fn a_url_is_named_and_not_written_down() {
    check("[limits.redis]\nbudget = \"5ms\"\n", &[], &["gate.toml:2: ", "`limits.redis.url` is not set"]);
    check(
        "[limits.redis]\nurl = \"redis://gate:p@127.0.0.1\"\n",
        &[],
        &["gate.toml:3: ", "holds a secret itself"],
    );
    check("[limits]\ngateways = 0\n", &[], &["gate.toml:3: ", "limits.gateways"]);
}

#[test]
fn sessions_are_shared_where_a_redis_is_named_for_them() {
    let (_folder, toml) = naming("redis://gate:s3cret@127.0.0.1:7000/3\n", "");
    let toml = toml.replace("limits.redis", "session.redis");
    let config = read(&format!("{HOSTS}{toml}"), &keys()).unwrap();
    assert!(config.shared_limits.is_none());
    let shared = config.shared_sessions.as_ref().unwrap();
    assert_eq!((shared.place.prefix.as_str(), shared.budget), ("cedargate", Duration::from_millis(100)));
    assert!(!format!("{shared:?}").contains("s3cret"));
    assert!(read(HOSTS, &keys()).unwrap().shared_sessions.is_none());

    assert!(!config.brings_credentials);
    let brings = "[session]\nbring_credentials = true\n";
    for (lines, told) in [(toml.as_str(), "take it out"), ("", "does nothing without `session.redis`")] {
        let config = read(&format!("{HOSTS}{brings}{lines}"), &keys()).unwrap();
        assert!(config.brings_credentials);
        let notices = config.notices();
        assert!(notices.iter().any(|notice| notice.contains(told)), "{told}: {notices:?}");
    }
    check("[session]\nbring_credentials = \"yes\"\n", &[], &["gate.toml:3: ", "session.bring_credentials"]);

    assert_eq!(shared.replicas, 0);
    let kept = read(&format!("{HOSTS}[session]\nreplicas = 2\n{toml}"), &keys()).unwrap();
    assert_eq!(kept.shared_sessions.as_ref().map(|shared| shared.replicas), Some(2));
    let alone = read(&format!("{HOSTS}[session]\nreplicas = 2\n"), &keys()).unwrap();
    assert!(alone.notices().iter().any(|notice| notice.contains("`session.replicas` does nothing")));
    check("[session]\nreplicas = 6\n", &[], &["gate.toml:3: ", "session.replicas"]);
    check(&format!("{toml}budget = \"2s\"\n"), &[], &["gate.toml:4: ", "session.redis.budget"]);
    check(&format!("{toml}timeout = 5\n"), &[], &["unknown key `session.redis.timeout`"]);
    check("[session.redis]\nbudget = \"5ms\"\n", &[], &["gate.toml:2: ", "`session.redis.url` is not set"]);
    let (_folder, toml) = naming("redis://gate:s3cret@cache.internal:6379", "");
    let toml = toml.replace("limits.redis", "session.redis");
    check(&toml, &[], &["gate.toml:3: ", "`session.redis.url` is spoken to in clear off loopback"]);
}
