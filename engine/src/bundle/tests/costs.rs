//! What a row says that a request of it costs.

use super::fixture::{load, sources, spell, with};
use crate::bundle::{Bundle, BundleSources};
use crate::identity::{Identity, PrincipalKind};
use crate::verify::{explain_on, matrix};

const ROW: &str = "action = \"docs.import\", accept = [\"session\"], class = \"files\"";

/// The fixture with a row that costs as much, and these limits.
fn costing(cost: &str, limits: &str) -> BundleSources {
    let mut sources = with("routes/docs.toml", ROW, &format!("{ROW}, cost = {cost}"));
    sources.files.insert("limits.toml".to_owned(), limits.to_owned());
    sources
}

/// The same where a grant for the row's action gives a class.
fn given(cost: &str, limits: &str) -> BundleSources {
    let mut sources = costing(cost, limits);
    let grants = sources.files.get_mut("grants/docs.cedar").expect("the fixture has it");
    *grants = grants.replace("@id(\"docs.editors\")", "@id(\"docs.editors\")\n@limit_class(\"wide\")");
    sources
}

#[test]
fn a_request_costs_what_its_row_says_and_one_where_it_says_nothing() {
    let costs = |sources: &BundleSources| -> Vec<u32> {
        load(sources).routes().routes().iter().map(|route| route.cost).collect()
    };
    assert_eq!(costs(&sources()), [1; 6]);
    assert_eq!(costs(&costing("20", "")), [1, 1, 1, 20, 1, 1]);
    assert_eq!(costs(&costing("1_000_000", "")), [1, 1, 1, 1_000_000, 1, 1]);
}

#[test]
fn a_cost_that_is_none_is_told_with_its_place() {
    let check = |cost: &str, says: &str| {
        let faults = Bundle::load(&costing(cost, "")).expect_err(cost);
        let spelt = spell(&faults);
        assert!(spelt.contains("routes/docs.toml:9: ") && spelt.contains(says), "{cost}:\n{spelt}");
        assert!(faults.len() == 1 && faults.iter().all(|fault| !fault.remedy.is_empty()), "{spelt}");
    };
    check("0", "what is to be free is in a class without a limit");
    check("1000001", "a request cannot cost 1000001");
    check("-1", "invalid value");
    check("4294967296", "invalid value");
    check("1.5", "invalid type");
    check("\"20\"", "invalid type");
}

#[test]
fn a_request_that_could_never_pass_is_a_fault() {
    let never = |sources: &BundleSources, limits: &[&str]| {
        let faults = Bundle::load(sources).err().unwrap_or_default();
        let expected: Vec<String> = limits
            .iter()
            .map(|limit| format!("a request costs 20 and limit {limit}: none could ever pass"))
            .collect();
        assert_eq!(faults.iter().map(|fault| fault.message.clone()).collect::<Vec<_>>(), expected);
        let placed =
            |fault: &crate::bundle::BundleFault| fault.to_string().starts_with("routes/docs.toml:9: ");
        assert!(faults.iter().all(placed), "{}", spell(&faults));
    };
    let user = "[per_user]\nrate = \"19/1h\"\n";
    let files = "[class.files]\nrate = \"10/1m\"\nalgorithm = \"sliding\"\n";
    never(&costing("20", user), &["`per-user` is 19/1h"]);
    never(&costing("20", files), &["`files` is 10/1m sliding"]);
    never(&costing("20", &format!("{user}{files}")), &["`files` is 10/1m sliding", "`per-user` is 19/1h"]);
    // The whole of a limit is enough, one that is tried out refuses nobody, and an address's counts requests.
    never(&costing("20", "[per_user]\nrate = \"20/1h\"\n"), &[]);
    never(&costing("20", &format!("{files}shadow = true\n")), &[]);
    never(&costing("20", "[per_address]\nrate = \"5/1m\"\n"), &[]);
    never(&costing("20", "[per_user]\nrate = \"none\"\n"), &[]);
    // What is of another class has no share in it; a class that a grant gives has, and then the route's has none.
    never(&costing("20", "[class.public]\nrate = \"1/1m\"\n"), &[]);
    let wide = "[class.wide]\nrate = \"19/1h\"\n";
    never(&given("20", wide), &["`wide` is 19/1h"]);
    never(&given("20", &wide.replace("19", "20")), &[]);
    let both = format!("{}{files}", wide.replace("19", "20"));
    never(&given("20", &both), &[]);
}

#[test]
fn a_lower_cost_loosens_and_a_higher_one_does_not() {
    let loosens = |before: &str, after: &str| load(&costing(after, "")).loosens(&load(&costing(before, "")));
    let says = "route `POST /api/docs/import` costs 19 instead of 20 of its limits";
    assert_eq!(loosens("20", "19"), [says]);
    for (before, after) in [("20", "20"), ("20", "21"), ("1", "20")] {
        assert!(loosens(before, after).is_empty(), "{before} to {after}");
    }
    // A row that no longer says anything costs 1.
    let says = "route `POST /api/docs/import` costs 1 instead of 20 of its limits";
    assert_eq!(load(&sources()).loosens(&load(&costing("20", ""))), [says]);
}

#[test]
fn whoever_reviews_sees_what_a_request_costs() {
    use crate::bundle::example::{example, example_parameters, example_principal};
    let bundle = load(&costing("20", ""));
    let matrix = matrix(&bundle);
    assert!(matrix.contains("POST   /api/docs/import  [costs 20]\n"), "{matrix}");
    let said = |name: &str| {
        let route = bundle.routes().named(name).expect("the fixture has it");
        let principal = example_principal(PrincipalKind::User, ["editor".to_owned()].into(), [].into());
        let identity = Identity::Known(std::sync::Arc::new(principal));
        explain_on(&bundle, route, &example(route, &identity, &example_parameters(route)))
    };
    let dear = said("POST /api/docs/import");
    assert!(
        dear.ends_with("costs 20 of each limit that counts it; `per-address` counts requests\n"),
        "{dear}"
    );
    assert!(!said("GET /api/docs").contains("costs"), "{}", said("GET /api/docs"));
}
