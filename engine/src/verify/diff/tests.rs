use super::*;
use crate::bundle::BundleSources;
use crate::bundle::tests::fixture::{load, sources, with};

/// Changes as people would tell them: `kind name how: what before > after; …`.
fn told(changes: &[Change]) -> Vec<String> {
    let side = |said: &Option<String>| said.clone().unwrap_or_else(|| "nothing".to_owned());
    let line = |change: &Change| {
        let said = change.said.iter();
        let said = said.map(|said| format!("{} {} > {}", said.what, side(&said.before), side(&said.after)));
        let said = said.collect::<Vec<_>>().join("; ");
        format!("{:?} {} {:?}: {said}", change.kind, change.name, change.how)
    };
    changes.iter().map(line).collect()
}

fn between(before: &BundleSources, after: &BundleSources) -> Vec<String> {
    told(&diff(&load(before), &load(after)))
}

/// One change of one file, there and back.
#[track_caller]
fn check(file: &str, from: &str, to: &str, expected: &[&str]) {
    let (before, after) = (sources(), with(file, from, to));
    assert_eq!(between(&before, &after), expected, "{file}: {from} to {to}");
    let count = between(&after, &before).len();
    assert_eq!(count, expected.len(), "{file}: and back");
}

#[test]
fn what_decides_nothing_is_no_difference() {
    assert!(between(&sources(), &sources()).is_empty());
    let mut moved = sources();
    let grants = moved.files.remove("grants/docs.cedar").expect("the fixture has it");
    moved.files.insert("grants/other.cedar".to_owned(), format!("// Elsewhere.\n{grants}"));
    moved.files.insert("limits.toml".to_owned(), "# none\n".to_owned());
    let site = moved.files.get_mut("routes/site.toml").expect("the fixture has it");
    *site = format!("# The site.\n{site}");
    assert_ne!(load(&moved).id(), load(&sources()).id());
    assert!(between(&sources(), &moved).is_empty());
}

