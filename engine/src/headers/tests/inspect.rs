use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::super::*;
use super::headers;

fn rules() -> HeaderRules {
    HeaderRules {
        hosts: ["gate.example", "only.example:8443", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec(),
        cookies: vec!["cedargate".to_owned()],
    }
}

/// Inspects a request with a valid `Host` and these headers besides.
fn inspect_with(lines: &[(&str, &str)]) -> Result<HeaderFindings, &'static str> {
    let mut all = headers(lines);
    all.append("host", HeaderValue::from_static("gate.example"));
    inspect(&Method::GET, Version::HTTP_11, &all, &rules()).map_err(|malformed| malformed.reason)
}

fn refused(lines: &[(&str, &str)], reason: &str) {
    assert_eq!(inspect_with(lines).err(), Some(reason), "{lines:?}");
}

#[test]
fn framing_has_no_two_readings() {
    for (lines, reason) in [
        (&[("content-length", "5"), ("transfer-encoding", "chunked")][..], "framing.both_lengths"),
        (&[("content-length", "0"), ("transfer-encoding", "identity")], "framing.both_lengths"),
        (&[("content-length", "5"), ("content-length", "5")], "framing.content_length_repeated"),
        (&[("content-length", "5"), ("content-length", "6")], "framing.content_length_repeated"),
        (&[("content-length", "5, 5")], "framing.content_length"),
        (&[("content-length", "+5")], "framing.content_length"),
        (&[("content-length", "-5")], "framing.content_length"),
        (&[("content-length", "")], "framing.content_length"),
        (&[("content-length", "0x5")], "framing.content_length"),
        (&[("content-length", "05")], "framing.content_length"),
        (&[("content-length", "5 ")], "framing.content_length"),
        (&[("content-length", "5.0")], "framing.content_length"),
        (&[("content-length", "18446744073709551616")], "framing.content_length"),
        (&[("transfer-encoding", "Chunked")], "framing.transfer_encoding"),
        (&[("transfer-encoding", "xchunked")], "framing.transfer_encoding"),
        (&[("transfer-encoding", "chunked, chunked")], "framing.transfer_encoding"),
        (&[("transfer-encoding", "gzip, chunked")], "framing.transfer_encoding"),
        (&[("transfer-encoding", "identity")], "framing.transfer_encoding"),
        (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], "framing.transfer_encoding"),
        (&[("transfer-encoding", "chunked"), ("transfer-encoding", "x")], "framing.transfer_encoding"),
        (&[("upgrade", "x"), ("content-length", "1")], "framing.upgrade_with_body"),
        (&[("upgrade", "websocket"), ("transfer-encoding", "chunked")], "framing.upgrade_with_body"),
    ] {
        refused(lines, reason);
    }
    let framed =
        |lines: &[(&str, &str)]| inspect_with(lines).map(|found| (found.content_length, found.chunked));
    assert_eq!(framed(&[]), Ok((None, false)));
    assert_eq!(framed(&[("content-length", "0")]), Ok((Some(0), false)));
    assert_eq!(framed(&[("content-length", "18446744073709551615")]), Ok((Some(u64::MAX), false)));
    assert_eq!(framed(&[("transfer-encoding", "chunked")]), Ok((None, true)));
    assert_eq!(framed(&[("upgrade", "websocket"), ("content-length", "0")]), Ok((Some(0), false)));
}

#[test]
fn only_http_1_1_and_ordinary_methods_are_spoken() {
    let all = headers(&[("host", "gate.example")]);
    let reason = |method: &str, version| {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        inspect(&method, version, &all, &rules()).err().map(|malformed| malformed.reason)
    };
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        assert_eq!(reason("GET", version), Some("framing.version"));
    }
    for method in ["TRACE", "TRACK", "CONNECT", "PRI"] {
        assert_eq!(reason(method, Version::HTTP_11), Some("method.refused"));
    }
    for method in ["get", "Get", "GET1", "A_B"] {
        assert_eq!(reason(method, Version::HTTP_11), Some("method.malformed"));
    }
    assert_eq!(reason(&"A".repeat(METHOD_BYTES_MAX + 1), Version::HTTP_11), Some("method.malformed"));
    for method in ["GET", "POST", "PATCH", "PROPFIND", "VERSION-CONTROL", &"A".repeat(METHOD_BYTES_MAX)] {
        assert_eq!(reason(method, Version::HTTP_11), None);
    }
}

