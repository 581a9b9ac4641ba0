//! Identity providers: what is taken, and what stops the start.

use std::os::unix::fs::PermissionsExt;

use super::super::providers::{Audiences, Provider, TokenTypes};
use super::{HOSTS, check, keys, read};

const SECRET: &str = "n0t-a-real:secret/of+a=test-4711";

/// A file of mode 0600 with the secret, as its reference in a configuration.
fn secret(directory: &tempfile::TempDir) -> String {
    let path = directory.path().join("secret");
    std::fs::write(&path, SECRET).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!("file:{}", path.display())
}

fn entry(lines: &str) -> String {
    format!("[[oidc.providers]]\n{lines}\n")
}

const WHOLE: &str = "name = \"corp\"\nissuer = \"https://id.example\"\nclient_id = \"gate\"";

fn with(lines: &str) -> String {
    entry(&format!("{WHOLE}\n{lines}"))
}

fn pairs(provider: &Provider) -> Vec<(&str, &str)> {
    provider.roles.iter().map(|(theirs, ours)| (theirs.as_str(), ours.as_str())).collect()
}

#[test]
fn a_provider_is_read_whole() {
    let directory = tempfile::tempdir().unwrap();
    let toml = format!(
        "{HOSTS}{}{}",
        entry(&format!(
            "name = \"corp\"\ntitle = \"Corp\"\npreset = \"keycloak\"\nissuer = \"https://id.example/realms/x\"\n\
             client_id = \"ga/te\"\nclient_secret = \"{}\"\naudiences = [\"other\"]\nroles = {{ \"app-admin\" = \"user_admin\" }}\n\
             groups = [\"guests\"]\nmfa_acr = [\"2\"]\nmfa_amr = []\nuserinfo = false\nscopes = [\"openid\"]",
            secret(&directory)
        )),
        entry(
            "name = \"plain\"\nissuer = \"https://other.example\"\nclient_id = \"gate\"\nroles_claims = [\"/a/b\"]"
        ),
    );
    let config = read(&toml, &keys()).unwrap();
    let [corp, plain] = config.oidc.as_slice() else { panic!("{:?}", config.oidc) };
    assert_eq!((&*corp.name, corp.title.as_str(), corp.client_id.as_str()), ("corp", "Corp", "ga/te"));
    assert_eq!(corp.client_secret.as_ref().map(|secret| secret.expose().as_str()), Some(SECRET));
    assert_eq!(corp.claims.roles, ["/realm_access/roles", "/resource_access/ga~1te/roles"]);
    assert_eq!(pairs(corp), [("app-admin", "user_admin")]);
    assert_eq!(corp.groups.get("guests").map(String::as_str), Some("guests"));
    assert_eq!(corp.audiences, Audiences::Listed(vec!["other".to_owned()]));
    assert_eq!((corp.second_factor.acr.as_slice(), corp.userinfo), (["2".to_owned()].as_slice(), false));
    assert!(corp.second_factor.amr.is_empty());
    assert_eq!((plain.title.as_str(), plain.scopes.len(), plain.userinfo), ("plain", 3, false));
    assert_eq!(plain.claims.roles, ["/a/b"]);
    assert_eq!(plain.second_factor.amr, ["mfa"]);
    let notices = config.notices().join("\n");
    assert!(notices.contains("provider `plain` may assert no role and no group"), "{notices}");
    assert!(!format!("{config:?}").contains(SECRET));
}

#[test]
fn zitadel_comes_from_three_variables_or_fills_in_its_entry() {
    let environment = || {
        keys()
            .with("ZITADEL_DOMAIN", "login.example")
            .with("ZITADEL_CLIENT_ID", "3141@gate")
            .with("ZITADEL_CLIENT_SECRET", SECRET)
    };
    let config = read(HOSTS, &environment().with("ZITADEL_ROLES", "viewer, standard_user")).unwrap();
    let [zitadel] = config.oidc.as_slice() else { panic!("{:?}", config.oidc) };
    assert_eq!((&*zitadel.name, zitadel.issuer.as_str()), ("zitadel", "https://login.example"));
    assert_eq!(zitadel.audiences, Audiences::Any);
    assert!(
        zitadel.userinfo && zitadel.scopes.iter().any(|scope| scope == "urn:zitadel:iam:org:projects:roles")
    );
    assert_eq!(pairs(zitadel), [("standard_user", "standard_user"), ("viewer", "viewer")]);
    for domain in ["https://login.example", "https://login.example/"] {
        let config = read(HOSTS, &environment().with("ZITADEL_DOMAIN", domain)).unwrap();
        assert_eq!(config.oidc[0].issuer, "https://login.example", "{domain}");
    }
    let toml = format!(
        "{HOSTS}{}",
        entry("name = \"staff\"\npreset = \"zitadel\"\nroles = { boss = \"global_admin\" }")
    );
    let config = read(&toml, &environment()).unwrap();
    let [staff] = config.oidc.as_slice() else { panic!("{:?}", config.oidc) };
    assert_eq!(
        (&*staff.name, staff.client_id.as_str(), pairs(staff)),
        ("staff", "3141@gate", vec![("boss", "global_admin")])
    );
    // A client that proves itself by PKCE alone has no secret.
    let config = read(HOSTS, &environment().with("ZITADEL_CLIENT_SECRET", "")).unwrap();
    assert!(config.oidc[0].client_secret.is_none());
    let config = read(HOSTS, &keys().with("ZITADEL_MASTERKEY", "x").with("ZITADEL_DOMAIN", "")).unwrap();
    assert!(config.oidc.is_empty() && config.notices().join("\n").contains("ZITADEL_MASTERKEY is set"));
}

