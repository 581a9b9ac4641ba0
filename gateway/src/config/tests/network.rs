//! Listeners, hosts, neighbours and upstreams.

use std::time::Duration;

use super::super::settings::UpstreamIdentity;
use super::{HOSTS, check, keys, read};

#[test]
fn an_upstream_is_read_whole() {
    let toml = format!(
        "{HOSTS}[upstreams.botserver]\naddresses = [\"127.0.0.1:8081\", \"[::1]:8081\"]\nidentity = \"botserver\"\n\
         health_path = \"/api/health\"\nread_timeout = \"5m\"\n\
         [upstreams.billing]\naddresses = [\"10.0.0.7:443\"]\ntls = {{ name = \"Billing.internal\" }}\n\
         identity = {{ ed25519 = {{ audience = \"billing\" }} }}\n"
    );
    let config = read(&toml, &keys()).unwrap();
    let botserver = &config.upstreams["botserver"];
    assert_eq!(botserver.addresses.len(), 2);
    assert_eq!(botserver.identity, UpstreamIdentity::BotServer);
    assert_eq!(botserver.health_path.as_deref(), Some("/api/health"));
    assert_eq!(botserver.timeouts.read, Duration::from_secs(300));
    let billing = &config.upstreams["billing"];
    assert_eq!(billing.identity, UpstreamIdentity::Ed25519 { audience: "billing".into() });
    assert_eq!(billing.tls.as_ref().unwrap().name.as_deref(), Some("billing.internal"));
}

#[test]
fn threat_12_plain_http_is_for_loopback_alone() {
    let host = |url: &str| format!("hosts = [{{ public_url = \"{url}\" }}]\n");
    check(&host("http://app.example.com"), &[], &["gate.toml:1: ", "http off loopback"]);
    check(&host("http://192.168.1.5:8080"), &[], &["http off loopback"]);
    check(&host("http://localhost.example.com"), &[], &["http off loopback"]);
    check(&host("http://localhost:8080"), &[], &[]);
    check(&host("http://127.0.0.1:8080"), &[], &[]);
    check(&host("http://[::1]:8080"), &[], &[]);
    check(&host("https://app.example.com"), &[], &[]);
    check(&host("https://app.example.com/app"), &[], &["gate.toml:1: ", "path"]);
    check(&host("app.example.com"), &[], &["https://"]);
    check(&host("*"), &[], &["is no origin"]);
    check("hosts = []\n", &[], &["`hosts` is empty"]);
    check("hosts = \"app.example.com\"\n", &[], &["not a list of tables"]);
    check("hosts = [\"app.example.com\"]\n", &[], &["hosts[0]", "not a table"]);
    check("hosts = [{ name = \"app.example.com\" }]\n", &[], &["without `public_url`"]);
    check(
        "hosts = [{ name = \"App.example.com\", public_url = \"https://app.example.com\" }]\n",
        &[],
        &["Host header"],
    );
    check("hosts = [{ name = \"a.example:8443\", public_url = \"https://app.example.com\" }]\n", &[], &[]);
    check(
        "hosts = [\n{ public_url = \"https://a.example\" },\n{ name = \"a.example\", public_url = \"https://b.example\" }]\n",
        &[],
        &["gate.toml:3: ", "twice"],
    );
    let bare = read("", &keys()).unwrap_err();
    assert!(bare.contains("`hosts` is not set"), "{bare}");
}

#[test]
fn origins_and_proxies_are_named_exactly() {
    let origins = |text: &str, parts: &[&str]| check("", &[("BOTSERVER_ALLOWED_ORIGINS", text)], parts);
    origins("", &[]);
    origins("  ", &[]);
    origins("https://a.example", &[]);
    origins("*", &["is no origin"]);
    origins("null", &["is no origin"]);
    origins("https://*.example", &["is no origin"]);
    origins("https://a.example/", &["is no origin"]);
    origins("https://a.example:443", &["leave out"]);
    origins("http://a.example", &["http off loopback"]);
    origins("https://a.example,,https://b.example", &["is empty"]);
    let proxies =
        |item: &str, parts: &[&str]| check(&format!("trusted_proxies = [\"{item}\"]\n"), &[], parts);
    proxies("10.0.0.7", &[]);
    proxies("10.0.0.0/24", &[]);
    proxies("2001:db8::/32", &[]);
    proxies("10.0.0.7/24", &["gate.toml:2: ", "10.0.0.0/24 or 10.0.0.7/32"]);
    proxies("0.0.0.0/0", &["everybody"]);
    proxies("::/0", &["everybody"]);
    proxies("10.0.0.0/33", &["neither an address nor a network"]);
    proxies("proxy.internal", &["neither an address nor a network"]);
}

