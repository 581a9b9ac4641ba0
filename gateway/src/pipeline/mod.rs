//! The stages of a request, in their order. A stage is one file; the order is [`Pipeline::decide`].

pub mod admit;
pub mod again;
pub mod authorize;
pub mod forward;
pub mod headers;
pub mod identify;
pub mod oracle;
pub mod receive;
pub mod record;
pub mod respond;
pub mod route;
pub mod shape;
pub mod spend;
#[cfg(test)]
pub(crate) mod testing;
pub mod trace;

use std::sync::Arc;

use engine::facts::RequestFacts;
use engine::refusal::Refusal;
use engine::time::UnixMillis;
use storage::counters::Counters;

use crate::authn::Authn;
use crate::authn::recall::Recall;
use crate::config::settings::LimitHeaders;
use crate::snapshot::{Snapshot, SnapshotCell};
use oracle::Oracle;
use record::Trail;
pub use spend::{Passage, Permitted};

/// A stage of the pipeline. Its name is its file, its function, its metric label and its heading in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes become canonical facts.
    Receive,
    /// Facts find their route.
    Route,
    /// The address may ask at all.
    Admit,
    /// Credentials become an identity.
    Identify,
    /// Policy decides.
    Authorize,
    /// The quota is taken.
    Spend,
    /// Headers become what the upstream may see.
    Shape,
    /// The upstream or one of our pages answers.
    Forward,
    /// The answer gets what every answer has.
    Respond,
    /// The event is written.
    Record,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 10] = [
        Self::Receive,
        Self::Route,
        Self::Admit,
        Self::Identify,
        Self::Authorize,
        Self::Spend,
        Self::Shape,
        Self::Forward,
        Self::Respond,
        Self::Record,
    ];

    /// The stage's one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Route => "route",
            Self::Admit => "admit",
            Self::Identify => "identify",
            Self::Authorize => "authorize",
            Self::Spend => "spend",
            Self::Shape => "shape",
            Self::Forward => "forward",
            Self::Respond => "respond",
            Self::Record => "record",
        }
    }
}

/// What the deciding stages need: one policy world, the schemes, the counters.
pub struct Pipeline {
    /// The policy world that requests are decided by.
    pub snapshot: Arc<SnapshotCell>,
    /// The credential schemes.
    pub authn: Arc<Authn>,
    /// What has been spent here. It is all that is looked at before a credential is.
    pub counters: Arc<Counters>,
    /// What has been spent at all gateways, where they share a store.
    pub shared: Option<Arc<Counters>>,
    /// Which headers tell of limits.
    pub headers: LimitHeaders,
    /// Whether they tell of the limits of what was permitted as well.
    pub headers_on_all: bool,
    /// What decides.
    pub oracle: Oracle,
    /// Whether people need a second factor for all that goes to an upstream.
    pub second_factor: bool,
}

impl Pipeline {
    /// Every request passes here, in this order, or is refused. `receive` has made the facts and
    /// [`admit::address`] has let the address in, by the limits of the same `snapshot`. `recall` is that of the connection.
    ///
    /// # Errors
    /// The refusal of the stage that said no.
    pub async fn decide(
        &self,
        now: UnixMillis,
        snapshot: Arc<Snapshot>,
        facts: &RequestFacts<'_>,
        recall: &Recall,
        trail: &mut Trail,
    ) -> Result<Passage, Refusal> {
        trail.enter(Stage::Route);
        let matched = route::route(&snapshot, facts, trail)?;
        trail.enter(Stage::Admit);
        let tried = admit::admit(&self.counters, &snapshot, now, &matched, facts.client)?;
        tried.iter().for_each(|spent| trail.shadowed(spent));
        trail.enter(Stage::Identify);
        let identified = identify::identify(&self.authn, now, &matched, facts, recall, trail).await?;
        trail.enter(Stage::Authorize);
        let identity = &identified.identity;
        // Before policy, which may look at the same proof.
        let permit = authorize::proved(self.second_factor, now, &matched, identity).and_then(|()| {
            authorize::authorize(&self.oracle, &snapshot, now, &matched, identity, facts, trail)
        });
        let permit = authorize::answered(&self.counters, now, &identified.identity, permit).await?;
        trail.enter(Stage::Spend);
        let permitted = Permitted { permit, matched, session: identified.session, snapshot };
        spend::spend(self, now, facts.client, permitted, trail).await
    }
}
