use proptest::prelude::*;

use super::*;

fn check(raw: &str, expected: Result<&str, &str>) {
    let read = CanonicalQuery::parse(Some(raw.as_bytes()));
    let read = read.as_ref().map(CanonicalQuery::as_str).map_err(|malformed| malformed.reason);
    assert_eq!(read, expected, "{raw:?}");
}

#[test]
fn a_query_has_one_spelling() {
    for (raw, canonical) in [
        ("", ""),
        ("a=1", "a=1"),
        ("a=1&b=2", "a=1&b=2"),
        ("&a=1&&b=2&", "a=1&b=2"),
        ("a", "a"),
        ("a=", "a="),
        ("%61=%31", "a=1"),
        ("a=%7e%2d%5f%2E", "a=~-_."),
        ("a=b+c", "a=b+c"),
        ("a=b%20c", "a=b%20c"),
        ("a=%2b", "a=%2B"),
        ("a=%26b%3dc", "a=%26b%3Dc"),
        ("a=b=c", "a=b=c"),
        ("next=/home?x:@", "next=/home?x:@"),
        ("next=%2fhome", "next=%2Fhome"),
        ("a=1;b=2", "a=1%3Bb=2"),
        ("a=%3b", "a=%3B"),
        ("a[]=1", "a%5B%5D=1"),
        ("a=<\"\\^`{|}>", "a=%3C%22%5C%5E%60%7B%7C%7D%3E"),
        ("a=caf%c3%a9", "a=caf%C3%A9"),
        ("a=%0A%09", "a=%0A%09"),
    ] {
        check(raw, Ok(canonical));
    }
    assert_eq!(CanonicalQuery::parse(None), CanonicalQuery::parse(Some(b"")), "a lone `?` asks nothing");
}

#[test]
fn what_no_query_contains_is_refused_by_name() {
    for (raw, reason) in [
        ("a=%", "query.bad_escape"),
        ("a=%2", "query.bad_escape"),
        ("%zz=1", "query.bad_escape"),
        ("a=%2&b=1", "query.bad_escape"),
        ("a=%ff", "query.bad_utf8"),
        ("%c0%af=1", "query.bad_utf8"),
        ("a=\0", "query.nul"),
        ("a=%00", "query.nul"),
        ("a%00=1", "query.nul"),
        ("a\n=1", "query.control"),
        ("a%0a=1", "query.control"),
        ("a=\u{7f}", "query.control"),
        ("a=b c", "query.space"),
        ("a=1#b", "query.fragment"),
        ("a=\u{e9}", "query.not_ascii"),
        ("_method=DELETE", "query.method_override"),
        ("_METHOD=delete", "query.method_override"),
        ("%5fmethod=PUT", "query.method_override"),
        ("X-HTTP-Method-Override=PUT", "query.method_override"),
    ] {
        check(raw, Err(reason));
    }
    check("method=card", Ok("method=card"));
}

#[test]
fn bounds_hold_at_one_past_them() {
    let long = |bytes: usize| format!("a={}", "b".repeat(bytes - 2));
    check(&long(QUERY_BYTES_MAX), Ok(&long(QUERY_BYTES_MAX)));
    check(&long(QUERY_BYTES_MAX + 1), Err("query.too_long"));
    check(&format!("a={}", "|".repeat(QUERY_BYTES_MAX / 2)), Err("query.too_long"));
    let many = |count: usize| vec!["a"; count].join("&");
    check(&many(QUERY_PARAMETERS_MAX), Ok(&many(QUERY_PARAMETERS_MAX)));
    check(&many(QUERY_PARAMETERS_MAX + 1), Err("query.too_many"));
    let name = |bytes: usize| "a".repeat(bytes);
    check(&name(QUERY_NAME_BYTES_MAX), Ok(&name(QUERY_NAME_BYTES_MAX)));
    check(&name(QUERY_NAME_BYTES_MAX + 1), Err("query.name_too_long"));
}

#[test]
fn threat_2_identity_names_are_known_in_every_spelling() {
    for name in IDENTITY_NAMES {
        assert!(is_identity_name(name), "{name}");
    }
    for name in [
        "USER_ID",
        "User-Id",
        "user.id",
        "userId",
        "userid",
        "user id",
        "user_id[]",
        "user_id[0]",
        "user_id[a][b]",
        "[user_id]",
        "user[id",
        "user[id]",
        "user_id ",
        " user_id",
        "_user_id",
        "\u{17f}ession_id",
        "to\u{212a}en",
        "access-token",
        "Access_Token",
        "ORGID",
        "org.id",
        "organisation_id",
        "Bot-ID",
        "bot_id[]",
    ] {
        assert!(is_identity_name(name), "{name}");
    }
    for name in ["id", "user", "user_ids", "tokens", "page_token", "q", "session", "filter[token]", "bot", ""]
    {
        assert!(!is_identity_name(name), "{name}");
    }
}

