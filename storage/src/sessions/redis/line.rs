//! The connection to the store: kept, asked within a budget, listened to, and believed for as long as it answers.
//!
//! What others end is said on the connection that questions are answered on, in order. So an answer proves that whatever
//! was ended before its question was asked has been heard, and for [`FRESH`] from then what was read before is believed.
//! Where nobody asks, a beat does. What [`mod@lasting`] waits for is another connection's word, and proves nothing here.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use engine::time::UnixMillis;
use redis::Value;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::SharedSessions;
use super::heard::Heard;
use super::lasting::{self, Lasting, Rounds, Second};
use super::script::{self, Question};
use crate::Change;
use crate::keyring::{Digest, Keyring, Purpose};
use crate::recent::Epoch;
use crate::redis::{
    Answered, Fault, Finder, IN_FLIGHT_MAX, LATE_MAX, Link, Observer, Pause, STEADY, Standing, Standings,
    Waited, patience, will_not,
};

/// How long an answer proves that nothing was missed, from when it was asked for. With what a word takes to get here and
/// what a request takes that was under way, an end reaches everybody within a second.
const FRESH: Duration = Duration::from_millis(500);
/// Between two beats: half of it, so that one that is late leaves no gap.
pub(super) const BEAT: Duration = Duration::from_millis(200);
/// How long what is open stands without a connection before it asks again, and is refused.
const GRACE: Duration = Duration::from_millis(500);
/// How long the store has for what no request waits for.
pub(crate) const BEHIND: Duration = Duration::from_secs(1);
/// What the store is asked to recognise a master key by.
const KEY_TEXT: &[u8] = b"shared sessions";

/// How long what was read is told again at most, though nothing was heard: whatever was done to the store past its
/// gateways, such as a restore of an older state, is seen by then.
pub(crate) const KNOWN: Duration = Duration::from_secs(10);
/// For what does not depend on the time.
pub(crate) const TIMELESS: UnixMillis = UnixMillis(0);

pub(crate) struct Line {
    shared: SharedSessions,
    finder: Finder,
    keyring: Keyring,
    observer: Observer,
    pub(super) heard: Arc<Heard>,
    current: RwLock<Option<Arc<Current>>>,
    standing: watch::Sender<Standings>,
    lost: Notify,
    places: Semaphore,
    born: Instant,
}

/// The connection of the moment.
struct Current {
    link: Link,
    /// Where replicas are waited for, if they are.
    lasting: Option<Lasting>,
    /// Until when it is believed, in milliseconds since the line was made.
    fresh: AtomicU64,
}

impl Line {
    pub(super) fn new(shared: SharedSessions, keyring: Keyring, heard: Heard, observer: Observer) -> Self {
        Self {
            finder: Finder::new(shared.place.clone(), &script::base(&shared.place.prefix))
                .lasting(shared.replicas > 0),
            shared,
            keyring,
            observer,
            heard: Arc::new(heard),
            current: RwLock::default(),
            standing: watch::Sender::default(),
            lost: Notify::new(),
            places: Semaphore::new(IN_FLIGHT_MAX),
            born: Instant::now(),
        }
    }

    pub(super) fn standing(&self) -> watch::Receiver<Standings> {
        self.standing.subscribe()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.shared.place.prefix
    }

    pub(crate) fn budget(&self) -> Duration {
        self.shared.budget
    }

    pub(crate) fn question(&self, verb: &str, now: UnixMillis) -> Question {
        Question::new(self.prefix(), verb, now)
    }

    /// A question for which it is as late as the store says.
    pub(crate) fn question_by_its_clock(&self, verb: &str) -> Question {
        Question::by_its_clock(self.prefix(), verb)
    }

    fn beat(&self) -> Question {
        self.question("beat", TIMELESS)
    }

    /// Whether what was read before is believed at this moment.
    pub(crate) fn is_fresh(&self) -> bool {
        self.current().is_some_and(|current| self.since_born() < current.fresh.load(Ordering::Acquire))
    }

    /// The epoch of an account or a key. Taken before the store is asked.
    pub(crate) fn epoch_of(&self, id: Uuid) -> Epoch {
        self.heard.epoch_of(id)
    }

    /// The epoch of what an identity provider may have ended. Taken before the store is asked.
    pub(crate) fn epoch_at(&self, place: &Digest) -> Epoch {
        self.heard.epoch(place)
    }

    /// An identity provider has ended something: nobody here goes by what was read of it before.
    pub(crate) fn marked(&self, place: &Digest) {
        self.heard.marked(place);
    }

    /// An account or a key was written here, and nobody rests on what it was.
    pub(crate) fn rewritten(&self, id: Uuid) {
        self.heard.rewritten(id);
    }

