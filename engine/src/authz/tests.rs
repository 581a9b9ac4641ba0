//! What `decide` answers, and that nothing that fails permits.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{AuthzRequest, Decision};
use crate::bundle::Bundle;
use crate::bundle::example::{EXAMPLE_CLIENT, EXAMPLE_TIME, example_principal};
use crate::bundle::tests::fixture::{load, sources, spell as spell_faults, with};
use crate::identity::{Identity, Principal, PrincipalKind};
use crate::refusal::Denial;
use crate::route::{Hint, Parameters};
use crate::time::UnixMillis;

/// A principal of this kind with `role:` and `group:` memberships.
pub(super) fn principal(kind: PrincipalKind, held: &[&str]) -> Principal {
    let of =
        |prefix: &str| held.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect();
    example_principal(kind, of("role:"), of("group:"))
}

fn known(principal: Principal) -> Identity {
    Identity::Known(Arc::new(principal))
}

pub(super) fn user(held: &[&str]) -> Identity {
    known(principal(PrincipalKind::User, held))
}

pub(super) fn request<'a>(identity: &'a Identity, action: &'a str, module: &'a str) -> AuthzRequest<'a> {
    AuthzRequest {
        identity,
        action,
        module,
        hint: Hint::default(),
        parameters: &[],
        class: "standard",
        method: "GET",
        client: EXAMPLE_CLIENT,
        tls: true,
        now: EXAMPLE_TIME,
    }
}

/// The decision in one line: `permit a, b`, `deny a`, `deny`, `undecidable a`.
pub(super) fn spell(decision: &Decision) -> String {
    let (word, ids): (&str, Vec<String>) = match decision {
        Decision::Permit(permit) => {
            ("permit", permit.deciding().iter().map(|one| one.id.to_string()).collect())
        }
        Decision::Deny(denial) => ("deny", denial.forbidding.iter().map(|one| one.id.to_string()).collect()),
        Decision::Undecidable { erring } => ("undecidable", erring.clone()),
    };
    format!("{word} {}", ids.join(", ")).trim_end().to_owned()
}

#[track_caller]
fn check(bundle: &Bundle, identity: &Identity, action: &str, module: &str, expected: &str) {
    assert_eq!(spell(&bundle.decide(&request(identity, action, module))), expected);
}

#[test]
fn roles_groups_and_their_roles_decide() {
    let bundle = load(&sources());
    check(&bundle, &user(&["role:reader"]), "docs.read", "docs", "permit docs.readers");
    check(
        &bundle,
        &user(&["role:reader", "role:editor"]),
        "docs.read",
        "docs",
        "permit docs.editors, docs.readers",
    );
    check(&bundle, &user(&["group:press"]), "docs.write", "docs", "permit docs.editors");
    check(&bundle, &user(&["group:press"]), "docs.import", "docs", "deny switch.import");
    check(&bundle, &user(&["role:reader"]), "docs.write", "docs", "deny");
    check(&bundle, &user(&["role:reader"]), "docs.read", "site", "deny");
    check(&bundle, &user(&["role:reader"]), "docs.read", "unknown", "deny");
    check(&bundle, &Identity::Anonymous, "site.read", "site", "permit site.everyone");
    // The schema gives nobody in particular no such action: a plain denial, so that they are asked to sign in.
    check(&bundle, &Identity::Anonymous, "docs.read", "docs", "deny");
    check(&bundle, &user(&[]), "docs.raed", "docs", "undecidable cedargate.request");
    let service = known(principal(PrincipalKind::Service, &["role:reader", "group:press"]));
    check(&bundle, &service, "docs.read", "docs", "permit docs.readers");
    check(&bundle, &service, "docs.write", "docs", "deny");
    let mut suspended = principal(PrincipalKind::User, &["role:reader"]);
    suspended.suspended = true;
    check(&bundle, &known(suspended), "docs.read", "docs", "deny account.suspended");
}

#[test]
fn reasons_are_the_authors_words() {
    let bundle = load(&sources());
    let Decision::Permit(permit) = bundle.decide(&request(&user(&["role:reader"]), "docs.read", "docs"))
    else {
        panic!("readers read");
    };
    assert_eq!(&*permit.deciding()[0].reason, "Readers read documents");
    assert_eq!(permit.bundle(), bundle.id());
    assert!(matches!(permit.identity(), Identity::Known(known) if known.roles.contains("reader")));
}

