//! Which server has what is kept, where that may change: the master that sentinels name, or the node of a cluster that has
//! a slot.
//!
//! All who can say are asked at once, and the newest word counts ([`claim::weigh`]): sentinels and nodes number the changes,
//! and one that lags is overruled by any other, also by what was said before. Whoever is named must be a master, and be
//! spoken to no less safely than was configured. Nobody's request waits for any of this.

mod asking;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, timeout};

use self::asking::Asking;
use super::claim::{self, Claim, Wanted};
use super::link::{At, Hear, Peer, Use};
use super::{
    Fault, Link, RedisAddress, RedisHost, RedisLogin, RedisPlace, RedisReached, RedisTls, Unfound, fault,
};

/// How long it may take until somebody says where it is; and how long, from then on, until a connection is there, with its
/// handshake and login.
const CONNECT: Duration = Duration::from_secs(2);
/// How long somebody has who can say where it is, over a new connection. It is gone on with where one try is over: handshakes
/// are work, and a machine that is too busy for all of them within one would never have done any.
const MEET: Duration = Duration::from_secs(5);
/// How long the others have for an answer once one of those has answered who can say where it is: one that hangs makes it no
/// longer. The same is how long a look takes whether it is still there, and how long an answer may take over a connection
/// that there was before.
const ASK: Duration = Duration::from_millis(250);
/// Between two looks whether it is still there: what is written to a master that was replaced while it could not be
/// reached by its sentinels is lost.
const WATCH: Duration = Duration::from_secs(1);

/// How long a newer word is believed which most do not come to say. Sentinels and nodes tell each other within seconds.
const APART: Duration = Duration::from_secs(30);

/// Finds one server, again and again.
pub(crate) struct Finder {
    place: RedisPlace,
    tellers: Vec<Arc<Teller>>,
    lasts: bool,
    known: Mutex<Known>,
    looks: tokio::sync::Mutex<Looks>,
}

/// What was believed.
#[derive(Default)]
struct Known {
    /// The newest word of it.
    claim: Option<Claim>,
    /// Since when most say something older.
    apart_since: Option<Instant>,
}

/// One who can say where it is.
struct Teller {
    host: RedisHost,
    peer: Peer,
    wanted: Wanted,
}

/// Those who can say, from one look to the next.
#[derive(Default)]
struct Looks {
    /// Who has not answered yet, and is on the way to it.
    asking: Asking<(MultiplexedConnection, Claim)>,
    /// Connections to those who have, by their number.
    kept: HashMap<usize, MultiplexedConnection>,
}

impl Finder {
    /// Of the server that has this key.
    pub(crate) fn new(place: RedisPlace, key: &str) -> Self {
        let tellers = match &place.address {
            RedisAddress::Sentinels(sentinels) => {
                let wanted = Wanted::Master(sentinels.master.clone());
                tellers(&sentinels.hosts, sentinels.tls.as_ref(), sentinels.login.as_ref(), &wanted)
            }
            RedisAddress::Cluster(cluster) => {
                let (login, wanted) = (login(&place), Wanted::Slot(claim::slot(key)));
                tellers(&cluster.hosts, cluster.reached.tls.as_ref(), Some(&login), &wanted)
            }
            RedisAddress::Tcp { .. } => Vec::new(),
            #[cfg(test)]
            RedisAddress::Unix(_) => Vec::new(),
        };
        Self { place, tellers, lasts: false, known: Mutex::default(), looks: tokio::sync::Mutex::default() }
    }

    /// The same, where replicas will be waited for.
    pub(crate) fn lasting(self, lasts: bool) -> Self {
        Self { lasts, ..self }
    }

    /// Connects, logs in, and leaves the script there.
    pub(crate) async fn connect(&self, script: &str) -> Result<Link, Fault> {
        self.within(script, None).await
    }