#[test]
fn policies_differ_by_their_text() {
    let file = "guardrails/account.cedar";
    let changes = diff(&load(&sources()), &load(&with(file, "principal.suspended", "!context.tls")));
    let [Change { kind: Kind::Guardrail, name, how: How::Changed, said }] = &changes[..] else {
        panic!("{changes:#?}")
    };
    let [Said { what: "text", before: Some(before), after: Some(after) }] = &said[..] else {
        panic!("{said:#?}")
    };
    assert_eq!(name, "account.suspended");
    assert!(before.starts_with("@id(\"account.suspended\")") && before.ends_with("{ principal.suspended };"));
    assert!(after.ends_with("{ !context.tls };"), "{after}");
    let renamed = with("grants/docs.cedar", "docs.readers", "docs.all");
    let of = |said: &[String]| {
        said.iter().map(|line| line.split(':').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let expected = ["Grant docs.all Added", "Grant docs.readers Removed"];
    assert_eq!(of(&between(&sources(), &renamed)), expected);
}

#[test]
fn routes_differ_by_what_their_rows_say() {
    let docs = "routes/docs.toml";
    check(
        docs,
        "class = \"files\"",
        "class = \"llm\", cost = 20",
        &["Route POST /api/docs/import Changed: class files > llm; cost 1 > 20"],
    );
    check(
        docs,
        "action = \"docs.write\", audited = true",
        "action = \"docs.read\"",
        &[
            "Route PUT /api/docs/:id Changed: action docs.write > docs.read; kind write > read; audited true > nothing",
        ],
    );
    check(
        docs,
        "  { on = \"GET /api/docs\", action = \"docs.read\", query = { page = \"int\" } },\n",
        "",
        &["Route GET /api/docs Removed: module docs > nothing; target upstream `botserver` > nothing; \
           action docs.read > nothing; kind read > nothing; accept session, api_key > nothing; \
           class standard > nothing; cost 1 > nothing; query page int > nothing"],
    );
    let all = "routes = [\n  { on = \"GET /x/:id\", action = \"docs.read\", step_up = { max_age_s = 300 }, websocket = true, \
               body_bytes_max = 7, leniencies = [\"semicolon\"], sets = { user_id = \"principal\" }, \
               cookies_up = [\"a\", \"b\"] },";
    check(
        docs,
        "routes = [",
        all,
        &["Route GET /x/:id Added: module nothing > docs; target nothing > upstream `botserver`; \
           action nothing > docs.read; kind nothing > read; accept nothing > session, api_key; \
           class nothing > standard; cost nothing > 1; \
           step_up nothing > any proof within 300 s; API keys are refused; websocket nothing > true; \
           body_bytes_max nothing > 7; parameters nothing > id uuid; leniencies nothing > semicolon; \
           sets nothing > user_id = principal; cookies_up nothing > a, b"],
    );
    // Two rows of one spelling are two.
    let twice = with(
        docs,
        "routes = [",
        "routes = [\n  { on = \"GET /api/docs/:id\", action = \"docs.read\", parameters = { id = [\"new\"] } },",
    );
    let said = between(&sources(), &twice);
    let [first, second] = &said[..] else { panic!("{said:#?}") };
    let changed = "Route GET /api/docs/:id Changed: parameters id uuid > id new; conceal true > nothing";
    assert_eq!(first, changed);
    assert!(second.starts_with("Route GET /api/docs/:id (2) Added"), "{second}");
}

#[test]
fn limits_differ_by_rate_algorithm_and_shadow() {
    let limited = |text: &str| {
        let mut sources = sources();
        sources.files.insert("limits.toml".to_owned(), text.to_owned());
        sources
    };
    let before = limited("[per_user]\nrate = \"1000/1h\"\n[class.files]\nrate = \"20/1m\"\n");
    let after = limited(
        "[per_address]\nrate = \"none\"\n[class.files]\nrate = \"400/1m\"\nalgorithm = \"sliding\"\nshadow = true\n",
    );
    let expected = [
        "Limit files Changed: rate 20/1m > 400/1m; algorithm rate > sliding; shadow nothing > true",
        "Limit per-address Added: rate nothing > none; algorithm nothing > rate",
        "Limit per-user Removed: rate 1000/1h > nothing; algorithm rate > nothing",
    ];
    assert_eq!(between(&before, &after), expected);
}

#[test]
fn schema_and_entities_differ_by_what_is_declared() {
    let schema = "schema.cedarschema";
    check(
        schema,
        "\"docs.import\" in [\"write\", \"switch.import\"]",
        "\"docs.import\" in [\"write\"]",
        &["Action docs.import Changed: in switch.import, write > write"],
    );
    let site = "\"site.read\" in [\"read\"] appliesTo { principal: [User, Anonymous]";
    check(
        schema,
        site,
        &site.replace("Anonymous", "Anonymous, Service"),
        &["Action site.read Changed: principals Anonymous, User > Anonymous, Service, User"],
    );
    check(
        schema,
        "entity Role { upstream?: String };",
        "entity Role { upstream?: String, floor?: Long };",
        &["Type Role Changed: attributes upstream > floor, upstream"],
    );
    check(
        schema,
        "page?: Long",
        "@sensitive page?: Long",
        &["Schema schema.cedarschema Changed: @sensitive nothing > page"],
    );
    check(
        schema,
        "tls: Bool, class",
        "tls: Bool, floor?: Long, class",
        &["Schema schema.cedarschema Changed: "],
    );
    let entities = "entities/all.json";
    check(
        entities,
        "\"press\" }, \"attrs\": {}, \"parents\": [{ \"type\": \"Role\", \"id\": \"editor\" }]",
        "\"press\" }, \"attrs\": {}, \"parents\": []",
        &["Entity Group::\"press\" Changed: in Role::\"editor\" > nothing"],
    );
    check(
        entities,
        "\"reader\" }, \"attrs\": {}",
        "\"reader\" }, \"attrs\": { \"upstream\": \"admin\" }",
        &["Entity Role::\"reader\" Changed: attributes nothing > {\"upstream\":\"admin\"}"],
    );
}