#[test]
fn half_a_zitadel_stops_the_start_by_the_variable_that_lacks() {
    let set = |names: &[&'static str]| -> Vec<(&'static str, &'static str)> {
        names.iter().map(|name| (*name, "login.example")).collect()
    };
    check("", &set(&["ZITADEL_DOMAIN"]), &["ZITADEL_CLIENT_ID: it is not set, and ZITADEL_DOMAIN is"]);
    check("", &set(&["ZITADEL_CLIENT_ID", "ZITADEL_CLIENT_SECRET"]), &["ZITADEL_DOMAIN: it is not set"]);
    let two = format!(
        "{}{}",
        entry("name = \"a\"\npreset = \"zitadel\"\nissuer = \"https://a.example\"\nclient_id = \"x\""),
        entry("name = \"b\"\npreset = \"zitadel\"\nissuer = \"https://b.example\"\nclient_id = \"x\"")
    );
    check(&two, &[], &[]);
    check(&two, &[("ZITADEL_DOMAIN", "c.example")], &["ZITADEL_DOMAIN: ", "which of them is meant"]);
}

#[test]
fn what_a_provider_cannot_be_is_told_with_its_place() {
    check(&with(""), &[], &[]);
    check(&with("isuer = \"x\""), &[], &["unknown key `oidc.providers[0].isuer`", "issuer"]);
    check("[oidc]\nprovider = 1\n", &[], &["unknown key `oidc.provider`"]);
    check("[oidc]\nproviders = 1\n", &[], &["not a list of tables"]);
    check("oidc = { providers = [1] }\n", &[], &["oidc.providers[0]", "not a table"]);
    check(
        &entry("issuer = \"https://id.example\"\nclient_id = \"x\""),
        &[],
        &["`oidc.providers[0].name` is not set"],
    );
    check(
        &entry("name = \"a\"\nclient_id = \"x\""),
        &[],
        &["gate.toml:2: ", "`oidc.providers[0].issuer` is not set"],
    );
    check(&entry("name = \"a\"\nissuer = \"https://id.example\""), &[], &["client_id` is not set"]);
    check(
        &format!("{}{}", with(""), with("").replace("id.", "id2.")),
        &[],
        &["provider `corp` is there twice"],
    );
    check(
        &format!("{}{}", with(""), with("").replace("corp", "other")),
        &[],
        &["two providers have the issuer"],
    );
    check(&with("").replace("corp", "Corp"), &[], &["`Corp` names no provider"]);
    check(&with("preset = \"auth0\""), &[], &["preset` is `auth0`", "`generic`"]);
    check(&with("client_secret = \"in-the-file-itself\""), &[], &["holds a secret itself"]);
    check(&with("scopes = [\"profile\"]"), &[], &["lack `openid`"]);
    check(&with("scopes = [\"openid profile\", \"openid\"]"), &[], &["is no scope"]);
    check(&with("ca = \"absent.pem\""), &[], &["absent.pem"]);
    check(&with("roles = 7"), &[], &["roles` is an integer, not a list"]);
    check(&with("roles = { x = 7 }"), &[], &["not a string"]);
    check(
        &with("client_id = \"your-client-id\"").replacen("client_id = \"gate\"\n", "", 1),
        &[],
        &["placeholder"],
    );
    let many: String = (0..17)
        .map(|at| with("").replace("corp", &format!("p{at}")).replace("id.", &format!("id{at}.")))
        .collect();
    check(&many, &[], &["more than 16 providers"]);
}