#[test]
fn the_method_cannot_be_overridden_in_any_spelling() {
    for name in [
        "X-HTTP-Method-Override",
        "x-http-method-override",
        "X_HTTP_Method_Override",
        "X-HTTP-METHOD_OVERRIDE",
        "X-HTTP-Method",
        "X-Method-Override",
        "X.Method.Override",
        "X-HttpMethodOverride",
        "_Method-Override",
        "HTTP-X-HTTP-Method-Override",
        "X-Http-Verb",
    ] {
        refused(&[(name, "DELETE")], "method.override");
    }
}

#[test]
fn the_host_is_one_of_ours() {
    let host = |lines: &[&str]| {
        let lines: Vec<(&str, &str)> = lines.iter().map(|value| ("host", *value)).collect();
        inspect(&Method::GET, Version::HTTP_11, &headers(&lines), &rules())
            .map(|found| found.host)
            .map_err(|malformed| malformed.reason)
    };
    for (sent, read) in [
        ("gate.example", "gate.example"),
        ("Gate.EXAMPLE", "gate.example"),
        ("gate.example:8080", "gate.example:8080"),
        ("only.example:8443", "only.example:8443"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]:80"),
    ] {
        assert_eq!(host(&[sent]).as_deref(), Ok(read));
    }
    for sent in [
        "other.example",
        "gate.example.",
        "agate.example",
        "gate.example.evil.example",
        "only.example",
        "only.example:443",
        "127.0.0.1.",
        "127.1",
        "localhost",
        "[::2]",
        "::1",
    ] {
        let reason = host(&[sent]).unwrap_err();
        assert!(reason == "host.unknown" || sent == "::1", "{sent}: {reason}");
    }
    for sent in [
        "",
        ".",
        "gate.example:",
        "gate.example:080",
        "gate.example:65536",
        "gate.example:+80",
        "gate.example:x",
        "user@gate.example",
        "gate.example/",
        "gate.example#",
        "gate..example",
        "gate.example, other.example",
        "gate example",
        "gate%2eexample",
        "[::1",
        "[::1]80",
        "[gate.example]",
        "[::1]:",
        "caf\u{e9}.example",
        "gate.example:80:80",
        "::1",
        &format!("{}.example", "a".repeat(250)),
    ] {
        assert_eq!(host(&[sent]), Err("host.malformed"), "{sent}");
    }
    assert_eq!(host(&[]), Err("host.missing"));
    assert_eq!(host(&["gate.example", "gate.example"]), Err("host.repeated"));
}

#[test]
fn bounds_hold_at_one_past_them() {
    // `Host` is one of them and has 4 + 12 bytes.
    let many = |count: usize| vec![("a", "b"); count - 1];
    assert!(inspect_with(&many(HEADERS_COUNT_MAX)).is_ok());
    refused(&many(HEADERS_COUNT_MAX + 1), "headers.too_many");
    let name = |bytes: usize| "a".repeat(bytes);
    assert!(inspect_with(&[(&name(HEADER_NAME_BYTES_MAX), "b")]).is_ok());
    refused(&[(&name(HEADER_NAME_BYTES_MAX + 1), "b")], "headers.name_too_long");
    let value = |bytes: usize| "b".repeat(bytes);
    assert!(inspect_with(&[("a", &value(HEADER_VALUE_BYTES_MAX))]).is_ok());
    refused(&[("a", &value(HEADER_VALUE_BYTES_MAX + 1))], "headers.value_too_long");
    let rest = HEADERS_BYTES_MAX - 16 - 1 - HEADER_VALUE_BYTES_MAX - 1;
    let full = value(HEADER_VALUE_BYTES_MAX);
    assert!(inspect_with(&[("a", &full), ("b", &value(rest))]).is_ok());
    refused(&[("a", &full), ("b", &value(rest + 1))], "headers.too_large");
}

