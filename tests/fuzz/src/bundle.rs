//! A bundle with one route file that anybody wrote.

use engine::bundle::{Bundle, BundleFault, BundleSources};
use engine::path::CanonicalPath;
use http::Method;

const SCHEMA: &str = r#"
entity Role;
entity Group in [Role];
entity User in [Group, Role] { suspended: Bool };
entity Service in [Role];
entity Operator;
entity Anonymous;
entity Module;
type Parameters = { id?: String, page?: Long };
type Facts = {
  method: String, client: ipaddr, time: datetime, assurance: Long, tls: Bool, class: String,
  parameters: Parameters, scopes: Set<String>,
};
action read;
action write;
action "docs.read" in ["read"] appliesTo { principal: [User, Service, Anonymous], resource: Module, context: Facts };
action "docs.write" in ["write"] appliesTo { principal: [User, Service], resource: Module, context: Facts };
"#;

const GRANTS: &str = r#"
@id("docs.readers")
@reason("Readers read documents")
@owner("docs")
permit (principal in Role::"reader", action == Action::"docs.read", resource == Module::"docs");
"#;

const GUARDRAILS: &str = r#"
@id("account.suspended")
@reason("A suspended account does nothing")
@owner("security")
forbid (principal is User, action, resource) when { principal.suspended };
"#;

const ENTITIES: &str = r#"[
  { "uid": { "type": "Role", "id": "reader" }, "attrs": {}, "parents": [] },
  { "uid": { "type": "Module", "id": "docs" }, "attrs": {}, "parents": [] }
]"#;

/// Bytes of a route file that are tried, at most: what a person would write, so that inputs stay readable.
const FILE_BYTES_MAX: usize = 4 * 1024;

/// A route file loads, and its table can be asked, or it has faults that say something.
pub fn route_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if text.len() > FILE_BYTES_MAX {
        return;
    }
    match load(text) {
        Ok(bundle) => {
            for route in bundle.routes().routes() {
                if let Ok(path) = CanonicalPath::parse(route.pattern.as_bytes()) {
                    drop(bundle.routes().find(&Method::GET, &path));
                }
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            assert!(faults.iter().all(|fault| !fault.message.is_empty() && !fault.file.is_empty()));
        }
    }
}

fn load(routes: &str) -> Result<Bundle, Vec<BundleFault>> {
    let files = [
        ("schema.cedarschema", SCHEMA),
        ("guardrails/account.cedar", GUARDRAILS),
        ("grants/docs.cedar", GRANTS),
        ("entities/all.json", ENTITIES),
        ("routes/docs.toml", routes),
    ];
    let files = files.map(|(path, text)| (path.to_owned(), text.to_owned()));
    Bundle::load(&BundleSources { files: files.into() })
}

#[cfg(test)]
mod tests {
    const SOUND: &str = r#"
module = "docs"
upstream = "botserver"
accept = ["session"]
routes = [{ on = "GET /docs/:id", action = "docs.read" }]
[parameters]
id = "uuid"
"#;

    #[test]
    fn a_sound_file_loads_and_nonsense_has_faults() {
        super::load(SOUND).unwrap();
        super::route_file(SOUND.as_bytes());
        for nonsense in [&b"routes = [{ on = \"GET /:id/*rest\" }]"[..], b"\xff", b"module = ", b""] {
            super::route_file(nonsense);
        }
    }
}