    /// The same, and listens to a channel from then on, over this same connection.
    pub(crate) async fn hearing(&self, script: &str, channel: &str, hear: Hear) -> Result<Link, Fault> {
        self.within(script, Some((channel, hear))).await
    }

    async fn within(&self, script: &str, heard: Option<(&str, Hear)>) -> Result<Link, Fault> {
        let found = self.found().await?;
        let is_master = matches!(self.place.address, RedisAddress::Sentinels(_));
        let opened = Link::open(&found, Use { script, heard, is_master, lasts: self.lasts });
        timeout(CONNECT, opened).await.unwrap_or(Err(Fault::Unreachable))
    }

    /// Waits until what was connected to is known to be elsewhere; for ever where it stays where it is. That nobody says
    /// anything means nothing while the server itself answers.
    pub(crate) async fn moved(&self) {
        if self.tellers.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            tokio::time::sleep(WATCH).await;
            let (claims, _) = self.look(ASK).await;
            if self.is_elsewhere(&claims) {
                return;
            }
        }
    }

    /// The server of the moment. While nobody says where it is there is nothing to go by: whoever is slow has its time.
    async fn found(&self) -> Result<Peer, Fault> {
        let reached = match &self.place.address {
            RedisAddress::Tcp { host, port, tls } => {
                let host = RedisHost { host: host.clone(), port: *port };
                return Ok(self.peer(At::Tcp(host), tls.as_ref()));
            }
            #[cfg(test)]
            RedisAddress::Unix(path) => return Ok(self.peer(At::Unix(path.clone()), None)),
            RedisAddress::Sentinels(sentinels) => &sentinels.reached,
            RedisAddress::Cluster(cluster) => &cluster.reached,
        };
        self.looks.lock().await.is_now();
        let (claims, silence) = self.look(CONNECT).await;
        let host = self.believed(&claims, silence)?;
        let RedisReached { tls, in_clear } = reached;
        // Whoever names an address would otherwise be given the password there, and all that listen.
        if tls.is_none() && !in_clear && !host.is_loopback() {
            return Err(Fault::Unfound(Unfound::InClear));
        }
        Ok(self.peer(At::Tcp(host), tls.as_ref()))
    }

    fn peer(&self, at: At, tls: Option<&RedisTls>) -> Peer {
        Peer { at, tls: tls.cloned(), login: Some(login(&self.place)), database: self.place.database }
    }

    /// What those who can say it say within so long, in the order of the configuration; and why one of the others did not. A
    /// word that came since the last look is one of this: like that of one that lags, it is overruled by any that is newer.
    async fn look(&self, within: Duration) -> (Vec<Claim>, Unfound) {
        let Looks { asking, kept } = &mut *self.looks.lock().await;
        for (number, teller) in self.tellers.iter().enumerate() {
            if !asking.is_under_way(number) {
                let (teller, connection) = (Arc::clone(teller), kept.remove(&number));
                asking.ask(number, async move { teller.tell(connection).await });
            }
        }
        let (answers, silence) = asking.answers(Instant::now() + within).await;
        let claim = |(number, (connection, claim))| {
            kept.insert(number, connection);
            claim
        };
        (answers.into_iter().map(claim).collect(), silence)
    }

    /// Where it is by these claims, which is known from now on.
    fn believed(&self, claims: &[Claim], silence: Unfound) -> Result<RedisHost, Fault> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.is_empty() {
            return Err(Fault::Unfound(silence));
        }
        let claim = known.counts(claims, self.tellers.len());
        let claim = claim.ok_or(Fault::Unfound(Unfound::Older))?.clone();
        if known.claim.as_ref().is_none_or(|known| known.host != claim.host) {
            tracing::info!("redis is at {}", claim.host);
        }
        let host = claim.host.clone();
        known.claim = Some(claim);
        Ok(host)
    }

    /// Whether these claims say that it is elsewhere than was believed. What they say of the number of the change is believed.
    fn is_elsewhere(&self, claims: &[Claim]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(counts) = known.counts(claims, self.tellers.len()) else { return false };
        let Some(known) = known.claim.as_mut() else { return false };
        let stays = claims.iter().any(|claim| claim.epoch == counts.epoch && claim.host == known.host);
        if stays {
            known.epoch = counts.epoch;
        }
        !stays
    }
}