#[test]
fn values_that_are_read_here_are_single_and_plain() {
    for name in ["Origin", "Sec-Fetch-Site", "Content-Type", "Upgrade", "Expect"] {
        refused(&[(name, "100-continue"), (name, "100-continue")], "headers.repeated");
    }
    for name in ["Origin", "Cookie", "Authorization", "X-API-Key", "Sec-Fetch-Site", "X-Forwarded-For"] {
        refused(&[(name, "caf\u{e9}")], "headers.not_ascii");
    }
    assert!(inspect_with(&[("x-filename", "caf\u{e9}")]).is_ok(), "the client's own business");
    refused(&[("expect", "200-ok")], "expect.unsupported");
    assert!(inspect_with(&[("expect", "100-Continue")]).is_ok());
    for value in [&b"a\0b"[..], b"a\nb", b"a\x7fb"] {
        // Safe code cannot make such a value; a parser that skips the check can.
        assert!(HeaderValue::from_bytes(value).is_err());
    }
}

#[test]
fn what_passes_is_reported() {
    let found = inspect_with(&[
        ("Service-Worker", "script"),
        ("X-User-ID", "1"),
        ("x-user-id", "2"),
        ("X_User_Id", "3"),
        ("Accept", "*/*"),
    ])
    .unwrap();
    assert!(found.service_worker);
    assert_eq!(found.dropped.len(), 2, "each name once: {:?}", found.dropped);
    assert!(!found.upgrade && !found.websocket);

    let handshake = [
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    assert!(inspect_with(&handshake).unwrap().websocket);
    for without in 0..handshake.len() {
        let mut lines = handshake.to_vec();
        lines.remove(without);
        assert!(!inspect_with(&lines).unwrap().websocket, "{lines:?}");
    }
    let other = inspect_with(&[("Connection", "upgrade"), ("Upgrade", "x")]).unwrap();
    assert!(other.upgrade && !other.websocket, "any value is an upgrade to pingora");
}

#[test]
fn credentials_that_come_twice_are_reported() {
    let repeated = |lines: &[(&str, &str)]| inspect_with(lines).unwrap().repeated_credentials;
    assert!(
        repeated(&[("Authorization", "a"), ("X-API-Key", "b"), ("Cookie", "cedargate=1; x=2; x=3")])
            .is_empty()
    );
    assert_eq!(repeated(&[("Authorization", "a"), ("authorization", "a")]), ["authorization"]);
    assert_eq!(repeated(&[("X-API-Key", "a"), ("X-Api-Key", "b")]), ["x-api-key"]);
    assert_eq!(repeated(&[("Cookie", "cedargate=1; cedargate=2")]), ["cedargate"]);
    assert_eq!(repeated(&[("Cookie", "cedargate=1;cedargate =2")]), ["cedargate"]);
    assert_eq!(repeated(&[("Cookie", "cedargate=1"), ("Cookie", "a=b; cedargate=1")]), ["cedargate"]);
    assert!(repeated(&[("Cookie", "cedargate=1; Cedargate=2; xcedargate=3")]).is_empty());
}

#[test]
fn a_nomination_never_takes_off_what_we_say() {
    let nominated = |value: &str| -> Vec<String> {
        let mut map = HeaderMap::new();
        map.append("connection", HeaderValue::from_str(value).unwrap());
        super::super::nominated(&map).iter().map(HeaderName::to_string).collect()
    };
    assert_eq!(nominated("close"), Vec::<String>::new());
    assert_eq!(nominated("keep-alive, X-Hop, x-hop, bad name, ,"), ["keep-alive", "x-hop"]);
    for ours in [
        "X-User-Id",
        "x_user_id",
        "Authorization",
        "Host",
        "Cookie",
        "Content-Length",
        "X-Forwarded-For",
        "Forwarded",
        "X-Request-Id",
        "traceparent",
        "X-API-Key",
        "Origin",
        "Transfer-Encoding",
        "X-Cedargate-Identity",
    ] {
        assert_eq!(nominated(ours), Vec::<String>::new(), "{ours}");
    }
}