#[test]
fn threat_5_an_upstream_is_verified_or_says_why_not() {
    let upstream = |lines: &str, parts: &[&str]| {
        check(&format!("[upstreams.up]\nidentity = \"none\"\n{lines}"), &[], parts);
    };
    upstream("addresses = [\"127.0.0.1:1\"]\n", &[]);
    upstream("addresses = [\"10.0.0.7:80\"]\n", &["gate.toml:2: ", "in clear off loopback"]);
    upstream("addresses = [\"127.0.0.1:1\", \"10.0.0.7:80\"]\n", &["in clear off loopback"]);
    upstream("addresses = [\"10.0.0.7:80\"]\ninsecure = \"a private link\"\n", &[]);
    upstream("addresses = [\"127.0.0.1:1\"]\ninsecure = \"\"\n", &["up.insecure` is empty"]);
    upstream("addresses = [\"10.0.0.7:443\"]\ntls = { name = \"up.internal\" }\n", &[]);
    upstream("addresses = [\"10.0.0.7:443\"]\ntls = {}\n", &["without a name to verify"]);
    upstream("addresses = [\"127.0.0.1:443\"]\ntls = {}\n", &["without a name to verify"]);
    upstream("addresses = [\"10.0.0.7:443\"]\ntls = {}\ninsecure = \"lab\"\n", &[]);
    upstream("addresses = [\"10.0.0.7:443\"]\ntls = { name = \"10.0.0.7\" }\n", &["no certificate"]);
    upstream("addresses = [\"10.0.0.7:443\"]\ntls = { name = \"*.internal\" }\n", &["no certificate"]);
    upstream(
        "addresses = [\"10.0.0.7:443\"]\ntls = { name = \"up.internal\", ca = \"/none\" }\n",
        &["/none"],
    );
    upstream(
        "addresses = [\"10.0.0.7:443\"]\ntls = { nam = \"up.internal\" }\ninsecure = \"x\"\n",
        &["did you mean `upstreams.up.tls.name`"],
    );
    upstream("addresses = []\n", &["names none"]);
    upstream("", &["names none"]);
    upstream("addresses = \"127.0.0.1:1\"\n", &["not a list"]);
    upstream("addresses = [\"localhost:1\"]\n", &["names are not resolved"]);
    upstream("addresses = [\"127.0.0.1\"]\n", &["not an IP address with a port"]);
    upstream("addresses = [\"127.0.0.1:0\"]\n", &["nobody answers"]);
    upstream("addresses = [\"127.0.0.1:1\", \"127.0.0.1:1\"]\n", &["twice"]);
    upstream("addresses = [\"127.0.0.1:8080\"]\n", &["the gateway itself"]);
    upstream("addresses = [\"127.0.0.1:1\"]\nhealth_path = \"health\"\n", &["no plain path"]);
    upstream("addresses = [\"127.0.0.1:1\"]\nhealth_path = \"/a/../b\"\n", &["no plain path"]);
    upstream("addresses = [\"127.0.0.1:1\"]\nconnect_timeout = \"0s\"\n", &["connect_timeout"]);
    let identity = |text: &str, parts: &[&str]| {
        check(&format!("[upstreams.up]\naddresses = [\"127.0.0.1:1\"]\n{text}"), &[], parts);
    };
    identity("", &["`upstreams.up.identity` is not set"]);
    identity("identity = \"jwt\"\n", &["no known form"]);
    identity("identity = 1\n", &["no known form"]);
    identity("identity = { ed25519 = {} }\n", &["names no audience"]);
    identity("identity = { ed25519 = { audience = \"a\" } }\n", &[]);
    check(
        "[upstreams.Up]\naddresses = [\"127.0.0.1:1\"]\nidentity = \"none\"\n",
        &[],
        &["names no upstream"],
    );
    check("upstreams = 5\n", &[], &["not a table"]);
}

#[test]
fn threat_19_the_admin_listener_leaves_loopback_only_with_a_reason() {
    check("admin_listen = \"127.0.0.1:9000\"\n", &[], &[]);
    check("admin_listen = \"0.0.0.0:9000\"\n", &[], &["gate.toml:2: ", "off loopback"]);
    check(
        "admin_listen = \"0.0.0.0:9000\"\nadmin_off_loopback = \"scraped over a private network\"\n",
        &[],
        &[],
    );
    check("admin_listen = \"127.0.0.1:8080\"\n", &[], &["are the same"]);
    check("admin_listen = \"localhost:9000\"\n", &[], &["IP address with a port"]);
}

#[test]
fn a_certificate_and_its_key_come_together() {
    check("", &[("BOTSERVER_TLS_CERT", "/none")], &["BOTSERVER_TLS_CERT: ", "without its key"]);
    check("", &[("BOTSERVER_TLS_KEY", "/none")], &["BOTSERVER_TLS_KEY: ", "without its certificate"]);
    let both = read(HOSTS, &keys().with("BOTSERVER_TLS_CERT", "/none").with("BOTSERVER_TLS_KEY", "/none"))
        .unwrap_err();
    assert!(both.contains("BOTSERVER_TLS_CERT: no certificate is read from `/none`"), "{both}");
    assert!(both.contains("BOTSERVER_TLS_KEY: no private key is read from `/none`"), "{both}");
}
