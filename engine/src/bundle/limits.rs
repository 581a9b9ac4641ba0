//! `limits.toml`: the limits that a bundle brings along, so that they are checked, compared and swapped with it.
//!
//! What is written here is what is promised to clients and to whoever pays: how often, how it is counted, and whether it is
//! only tried out (`shadow`). Where it is counted, and what happens without that store, is a matter of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::sources::LIMITS;
use super::{BundleFault, BundleSources, Place, PolicyFacts};
use crate::limit::{Limit, PERIOD_MS_MAX, PERIOD_MS_MIN, RATE_COUNT_MAX, Rate, class_fault, spelt};
use crate::route::Declared;

/// Classes with a limit in one bundle, at most: each is a counter of everybody who asks.
pub const CLASSES_MAX: usize = 64;

const REMEDY: &str = "see `limits.toml` in policies/README.md";

/// The limits that a bundle brings along. What it does not name is left to the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one address, before anything is parsed.
    pub per_address: Option<Limit>,
    /// Permitted requests of one principal.
    pub per_user: Option<Limit>,
    /// Requests of one principal, or of one address where nobody is known, in each class.
    pub classes: BTreeMap<Arc<str>, Limit>,
}

impl Limits {
    /// Each that it names, by the name that refusals and records have.
    pub fn named(&self) -> impl Iterator<Item = (&str, Limit)> {
        let own = [(crate::limit::PER_ADDRESS, self.per_address), (crate::limit::PER_USER, self.per_user)];
        let own = own.into_iter().filter_map(|(name, limit)| Some((name, limit?)));
        own.chain(self.classes.iter().map(|(name, limit)| (name.as_ref(), *limit)))
    }
}

/// What was read of the file.
#[derive(Default)]
pub(super) struct ReadLimits {
    pub(super) limits: Limits,
    /// The lines of all classes that it names, those with a fault included.
    lines: BTreeMap<String, usize>,
    /// Whether it could not be read at all: then nobody knows which classes it names.
    unread: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    rate: Option<Spanned<String>>,
    algorithm: Option<Spanned<Algorithm>>,
    #[serde(default)]
    shadow: bool,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Algorithm {
    Rate,
    Sliding,
}

impl ReadLimits {
    /// Reads the file, where there is one: the limits that hold, and every fault of those that do not.
    pub(super) fn of(sources: &BundleSources, faults: &mut Vec<BundleFault>) -> Self {
        let Some(text) = sources.files.get(LIMITS) else { return Self::default() };
        let place = Place::new(LIMITS, text);
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            faults.extend(errors.iter().map(|error| toml_fault(&place, error, 0)));
            return Self { unread: true, ..Self::default() };
        }
        let mut read = Self::default();
        for (key, value) in document.into_inner() {
            let at = key.span().start;
            match &**key.get_ref() {
                "per_address" => read.limits.per_address = limit(&place, at, value, true, faults),
                "per_user" => read.limits.per_user = limit(&place, at, value, true, faults),
                "class" => read.classes(&place, at, value, faults),
                other => {
                    let message = format!("`{other}` is no limit");
                    let remedy = "write [per_address], [per_user] or [class.NAME]";
                    faults.push(place.fault(Some(at), message, remedy));
                }
            }
        }
        read
    }

    fn classes(
        &mut self,
        place: &Place<'_>,
        at: usize,
        value: Spanned<DeValue<'_>>,
        faults: &mut Vec<BundleFault>,
    ) {
        let DeValue::Table(classes) = value.into_inner() else {
            return faults.push(place.fault(Some(at), "`class` is no table", "write [class.NAME]"));
        };
        if classes.len() > CLASSES_MAX {
            let message = format!("{} classes have a limit, at most {CLASSES_MAX}", classes.len());
            faults.push(place.fault(Some(at), message, "let routes share classes"));
        }
        for (key, value) in classes {
            let (at, name) = (key.span().start, &**key.get_ref());
            if let Some(fault) = class_fault(name) {
                let remedy = "use 1 to 32 of a-z, 0-9, `-` and `_`, and none of per-address, per-user, refusals, step-ups";
                faults.push(place.fault(Some(at), format!("`{name}` {fault}"), remedy));
            }
            self.lines.insert(name.to_owned(), place.line(at));
            if let Some(limit) = limit(place, at, value, false, faults) {
                self.limits.classes.insert(Arc::from(name), limit);
            }
        }
    }

