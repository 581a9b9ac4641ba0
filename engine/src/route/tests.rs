//! Files, types and the table.

use http::Method;
use proptest::prelude::*;

use super::{Declared, ParamType, RouteTable, read_file};
use crate::path::{CanonicalPath, SEGMENTS_MAX};
use crate::query::CanonicalQuery;

const HEAD: &str = "module = \"docs\"\nupstream = \"botserver\"\naccept = [\"session\"]\n";

/// Rows of one file, or its faults as people read them.
fn read(text: &str) -> Result<Vec<Declared>, String> {
    let mut faults = Vec::new();
    let declared = read_file("routes/docs.toml", text, &|class| class == "premium", &mut faults);
    let spelt: String = faults.iter().map(|fault| format!("{fault}\n")).collect();
    if spelt.is_empty() { Ok(declared) } else { Err(spelt) }
}

fn table(rows: &[&str]) -> Result<RouteTable, Vec<(usize, usize)>> {
    let rows: String = rows.iter().map(|row| format!("  {{ action = \"docs.read\", {row} }},\n")).collect();
    let declared = read(&format!("{HEAD}routes = [\n{rows}]")).expect("the rows hold");
    RouteTable::compile(&declared)
}

#[track_caller]
fn find(table: &RouteTable, method: &str, path: &str) -> Option<(String, Vec<(String, String)>)> {
    let method: Method = method.parse().expect("it is a method");
    let path = CanonicalPath::parse(path.as_bytes()).expect("it is canonical");
    let found = table.find(&method, &path)?;
    let values =
        found.parameters.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Some((found.route.name.to_string(), values))
}

#[test]
fn static_before_parameter_before_tail_with_backtracking() {
    let table = table(&[
        "on = \"GET /\"",
        "on = \"GET /api/docs\"",
        "on = \"GET /api/docs/new\"",
        "on = \"GET /api/docs/:id\", parameters = { id = \"uuid\" }",
        "on = \"GET /api/docs/:id/pages\", parameters = { id = \"text\" }",
        "on = \"GET /api/docs/:page\", parameters = { page = \"int\" }",
        "on = \"DELETE /api/docs/:id\", parameters = { id = \"slug\" }",
        "on = \"GET /api/*rest\", parameters = { rest = \"text\" }",
        "on = \"GET /files/:kind/*path\", parameters = { kind = [\"a\", \"b\"], path = \"slug\" }",
        "on = \"GET /apps/:name/\", parameters = { name = \"slug\" }",
    ])
    .expect("no two rows answer the same");
    let uuid = "4f9c1b52-6a1e-4b7d-9a60-2f2f0d6c1a11";
    let check = |method: &str, path: &str, name: &str, values: &[(&str, &str)]| {
        let values = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let expected = (!name.is_empty()).then(|| (name.to_owned(), values));
        assert_eq!(find(&table, method, path), expected, "{method} {path}");
    };
    check("GET", "/", "GET /", &[]);
    check("HEAD", "/", "GET /", &[]);
    check("POST", "/", "", &[]);
    check("GET", "/api/docs/new", "GET /api/docs/new", &[]);
    check("GET", &format!("/api/docs/{uuid}"), "GET /api/docs/:id", &[("id", uuid)]);
    check("GET", "/api/docs/7", "GET /api/docs/:page", &[("page", "7")]);
    check("DELETE", "/api/docs/new", "DELETE /api/docs/:id", &[("id", "new")]);
    check("GET", "/api/docs/new/pages", "GET /api/docs/:id/pages", &[("id", "new")]);
    check("GET", "/api/docs/a%20b/pages", "GET /api/docs/:id/pages", &[("id", "a b")]);
    // What no typed row accepts goes on to the tail, which is its own row.
    check("GET", "/api/docs/007", "GET /api/*rest", &[("rest", "docs/007")]);
    check("GET", "/api", "", &[]);
    check("GET", "/api/", "", &[]);
    check("GET", "/API/docs", "", &[]);
    check("GET", "/api/docs/", "", &[]);
    check("GET", "/files/a/x/y.txt", "GET /files/:kind/*path", &[("kind", "a"), ("path", "x/y.txt")]);
    check("GET", "/files/c/x", "", &[]);
    check("GET", "/files/a/x/%2e%2ey", "", &[]);
    check("GET", "/files/a/x%2Fy", "", &[]);
    check("GET", "/apps/shop/", "GET /apps/:name/", &[("name", "shop")]);
    check("GET", "/apps/shop", "", &[]);
}

