//! How much is taken, for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::limit::{Rate, class_fault};
use storage::counters::WhenAway;
use storage::sessions::SharedSessions;

use super::reader::{Reader, Section, printable};
use super::redis::Named;
use super::settings::{
    LimitHeaders, Limits, LimitsAway, LimitsSliding, LoginLimits, SessionEnds, SharedLimits,
};

/// How long a request waits for the sessions that gateways share, unless configured otherwise: without an answer it is
/// refused, and most requests need none.
const SESSIONS_BUDGET: Duration = Duration::from_millis(100);
/// What is done once.
const BRINGS: &str = "`session.bring_credentials` is set: take it out when this gateway has started, or a data directory of \
    long ago brings back who was removed since";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// What a limit does while the store that gateways share is away.
const AWAY: [(&str, WhenAway); 3] =
    [("local", WhenAway::Local), ("open", WhenAway::Open), ("closed", WhenAway::Closed)];
/// Bytes of a table of counters: some 2,700 keys at least, and 1 GiB at most.
const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 65_536..=1_073_741_824;
/// How a limit counts; whether that is a sliding window.
const ALGORITHMS: [(&str, bool); 2] = [("rate", false), ("sliding", true)];
const HEADERS: [(&str, LimitHeaders); 3] =
    [("draft", LimitHeaders::Draft), ("both", LimitHeaders::Both), ("none", LimitHeaders::None)];
/// Whose answers have them; whether that is everybody's.
const HEADERS_FOR: [(&str, bool); 2] = [("refused", false), ("all", true)];
const DAY: Duration = Duration::from_secs(86_400);