    /// Whether the file names this class.
    pub(super) fn knows(&self, class: &str) -> bool {
        self.unread || self.lines.contains_key(class)
    }

    /// A limit that nothing is counted by is most likely misspelt, and so is a class that a policy gives and that has none:
    /// what is counted in it would be free of any.
    pub(super) fn check(
        &self,
        declared: &[Declared],
        policies: &BTreeMap<Arc<str>, Arc<PolicyFacts>>,
        faults: &mut Vec<BundleFault>,
    ) {
        let of_routes = declared.iter().map(|row| row.route.class.as_ref());
        let given = policies.values().filter_map(|facts| facts.limit_class.as_deref());
        let used: BTreeSet<&str> = of_routes.chain(given).collect();
        for (class, line) in self.lines.iter().filter(|(class, _)| !used.contains(class.as_str())) {
            let message = format!("class `{class}` has a limit, and no route or policy is of it");
            let remedy =
                "correct its name, give it to a route (`class`) or a grant (`@limit_class`), or remove it";
            faults.push(BundleFault::new(LIMITS, Some(*line), message, remedy));
        }
        for facts in policies.values() {
            if let Some(class) = facts.limit_class.as_deref().filter(|class| !self.lines.contains_key(*class))
            {
                let message =
                    format!("@limit_class `{class}` has no limit: what it counts would be free of any");
                let remedy = format!("give it one in limits.toml: [class.{class}]");
                faults.push(BundleFault::new(&facts.file, Some(facts.line), message, remedy));
            }
        }
    }
}

/// One limit; `none` is one for addresses and principals alone, because a class need not have any.
fn limit(
    place: &Place<'_>,
    at: usize,
    value: Spanned<DeValue<'_>>,
    may_be_none: bool,
    faults: &mut Vec<BundleFault>,
) -> Option<Limit> {
    let raw = match Raw::deserialize(ValueDeserializer::from(value)) {
        Ok(raw) => raw,
        Err(error) => {
            faults.push(toml_fault(place, &error, at));
            return None;
        }
    };
    let Some(written) = raw.rate else {
        faults.push(place.fault(Some(at), "the limit has no rate", "for example: rate = \"100/1m\""));
        return None;
    };
    let rate = match written.get_ref().as_str() {
        "none" if may_be_none => Ok(Rate::NONE),
        text => text.parse(),
    };
    let Ok(rate) = rate else {
        let none = if may_be_none { ", or \"none\"" } else { "" };
        let remedy = format!(
            "write a count from 1 to {RATE_COUNT_MAX} and a period from {} to {}, for example \"100/1m\"{none}",
            spelt(PERIOD_MS_MIN),
            spelt(PERIOD_MS_MAX),
        );
        let message = format!("`{}` is not a rate", written.get_ref());
        faults.push(place.fault(Some(written.span().start), message, remedy));
        return None;
    };
    let sliding = raw.algorithm.is_some_and(|algorithm| *algorithm.get_ref() == Algorithm::Sliding);
    Some(Limit { rate, sliding, shadow: raw.shadow })
}

/// A place of 0 is none that the error has, or the beginning: the table's own says more.
fn toml_fault(place: &Place<'_>, error: &toml::de::Error, at: usize) -> BundleFault {
    let own = error.span().map(|span| span.start).filter(|start| *start > 0);
    place.fault(Some(own.unwrap_or(at)), error.message(), REMEDY)
}
