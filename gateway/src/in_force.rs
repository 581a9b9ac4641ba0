//! The limits that are in force: those that the bundle names, and for the others those of the configuration.
//!
//! There is one order, for each limit as a whole (how often, how it is counted, whether it is only tried out): the bundle's
//! `limits.toml`, then a variable of the environment, then the configuration file, then what holds unless something is said.
//! The bundle comes first because it is what was reviewed: a setting of one machine that outdid it would make of every
//! reviewed limit a guess. What a limit does while a shared store is away is the machine's to say, always.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::bundle::{self, Bundle, Recounted};
use engine::limit::{Limit, PER_ADDRESS, PER_USER, Rate};
use engine::route::CLASSES;
use engine::time::UnixMillis;
use storage::counters::{LimitKey, Take, WhenAway};

use crate::config::settings::Limits;

/// All limits, as requests meet them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Requests of one address, before anything is parsed.
    pub per_address: Held,
    /// Permitted requests of one principal.
    pub per_user: Held,
    /// Requests of one principal, or of one address where nobody is known, in each class that has a limit.
    pub classes: BTreeMap<Arc<str>, Held>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub limit: Limit,
    /// What it does while the store that gateways share is away.
    pub away: WhenAway,
    /// Whether the bundle says it; otherwise the configuration does, or nobody.
    pub bundled: bool,
}

impl Held {
    /// Takes one of it. It has been what it is since then.
    #[must_use]
    pub fn take<'a>(&self, key: LimitKey<'a>, since: UnixMillis) -> Take<'a> {
        Take::new(key.sliding(self.limit.sliding), self.limit.rate).when_away(self.away).since(since)
    }
}

impl InForce {
    /// What holds of both together.
    #[must_use]
    pub fn of(settings: &Limits, bundle: &bundle::Limits) -> Self {
        let held = |bundled: Option<Limit>, rate, sliding, away| Held {
            limit: bundled.unwrap_or(Limit { rate, sliding, shadow: false }),
            away,
            bundled: bundled.is_some(),
        };
        let (sliding, away) = (&settings.sliding, &settings.away);
        let of_class = |class: &Arc<str>, bundled, rate| {
            (class.clone(), held(bundled, rate, sliding.classes.contains(class), away.class(class)))
        };
        let configured = settings.classes.iter().map(|(class, rate)| of_class(class, None, *rate));
        let bundled = bundle.classes.iter().map(|(class, limit)| of_class(class, Some(*limit), limit.rate));
        Self {
            per_address: held(
                bundle.per_address,
                settings.per_address,
                sliding.per_address,
                away.per_address,
            ),
            per_user: held(bundle.per_user, settings.per_user, sliding.per_user, away.per_user),
            // Of two of one name the later stays.
            classes: configured.chain(bundled).collect(),
        }
    }

    /// Each by its name.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Held)> {
        let own = [(PER_ADDRESS, &self.per_address), (PER_USER, &self.per_user)];
        own.into_iter().chain(self.classes.iter().map(|(class, held)| (class.as_ref(), held)))
    }

    /// How these let more through than those before did, in sentences: nothing that may happen by itself (threat 17).
    #[must_use]
    pub fn loosens(&self, before: &Self) -> Vec<String> {
        let after: BTreeMap<&str, &Held> = self.named().collect();
        let said = |(name, before): (&str, &Held)| {
            let how = match after.get(name) {
                _ if !before.limit.refuses() => None,
                None => Some("is gone".to_owned()),
                Some(after) => looser(before.limit, after.limit),
            };
            how.map(|how| format!("limit `{name}` {how}"))
        };
        before.named().filter_map(said).collect()
    }

    /// What grants have counted by a limit that can let more through than the one that counted it before, in sentences:
    /// a loosening as well.
    #[must_use]
    pub fn widens(&self, before: &Self, recounted: &BTreeSet<Recounted>) -> Vec<String> {
        let said = |Recounted { grant, before: from, after: to }: &Recounted| {
            let held = before.classes.get(from).map(|held| held.limit).filter(|held| held.refuses())?;
            let after = self.classes.get(to).map(|held| held.limit);
            let wider = after.is_none_or(|after| !after.refuses() || lets_more(held, after));
            let now = after.map_or("no limit".to_owned(), |after| after.to_string());
            wider.then(|| {
                format!(
                    "grant `{grant}` may have counted in `{to}` ({now}) what was counted in `{from}` ({held})"
                )
            })
        };
        recounted.iter().filter_map(said).collect()
    }
}