#[test]
fn a_url_stands_in_a_tail_that_allows_it() {
    let rows = [
        "on = \"GET /click/:id/*to\", parameters = { id = \"text\", to = \"text\" }, leniencies = [\"url_in_tail\"]",
        "on = \"GET /files/*to\", parameters = { to = \"text\" }",
    ];
    let table = table(&rows).expect("two rows");
    let check = |path: &str, to: Option<&str>| {
        let path = CanonicalPath::parse(path.as_bytes()).expect("it is canonical");
        let found = table.find(&Method::GET, &path).map(|found| found.parameters.last().unwrap().1.clone());
        assert_eq!(found.as_deref(), to, "{path:?}");
    };
    check("/click/7/https://a.example/b", Some("https://a.example/b"));
    check("/click/7/http://a.example", Some("http://a.example"));
    check("/click/7/https://a.example/", Some("https://a.example/"));
    check("/click/7/https:/a.example", Some("https:/a.example"));
    check("/click/7/https://", None);
    check("/click/https://a.example", None);
    check("/click/7/x/https://a.example", None);
    check("/files/https://a.example/b", None);
}

#[test]
fn two_rows_that_answer_the_same_are_named() {
    let check = |one: &str, other: &str, ambiguous: bool| {
        let result = table(&[one, other]);
        assert_eq!(result.err(), ambiguous.then(|| vec![(0, 1)]), "{one} and {other}");
    };
    let uuid = "on = \"GET /d/:id\", parameters = { id = \"uuid\" }";
    let slug = "on = \"GET /d/:name\", parameters = { name = \"slug\" }";
    let int = "on = \"GET /d/:n\", parameters = { n = \"int\" }";
    check("on = \"GET /d\"", "on = \"GET /d\"", true);
    check("on = \"GET /d\"", "on = \"POST /d\"", false);
    check(uuid, slug, true);
    check(uuid, int, false);
    check(slug, int, true);
    check(uuid, "on = \"GET /d/:k\", parameters = { k = [\"a\", \"b\"] }", false);
    check(slug, "on = \"GET /d/:k\", parameters = { k = [\"a\", \"b\"] }", true);
    check(uuid, "on = \"GET /d/*rest\", parameters = { rest = \"text\" }", false);
    check(uuid, "on = \"GET /d/new\"", false);
}

#[test]
fn declared_query_values_are_typed_single_and_told_to_policy() {
    let table = table(&[
        "on = \"GET /d/:id\", parameters = { id = \"int\" }, query = { page = \"int\", q = \"text\" }",
    ])
    .expect("one row");
    let path = CanonicalPath::parse(b"/d/7").expect("it is canonical");
    let found = table.find(&Method::GET, &path).expect("the row matches");
    let check = |query: &str, expected: Result<&[(&str, &str)], &str>| {
        let query = CanonicalQuery::parse(Some(query.as_bytes())).expect("it is canonical");
        let asked = found.asked(&query);
        let asked: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (&**name, value.as_str())).collect();
        match expected {
            Ok(values) => assert_eq!((found.route.misfit(&query), asked.as_slice()), (None, values)),
            Err(name) => assert_eq!(found.route.misfit(&query), Some(name)),
        }
    };
    check("", Ok(&[("id", "7")]));
    check("other=1&other=2", Ok(&[("id", "7")]));
    check("q=a+b%2Fc&page=2", Ok(&[("id", "7"), ("page", "2"), ("q", "a b/c")]));
    check("page=02", Err("page"));
    check("page=", Err("page"));
    check("q", Err("q"));
    check("page=2&page=2", Err("page"));
    check("q=a&page=1&q=b", Err("q"));
}

#[test]
fn a_near_miss_is_explained() {
    let table = table(&[
        "on = \"GET /d/:id\", parameters = { id = \"uuid\" }",
        "on = \"POST /e\"",
        "on = \"PUT /e\"",
    ])
    .expect("no two rows answer the same");
    let check = |method: &str, path: &str, says: &str| {
        let method: Method = method.parse().expect("it is a method");
        let path = CanonicalPath::parse(path.as_bytes()).expect("it is canonical");
        assert_eq!(table.explain(&method, &path), says);
    };
    check("GET", "/d/7", "`GET /d/:id`: parameter `id` is not a uuid (lower-case, hyphenated)");
    check("DELETE", "/d/7", "no route has this path");
    check("GET", "/e", "path exists for POST, PUT only");
    check("PUT", "/e", "matches `PUT /e`");
    check("GET", "/f", "no route has this path");
}