#[test]
fn unknown_memberships_are_ignored_and_told() {
    let bundle = load(&sources());
    let held = ["role:reader", "role:raeder", "group:press", "group:prses"];
    let person = principal(PrincipalKind::User, &held);
    assert_eq!(bundle.unknown_memberships(&person), ["group:prses", "role:raeder"]);
    let roles: Vec<String> = bundle.effective_roles(&person).into_iter().collect();
    assert_eq!(roles, ["editor", "reader"]);
    let service = principal(PrincipalKind::Service, &held);
    assert_eq!(bundle.unknown_memberships(&service), ["group:press", "group:prses", "role:raeder"]);
    check(&bundle, &user(&["role:raeder", "group:prses"]), "docs.read", "docs", "deny");
}

/// Who has just asked is kept with all that was above them; a bundle that is made of the one before keeps none of it.
#[test]
fn threat_15_a_group_that_loses_a_role_loses_it_for_whoever_has_just_asked() {
    let (before, person) = (load(&sources()), user(&["group:press"]));
    for _ in 0..2 {
        check(&before, &person, "docs.write", "docs", "permit docs.editors");
    }
    let parents = "\"parents\": [{ \"type\": \"Role\", \"id\": \"editor\" }]";
    let without = with("entities/all.json", parents, "\"parents\": []");
    let after =
        Bundle::load_after(&without, &before).unwrap_or_else(|faults| panic!("{}", spell_faults(&faults)));
    check(&after, &person, "docs.write", "docs", "deny");
    check(&before, &person, "docs.write", "docs", "permit docs.editors");
}

#[test]
fn a_key_does_no_more_than_its_scopes() {
    let bundle = load(&sources());
    let check = |scopes: &[&str], expected: &str| {
        let mut key = principal(PrincipalKind::Service, &["role:reader"]);
        key.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        assert_eq!(spell(&bundle.decide(&request(&known(key), "docs.read", "docs"))), expected, "{scopes:?}");
    };
    let (permitted, refused) = ("permit docs.readers", "deny cedargate.scope");
    check(&["*"], permitted);
    check(&["docs.*"], permitted);
    check(&["docs.read"], permitted);
    check(&["site.read", "docs.read"], permitted);
    check(&[], refused);
    check(&["docs.write"], refused);
    check(&["docs"], refused);
    check(&["do*"], refused);
    check(&["docs.rea"], refused);
    check(&["docs.read.*"], refused);
    check(&[""], refused);
    check(&[".*"], refused);
    // A scope grants nothing by itself.
    let mut key = principal(PrincipalKind::Service, &[]);
    key.scopes = BTreeSet::from(["*".to_owned()]);
    assert_eq!(spell(&bundle.decide(&request(&known(key), "docs.read", "docs"))), "deny");
}

/// Cedar skips a policy that fails, so that an erring `forbid` would let everything pass.
#[test]
fn a_policy_that_fails_permits_nothing() {
    let overflow = "{ context.assurance + 9223372036854775807 > 0 }";
    let failing = with("guardrails/account.cedar", "{ principal.suspended }", overflow);
    let faults = Bundle::load(&failing).expect_err("its example fails at load");
    assert!(faults.iter().any(|fault| fault.message.contains("account.suspended failed")), "{faults:?}");
    // One that only fails for some: the load cannot see it, the decision must.
    let at = "{ context has time && context.assurance * 4611686018427387904 > 0 }";
    let mut person = principal(PrincipalKind::User, &["role:reader"]);
    let bundle =
        load(&with("guardrails/account.cedar", "{ principal.suspended }", &at.replace("> 0", "< 0")));
    check(&bundle, &known(person.clone()), "docs.read", "docs", "permit docs.readers");
    person.assurance = 2;
    check(&bundle, &known(person.clone()), "docs.read", "docs", "undecidable account.suspended");
    // A grant that fails beside one that permits is no better.
    let grant = "resource == Module::\"docs\"\n)";
    let bundle =
        load(&with("grants/docs.cedar", grant, &format!("{grant} when {}", at.replace("< 0", "> 0"))));
    person.roles.insert("editor".to_owned());
    check(&bundle, &known(person), "docs.read", "docs", "undecidable docs.editors");
}

#[test]
fn the_context_is_typed() {
    let guard = |condition: &str| {
        let text = format!("{{ {condition} }}");
        load(&with("guardrails/account.cedar", "{ principal.suspended }", &text))
    };
    let check = |condition: &str, forbidden: bool| {
        let bundle = guard(condition);
        let person = user(&["role:reader"]);
        let parameters = [("page".into(), "7".into()), ("id".into(), "x".into())];
        let asked = AuthzRequest { parameters: &parameters, ..request(&person, "docs.read", "docs") };
        let expected = if forbidden { "deny account.suspended" } else { "permit docs.readers" };
        assert_eq!(spell(&bundle.decide(&asked)), expected, "{condition}");
    };
    check("context.client.isInRange(ip(\"192.0.2.0/24\"))", true);
    check("context.client.isInRange(ip(\"10.0.0.0/8\"))", false);
    check("context.time > datetime(\"2026-01-07T11:59:59Z\")", true);
    check("context.time >= datetime(\"2026-01-07T12:00:00.001Z\")", false);
    check("context.time.toTime() < duration(\"13h\")", true);
    check("context.assurance < 2", true);
    check("!context.tls", false);
    check("context.class == \"standard\"", true);
    check("context.method == \"GET\"", true);
    check("context.parameters has page && context.parameters.page == 7", true);
    check("context.parameters has id && context.parameters.id == \"x\"", true);
    check("context.scopes.contains(\"*\")", false);
}