#[test]
fn threat_2_a_route_lets_a_name_pass_only_as_it_spells_it() {
    let find = |raw: &str, allowed: &[&str]| -> Option<String> {
        let allowed: Vec<String> = allowed.iter().map(|name| (*name).to_owned()).collect();
        let query = CanonicalQuery::parse(Some(raw.as_bytes())).unwrap();
        query.identity_name(&allowed).map(str::to_owned)
    };
    assert_eq!(find("q=1", &[]), None);
    assert_eq!(find("q=1&user_id=2", &[]).as_deref(), Some("user_id"));
    assert_eq!(find("q=1&%75ser%5Fid=2", &[]).as_deref(), Some("user_id"));
    assert_eq!(find("q=1;user_id=2", &[]), None, "the semicolon is escaped, so this is one value of `q`");
    assert_eq!(find("user_id=2", &["user_id"]), None);
    assert_eq!(find("user_id=2&User-Id=3", &["user_id"]).as_deref(), Some("User-Id"));
    assert_eq!(find("user_id=2&bot_id=3", &["user_id"]).as_deref(), Some("bot_id"));
}

#[test]
fn names_and_values_are_read_decoded() {
    let query = CanonicalQuery::parse(Some(b"a%20b=c+d%26&e&f=1&f=2")).unwrap();
    assert_eq!(query.names().collect::<Vec<_>>(), ["a b", "e", "f", "f"]);
    assert_eq!(query.value("a b").as_deref(), Some("c d&"));
    assert_eq!(query.value("e").as_deref(), Some(""));
    assert_eq!(query.value("f").as_deref(), Some("1"));
    assert_eq!(query.value("g"), None);
    assert_eq!(query.repeated(), Some("f"));
    let repeated =
        |raw: &str| CanonicalQuery::parse(Some(raw.as_bytes())).unwrap().repeated().map(str::to_owned);
    assert_eq!(repeated("a=1&b=2"), None);
    assert_eq!(repeated("a=1&%61=2").as_deref(), Some("a"));
    assert_eq!(repeated("a=1&A=2"), None);
    assert_eq!(repeated("a+b=1&a%20b=2").as_deref(), Some("a b"), "one name in two spellings");
}

fn queries() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => "[a-zA-Z0-9_~.-]{1,4}",
        2 => "%[0-9a-fA-F]{2}",
        1 => "%[cC]3%[a9bB]9",
        2 => "[!$'()*+,;:@/?|<>\\[\\]{}^`\"\\\\]",
        3 => "[&=]",
    ];
    prop_oneof![
        6 => prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn canonicalisation_is_idempotent(raw in queries()) {
        if let Ok(query) = CanonicalQuery::parse(Some(&raw)) {
            prop_assert_eq!(CanonicalQuery::parse(Some(query.as_str().as_bytes())), Ok(query));
        }
    }

    #[test]
    fn names_and_values_stay(pairs in prop::collection::vec(("[a-z]{1,3}[&=+%; \u{e9}]{0,2}", "\\PC{0,8}"), 0..6)) {
        let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let raw: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        let query = CanonicalQuery::parse(Some(raw.join("&").as_bytes())).unwrap();
        prop_assert_eq!(query.names().collect::<Vec<_>>(), pairs.iter().map(|(name, _)| name).collect::<Vec<_>>());
        for (name, _) in &pairs {
            let first = pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
            let value = query.value(name);
            prop_assert_eq!(value.as_deref(), first);
        }
    }

    #[test]
    fn what_is_forwarded_is_plain(raw in queries()) {
        if let Ok(query) = CanonicalQuery::parse(Some(&raw)) {
            prop_assert!(query.as_str().bytes().all(|byte| matches!(byte, b'&' | b'%') || stands(byte)));
            let target = format!("/?{}", query.as_str());
            prop_assert!(target.parse::<http::uri::PathAndQuery>().is_ok());
        }
    }

    #[test]
    fn identity_names_are_known_however_they_are_spelt(
        name in prop::sample::select(&IDENTITY_NAMES[..]),
        upper in prop::collection::vec(any::<bool>(), 20),
        between in prop::sample::select(vec!["_", "-", ".", ""]),
        after in prop::sample::select(vec!["", "[]", "[0]", "[a]"]),
        escaped in any::<bool>(),
    ) {
        let spelt: String = name
            .chars()
            .zip(upper)
            .map(|(letter, upper)| if upper { letter.to_ascii_uppercase() } else { letter })
            .collect::<String>()
            .replace('_', between)
            + after;
        prop_assert!(is_identity_name(&spelt));
        let sent = if escaped {
            spelt.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()
        } else {
            spelt.clone()
        };
        let query = CanonicalQuery::parse(Some(format!("{sent}=1").as_bytes())).unwrap();
        prop_assert_eq!(query.identity_name(&[]), Some(spelt.as_str()));
    }
}

#[test]
fn a_parameter_without_a_value_may_be_a_token_and_is_no_name() {
    let query = CanonicalQuery::parse(Some(b"SECRET&a=1&SECRET2&b=&c")).unwrap();
    assert_eq!(query.assigned_names().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn what_is_set_replaces_what_was_sent() {
    let check = |sent: &str, expected: &str| {
        let query = CanonicalQuery::parse(Some(sent.as_bytes())).unwrap();
        assert_eq!(query.with_set(&[("user_id", "us".to_owned())]), expected, "{sent}");
    };
    check("", "user_id=us");
    check("a=1&b", "a=1&b&user_id=us");
    check("user_id=them", "user_id=us");
    check("user_id", "user_id=us");
    check("user%5Fid=them&a=%26user_id=x&&user_id=again", "a=%26user_id=x&user_id=us");
}