#[test]
fn each_type_accepts_one_spelling() {
    let check = |kind: &ParamType, accepted: &[&str], refused: &[&str]| {
        assert!(kind.accepts(&kind.example()), "{kind}: its example");
        for value in accepted {
            assert!(kind.accepts(value), "{kind}: {value}");
        }
        for value in refused {
            assert!(!kind.accepts(value), "{kind}: {value}");
        }
    };
    let uuid = "4f9c1b52-6a1e-4b7d-9a60-2f2f0d6c1a11";
    let bare = uuid.replace('-', "");
    check(
        &ParamType::Uuid,
        &[uuid, "00000000-0000-0000-0000-000000000000"],
        &[
            &uuid.to_uppercase(),
            &bare,
            &format!("{{{uuid}}}"),
            &format!("urn:uuid:{uuid}"),
            "",
            &uuid.replacen('4', "", 1),
            &format!("{uuid} "),
        ],
    );
    check(
        &ParamType::Int,
        &["0", "7", "9223372036854775807"],
        &[
            "",
            "007",
            "+7",
            "-0",
            "-1",
            "7.0",
            "0x7",
            " 7",
            "٧",
            "9223372036854775808",
            "99999999999999999999",
        ],
    );
    let (longest, longer) = ("a".repeat(128), "a".repeat(129));
    check(&ParamType::Slug, &["a", "A.b_c-d", "0", &longest], &["", ".a", "a/b", "a b", "ä", "a%", &longer]);
    check(&ParamType::Text, &["a", "a b", "ä/ö"], &[""]);
    check(&ParamType::Enum(vec!["a".to_owned(), "b".to_owned()]), &["a", "b"], &["", "A", "a ", "c"]);
}

