//! From claims to people.

use std::collections::BTreeSet;

use serde_json::Map;
use storage::credentials::Origin;

use super::super::claims::{map, together};
use super::*;

fn mapped(preset: Preset, claims: &Value) -> super::super::Mapped {
    let origin = Origin::new(ISSUER, "242424").unwrap();
    let claims = claims.as_object().unwrap().clone();
    map(&provider(preset), origin, &claims)
}

#[test]
fn threat_09_roles_are_whole_names_that_the_provider_may_assert() {
    let zitadel = "urn:zitadel:iam:org:project:roles";
    let check = |preset: Preset, claims: Value, expected: &[&str]| {
        let roles = mapped(preset, &claims).person.roles;
        assert_eq!(
            roles,
            expected.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
            "{claims}"
        );
    };
    check(Preset::Zitadel, json!({zitadel: {"viewer": {"1": "x.example"}}}), &["viewer"]);
    check(Preset::Zitadel, json!({zitadel: [{"viewer": {"1": "x"}}, {"user": {}}]}), &["user", "viewer"]);
    check(Preset::Zitadel, json!({zitadel: ["viewer"]}), &["viewer"]);
    check(
        Preset::Zitadel,
        json!({"roles": ["viewer"], "urn:zitadel:iam:org:project:7:roles": {"user": {}}}),
        &[],
    );
    check(
        Preset::Generic,
        json!({"roles": ["viewer", "Viewer", "viewers", "a viewer", "user "]}),
        &["viewer"],
    );
    check(Preset::Generic, json!({"roles": "viewer"}), &["viewer"]);
    check(Preset::Generic, json!({"roles": "viewer user"}), &[]);
    check(Preset::Generic, json!({"roles": [["viewer"], 7, null, true, {"user": 1}]}), &["user"]);
    check(Preset::Generic, json!({"roles": {"viewer": true}}), &["viewer"]);
    check(Preset::Generic, json!({}), &[]);
    check(Preset::Entra, json!({"roles": ["user"]}), &["user"]);
    let keycloak = json!({"realm_access": {"roles": ["viewer"]}, "resource_access": {CLIENT: {"roles": ["user"]}, "x": {"roles": ["admin"]}}});
    check(Preset::Keycloak, keycloak, &["user", "viewer"]);
    check(Preset::Keycloak, json!({"realm_access": "viewer"}), &[]);
}

#[test]
fn what_is_left_out_is_told_within_bounds() {
    let strangers: Vec<String> = (0..20).map(|at| format!("stranger{at:02}\n")).collect();
    let told = mapped(Preset::Generic, &json!({"roles": strangers, "groups": ["staff", "admins"]}));
    assert_eq!(told.person.groups, ["staff".to_owned()].into());
    assert_eq!(told.notes.len(), 2);
    assert!(
        told.notes[0].contains("stranger07\u{fffd} and 12 more") && !told.notes[0].contains('\n'),
        "{told:?}"
    );
    assert!(told.notes[1].contains("groups, left out: admins"), "{told:?}");
    let away = mapped(Preset::Entra, &json!({"_claim_names": {"groups": "src1"}}));
    assert!(away.notes[0].contains("too many groups"), "{away:?}");
    let many: Vec<String> = (0..5000).map(|at| format!("r{at}")).collect();
    assert_eq!(mapped(Preset::Generic, &json!({"roles": many})).person.roles, [].into());
}

#[test]
fn people_are_shown_by_a_name_that_nobody_elsewhere_can_have() {
    let check = |claims: Value, name: &str| {
        let shown = mapped(Preset::Generic, &claims).person.login;
        assert_eq!(shown.as_str(), name, "{claims}");
    };
    check(json!({"preferred_username": "Ada", "name": "Ada Lovelace"}), "corp:ada");
    check(json!({"email": "ada@example.org"}), "corp:ada@example.org");
    check(json!({"preferred_username": "a\nb", "name": "ok"}), "corp:ok");
    check(json!({"preferred_username": 7}), "corp:242424");
    check(json!({"preferred_username": "x".repeat(200)}), "corp:242424");
}

#[test]
fn several_factors_are_believed_by_listed_words_alone() {
    let check = |claims: Value, expected| {
        assert_eq!(mapped(Preset::Generic, &claims).assurance, expected, "{claims}");
    };
    check(json!({}), 1);
    check(json!({"acr": "urn:two"}), 2);
    check(json!({"acr": "urn:two:and:more"}), 1);
    check(json!({"acr": "99"}), 1);
    check(json!({"acr": ["urn:two"]}), 1);
    check(json!({"amr": ["pwd", "mfa"]}), 2);
    check(json!({"amr": ["pwd", "otp"]}), 1);
    check(json!({"amr": "mfa"}), 1);
}

#[test]
fn userinfo_adds_and_never_replaces() {
    let object = |value: Value| -> Map<String, Value> { value.as_object().unwrap().clone() };
    let both = together(
        object(json!({"sub": "a", "name": "signed"})),
        object(
            json!({"sub": "a", "name": "told", "roles": ["user"], "acr": "urn:two", "amr": ["mfa"], "sid": "x"}),
        ),
    );
    assert_eq!(Value::Object(both), json!({"sub": "a", "name": "signed", "roles": ["user"]}));
}
