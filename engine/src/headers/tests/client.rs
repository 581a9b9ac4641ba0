use std::net::IpAddr;

use ipnet::IpNet;

use super::super::{ClientAddress, FORWARDED_HOPS_MAX, client_address};
use super::headers;

fn find(peer: &str, lines: &[(&str, &str)]) -> ClientAddress {
    let trusted: Vec<IpNet> =
        ["10.0.0.0/8", "2001:db8::/32"].iter().map(|net| net.parse().unwrap()).collect();
    client_address(peer.parse().unwrap(), &headers(lines), &trusted)
}

fn check(peer: &str, forwarded: &[&str], client: &str) {
    let lines: Vec<(&str, &str)> = forwarded.iter().map(|value| ("x-forwarded-for", *value)).collect();
    let expected: IpAddr = client.parse().unwrap();
    assert_eq!(find(peer, &lines).client, expected, "{peer} {forwarded:?}");
}

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_says() {
    check("192.0.2.1", &[], "192.0.2.1");
    check("192.0.2.1", &["203.0.113.9"], "192.0.2.1");
    check("::ffff:192.0.2.1", &["10.0.0.1"], "192.0.2.1");
    let found = find("192.0.2.1", &[("x-forwarded-proto", "https")]);
    assert_eq!((found.via_proxy, found.tls_claimed), (false, None));
}

#[test]
fn behind_trusted_proxies_hops_are_counted_from_the_right() {
    check("10.0.0.1", &["203.0.113.9"], "203.0.113.9");
    check("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9");
    check("10.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9");
    check("10.0.0.1", &["198.51.100.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9");
    check("10.0.0.1", &["198.51.100.1", "203.0.113.9", "10.0.0.2"], "203.0.113.9");
    check("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
    check("10.0.0.1", &["10.9.9.9, 203.0.113.9"], "203.0.113.9");
    check("2001:db8::1", &["2001:4860::8"], "2001:4860::8");
    check("10.0.0.1", &["[2001:4860::8]:443"], "2001:4860::8");
    check("10.0.0.1", &["[2001:4860::8]"], "2001:4860::8");
    check("10.0.0.1", &["203.0.113.9:1234"], "203.0.113.9");
    check("10.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9");
}

#[test]
fn what_is_no_address_ends_the_search_at_the_hop_that_wrote_it() {
    for hop in
        ["unknown", "_hidden", "", "203.0.113.9.1", "203.0.113", "a, ", "203.0.113.9;x", "\"203.0.113.9\""]
    {
        check("10.0.0.1", &[hop], "10.0.0.1");
    }
    check("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2");
    check("10.0.0.1", &[], "10.0.0.1");
    let long = vec!["10.0.0.2"; FORWARDED_HOPS_MAX].join(",");
    check("10.0.0.1", &["203.0.113.9", &long], "10.0.0.2");
    let shorter = vec!["10.0.0.2"; FORWARDED_HOPS_MAX - 1].join(",");
    check("10.0.0.1", &["203.0.113.9", &shorter], "203.0.113.9");
}

#[test]
fn only_two_headers_are_believed_and_only_from_a_proxy() {
    for name in
        ["forwarded", "x-real-ip", "x_forwarded_for", "cf-connecting-ip", "true-client-ip", "x-client-ip"]
    {
        assert_eq!(find("10.0.0.1", &[(name, "203.0.113.9")]).client, "10.0.0.1".parse::<IpAddr>().unwrap());
    }
    let claimed = |values: &[&str]| {
        let lines: Vec<(&str, &str)> = values.iter().map(|value| ("x-forwarded-proto", *value)).collect();
        find("10.0.0.1", &lines).tls_claimed
    };
    assert_eq!(claimed(&[]), None);
    assert_eq!(claimed(&["https"]), Some(true));
    assert_eq!(claimed(&["HTTPS"]), Some(true));
    assert_eq!(claimed(&["wss"]), Some(true));
    assert_eq!(claimed(&["http"]), Some(false));
    assert_eq!(claimed(&["https, http"]), Some(false), "the right-most is our proxy's");
    assert_eq!(claimed(&["https", "http"]), Some(false));
    assert_eq!(claimed(&["ftp"]), None);
}