impl Reader<'_> {
    /// `[session]`: an idle end past the absolute one would never come. With `[session.redis]`, where gateways share them.
    pub(super) fn session(&mut self, root: &mut Section<'_>) -> (SessionEnds, Option<SharedSessions>, bool) {
        let mut section = self.section(root, "session");
        let idle = self.pick(&mut section, "idle", Some("BOTSERVER_SESSION_TIMEOUT"));
        let place = idle.as_ref().map(|written| written.place.clone());
        let idle = self.duration(idle, SECOND..=30 * DAY).unwrap_or(HOUR);
        let absolute = self.pick(&mut section, "absolute", None);
        let place = place.or_else(|| absolute.as_ref().map(|written| written.place.clone()));
        let absolute = self.duration(absolute, SECOND..=30 * DAY).unwrap_or(DAY);
        let replicas = self.pick(&mut section, "replicas", None);
        let replicas = self.number(replicas, 0..=5).and_then(|number| u8::try_from(number).ok()).unwrap_or(0);
        let shared = match self.redis(&mut section, SESSIONS_BUDGET) {
            Named::Absent if replicas > 0 => {
                self.notices.push("`session.replicas` does nothing without `session.redis`".to_owned());
                None
            }
            Named::Absent | Named::Faulty => None,
            Named::There(place, budget) => Some(SharedSessions { place, budget, replicas }),
        };
        let brings = self.pick(&mut section, "bring_credentials", None);
        let brings = self.boolean(brings).unwrap_or(false);
        if brings {
            let nowhere = "`session.bring_credentials` does nothing without `session.redis`";
            self.notices.push(if shared.is_some() { BRINGS } else { nowhere }.to_owned());
        }
        self.finish(&section);
        if let Some(place) = place
            && idle > absolute
        {
            let message = "sessions would end absolutely before they can end by idleness";
            self.fault(place, message, "raise `session.absolute` (24h unless set), or lower the idle end");
        }
        (SessionEnds { idle, absolute }, shared, brings)
    }

    /// `[login]`.
    pub(super) fn login(&mut self, root: &mut Section<'_>) -> LoginLimits {
        let mut section = self.section(root, "login");
        let attempts = self.pick(&mut section, "attempts_max", Some("BOTSERVER_MAX_LOGIN_ATTEMPTS"));
        let attempts = self.number(attempts, 1..=1_000).and_then(|attempts| u32::try_from(attempts).ok());
        let lockout = self.pick(&mut section, "lockout", Some("BOTSERVER_LOCKOUT_DURATION"));
        let lockout = self.duration(lockout, SECOND..=7 * DAY);
        self.finish(&section);
        LoginLimits { attempts_max: attempts.unwrap_or(5), lockout: lockout.unwrap_or(900 * SECOND) }
    }

    /// `[limits]`, `[limits.class.<name>]` and `[limits.redis]`.
    pub(super) fn limits(&mut self, root: &mut Section<'_>) -> (Limits, Option<SharedLimits>) {
        let mut section = self.section(root, "limits");
        let per_address = self.pick(&mut section, "per_address", Some("BOTSERVER_RATE_LIMIT_PER_IP"));
        let per_address = self.rate_or_none(per_address, MINUTE);
        let per_user = self.pick(&mut section, "per_user", Some("BOTSERVER_RATE_LIMIT_PER_USER"));
        let per_user = self.rate_or_none(per_user, HOUR);
        let mut away = LimitsAway::default();
        let written = self.pick(&mut section, "per_address_away", None);
        away.per_address = self.choice(written, &AWAY).unwrap_or_default();
        let written = self.pick(&mut section, "per_user_away", None);
        away.per_user = self.choice(written, &AWAY).unwrap_or_default();
        let mut sliding = LimitsSliding::default();
        let written = self.pick(&mut section, "per_address_algorithm", None);
        sliding.per_address = self.choice(written, &ALGORITHMS).unwrap_or_default();
        let written = self.pick(&mut section, "per_user_algorithm", None);
        sliding.per_user = self.choice(written, &ALGORITHMS).unwrap_or_default();
        let written = self.pick(&mut section, "headers", None);
        let headers = self.choice(written, &HEADERS).unwrap_or_default();
        let written = self.pick(&mut section, "headers_for", None);
        let headers_on_all = self.choice(written, &HEADERS_FOR).unwrap_or_default();
        let memory = self.pick(&mut section, "memory_bytes", None);
        let memory = self.number(memory, MEMORY_BYTES).and_then(|bytes| usize::try_from(bytes).ok());
        let classes = self.classes(&mut section, &mut away, &mut sliding);
        let shared = self.shared_limits(&mut section);
        self.finish(&section);
        let usual = Limits::default();
        let limits = Limits {
            per_address: per_address.unwrap_or(usual.per_address),
            per_user: per_user.unwrap_or(usual.per_user),
            classes,
            sliding,
            away,
            headers,
            headers_on_all,
            memory_bytes: memory.unwrap_or(usual.memory_bytes),
        };
        (limits, shared)
    }

    /// None by default: the address's limit and the lockout hold for sign-ins, and a class that is smaller than the
    /// limits that an operator raised would refuse what they meant to let in.
    fn classes(
        &mut self,
        section: &mut Section<'_>,
        away: &mut LimitsAway,
        sliding: &mut LimitsSliding,
    ) -> BTreeMap<Arc<str>, Rate> {
        let mut classes: BTreeMap<Arc<str>, Rate> = BTreeMap::new();
        let named = self.section(section, "class");
        for (key, value) in named.entries() {
            let line = self.line(&key.span());
            let name = key.get_ref().as_ref();
            if let Some(fault) = class_fault(name) {
                let message = format!("`{}` {fault}", printable(name));
                let remedy = "use 1 to 32 of a-z, 0-9, `-` and `_`, and none of per-address, per-user, refusals, step-ups";
                self.fault(self.in_file(Some(line)), message, remedy);
            }
            let mut table = self.table(named.dotted(name), line, value.get_ref());
            let away_of_class = self.pick(&mut table, "away", None);
            let algorithm = self.pick(&mut table, "algorithm", None);
            let written = self.pick(&mut table, "rate", None);
            // The bundle may say how often; how that is counted is said where that is.
            let is_rate_elsewhere = away_of_class.is_some() && algorithm.is_none();
            if written.is_none() && table.is_present() && !is_rate_elsewhere {
                let message = format!("`{}` is not set", table.dotted("rate"));
                self.fault(self.in_file(Some(line)), message, "for example: rate = \"10/1m\"");
            }
            if let Some(rate) = self.rate(written, MINUTE) {
                classes.insert(Arc::from(name), rate);
            }
            if let Some(chosen) = self.choice(away_of_class, &AWAY) {
                away.classes.insert(Arc::from(name), chosen);
            }
            let written = algorithm;
            if self.choice(written, &ALGORITHMS) == Some(true) {
                sliding.classes.insert(Arc::from(name));
            }
            self.finish(&table);
        }
        classes
    }

    /// The bound of a body: zero would refuse every upload, which a policy says better.
    pub(super) fn upload_bytes_max(&mut self, root: &mut Section<'_>) -> u64 {
        const DEFAULT: u64 = 100 * 1024 * 1024;
        let written = self.pick(root, "upload_bytes_max", Some("BOTSERVER_MAX_UPLOAD_SIZE"));
        self.number(written, 1..=1024 * 1024 * 1024 * 1024).unwrap_or(DEFAULT)
    }

    /// `[shutdown]`: how long running requests may take to end.
    pub(super) fn shutdown_drain(&mut self, root: &mut Section<'_>) -> Duration {
        let mut section = self.section(root, "shutdown");
        let drain = self.pick(&mut section, "drain", None);
        let drain = self.duration(drain, Duration::ZERO..=HOUR);
        self.finish(&section);
        drain.unwrap_or(30 * SECOND)
    }
}