#[test]
fn an_issuer_is_https_or_on_loopback_in_development() {
    let issuer = |url: &str| with("").replace("https://id.example", url);
    for good in [
        "https://id.example",
        "https://id.example/realms/x",
        "https://id.example:8443/",
        "https://[2001:db8::1]",
    ] {
        check(&issuer(good), &[], &[]);
    }
    for bad in [
        "id.example",
        "https://",
        "https://id.example?x",
        "https://id.example#x",
        "https://a@id.example",
        "ftp://id.example",
        "urn:x",
    ] {
        check(&issuer(bad), &[], &["is no issuer"]);
    }
    let development = [("BOTSERVER_ENV", "development")];
    for url in ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]"] {
        check(&issuer(url), &development, &[]);
        check(&issuer(url), &[], &["is http", "environment"]);
    }
    check(&issuer("http://id.example"), &development, &["is http"]);
    check(&issuer("http://localhost.example"), &development, &["is http"]);
}

#[test]
fn access_tokens_are_taken_for_named_audiences_alone() {
    let of = |lines: &str| {
        let config = read(&format!("{HOSTS}{}", with(lines)), &keys()).unwrap();
        config.oidc[0].access_tokens.clone()
    };
    assert_eq!(of(""), None);
    assert_eq!(of("api_audiences = []"), None);
    let tokens = of("api_audiences = [\"https://api.example\"]").unwrap();
    assert_eq!(
        (tokens.audiences.as_slice(), tokens.types),
        (["https://api.example".to_owned()].as_slice(), TokenTypes::Profile)
    );
    assert_eq!(tokens.scopes, None);
    let preset = of("preset = \"zitadel\"\napi_audiences = [\"3141\"]").unwrap();
    assert_eq!(preset.types, TokenTypes::Any);
    let demanded =
        of("preset = \"zitadel\"\napi_audiences = [\"3141\"]\napi_token_type = \"at+jwt\"").unwrap();
    assert_eq!(demanded.types, TokenTypes::Profile);
    let scoped = "api_audiences = [\"a\"]\napi_scopes = { \"docs:read\" = [\"docs.read\", \"sheet.*\"], all = [\"*\"], none = [] }";
    let scopes = of(scoped).unwrap().scopes.unwrap();
    assert_eq!(scopes["docs:read"], ["docs.read", "sheet.*"]);
    assert_eq!((scopes["all"].len(), scopes["none"].len()), (1, 0));

    let faulty = |lines: &str, expected: &str| check(&with(lines), &[], &[expected]);
    faulty("api_audiences = [\"gate\"]", "`gate` is the client id, which ID tokens name");
    faulty("api_audiences = [\"*\"]", "`*` would take tokens that the provider issued for anybody's API");
    faulty("api_audiences = \"a\"", "write a list");
    faulty("api_audiences = [\"your-api\"]", "still a placeholder");
    faulty("api_token_type = \"jwt\"", "names no audience, so no access token is taken");
    faulty("api_scopes = { a = [\"*\"] }", "names no audience, so no access token is taken");
    faulty("api_audiences = [\"a\"]\napi_token_type = \"JWE\"", "JWE");
    for odd in ["doc*", "docs.*.read", "Docs.read", "docs read", "**"] {
        faulty(&format!("api_audiences = [\"a\"]\napi_scopes = {{ a = [\"{odd}\"] }}"), "covers no action");
    }
}

#[test]
fn one_provider_at_most_is_asked_about_opaque_tokens_and_with_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "a-secret-of-a-test").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let secret = format!("client_secret = \"file:{}\"\n", file.display());
    let lines = format!("{secret}api_audiences = [\"a\"]\napi_introspection = true");
    let of = |lines: &str| {
        let config = read(&format!("{HOSTS}{}", with(lines)), &keys()).unwrap();
        config.oidc[0].is_asked_about_tokens()
    };
    assert!(of(&lines) && !of("api_audiences = [\"a\"]"));
    assert!(!of("api_introspection = false") && !of("api_audiences = [\"a\"]\napi_introspection = false"));
    let faulty = |lines: &str, expected: &str| check(&with(lines), &[], &[expected]);
    faulty(
        "api_audiences = [\"a\"]\napi_introspection = true",
        "neither client_secret nor client_key to ask about tokens with",
    );
    faulty(&format!("{secret}api_introspection = true"), "names no audience, so no access token is taken");
    faulty(&format!("{secret}api_audiences = [\"a\"]\napi_introspection = 1"), "api_introspection");
    let two = format!("{}{}", with(&lines), with(&lines).replace("corp", "other").replace("id.", "id2."));
    check(&two, &[], &["`corp` and `other` both have `api_introspection`"]);
}