impl Looks {
    /// Of what came since the last look the connections are kept, and not the words: where something else is looked for than
    /// whether it has moved, they are of before.
    fn is_now(&mut self) {
        for (number, (connection, _)) in self.asking.answered() {
            self.kept.insert(number, connection);
        }
    }
}

impl Known {
    /// The claim that counts of those that were made, by so many. A word that is newer than what most say counts at once, for
    /// somebody is the first to know; and no longer when most have not come to say it for [`APART`], whether whoever said it
    /// still does or not. So no number, however high, is believed for ever on one word, as long as more than half of all that
    /// are named say the same: where they do not answer, or differ, the newest word counts until they do.
    fn counts<'c>(&mut self, claims: &'c [Claim], of: usize) -> Option<&'c Claim> {
        if let Some(most) = claim::most(claims, of) {
            let newest = claims.iter().chain(&self.claim).map(|claim| claim.epoch).max();
            if newest <= Some(most.epoch) {
                self.apart_since = None;
            } else if self.apart_since.get_or_insert_with(Instant::now).elapsed() >= APART {
                return Some(most);
            }
        }
        claim::weigh(claims, of, self.claim.as_ref())
    }
}

fn login(place: &RedisPlace) -> RedisLogin {
    RedisLogin { user: place.user.clone(), password: place.password.clone() }
}

fn tellers(
    hosts: &[RedisHost],
    tls: Option<&RedisTls>,
    login: Option<&RedisLogin>,
    wanted: &Wanted,
) -> Vec<Arc<Teller>> {
    let teller = |host: &RedisHost| {
        let at = At::Tcp(host.clone());
        let peer = Peer { at, tls: tls.cloned(), login: login.cloned(), database: 0 };
        Arc::new(Teller { host: host.clone(), peer, wanted: wanted.clone() })
    };
    hosts.iter().map(teller).collect()
}

impl Teller {
    /// What it says, over the connection that there is or a new one, which has more time: making one is work, also for a busy
    /// machine, and who does not answer over one that is there may be reached by another.
    async fn tell(
        &self,
        kept: Option<MultiplexedConnection>,
    ) -> Result<(MultiplexedConnection, Claim), Unfound> {
        let within = if kept.is_some() { ASK } else { MEET };
        timeout(within, self.told(kept)).await.unwrap_or(Err(Unfound::Silent))
    }

    async fn told(
        &self,
        kept: Option<MultiplexedConnection>,
    ) -> Result<(MultiplexedConnection, Claim), Unfound> {
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.peer.connection(None).await.map_err(unfound)?,
        };
        let mut answers: Vec<Value> = Vec::new();
        for question in self.wanted.questions() {
            let answer = question.query_async(&mut connection).await;
            answers.push(answer.map_err(|error| unfound(fault(&error)))?);
        }
        let claim = self.wanted.claimed(&answers, &self.host).ok_or(Unfound::Unknown)?;
        Ok((connection, claim))
    }
}

/// What a fault of who can say means for who asks.
fn unfound(fault: Fault) -> Unfound {
    match fault {
        Fault::Login => Unfound::Login,
        Fault::Refused("NOPERM") => Unfound::Forbidden,
        Fault::Refused(_) | Fault::Nonsense => Unfound::Unknown,
        Fault::Unfound(why) => why,
        Fault::Unreachable
        | Fault::ConnectionRefused
        | Fault::Gone
        | Fault::Late
        | Fault::OtherKey
        | Fault::Settings
        | Fault::Moved
        | Fault::Unkept => Unfound::Silent,
    }
}
