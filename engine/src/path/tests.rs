use proptest::prelude::*;

use super::*;

fn check(raw: &str, expected: Result<&str, &str>) {
    let read = CanonicalPath::parse(raw.as_bytes());
    let read = match &read {
        Ok(path) => match path.lenient().refused_by(Leniencies::default()) {
            None => Ok(path.as_str()),
            Some(malformed) => Err(malformed.reason),
        },
        Err(malformed) => Err(malformed.reason),
    };
    assert_eq!(read, expected, "{raw:?}");
}

#[test]
fn a_path_has_one_spelling() {
    for (raw, canonical) in [
        ("/", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/api/docs/7", "/api/docs/7"),
        ("/%61pi/d%6Fcs", "/api/docs"),
        ("/%7euser", "/~user"),
        ("/%2d%2D%5f%2E%7E", "/--_.~"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/a%3ab%40c", "/a:b@c"),
        ("/!$&'()*,=:@", "/!$&'()*,=:@"),
        ("/%21%24%26%27%28%29%2a%2c%3d%3a%40", "/!$&'()*,=:@"),
        ("/a+b", "/a%2Bb"),
        ("/a%2bb", "/a%2Bb"),
        ("/<a>\"[]^`{|}", "/%3Ca%3E%22%5B%5D%5E%60%7B%7C%7D"),
        ("/%3f%23", "/%3F%23"),
        ("/...", "/..."),
        ("/.a/a./..b", "/.a/a./..b"),
        ("/API", "/API"),
    ] {
        check(raw, Ok(canonical));
    }
}

#[test]
fn what_is_ambiguous_is_refused_by_name() {
    for (raw, reason) in [
        ("", "path.not_origin_form"),
        ("*", "path.not_origin_form"),
        ("a/b", "path.not_origin_form"),
        ("example.com:443", "path.not_origin_form"),
        ("http://example.com/", "path.not_origin_form"),
        ("HTTPS://example.com/a", "path.not_origin_form"),
        ("\\a", "path.not_origin_form"),
        ("/.", "path.dot_segment"),
        ("/..", "path.dot_segment"),
        ("/./a", "path.dot_segment"),
        ("/a/../b", "path.dot_segment"),
        ("/a/..", "path.dot_segment"),
        ("/%2e", "path.dot_segment"),
        ("/%2E%2e/a", "path.dot_segment"),
        ("/.%2E/a", "path.dot_segment"),
        ("/%2e./a", "path.dot_segment"),
        ("/..;/a", "path.dot_segment"),
        ("/..;x=y/a", "path.dot_segment"),
        ("/..%3b/a", "path.dot_segment"),
        ("/..%20/a", "path.dot_segment"),
        ("/%2e%2e%2fa", "path.dot_segment"),
        ("/a%2f..%2fb", "path.dot_segment"),
        ("/a%5C..", "path.dot_segment"),
        ("/..%5Ca", "path.dot_segment"),
        ("//", "path.empty_segment"),
        ("//a", "path.empty_segment"),
        ("/a//b", "path.empty_segment"),
        ("/a//", "path.empty_segment"),
        ("/a/%2Fb", "path.empty_segment"),
        ("/a%2F%2Fb", "path.empty_segment"),
        ("/a/https://b//c", "path.empty_segment"),
        ("/a/https:///b", "path.empty_segment"),
        ("/a/https://b/http://c", "path.empty_segment"),
        ("/a/xhttps://b", "path.empty_segment"),
        ("/a/HTTPS://b", "path.empty_segment"),
        ("/a/https:%2F%2Fb", "path.empty_segment"),
        ("/a/ftp://b", "path.empty_segment"),
        ("/a%2Fb", "path.encoded_slash"),
        ("/a%2fb", "path.encoded_slash"),
        ("/admin%2F", "path.encoded_slash"),
        ("/a%5Cb", "path.encoded_slash"),
        ("/a%5cb", "path.encoded_slash"),
        ("/a\\b", "path.backslash"),
        ("/a;b=c", "path.semicolon"),
        ("/a%3Bb", "path.semicolon"),
        ("/a%00", "path.nul"),
        ("/a\0", "path.nul"),
        ("/a\n", "path.control"),
        ("/a\tb", "path.control"),
        ("/a\u{7f}", "path.control"),
        ("/a%0d%0aSet-Cookie:x", "path.control"),
        ("/a%7F", "path.control"),
        ("/a%1b", "path.control"),
        ("/a%C2%85", "path.control"),
        ("/a b", "path.space"),
        ("/a%", "path.bad_escape"),
        ("/a%2", "path.bad_escape"),
        ("/a%zz", "path.bad_escape"),
        ("/a%u002f", "path.bad_escape"),
        ("/a%2/", "path.bad_escape"),
        ("/a%ff", "path.bad_utf8"),
        ("/a%c3", "path.bad_utf8"),
        ("/a%c3/%a9", "path.bad_utf8"),
        ("/%c0%ae%c0%ae/a", "path.bad_utf8"),
        ("/a%c0%afb", "path.bad_utf8"),
        ("/%e0%80%ae/a", "path.bad_utf8"),
        ("/%ed%a0%80", "path.bad_utf8"),
        ("/caf\u{e9}", "path.not_ascii"),
        ("/\u{ff0e}\u{ff0e}/a", "path.not_ascii"),
        ("/a%2525", "path.double_encoding"),
        ("/100%25", "path.double_encoding"),
        ("/a%252fb", "path.double_encoding"),
        ("/%252e%252e/a", "path.double_encoding"),
        ("/%25252e%25252e/a", "path.double_encoding"),
        ("/a%2500", "path.double_encoding"),
        ("/a#b", "path.fragment"),
        ("/a#", "path.fragment"),
        ("/a?b", "path.question_mark"),
    ] {
        check(raw, Err(reason));
    }
}

/// Path and route confusion, as other gateways met it: the record is beside each case.
#[test]
fn cases_of_other_gateways_are_refused() {
    for (raw, reason) in [
        ("/public/../admin", "path.dot_segment"),       // CVE-2026-33494
        ("/public/%2e%2e/admin", "path.dot_segment"),   // GHSA-3q34-rx83-r6mq
        ("/public/%2e%2e%2fadmin", "path.dot_segment"), // GHSA-3q34-rx83-r6mq
        ("//internal/", "path.empty_segment"),          // CVE-2021-43557
        ("//admin", "path.empty_segment"),              // CVE-2021-29492
        ("/public%2F..%2Fadmin", "path.dot_segment"),   // CVE-2021-29492
        ("/public%5C..%5Cadmin", "path.dot_segment"),   // CVE-2021-29492
        ("/admin;x=y", "path.semicolon"),               // CVE-2026-73553
        ("/admin%2F", "path.encoded_slash"),            // CVE-2025-66490
        ("/admin#/public", "path.fragment"),            // CVE-2021-32779
        ("/public/..;/admin", "path.dot_segment"),
        ("/public/%252e%252e%252fadmin", "path.double_encoding"),
        ("http://other.example/admin", "path.not_origin_form"),
    ] {
        check(raw, Err(reason));
    }
    // CVE-2025-54576: the query is no part of what is matched.
    assert_eq!(split_target(b"/private?path=/status"), (&b"/private"[..], Some(&b"path=/status"[..])));
    // CVE-2025-46821, GHSA-9f3w-vm54-7gfc: `*` is a character of its segment and no more.
    check("/a/*/b", Ok("/a/*/b"));
}

#[test]
fn bounds_hold_at_one_past_them() {
    let long = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
    check(&long(PATH_BYTES_MAX), Ok(&long(PATH_BYTES_MAX)));
    check(&long(PATH_BYTES_MAX + 1), Err("path.too_long"));
    check(&"/a".repeat(SEGMENTS_MAX), Ok(&"/a".repeat(SEGMENTS_MAX)));
    check(&"/a".repeat(SEGMENTS_MAX + 1), Err("path.too_many_segments"));
    // What is forwarded keeps the bound too, although escaping makes it longer.
    check(&format!("/{}", "|".repeat(PATH_BYTES_MAX / 2)), Err("path.too_long"));
}

#[test]
fn a_leniency_allows_its_spelling_and_no_more() {
    let needs = |raw: &str| CanonicalPath::parse(raw.as_bytes()).unwrap().lenient();
    let none = Leniencies::default();
    assert_eq!(needs("/a"), none);
    assert_eq!(needs("/a%2Fb"), Leniencies { encoded_slash: true, ..none });
    assert_eq!(needs("/a;b"), Leniencies { semicolon: true, ..none });
    assert_eq!(needs("/100%25"), Leniencies { encoded_percent: true, ..none });
    assert_eq!(needs("/a/https://b/c"), Leniencies { url_in_tail: true, ..none });
    assert_eq!(needs("/http%3A//b"), Leniencies { url_in_tail: true, ..none });
    assert_eq!(needs("/a/https:/b"), none);
    assert_eq!(needs("/a/https://b").refused_by(none), Some(Malformed::PATH_EMPTY_SEGMENT));
    // An escaped escape of a slash needs both names.
    assert_eq!(needs("/a%252Fb"), Leniencies { encoded_slash: true, encoded_percent: true, ..none });
    assert_eq!(needs("/a%253Bb"), Leniencies { semicolon: true, encoded_percent: true, ..none });
    assert_eq!(needs("/a%252Fb").refused_by(Leniencies { encoded_percent: true, ..none }), {
        Some(Malformed::PATH_ENCODED_SLASH)
    });
    // A bare and an escaped semicolon are one path.
    let canonical = |raw: &str| CanonicalPath::parse(raw.as_bytes()).unwrap().as_str().to_owned();
    assert_eq!(canonical("/a;b"), "/a%3Bb");
    assert_eq!(canonical("/a%3bb"), "/a%3Bb");
}

#[test]
fn segments_tell_a_trailing_slash() {
    let segments = |raw: &str| -> Vec<String> {
        CanonicalPath::parse(raw.as_bytes())
            .unwrap()
            .segments()
            .map(|segment| decode_segment(segment).into_owned())
            .collect()
    };
    assert_eq!(segments("/"), [""]);
    assert_eq!(segments("/a"), ["a"]);
    assert_eq!(segments("/a/"), ["a", ""]);
    assert_eq!(segments("/a%20b/%C3%A9"), ["a b", "\u{e9}"]);
}

/// Paths that are nearly right, so that many of them pass.
fn paths() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9_~.-]{1,4}",
        2 => "%[0-9a-fA-F]{2}",
        1 => "%25[0-9a-fA-F]{0,2}",
        1 => "%[cC]3%[a9bB]9",
        1 => "[!$&'()*+,;=:@|<>\\[\\]{}^`\"]",
        1 => "\\.{1,3}",
        1 => "/https?:/",
        2 => "/",
    ];
    prop_oneof![
        6 => prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()).into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// What every server agrees on: the escapes of one segment, decoded once.