#[test]
fn rows_say_what_they_mean() {
    let check = |head: &str, row: &str, tail: &str, line: usize, says: &str| {
        let text = format!("{head}routes = [\n  {{ {row} }},\n]\n{tail}");
        let spelt = read(&text).expect_err(row);
        assert!(spelt.contains(&format!("routes/docs.toml:{line}: ")), "{row}: {spelt}");
        assert!(spelt.contains(says), "{row}: does not say `{says}`: {spelt}");
    };
    let row = |rest: &str| format!("on = \"GET /d\", action = \"a\", {rest}");
    let on = |on: &str| format!("on = \"{on}\", action = \"a\"");
    check(HEAD, "on = \"GET /d\"", "", 5, "missing field `action`");
    check(HEAD, &row("actoin = \"a\""), "", 5, "unknown field `actoin`");
    check(HEAD, &row("class = \"standrad\""), "", 5, "limit class `standrad` does not exist");
    check(HEAD, &row("accept = []"), "", 5, "accepts no credential");
    check(HEAD, &row("accept = [\"cookie\"]"), "", 5, "unknown variant `cookie`");
    check(HEAD, &row("page = \"style\""), "", 5, "a page stands in a file with an upstream");
    check(HEAD, &row("websocket = true, accept = [\"anonymous\"]"), "", 5, "not anonymous");
    check(HEAD, &row("cookies_up = [\"__Host-cedargate\"]"), "", 5, "one of the gateway's own");
    check(HEAD, &row("client_sets = [\"page\"]"), "", 5, "is no identity name");
    check(HEAD, &row("destinations = [\"https://a.example/x\"]"), "", 5, "is not an origin");
    check(HEAD, &row("leniencies = [\"url_in_tail\"]"), "", 5, "url_in_tail without a tail");
    check(HEAD, &row("body_bytes_max = 0"), "", 5, "0 bytes");
    check(HEAD, &row("deadline_s = 0"), "", 5, "1 to 86400 seconds");
    check(HEAD, &row("step_up = {}"), "", 5, "asks for nothing");
    check(HEAD, &row("step_up = { assurance = 0 }"), "", 5, "assurance 0, which nobody can prove");
    check(HEAD, &row("step_up = { assurance = 3 }"), "", 5, "assurance 3, which nobody can prove");
    check(HEAD, &row("step_up = { assurance = 256 }"), "", 5, "u8");
    check(HEAD, &row("step_up = { max_age_s = 29 }"), "", 5, "30 to 86400 seconds");
    check(HEAD, &row("step_up = { max_age_s = 86401 }"), "", 5, "30 to 86400 seconds");
    check(HEAD, &row("step_up = { acr = 2 }"), "", 5, "unknown field `acr`");
    check(HEAD, &row("step_up = { assurance = 2, services = true }"), "", 5, "takes no API key");
    check(HEAD, &row("step_up = { assurance = 2 }, conceal = true"), "", 5, "a concealed route");
    let open = "step_up = { assurance = 2 }, accept = [\"anonymous\", \"session\"]";
    check(HEAD, &row(open), "", 5, "whoever is nobody");
    check(HEAD, &row("deadline_s = 86401"), "", 5, "1 to 86400 seconds");
    check(HEAD, &row("websocket = true, deadline_s = 1"), "", 5, "has no deadline");
    check(HEAD, &row("query = { q = [] }"), "", 5, "is empty or repeats");
    check(HEAD, &row("query = { q = \"date\" }"), "", 5, "a type is");
    check(HEAD, &on("GET"), "", 5, "is not a method, a space and a pattern");
    check(HEAD, &on("HEAD /d"), "", 5, "it answers HEAD too");
    check(HEAD, &on("TRACE /d"), "", 5, "cannot be routed");
    check(HEAD, &on("get /d"), "", 5, "cannot be routed");
    check(HEAD, &on("GET d"), "", 5, "begins with `/`");
    check(HEAD, &on("GET /d//e"), "", 5, "a segment is empty");
    check(HEAD, &on("GET /d/../e"), "", 5, "dot segments");
    check(HEAD, &on("GET /d/{id}"), "", 5, "a character other than");
    check(HEAD, &on("GET /d%2Fe"), "", 5, "a character other than");
    check(HEAD, &on("GET /d/*rest/e"), "", 5, "is not the last segment");
    let deep = |segments: usize| on(&format!("GET {}", "/d".repeat(segments)));
    check(HEAD, &deep(SEGMENTS_MAX + 1), "", 5, "has 65 segments, and a path has 64 at most");
    assert!(read(&format!("{HEAD}routes = [\n  {{ {} }},\n]", deep(SEGMENTS_MAX))).is_ok());
    check(HEAD, &on("GET /d/:id"), "", 5, "parameter `id` has no type");
    check(HEAD, &on("GET /d/:id/:id"), "[parameters]\nid = \"uuid\"", 5, "the same name");
    check(HEAD, &on("GET /d/:Id"), "", 5, "parameter name `Id`");
    check(HEAD, &on("GET /d/*rest"), "[parameters]\nrest = \"uuid\"", 5, "a tail is text or slug");
    check(HEAD, &on("GET /d"), "[parameters]\nid = \"uuid\"", 8, "no route takes its type of `id` from here");
    check(HEAD, &row("parameters = { id = \"uuid\" }"), "", 5, "is typed but not in the pattern");
    check("module = \"docs\"\naccept = [\"session\"]\n", &on("GET /d"), "", 1, "the file names no target");
    check("upstream = \"a\"\naccept = [\"session\"]\n", &on("GET /d"), "", 1, "missing field `module`");
    check(&format!("{HEAD}moduel = \"a\"\n"), &on("GET /d"), "", 4, "unknown field `moduel`");
    check(&format!("{HEAD}pages = true\n"), &on("GET /d"), "", 2, "names an upstream and pages");
    check(HEAD, "on = \"GET /d\" action = \"a\"", "", 5, "expected");
}

#[test]
fn every_row_is_judged() {
    let text = format!(
        "{HEAD}routes = [\n  {{ on = \"GET\", action = \"a\" }},\n  {{ on = \"GET /d\", acton = \"a\" }},\n]"
    );
    let spelt = read(&text).expect_err("two rows are wrong");
    assert!(spelt.contains("docs.toml:5: ") && spelt.contains("docs.toml:6: "), "{spelt}");
}

/// Patterns over two letters, so that many match one path.
fn patterns() -> impl Strategy<Value = Vec<String>> {
    let segment = prop_oneof![3 => Just("a"), 3 => Just("b"), 2 => Just(":x")];
    let pattern = (prop::collection::vec(segment, 1..4), any::<bool>()).prop_map(|(segments, tail)| {
        let mut pattern = String::new();
        for (nth, segment) in segments.iter().enumerate() {
            // Names differ within a pattern.
            pattern.push('/');
            pattern.push_str(&segment.replace('x', &format!("x{nth}")));
        }
        if tail { pattern + "/*rest" } else { pattern }
    });
    prop::collection::btree_set(pattern, 1..8).prop_map(|patterns| patterns.into_iter().collect())
}