    /// An account or a key was changed here: nobody here goes by what it was.
    pub(crate) fn changed(&self, id: Uuid, change: Change) {
        self.heard.became(id, change);
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is a store to ask at this moment.
    pub(super) fn is_there(&self) -> bool {
        self.current().is_some()
    }

    fn since_born(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether replicas have to have what must last.
    pub(crate) fn lasts(&self) -> bool {
        self.shared.replicas > 0
    }

    /// Whether they had too little of it a moment ago: what is done now would not be said to be done.
    pub(crate) fn misses_replicas(&self) -> bool {
        let current = self.current();
        current.is_some_and(|current| current.lasting.as_ref().is_some_and(Lasting::is_spared))
    }

    /// Asks, and waits for so long at most, also for its turn; within a request, for what is left of that.
    pub(crate) async fn ask(&self, question: &Question, budget: Duration) -> Result<Value, Fault> {
        self.ask_as(question, budget, false).await
    }

    /// The same for what must not be undone by the loss of one server. What is [`Fault::Unkept`] was done.
    pub(crate) async fn ask_lasting(&self, question: &Question, budget: Duration) -> Result<Value, Fault> {
        self.ask_as(question, budget, true).await
    }

    async fn ask_as(&self, question: &Question, budget: Duration, lasts: bool) -> Result<Value, Fault> {
        let Some(current) = self.current() else {
            (self.observer)(Answered::Away, None);
            return Err(self.standing.borrow().last.unwrap_or(Fault::Unreachable));
        };
        let left = patience::left(budget);
        if left.is_zero() {
            (self.observer)(Answered::Late, Some(Waited::default()));
            return Err(Fault::Late);
        }
        let begun = Instant::now();
        let mut answer = self.asked(&current, question, left, left == budget).await;
        if let (true, Ok(_), Some(lasting)) = (lasts, &answer, &current.lasting)
            && let Err(fault) = lasting.kept(left.saturating_sub(begun.elapsed())).await
        {
            answer = Err(fault);
        }
        let waited = begun.elapsed();
        // Whose answer was late has nothing left: the moment that a timer was early is no time to ask in.
        patience::awaited(if matches!(answer, Err(Fault::Late)) { left.max(waited) } else { waited });
        let answered = match answer {
            Ok(_) => Answered::Answered,
            Err(Fault::Late) => Answered::Late,
            Err(_) => Answered::Failed,
        };
        (self.observer)(answered, Some(Waited::within(left, waited)));
        answer
    }

    /// Asks for so long. That it is late counts against the store where it had the whole of a budget.
    async fn asked(
        &self,
        current: &Arc<Current>,
        question: &Question,
        within: Duration,
        whole: bool,
    ) -> Result<Value, Fault> {
        let begun = self.since_born();
        let turn = async {
            let _place = self.places.acquire().await;
            question.ask(&current.link).await
        };
        let answer = patience::within(within, turn).await.unwrap_or(Err(Fault::Late));
        match &answer {
            Ok(_) => {
                current.link.answered();
                let fresh = begun.saturating_add(u64::try_from(FRESH.as_millis()).unwrap_or(u64::MAX));
                current.fresh.fetch_max(fresh, Ordering::AcqRel);
            }
            // Each counts, also of those that waited at one time, unlike those of limits: a budget is long here, so that none was
            // late by a moment's stall, and whoever is refused need not wait three of them for that.
            Err(Fault::Late) if !whole || current.link.was_late(Instant::now()) < LATE_MAX => {}
            // A memory that is full takes no session more, and those that are live.
            Err(fault) if will_not(*fault) => {}
            Err(fault) => self.lose(current, *fault),
        }
        answer
    }

    /// Nobody asks on this connection any longer, or believes what was read over it.
    fn lose(&self, lost: &Arc<Current>, fault: Fault) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, lost)) {
            *current = None;
            self.heard.forgets();
            self.standing.send_modify(|standings| standings.leaves(fault));
            self.lost.notify_one();
        }
    }

    /// Keeps the store connected. Ends when it is dropped.
    pub(super) async fn tend(&self) -> Infallible {
        let (mut pause, mut served) = (Pause::default(), false);
        loop {
            let (current, rounds) = self.connected_again(&mut pause, served).await;
            served = true;
            let since = Instant::now();
            self.serve(&current, rounds).await;
            if since.elapsed() >= STEADY {
                pause = Pause::default();
            }
        }
    }

    /// A connection, however long it takes. Where there was one, what is open asks when there is none for too long.
    async fn connected_again(&self, pause: &mut Pause, served: bool) -> (Arc<Current>, Option<Rounds>) {
        let connecting = async {
            if served {
                tokio::time::sleep(pause.next()).await;
            }
            self.connecting(pause).await
        };
        tokio::pin!(connecting);
        tokio::select! {
            current = &mut connecting => return current,
            () = tokio::time::sleep(GRACE), if served => {}
        }
        // What is open rests on sessions that somebody may have ended meanwhile: it is refused now.
        self.heard.asks_again();
        connecting.await
    }

    async fn connecting(&self, pause: &mut Pause) -> (Arc<Current>, Option<Rounds>) {
        loop {
            match self.connected().await {
                Ok((current, rounds)) => return (Arc::new(current), rounds),
                Err(fault) => self.standing.send_modify(|standings| standings.leaves(fault)),
            }
            tokio::time::sleep(pause.next()).await;
        }
    }

    /// A connection that hears, to a store that can be written and holds what our keys open.
    async fn connected(&self) -> Result<(Current, Option<Rounds>), Fault> {
        let heard = Arc::clone(&self.heard);
        let hear = Box::new(move |text: &[u8]| heard.said(text));
        let channel = script::channel(self.prefix());
        let link = self.finder.hearing(script::TEXT, &channel, hear).await?;
        let within = async {
            self.beat().ask(&link).await?;
            self.recognise(&link).await?;
            self.second(&link).await
        };
        let second = tokio::time::timeout(BEHIND, within).await.unwrap_or(Err(Fault::Late))?;
        let rounds = second.map(|second| lasting::rounds(second, self.shared.replicas, self.budget()));
        let (lasting, rounds) = rounds.unzip();
        Ok((Current { link, lasting, fresh: AtomicU64::new(0) }, rounds))
    }

    /// The connection that replicas are waited for on, where they are. It has to lead to the same server: the replicas of
    /// another have nothing of what is done here.
    async fn second(&self, link: &Link) -> Result<Option<Second>, Fault> {
        let Some(connection) = link.lasting() else { return Ok(None) };
        let mark = self.question("mark", TIMELESS).with(Uuid::new_v4().to_string());
        mark.ask(link).await?;
        if mark.ask_over(&connection, &link.script).await? != Value::Int(1) {
            return Err(Fault::Moved);
        }
        // Here, and not when somebody signs in, it shows that our user may not.
        lasting::replicas(&connection, 0, Duration::ZERO).await?;
        Ok(Some(Second { connection, script: link.script.clone(), mark, beat: self.beat() }))
    }

    /// A gateway with other master keys would find no session, and tell everybody that theirs has ended.
    async fn recognise(&self, link: &Link) -> Result<(), Fault> {
        let ours = self.keyring.digest(Purpose::KeyCheck, KEY_TEXT);
        let ask = async |older: String| {
            let question = self.question("key", TIMELESS).with(script::hex(&ours)).with(older);
            let Value::BulkString(text) = question.ask(link).await? else { return Err(Fault::Nonsense) };
            script::unhex(&text).ok_or(Fault::Nonsense)
        };
        let known: Digest = ask(String::new()).await?;
        if known == ours {
            return Ok(());
        }
        if !self.keyring.verify(Purpose::KeyCheck, KEY_TEXT, &known) {
            return Err(Fault::OtherKey);
        }
        // Ours is newer: who has the older one alone could not open what is sealed from now on.
        let known = ask(script::hex(&known)).await?;
        if known == ours { Ok(()) } else { Err(Fault::OtherKey) }
    }

    /// Lets requests ask until the connection is lost.
    async fn serve(&self, current: &Arc<Current>, rounds: Option<Rounds>) {
        {
            let mut place = self.current.write().unwrap_or_else(PoisonError::into_inner);
            // What was read over another connection may have ended while nobody listened.
            self.heard.forgets();
            *place = Some(Arc::clone(current));
            self.standing.send_modify(|standings| standings.now = Standing::Up);
        }
        self.heard.asks_again();
        let waited_for = async {
            match (&current.lasting, rounds) {
                (Some(lasting), Some(mut rounds)) => rounds.run(lasting).await,
                (None, _) | (_, None) => std::future::pending().await,
            }
        };
        let fault = tokio::select! {
            () = self.lost.notified() => return,
            () = self.finder.moved() => Fault::Moved,
            fault = waited_for => fault,
            fault = self.beats(current) => fault,
        };
        self.lose(current, fault);
        // Of whoever has lost it first.
        self.lost.notified().await;
    }

    /// Asks again and again, until it is told otherwise than that it is late: how often that may be is counted where it is
    /// asked.
    async fn beats(&self, current: &Arc<Current>) -> Fault {
        loop {
            match self.asked(current, &self.beat(), self.budget(), true).await {
                Ok(_) | Err(Fault::Late) => {}
                Err(fault) => return fault,
            }
            tokio::time::sleep(BEAT).await;
        }
    }
}