#[test]
fn a_request_that_does_not_fit_is_undecidable() {
    let bundle = load(&sources());
    let person = user(&["role:reader"]);
    let check = |parameters: &[(&str, &str)], client: &str, now: u64, expected: &str| {
        let parameters: Parameters =
            parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let client: IpAddr = client.parse().expect("it is an address");
        let now = UnixMillis(now);
        let asked =
            AuthzRequest { parameters: &parameters, client, now, ..request(&person, "docs.read", "docs") };
        assert_eq!(spell(&bundle.decide(&asked)), expected, "{parameters:?}");
    };
    check(&[("page", "7")], "::1", 0, "permit docs.readers");
    check(&[("page", "7")], "::ffff:192.0.2.1", u64::MAX, "permit docs.readers");
    check(&[("page", "seven")], "::1", 0, "undecidable cedargate.request");
    check(&[("unknown", "7")], "::1", 0, "undecidable cedargate.request");
    check(&[("id", "a"), ("id", "b")], "::1", 0, "undecidable cedargate.request");
}

/// Bundles whose guardrails look at all that the context holds; one is of no use where a decision is made without it.
fn bundles() -> [Bundle; 3] {
    let guard = |condition: &str| {
        load(&with("guardrails/account.cedar", "{ principal.suspended }", &format!("{{ {condition} }}")))
    };
    [
        load(&sources()),
        guard(
            "context.client.isInRange(ip(\"192.0.2.0/24\")) && context.time < datetime(\"2026-01-07T12:00:01Z\") \
             && !(context.parameters has page && context.parameters.page > 6)",
        ),
        guard(
            "context.class == \"admin\" || context.method == \"POST\" || !context.tls || context.assurance > 2 \
             || context.scopes.contains(\"*\") || context.parameters has id && context.parameters.id == \"7\"",
        ),
    ]
}

