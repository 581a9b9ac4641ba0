//! A small bundle that loads, and ways to change it.

use crate::bundle::{Bundle, BundleFault, BundleSources};

const SCHEMA: &str = r#"
entity Role { upstream?: String };
entity Group in [Role];
entity User in [Group, Role] { suspended: Bool };
entity Service in [Role];
entity Operator;
entity Anonymous;
entity Module;

type Parameters = { id?: String, page?: Long, path?: String };
type Facts = {
  method: String, client: ipaddr, time: datetime, assurance: Long, tls: Bool, class: String,
  parameters: Parameters, scopes: Set<String>,
};

action read;
action write;
action "switch.import";
action "docs.read" in ["read"] appliesTo { principal: [User, Service], resource: Module, context: Facts };
action "docs.write" in ["write"] appliesTo { principal: [User, Service], resource: Module, context: Facts };
action "docs.import" in ["write", "switch.import"] appliesTo { principal: [User, Service], resource: Module, context: Facts };
action "docs.purge" in ["write", "switch.import"] appliesTo { principal: [User, Service], resource: Module, context: Facts };
action "site.read" in ["read"] appliesTo { principal: [User, Anonymous], resource: Module, context: Facts };
"#;

const GUARDRAILS: &str = r#"
@id("account.suspended")
@reason("A suspended account does nothing")
@owner("security")
forbid (principal is User, action, resource) when { principal.suspended };

@id("switch.import")
@reason("Import is switched off")
@owner("security")
forbid (principal, action in Action::"switch.import", resource);
"#;

const GRANTS: &str = r#"
@id("docs.readers")
@reason("Readers read documents")
@owner("docs")
permit (principal in Role::"reader", action == Action::"docs.read", resource == Module::"docs");

@id("docs.editors")
@reason("Editors do all with documents")
@owner("docs")
permit (
  principal in Role::"editor",
  action in [Action::"docs.read", Action::"docs.write", Action::"docs.import"],
  resource == Module::"docs"
);

@id("site.everyone")
@reason("The site is public")
@owner("site")
permit (principal, action == Action::"site.read", resource == Module::"site");
"#;

const ENTITIES: &str = r#"[
  { "uid": { "type": "Role", "id": "reader" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Role", "id": "editor" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Group", "id": "press" }, "attrs": {}, "parents": [{ "type": "Role", "id": "editor" }] },
  { "uid": { "type": "Module", "id": "docs" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Module", "id": "site" }, "attrs": {}, "parents": [] }
]"#;

const DOCS: &str = r#"
module = "docs"
upstream = "botserver"
accept = ["session", "api_key"]
routes = [
  { on = "GET /api/docs", action = "docs.read", query = { page = "int" } },
  { on = "GET /api/docs/:id", action = "docs.read", conceal = true },
  { on = "PUT /api/docs/:id", action = "docs.write", audited = true },
  { on = "POST /api/docs/import", action = "docs.import", accept = ["session"], class = "files" },
]

[parameters]
id = "uuid"
"#;

const SITE: &str = r#"
module = "site"
upstream = "botserver"
accept = ["anonymous", "session"]
class = "public"
routes = [
  { on = "GET /", action = "site.read" },
  { on = "GET /static/*path", action = "site.read", parameters = { path = "slug" }, sandbox = true },
]
"#;

/// The sources of the bundle.
pub(crate) fn sources() -> BundleSources {
    let files = [
        ("schema.cedarschema", SCHEMA),
        ("guardrails/account.cedar", GUARDRAILS),
        ("grants/docs.cedar", GRANTS),
        ("entities/all.json", ENTITIES),
        ("routes/docs.toml", DOCS),
        ("routes/site.toml", SITE),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    BundleSources { files: files.into() }
}

/// The sources with one text replaced in one file. The text must be there, once or more.
pub(crate) fn with(file: &str, from: &str, to: &str) -> BundleSources {
    let mut sources = sources();
    let text = sources.files.get_mut(file).expect("the fixture has this file");
    assert!(text.contains(from), "{file} does not contain {from}");
    *text = text.replace(from, to);
    sources
}

/// The bundle of these sources.
pub(crate) fn load(sources: &BundleSources) -> Bundle {
    Bundle::load(sources).unwrap_or_else(|faults| panic!("{}", spell(&faults)))
}

/// Faults as people read them.
pub(crate) fn spell(faults: &[BundleFault]) -> String {
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}