/// How one bundle permits, or lets through, what another did not, in sentences, with these settings: nothing that may happen
/// by itself (threat 17).
#[must_use]
pub fn loosenings(settings: &Limits, before: &Bundle, after: &Bundle) -> Vec<String> {
    let [limits_before, limits] = [before, after].map(|bundle| InForce::of(settings, bundle.limits()));
    let mut loosens = after.loosens(before);
    loosens.extend(limits.loosens(&limits_before));
    loosens.extend(limits.widens(&limits_before, &after.recounted(before)));
    loosens
}

fn looser(before: Limit, after: Limit) -> Option<String> {
    let Limit { rate, sliding, shadow } = after;
    if !rate.limits() {
        return Some("limits nobody any more".to_owned());
    }
    if shadow {
        return Some("refuses nobody any more".to_owned());
    }
    if sliding != before.sliding {
        return Some("counts in another way, so that all that was taken of it is there again".to_owned());
    }
    lets_more(before, after).then(|| format!("is {rate} instead of {}", before.rate))
}

/// Whether one limit can let more through than another, in some span of time.
fn lets_more(before: Limit, after: Limit) -> bool {
    let (one, other) = (before.rate, after.rate);
    let faster = u128::from(other.count) * u128::from(one.period_ms)
        > u128::from(one.count) * u128::from(other.period_ms);
    // Of shorter periods several begin in one period of a window, and a rate has its burst besides.
    let periods = u128::from(one.period_ms.div_ceil(other.period_ms.max(1))) + u128::from(!after.sliding);
    let more_in_a_window = before.sliding && u128::from(other.count) * periods > u128::from(one.count);
    other.count > one.count || faster || more_in_a_window
}

/// What of the configuration does nothing because the bundle says it, for whoever starts the gateway.
#[must_use]
pub fn outdone(settings: &Limits, bundle: &bundle::Limits) -> Vec<String> {
    let usual = Limits::default();
    let own = [
        ("limits.per_address", settings.per_address, usual.per_address, bundle.per_address),
        ("limits.per_user", settings.per_user, usual.per_user, bundle.per_user),
    ];
    // Nobody need be told that what they have not set, or set to what holds anyway, does nothing.
    let own = own.into_iter().filter(|(_, set, usual, _)| set != usual);
    let own = own.filter_map(|(name, set, _, bundled)| Some((name.to_owned(), set, bundled?)));
    let classes = settings.classes.iter().filter_map(|(class, rate)| {
        Some((format!("limits.class.{class}.rate"), *rate, *bundle.classes.get(class)?))
    });
    let told = |(name, set, bundled): (String, Rate, Limit)| {
        format!("`{name}` ({set}) does nothing: the bundle's limits.toml says {bundled}")
    };
    own.chain(classes).map(told).collect()
}

/// What of the configuration does not fit a bundle, each with its remedy: a class that nothing is counted in, for a misspelt
/// one would be a limit that limits nothing; and a limit that some route costs more than.
#[must_use]
pub fn misfits(settings: &Limits, bundle: &Bundle) -> BTreeMap<String, (String, String)> {
    let limited = &bundle.limits().classes;
    let is_of_a_route = |class: &str| bundle.routes().routes().iter().any(|route| &*route.class == class);
    let mut misfits = BTreeMap::new();
    for class in
        settings.classes.keys().filter(|class| !limited.contains_key(*class) && !is_of_a_route(class))
    {
        let message = format!("limit class `{class}` has a rate, and no route is of it");
        let remedy = format!("correct its name: the classes are {}", CLASSES.join(", "));
        misfits.insert(format!("class {class}"), (message, remedy));
    }
    for class in settings.away.classes.keys() {
        if !settings.classes.contains_key(class) && !limited.contains_key(class) {
            let message = format!("limit class `{class}` has `away` and no rate");
            let remedy =
                format!("add limits.class.{class}.rate, or [class.{class}] to the bundle's limits.toml");
            misfits.insert(format!("class {class}"), (message, remedy));
        }
    }
    misfits.extend(never_pass(settings, bundle));
    misfits
}