fn decoded_segments(raw: &[u8]) -> Vec<Vec<u8>> {
    raw[1..]
        .split(|byte| *byte == b'/')
        .map(|segment| {
            let mut decoded = Vec::new();
            decode(segment, &mut decoded).unwrap();
            decoded
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn canonicalisation_is_idempotent(raw in paths()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            prop_assert_eq!(CanonicalPath::parse(path.as_str().as_bytes()), Ok(path));
        }
    }

    #[test]
    fn nothing_is_added_or_lost(raw in paths()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            // So what is matched is what was asked for, never something wider.
            prop_assert_eq!(decoded_segments(&raw), decoded_segments(path.as_str().as_bytes()));
        }
    }

    #[test]
    fn paths_that_decode_alike_are_spelt_alike(raw in paths(), upper in any::<bool>()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let escape_all = |segment: Vec<u8>| -> String {
                segment
                    .iter()
                    .map(|byte| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") })
                    .collect()
            };
            let other = format!("/{}", decoded_segments(&raw).into_iter().map(escape_all).collect::<Vec<_>>().join("/"));
            prop_assert_eq!(CanonicalPath::parse(other.as_bytes()), Ok(path));
        }
    }

    #[test]
    fn decoded_segments_cannot_climb(raw in paths()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            let strict = path.lenient() == Leniencies::default();
            for segment in path.segments().map(decode_segment) {
                prop_assert!(segment != "." && segment != "..");
                prop_assert!(!segment.contains(char::is_control));
                prop_assert!(!(strict && segment.contains(['/', '\\', ';', '%'])));
                for piece in segment.split(['/', '\\']) {
                    prop_assert!(piece != "." && piece != "..");
                }
            }
        }
    }

    #[test]
    fn what_is_forwarded_is_plain(raw in paths()) {
        if let Ok(path) = CanonicalPath::parse(&raw) {
            prop_assert!(path.as_str().starts_with('/'));
            prop_assert!(!path.as_str().starts_with("//"));
            prop_assert!(path.as_str().bytes().all(|byte| byte == b'/' || byte == b'%' || stands(byte)));
            prop_assert!(path.as_str().parse::<http::uri::PathAndQuery>().is_ok());
        }
    }

    #[test]
    fn no_bytes_break_it(raw in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(CanonicalPath::parse(&raw));
    }
}