#[test]
fn sessions_go_on_by_a_providers_word_where_its_entry_says_so() {
    let of = |lines: &str| {
        let config = read(&format!("{HOSTS}{}", with(lines)), &keys()).unwrap();
        let provider = &config.oidc[0];
        let offline = provider.scopes.iter().filter(|scope| *scope == "offline_access").count();
        (provider.refresh, offline, provider.consent)
    };
    // Whether it is, how often the scope is asked for, and whether people are asked for consent.
    for (lines, expected) in [
        ("", (false, 0, false)),
        ("refresh = false", (false, 0, false)),
        ("refresh = true", (true, 1, true)),
        ("preset = \"zitadel\"\nrefresh = true", (true, 1, false)),
        ("preset = \"entra\"\nrefresh = true", (true, 1, false)),
        ("preset = \"keycloak\"\nrefresh = true", (true, 0, false)),
        ("refresh = true\nscopes = [\"openid\"]", (true, 0, false)),
        ("refresh = true\nscopes = [\"openid\", \"offline_access\"]", (true, 1, true)),
        ("scopes = [\"openid\", \"offline_access\"]", (false, 1, false)),
    ] {
        assert_eq!(of(lines), expected, "{lines}");
    }
    check(&with("refresh = 1"), &[], &["refresh"]);
    // What it is renewed with is one gateway's own.
    let (_folder, limits) = super::shared_limits::naming("redis://gate:s3cret@127.0.0.1:7000", "");
    let sessions = limits.replace("[limits.redis]", "[session.redis]");
    check(&format!("{}{sessions}", with("refresh = true")), &[], &["does not go with `session.redis`"]);
    assert!(read(&format!("{HOSTS}{}{sessions}", with("refresh = false")), &keys()).is_ok());
    let pushed = |lines: &str| read(&format!("{HOSTS}{}", with(lines)), &keys()).unwrap().oidc[0].pushed;
    assert!(pushed("") && pushed("pushed_requests = true") && !pushed("pushed_requests = false"));
    check(&with("pushed_requests = 1"), &[], &["pushed_requests"]);
}

#[test]
fn a_client_has_a_key_or_a_secret_and_each_from_a_file_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("file:{}", path.display())
    };
    let made = rcgen::KeyPair::generate().unwrap();
    let (key, wrong) = (put("key", &made.serialize_pem()), put("public", &made.public_key_pem()));
    let config = |lines: &str| read(&format!("{HOSTS}{}", with(lines)), &keys()).unwrap();
    let taken = config(&format!("client_key = \"{key}\"\nclient_key_id = \"of-2026\""));
    let [corp] = taken.oidc.as_slice() else { panic!("{:?}", taken.oidc) };
    let own = corp.client_key.as_ref().unwrap();
    assert_eq!(
        (own.algorithm(), own.id.as_deref(), corp.client_secret.is_none()),
        ("ES256", Some("of-2026"), true)
    );
    assert!(config("").oidc[0].client_key.is_none());
    // It asks about opaque tokens as a secret does.
    let asks = "api_audiences = [\"https://api.example\"]\napi_introspection = true";
    assert!(config(&format!("client_key = \"{key}\"\n{asks}")).oidc[0].is_asked_about_tokens());
    check(&with(&format!("client_key = \"{wrong}\"")), &[], &["no `PRIVATE KEY`", "openssl pkcs8"]);
    check(&with("client_key = \"file:/no/such/file\""), &[], &["cannot be opened"]);
    check(&with("client_key = \"a-key-itself-in-the-file\""), &[], &["holds a secret itself"]);
    check(&with("client_key_id = \"x\""), &[], &["names a key that is not there"]);
    let both = format!("client_key = \"{key}\"\nclient_secret = \"{}\"", secret(&directory));
    check(&with(&both), &[], &["has `client_secret` and `client_key`"]);
    // Entra ID wants another kind of proof.
    let entra = with(&format!("preset = \"entra\"\nclient_key = \"{key}\""));
    check(&entra, &[], &["client_key", "is not taken by Entra ID", "write `client_secret`"]);
    // One fault is told once, whatever rests on the entry that has it.
    for lines in [format!("client_key = \"{wrong}\""), "client_key = \"file:/no/such/file\"".to_owned(), both]
    {
        for asks in ["", asks] {
            let entry = with(&format!("{lines}\n{asks}"));
            check(&entry, &[("BOTSERVER_REQUIRE_MFA", "true")], &["client_key"]);
        }
    }
}
