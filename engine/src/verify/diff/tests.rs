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
        &["Type Role Changed: attributes nothing > floor?: Long"],
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
        &["Schema context of every action Changed: context nothing > floor?: Long"],
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
    // Policies decide by tags, too.
    let before = with("schema.cedarschema", "entity Module;", "entity Module tags String;");
    let mut after = before.clone();
    let text = after.files.get_mut(entities).expect("the fixture has it");
    let docs = "\"docs\" }, \"attrs\": {}";
    assert!(text.contains(docs));
    *text = text.replace(docs, &format!("{docs}, \"tags\": {{ \"closed\": \"yes\" }}"));
    let expected = "Entity Module::\"docs\" Changed: tags nothing > {\"closed\":\"yes\"}";
    assert_eq!(between(&before, &after), [expected]);
}

/// One change of the schema, which is named; and is also where something else has changed.
#[track_caller]
fn named(from: &str, to: &str, expected: &str) {
    let (before, after) = (sources(), with("schema.cedarschema", from, to));
    let mut both = after.clone();
    let text = both.files.get_mut("schema.cedarschema").expect("the fixture has it");
    *text = text.replace("entity Operator;", "entity Operator { name?: String };");
    assert_eq!(between(&before, &after), [expected], "{to}");
    let (told, besides) =
        (between(&before, &both), "Type Operator Changed: attributes nothing > name?: String");
    assert!(
        told.len() == 2 && [expected, besides].iter().all(|line| told.contains(&(*line).to_owned())),
        "{told:#?}"
    );
}

#[test]
fn every_change_of_an_entity_type_is_named() {
    let role = "entity Role { upstream?: String };";
    named(
        role,
        "entity Role { upstream?: Long };",
        "Type Role Changed: attributes upstream?: String > upstream?: Long",
    );
    named(role, "entity Role;", "Type Role Changed: attributes upstream?: String > nothing");
    named(
        role,
        "entity Role { upstream?: String, of?: { \"a.b\"?: Set<Group>, a: { b: Bool } } };",
        "Type Role Changed: attributes nothing > of?: record; attributes nothing > of.\"a.b\"?: Set<Group>; \
         attributes nothing > of.a: record; attributes nothing > of.a.b: Bool",
    );
    named(role, "entity Role { upstream?: String } tags Long;", "Type Role Changed: tags nothing > Long");
    named(role, "entity Role in [Module] { upstream?: String };", "Type Role Changed: in nothing > Module");
    let group = "entity Group in [Role];";
    named(group, "entity Group in [Role, Module];", "Type Group Changed: in Role > Module, Role");
    let module = "entity Module;";
    let floor = "Type Floor Added: attributes nothing > level: Long";
    named(module, "entity Module; entity Floor { level: Long };", floor);
    let day = "Type Day Added: only nothing > [\"one\",\"two\"]";
    named(module, "entity Module; entity Day enum [\"one\", \"two\"];", day);
}

#[test]
fn every_change_of_what_actions_look_at_is_named_once() {
    let all = |said: &str| format!("Schema context of every action Changed: {said}");
    named("tls: Bool", "tls?: Bool", &all("context tls: Bool > tls?: Bool"));
    let zone = "context nothing > parameters.zone?: Set<Long>";
    named("path?: String", "path?: String, zone?: Set<Long>", &all(zone));
    let at = "context nothing > at?: record; context nothing > at.x?: Long";
    named("tls: Bool", "tls: Bool, at?: { x?: Long }", &all(at));
    // Of one action alone, and of some.
    let facts = "type Facts = {";
    let own = "type Own = { method: String, client: ipaddr, time: datetime, assurance: Long, tls: Bool, class: String, \
               parameters: Parameters, scopes: Set<String>, floor?: Long };\ntype Facts = {";
    let mut after = with("schema.cedarschema", facts, own);
    let text = after.files.get_mut("schema.cedarschema").expect("the fixture has it");
    let (first, last) = text.rsplit_once("context: Facts").expect("actions have it");
    *text = format!("{first}context: Own{last}");
    assert_eq!(between(&sources(), &after), ["Action site.read Changed: context nothing > floor?: Long"]);
    let text = after.files.get_mut("schema.cedarschema").expect("the fixture has it");
    let (first, last) = text.rsplit_once("context: Facts").expect("actions have it");
    *text = format!("{first}context: Own{last}");
    let two = "Schema context of docs.purge, site.read Changed: context nothing > floor?: Long";
    assert_eq!(between(&sources(), &after), [two]);
}

/// How a schema is written is no part of what it says.
#[test]
fn what_a_schema_does_not_mean_is_no_difference() {
    let facts = "context: Facts };";
    for (from, to) in [
        (
            "entity Operator;",
            "// Whoever holds the socket.\n@doc(\"whoever holds the socket\")\nentity   Operator ;",
        ),
        ("entity Operator;\nentity Anonymous;", "entity Anonymous, Operator;"),
        ("[User, Anonymous]", "[Anonymous, User]"),
        ("type Parameters = {", "type Page = Long;\ntype Parameters = {"),
        ("page?: Long", "page?: __cedar::Long"),
        ("parameters: Parameters", "parameters: { page?: Long, path?: String, id?: String }"),
        ("tls: Bool, class: String,", "class: String, tls: Bool,"),
        (
            facts,
            "context: { method: String, client: ipaddr, time: datetime, assurance: Long, tls: Bool, class: String, \
                 parameters: Parameters, scopes: Set<String> } };",
        ),
    ] {
        let after = with("schema.cedarschema", from, to);
        assert_ne!(load(&after).id(), load(&sources()).id(), "{to}");
        assert_eq!(between(&sources(), &after), [""; 0], "{to}");
        assert_eq!(between(&after, &sources()), [""; 0], "{to}");
    }
}