/// Rows that cost more than the whole of a limit of the configuration: no request of theirs would ever pass. The bundle's own
/// limits are held against them where it is loaded. One row of each limit is named.
fn never_pass(settings: &Limits, bundle: &Bundle) -> BTreeMap<String, (String, String)> {
    let limits = InForce::of(settings, bundle.limits());
    let mut found = BTreeMap::new();
    for (route, counted) in bundle.dear() {
        let classes =
            limits.classes.iter().map(|(name, held)| (&**name, held, format!("limits.class.{name}.rate")));
        let of_user = (PER_USER, &limits.per_user, "limits.per_user".to_owned());
        for (name, held, setting) in classes.chain([of_user]).filter(|(name, ..)| counted.contains(*name)) {
            let Held { limit, bundled, .. } = held;
            if !bundled && limit.refuses() && limit.rate.count < route.cost {
                let (row, cost) = (&route.name, route.cost);
                let message = format!(
                    "route `{row}` costs {cost} and limit `{name}` is {limit}: no request could ever pass"
                );
                let remedy = format!("raise `{setting}` to at least {cost}, or lower the route's `cost`");
                found.entry(format!("cost {name}")).or_insert((message, remedy));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{LimitsAway, LimitsSliding};

    fn limit(text: &str) -> Limit {
        Limit { rate: text.parse().unwrap(), sliding: false, shadow: false }
    }

    #[test]
    fn a_limit_is_the_bundles_as_a_whole_or_the_configurations() {
        let settings = Limits {
            per_user: "7/1m".parse().unwrap(),
            classes: [("llm".into(), "5/1m".parse().unwrap()), ("chat".into(), "6/1m".parse().unwrap())]
                .into(),
            sliding: LimitsSliding { per_address: true, per_user: true, classes: ["llm".into()].into() },
            away: LimitsAway {
                per_address: WhenAway::Open,
                per_user: WhenAway::Closed,
                classes: [("premium".into(), WhenAway::Open)].into(),
            },
            ..Limits::default()
        };
        let shadowed = Limit { shadow: true, ..limit("9/1m") };
        let bundle = bundle::Limits {
            per_address: None,
            per_user: Some(limit("8/1h")),
            classes: [
                ("llm".into(), shadowed),
                ("premium".into(), limit("1/1s")),
                ("auth".into(), limit("2/1s")),
            ]
            .into(),
        };
        let held = InForce::of(&settings, &bundle);
        let told: Vec<(&str, String, WhenAway, bool)> = held
            .named()
            .map(|(name, held)| (name, held.limit.to_string(), held.away, held.bundled))
            .collect();
        let expected = [
            ("per-address", "100/1m sliding", WhenAway::Open, false),
            ("per-user", "8/1h", WhenAway::Closed, true),
            ("auth", "2/1s", WhenAway::Closed, true),
            ("chat", "6/1m", WhenAway::Local, false),
            ("llm", "9/1m, shadowed", WhenAway::Local, true),
            ("premium", "1/1s", WhenAway::Open, true),
        ];
        assert_eq!(
            told,
            expected.map(|(name, limit, away, bundled)| (name, limit.to_owned(), away, bundled))
        );
        let said = outdone(&settings, &bundle);
        let expected = [
            "`limits.per_user` (7/1m) does nothing: the bundle's limits.toml says 8/1h",
            "`limits.class.llm.rate` (5/1m) does nothing: the bundle's limits.toml says 9/1m, shadowed",
        ];
        assert_eq!(said, expected);
        assert!(outdone(&Limits::default(), &bundle).is_empty(), "nobody has set anything");
    }

    #[test]
    fn a_row_that_costs_more_than_a_limit_of_the_configuration_has_is_a_misfit() {
        let bundle = |limits: &str| {
            let mut sources = crate::bundle_dir::shipped();
            let docs = sources.files.get_mut("routes/docs.toml").unwrap();
            *docs = docs.replace("action = \"ai.chat\", class", "action = \"ai.chat\", cost = 20, class");
            sources.files.insert("limits.toml".to_owned(), limits.to_owned());
            Bundle::load(&sources).unwrap()
        };
        let says = |bundle: &Bundle, user: &str, llm: &str| {
            let of = |text: &str| text.parse().unwrap();
            let settings =
                Limits { per_user: of(user), classes: [("llm".into(), of(llm))].into(), ..Limits::default() };
            misfits(&settings, bundle).into_values().map(|(says, _)| says).collect::<Vec<_>>()
        };
        let plain = bundle("");
        let row = "route `POST /api/docs/ai` costs 20 and limit";
        assert!(says(&plain, "20/1m", "20/1m").is_empty());
        assert_eq!(
            says(&plain, "19/1h", "10/1m"),
            [("llm", "10/1m"), ("per-user", "19/1h")]
                .map(|(name, limit)| format!("{row} `{name}` is {limit}: no request could ever pass"))
        );
        // A class that no grant leaves the row in counts none of its requests, and the one that grants give does.
        let mut given = crate::bundle_dir::shipped();
        for (name, text) in &mut given.files {
            if name == "routes/docs.toml" {
                *text = text.replace("action = \"ai.chat\", class", "action = \"ai.chat\", cost = 20, class");
            } else if name.starts_with("grants/") {
                *text = text.replace("@owner(", "@limit_class(\"wide\")\n@owner(");
            }
        }
        given.files.insert("limits.toml".to_owned(), "[class.wide]\nrate = \"100/1m\"\n".to_owned());
        assert!(says(&Bundle::load(&given).unwrap(), "20/1m", "10/1m").is_empty());
        // What the bundle says instead is judged with it.
        let bundled = bundle("[per_user]\nrate = \"20/1m\"\n[class.llm]\nrate = \"1/1h\"\nshadow = true\n");
        assert!(says(&bundled, "19/1h", "10/1m").is_empty());
    }

    #[test]
    fn what_lets_more_through_is_said_and_what_does_not_is_not() {
        let check = |before: Limit, after: Option<Limit>, says: &str| {
            let of = |limit: Option<Limit>| {
                let classes = limit.map(|limit| ("llm".into(), limit)).into_iter().collect();
                let bundle = bundle::Limits { per_address: None, per_user: None, classes };
                InForce::of(&Limits::default(), &bundle)
            };
            let said = of(after).loosens(&of(Some(before))).join("; ");
            let expected = if says.is_empty() { String::new() } else { format!("limit `llm` {says}") };
            assert_eq!(said, expected, "{before} {after:?}");
        };
        let base = limit("60/1m");
        let (sliding, shadow) = (Limit { sliding: true, ..base }, Limit { shadow: true, ..base });
        check(base, Some(base), "");
        check(base, Some(limit("59/1m")), "");
        check(base, Some(limit("60/2m")), "");
        check(base, Some(limit("61/1m")), "is 61/1m instead of 60/1m");
        check(base, Some(limit("60/59s")), "is 60/59s instead of 60/1m");
        check(base, Some(limit("2/1s")), "is 2/1s instead of 60/1m");
        // Slower, and yet more at once.
        check(base, Some(limit("100/1h")), "is 100/1h instead of 60/1m");
        // A window that is shorter begins twice in the other.
        let window = |text: &str| Limit { sliding: true, ..limit(text) };
        check(window("60/1m"), Some(window("40/40s")), "is 40/40s instead of 60/1m");
        check(window("60/1m"), Some(window("30/40s")), "");
        check(window("60/1m"), Some(window("60/90s")), "");
        check(base, Some(shadow), "refuses nobody any more");
        check(base, Some(sliding), "counts in another way, so that all that was taken of it is there again");
        check(sliding, Some(base), "counts in another way, so that all that was taken of it is there again");
        check(base, Some(Limit { rate: Rate::NONE, ..base }), "limits nobody any more");
        check(base, None, "is gone");
        // What refused nobody holds nobody back.
        check(shadow, None, "");
        check(shadow, Some(limit("1000/1m")), "");
        check(shadow, Some(base), "");
    }

    #[test]
    fn a_grant_that_counts_by_a_wider_limit_is_said() {
        let check = |before: Option<Limit>, after: Option<Limit>, wider: Option<&str>| {
            let of = |class: &str, limit: Option<Limit>| {
                let classes = limit.map(|limit| (class.into(), limit)).into_iter().collect();
                let bundle = bundle::Limits { per_address: None, per_user: None, classes };
                InForce::of(&Limits::default(), &bundle)
            };
            let recounted =
                Recounted { grant: "docs.premium".into(), before: "llm".into(), after: "wide".into() };
            let said = of("wide", after).widens(&of("llm", before), &[recounted].into()).join("; ");
            let expected = wider.map(|how| format!("grant `docs.premium` may have counted in `wide` ({how}"));
            let expected = expected.unwrap_or_default();
            assert!(said.starts_with(&expected) && said.is_empty() == wider.is_none(), "{said}");
        };
        let base = limit("60/1m");
        let window = |text: &str| Limit { sliding: true, ..limit(text) };
        check(Some(base), Some(base), None);
        check(Some(base), Some(limit("59/2m")), None);
        check(Some(base), Some(limit("61/1m")), Some("61/1m) what was counted in `llm` (60/1m)"));
        check(Some(base), Some(limit("1000/1d")), Some("1000/1d)"));
        check(Some(base), None, Some("no limit) what"));
        check(Some(base), Some(Limit { shadow: true, ..limit("1/1m") }), Some("1/1m, shadowed)"));
        // A window of the same limit is narrower than a rate, and a rate is no window unless it has half of it.
        check(Some(base), Some(window("60/1m")), None);
        check(Some(window("60/1m")), Some(base), Some("60/1m)"));
        check(Some(window("60/1m")), Some(limit("30/1m")), None);
        check(Some(window("60/1m")), Some(limit("30/50s")), Some("30/50s)"));
        // What held nobody back.
        check(None, Some(base), None);
        check(Some(Limit { shadow: true, ..limit("1/1m") }), Some(base), None);
    }
}