#[test]
fn decisions_are_those_of_the_long_way_whoever_asked_before() {
    let (reader, editor) =
        (principal(PrincipalKind::User, &["role:reader"]), principal(PrincipalKind::User, &["group:press"]));
    let mut identities = vec![Identity::Anonymous, known(reader.clone()), known(editor)];
    // The same person, changed: each is another principal to every decision.
    identities.extend([
        known(Principal { roles: BTreeSet::new(), ..reader.clone() }),
        known(Principal { suspended: true, ..reader.clone() }),
        known(Principal { assurance: 3, ..reader.clone() }),
        known(Principal { name: "other".to_owned(), ..reader }),
        known(principal(PrincipalKind::Service, &["role:reader"])),
        known(principal(PrincipalKind::Operator, &[])),
    ]);
    let parameter = |name: &str, value: &str| (name.into(), value.into());
    let parameters = [
        vec![],
        vec![parameter("id", "7")],
        vec![parameter("page", "7"), parameter("id", "x")],
        vec![parameter("page", "seven")],
        vec![parameter("page", "9223372036854775808")],
        vec![parameter("unknown", "7")],
        vec![parameter("id", "7"), parameter("id", "7")],
        vec![parameter("page", "7"), parameter("id", "7"), parameter("page", "7")],
    ];
    let clients: [IpAddr; 3] =
        [EXAMPLE_CLIENT, "::ffff:192.0.2.9".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let bundles = bundles();
    let mut seen = BTreeSet::new();
    // Twice over, so that everything is decided once with nothing kept and once with everything.
    for number in 0..2 * 9 * 8 * 3 * 24 {
        let at = |step: usize, of: usize| number / step % of;
        let identity = &identities[at(1, identities.len())];
        let asked = AuthzRequest {
            parameters: &parameters[at(9, 8)],
            client: clients[at(72, 3)],
            now: UnixMillis(EXAMPLE_TIME.0 + [0, 999, 1_000, 1_001][at(216, 4)]),
            class: ["standard", "admin"][at(2, 2)],
            method: ["GET", "POST"][at(3, 2)],
            tls: at(5, 3) > 0,
            ..request(
                identity,
                ["docs.read", "docs.write", "site.read", "docs.import", "no.such"][at(216 * 4, 5)],
                ["docs", "site", "unknown"][at(7, 3)],
            )
        };
        for bundle in &bundles {
            let decision = bundle.decide(&asked);
            assert_eq!(bundle.hold_against_cedar(&asked, &decision), Ok(()), "{asked:?}");
            seen.insert(spell(&decision));
        }
    }
    for expected in [
        "permit docs.readers",
        "permit docs.editors",
        "deny",
        "deny account.suspended",
        "undecidable cedargate.request",
    ] {
        assert!(seen.contains(expected), "{expected} is not among {seen:?}");
    }
}

#[test]
fn whatever_differs_from_cedar_is_told() {
    let bundle = load(&sources());
    let reader = user(&["role:reader"]);
    let asked = request(&reader, "docs.read", "docs");
    let differs = |decision: &Decision| bundle.hold_against_cedar(&asked, decision).unwrap_err().to_string();
    assert_eq!(
        differs(&Decision::Deny(Denial { forbidding: Vec::new() })),
        "the gateway decided: deny; Cedar decides: permit by docs.readers"
    );
    assert_eq!(
        differs(&Decision::Undecidable { erring: vec!["one".to_owned(), "two".to_owned()] }),
        "the gateway decided: undecidable by one, two; Cedar decides: permit by docs.readers"
    );
    // The same word for another reason is no agreement.
    let editor = user(&["role:reader", "role:editor"]);
    let other = bundle.decide(&request(&editor, "docs.read", "docs"));
    assert_eq!(
        differs(&other),
        "the gateway decided: permit by docs.editors, docs.readers; Cedar decides: permit by docs.readers"
    );
}

/// A condition that looks at more than a decision may look at is given up, whatever it would have come to.
#[test]
fn a_decision_that_takes_too_long_permits_nothing() {
    let list = |members: usize| (0..members).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let guard = |condition: &str| {
        load(&with("guardrails/account.cedar", "{ principal.suspended }", &format!("{{ {condition} }}")))
    };
    let person = user(&["role:reader"]);
    let long = [("id".into(), "a".repeat(8_000).into())];
    let check = |condition: &str, expected: &str| {
        let asked = AuthzRequest { parameters: &long, ..request(&person, "docs.read", "docs") };
        assert_eq!(
            spell(&guard(condition).decide(&asked)),
            expected,
            "{}",
            condition.get(..80).unwrap_or(condition)
        );
    };
    let has = "context.parameters has id && context.parameters.id";
    check(&format!("{has} like \"*b\""), "permit docs.readers");
    check(&format!("{has} like \"{}b\"", "*a".repeat(150)), "undecidable cedargate.budget");
    let compared = format!("[{0}].containsAll([{0}])", list(1_000));
    check(&format!("!({compared})"), "permit docs.readers");
    let chain = vec![format!("!({compared})"); 2].join(" || ");
    check(&chain, "permit docs.readers");
    // The library answers as Cedar does, however long it takes; the oracle is not asked for what is refused already.
    let bundle = guard(&format!("{has} like \"{}b\"", "*a".repeat(150)));
    let asked = AuthzRequest { parameters: &long, ..request(&person, "docs.read", "docs") };
    assert_eq!(bundle.hold_against_cedar(&asked, &bundle.decide(&asked)), Ok(()));
    let given = bundle.in_cedar(&asked).unwrap();
    let verdict = bundle.evaluate(&given.request, &given.entities);
    assert_eq!(verdict, super::oracle::evaluate(bundle.cedar(), &given.request, &given.entities));
    assert!(verdict.permits);
}

#[test]
fn a_principal_with_too_many_roles_is_undecidable() {
    let roles: Vec<String> = (0..1_001).map(|number| format!("r{number}")).collect();
    let declared = roles.iter().map(|name| {
        format!(
            "{{ \"uid\": {{ \"type\": \"Role\", \"id\": \"{name}\" }}, \"attrs\": {{}}, \"parents\": [] }}"
        )
    });
    let mut files = sources();
    let many = format!("[{}]", declared.collect::<Vec<_>>().join(","));
    files.files.insert("entities/many.json".to_owned(), many);
    let bundle = load(&files);
    let held = |count: usize| {
        let mut person = principal(PrincipalKind::User, &["role:reader"]);
        person.roles.extend(roles.iter().take(count).cloned());
        known(person)
    };
    check(&bundle, &held(999), "docs.read", "docs", "permit docs.readers");
    check(&bundle, &held(1_000), "docs.read", "docs", "undecidable cedargate.request");
}
