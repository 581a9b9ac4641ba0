//! The loader judges: each fault with its place, all at once.

pub(crate) mod fixture;

use super::{Bundle, BundleSources};
use fixture::{load, sources, spell, with};

#[test]
fn a_whole_bundle_loads() {
    let bundle = load(&sources());
    assert_eq!(bundle.guardrail_ids(), ["account.suspended", "switch.import"]);
    assert_eq!(bundle.routes().routes().len(), 6);
}
