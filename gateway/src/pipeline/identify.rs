//! Stage 4, identify: the credentials that the route accepts become an identity.

use engine::facts::RequestFacts;
use engine::identity::Identity;
use engine::refusal::Refusal;
use engine::route::RouteMatch;
use engine::time::UnixMillis;

use crate::authn::recall::Recall;
use crate::authn::{Authn, Identified, Rejection};
use crate::pipeline::record::Trail;

/// Asks the schemes that the route names, and only those.
///
/// # Errors
/// `Unauthenticated`, `CredentialRejected` or `CrossSite`, or `Unavailable` when a store that must be asked
/// cannot answer.
pub async fn identify(
    authn: &Authn,
    now: UnixMillis,
    matched: &RouteMatch,
    facts: &RequestFacts<'_>,
    recall: &Recall,
    trail: &mut Trail,
) -> Result<Identified, Refusal> {
    match authn.identify(now, matched, facts, recall).await {
        Ok(identified) => {
            trail.identified(&identified);
            Ok(identified)
        }
        Err(Rejection { refusal, notes, principal: Some(principal) }) => {
            trail.identified(&Identified { identity: Identity::Known(principal), session: None, notes });
            Err(refusal)
        }
        Err(Rejection { refusal, notes, principal: None }) => {
            notes.into_iter().for_each(|note| trail.note(note));
            Err(refusal)
        }
    }
}