#[test]
fn few_texts_and_many_under_one_node_are_found() {
    for count in [1, 4, 5, 40] {
        let rows: Vec<String> = (0..count)
            .flat_map(|number| ["", "/x"].map(|below| format!("on = \"GET /api/m{number}{below}\"")))
            .collect();
        let table =
            table(&rows.iter().map(String::as_str).collect::<Vec<_>>()).expect("no two answer the same");
        for number in 0..count {
            for below in ["", "/x"] {
                let path = format!("/api/m{number}{below}");
                assert_eq!(find(&table, "GET", &path), Some((format!("GET {path}"), Vec::new())));
            }
        }
        assert_eq!(find(&table, "GET", &format!("/api/m{count}")), None);
    }
}

/// How a pattern matches a path, segment by segment: 0 static, 1 parameter, 2 tail. The least is the best.
fn ranks(pattern: &str, path: &str) -> Option<Vec<u8>> {
    let mut ranks = Vec::new();
    let mut segments = path.split('/').skip(1);
    for piece in pattern.split('/').skip(1) {
        let segment = segments.next()?;
        match piece.chars().next() {
            Some('*') => {
                ranks.push(2);
                return Some(ranks);
            }
            Some(':') => ranks.push(1),
            _ if piece == segment => ranks.push(0),
            _ => return None,
        }
    }
    segments.next().is_none().then_some(ranks)
}

/// Spellings of one value that servers are known to read alike.
fn spellings() -> impl Strategy<Value = (ParamType, Vec<String>)> {
    let uuids = any::<u128>().prop_map(|bits| {
        let uuid = uuid::Uuid::from_u128(bits);
        let spelt = [
            uuid.hyphenated().to_string(),
            uuid.hyphenated().to_string().to_uppercase(),
            uuid.simple().to_string(),
            uuid.braced().to_string(),
            uuid.urn().to_string(),
            format!(" {}", uuid.hyphenated()),
        ];
        (ParamType::Uuid, spelt.to_vec())
    });
    let ints = any::<i64>().prop_map(|number| {
        let spelt = [
            number.to_string(),
            format!("0{number}"),
            format!("+{number}"),
            format!("{number}.0"),
            format!("{number:#x}"),
            format!("{number:020}"),
        ];
        (ParamType::Int, spelt.to_vec())
    });
    let words = "[a-z]{1,8}".prop_map(|word| {
        let spelt = [word.clone(), word.to_uppercase(), format!("{word} "), format!("{word}\0")];
        (ParamType::Enum(vec![word]), spelt.to_vec())
    });
    prop_oneof![uuids, ints, words]
}

proptest! {
    #[test]
    fn the_trie_finds_what_a_walk_over_all_rows_finds(
        patterns in patterns(),
        path in prop::collection::vec("[abc]", 1..5).prop_map(|segments| format!("/{}", segments.join("/"))),
    ) {
        let row = |pattern: &String| {
            let names = pattern.split([':', '*']).skip(1).map(|rest| rest.split('/').next().unwrap_or_default());
            let types: Vec<String> = names.map(|name| format!("{name} = \"text\"")).collect();
            format!("on = \"GET {pattern}\", parameters = {{ {} }}", types.join(", "))
        };
        let rows: Vec<String> = patterns.iter().map(row).collect();
        let table = table(&rows.iter().map(String::as_str).collect::<Vec<_>>()).expect("shapes differ");
        let best = patterns.iter().filter_map(|pattern| Some((ranks(pattern, &path)?, pattern))).min();
        let found = find(&table, "GET", &path).map(|(name, _)| name);
        prop_assert_eq!(found, best.map(|(_, pattern)| format!("GET {pattern}")));
    }

    #[test]
    fn no_value_has_two_accepted_spellings((kind, mut spelt) in spellings()) {
        spelt.sort();
        spelt.dedup();
        let accepted: Vec<&String> = spelt.iter().filter(|value| kind.accepts(value)).collect();
        prop_assert!(accepted.len() <= 1, "{accepted:?}");
    }

    #[test]
    fn values_of_two_types_overlap_only_if_they_say_so(value in "[0-9a-f-]{1,36}|[a-z.]{1,6}|0|[1-9][0-9]{0,3}") {
        let kinds = [ParamType::Uuid, ParamType::Int, ParamType::Slug, ParamType::Text, ParamType::Enum(vec![value.clone()])];
        for one in &kinds {
            for other in &kinds {
                prop_assert!(!(one.accepts(&value) && other.accepts(&value)) || one.overlaps(other), "{one} and {other}");
            }
        }
    }
}
