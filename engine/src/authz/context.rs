//! The context of a request: what the gateway knows of it, each attribute made a value when somebody looks at it.
//!
//! A record of all of them was a quarter of a decision's cost, and most conditions look at one or two. What is left out
//! here is missing for policies, so that a condition that looks at it fails.
//!
//! What has been looked at is told with the decision, so that a record holds what it takes to ask again, and no more.

use std::cell::{Cell, OnceCell};
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::AuthzRequest;
use super::cedar_core::{Attributes, Text, Value};
use super::prepared::{KnownAction, KnownPrincipal, Prepared};
use crate::audit::{Read, Reading};
use crate::identity::Identity;
use crate::time::UnixMillis;

/// An attribute of the context that the gateway supplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Supplied {
    Assurance,
    Class,
    Client,
    Method,
    Parameters,
    Scopes,
    Time,
    Tls,
}

impl Supplied {
    /// All of them, in the order of their names.
    const ALL: [Self; 8] = [
        Self::Assurance,
        Self::Class,
        Self::Client,
        Self::Method,
        Self::Parameters,
        Self::Scopes,
        Self::Time,
        Self::Tls,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Assurance => "assurance",
            Self::Class => "class",
            Self::Client => "client",
            Self::Method => "method",
            Self::Parameters => "parameters",
            Self::Scopes => "scopes",
            Self::Time => "time",
            Self::Tls => "tls",
        }
    }
}

/// An attribute's name, with what the gateway supplies under it: found out once, when a condition is compiled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Name {
    pub(super) text: Text,
    supplied: Option<Supplied>,
}

impl Name {
    pub(super) fn supplied(&self) -> Option<Supplied> {
        self.supplied
    }
}

impl From<Text> for Name {
    fn from(text: Text) -> Self {
        let supplied = Supplied::ALL.into_iter().find(|supplied| supplied.name() == text.as_str());
        Self { text, supplied }
    }
}

/// What the gateway knows of one request. Nothing of it changes while it is decided.
pub(super) struct Facts<'a> {
    request: &'a AuthzRequest<'a>,
    action: &'a KnownAction,
    principal: &'a KnownPrincipal,
    prepared: &'a Prepared,
    class: OnceCell<Value>,
    client: OnceCell<Option<Value>>,
    method: OnceCell<Value>,
    time: OnceCell<Option<Value>>,
    tls: OnceCell<Value>,
    /// The parameters by their place in the request.
    parameters: OnceCell<SmallVec<[OnceCell<Option<Value>>; 4]>>,
    /// The parameters as one record.
    record: OnceCell<Value>,
    /// A record without anything.
    empty: OnceCell<Value>,
    whole: OnceCell<Arc<Attributes>>,
    /// What has been looked at: one bit for each attribute.
    seen: Cell<u8>,
    /// The same for the parameters by their place; the last bit stands for all from its place on.
    seen_parameters: Cell<u64>,
}

/// The bit of a parameter.
fn bit(place: usize) -> u64 {
    1 << place.min(63)
}

impl<'a> Facts<'a> {
    pub(super) fn of(
        request: &'a AuthzRequest<'a>,
        action: &'a KnownAction,
        principal: &'a KnownPrincipal,
        prepared: &'a Prepared,
    ) -> Self {
        Self {
            request,
            action,
            principal,
            prepared,
            class: OnceCell::new(),
            client: OnceCell::new(),
            method: OnceCell::new(),
            time: OnceCell::new(),
            tls: OnceCell::new(),
            parameters: OnceCell::new(),
            record: OnceCell::new(),
            empty: OnceCell::new(),
            whole: OnceCell::new(),
            seen: Cell::new(0),
            seen_parameters: Cell::new(0),
        }
    }

    /// The client's address as policies see it, without its value. A listener for both families sees IPv4 in IPv6 clothes:
    /// one spelling, so that ranges hold for it.
    pub(super) fn client(&self) -> IpAddr {
        self.see(Supplied::Client);
        self.request.client.to_canonical()
    }

    fn see(&self, supplied: Supplied) {
        self.seen.set(self.seen.get() | 1 << supplied as u8);
    }

    fn has_seen(&self, supplied: Supplied) -> bool {
        self.seen.get() & 1 << supplied as u8 != 0
    }

    pub(super) fn get(&self, supplied: Supplied) -> Option<&Value> {
        self.see(supplied);
        let Self { request, prepared, .. } = self;
        match supplied {
            Supplied::Assurance => Some(&self.principal.assurance),
            Supplied::Class => Some(self.class.get_or_init(|| Value::new(request.class, None))),
            Supplied::Client => self.client.get_or_init(|| prepared.address(request.client)).as_ref(),
            Supplied::Method => Some(self.method.get_or_init(|| Value::new(request.method, None))),
            Supplied::Parameters => Some(self.record()),
            Supplied::Scopes => Some(&self.principal.scopes),
            Supplied::Time => self.time.get_or_init(|| prepared.moment(request.now)).as_ref(),
            Supplied::Tls => Some(self.tls.get_or_init(|| Value::new(request.tls, None))),
        }
    }

    /// The parameter of this name. There are few, and looking through them costs less than a table.
    pub(super) fn parameter(&self, name: &str) -> Option<&Value> {
        let asked = self.request.parameters;
        let place = asked.iter().position(|(asked, _)| asked == name)?;
        self.seen_parameters.set(self.seen_parameters.get() | bit(place));
        let made = self.parameters.get_or_init(|| asked.iter().map(|_| OnceCell::new()).collect());
        let make = || asked.get(place).and_then(|(name, value)| self.action.parameter(name, value));
        made.get(place)?.get_or_init(make).as_ref()
    }

    /// A record, for those who ask of the parameters only that they are one.
    pub(super) fn any_record(&self) -> &Value {
        self.empty.get_or_init(|| Value::record_arc(Arc::new(Attributes::new()), None))
    }

    fn record(&self) -> &Value {
        // Whoever has the record has all that is in it.
        self.seen_parameters.set(u64::MAX);
        self.record.get_or_init(|| {
            let names = self.request.parameters.iter().map(|(name, _)| name);
            let record: Attributes =
                names.filter_map(|name| Some((Text::new(name), self.parameter(name)?.clone()))).collect();
            Value::record_arc(Arc::new(record), None)
        })
    }

    /// What has been looked at, with what was found.
    pub(super) fn read(&self) -> Read {
        if self.seen.get() == 0 && self.seen_parameters.get() == 0 {
            return Read::default();
        }
        let mut reading = Reading::begin();
        for supplied in Supplied::ALL {
            if supplied == Supplied::Parameters {
                self.read_parameters(&mut reading);
            } else if self.has_seen(supplied) {
                self.read_one(supplied, &mut reading);
            }
        }
        reading.end()
    }

    fn read_one(&self, supplied: Supplied, reading: &mut Reading) {
        let (request, name) = (self.request, supplied.name());
        if self.prepared.is_sensitive(name) {
            return reading.redacted(name, None);
        }
        let principal = match request.identity {
            Identity::Anonymous => None,
            Identity::Known(principal) => Some(principal),
        };
        match supplied {
            Supplied::Assurance => {
                reading.number(name, principal.map_or(0, |principal| principal.assurance.into()))
            }
            Supplied::Class => reading.text(name, None, request.class),
            Supplied::Client => reading.address(name, request.client.to_canonical()),
            Supplied::Method => reading.text(name, None, request.method),
            // One by one, by whoever asks for them.
            Supplied::Parameters => {}
            Supplied::Scopes => match principal {
                Some(principal) => reading.texts(name, principal.scopes.iter().map(String::as_str)),
                None => reading.texts(name, std::iter::empty()),
            },
            // As policies see it: the second.
            Supplied::Time => reading.moment(name, UnixMillis(request.now.0 - request.now.0 % 1_000)),
            Supplied::Tls => reading.truth(name, request.tls),
        }
    }

    fn read_parameters(&self, reading: &mut Reading) {
        for (name, value) in self.seen_parameters() {
            if self.prepared.is_sensitive(name) || self.prepared.is_sensitive(Supplied::Parameters.name()) {
                reading.redacted(Supplied::Parameters.name(), Some(name));
            } else {
                reading.text(Supplied::Parameters.name(), Some(name), value);
            }
        }
    }

    /// The parameters that have been looked at, by their names ascending.
    fn seen_parameters(&self) -> SmallVec<[(&str, &str); 4]> {
        let places = self.request.parameters.iter().enumerate();
        let seen = places.filter(|(place, _)| self.seen_parameters.get() & bit(*place) != 0);
        let mut seen: SmallVec<[(&str, &str); 4]> =
            seen.map(|(_, (name, value))| (&**name, value.as_str())).collect();
        seen.sort_unstable();
        seen
    }

    /// The names of all that has been looked at, as [`Self::read`] spells them.
    pub(super) fn names_read(&self) -> Vec<String> {
        let attributes = Supplied::ALL.into_iter().filter(|supplied| self.has_seen(*supplied));
        let attributes = attributes.filter(|supplied| *supplied != Supplied::Parameters);
        let mut names: Vec<String> =
            attributes.map(|supplied| format!("context.{}", supplied.name())).collect();
        let parameters = self.seen_parameters().into_iter();
        names.extend(parameters.map(|(name, _)| format!("context.parameters.{name}")));
        names
    }

    /// All of it as one record, for conditions that look at the context itself, and for Cedar.
    pub(super) fn whole(&self) -> &Arc<Attributes> {
        self.seen.set(u8::MAX);
        self.seen_parameters.set(u64::MAX);
        self.whole.get_or_init(|| {
            let all = Supplied::ALL.into_iter();
            Arc::new(
                all.filter_map(|supplied| {
                    Some((Text::new_static(supplied.name()), self.get(supplied)?.clone()))
                })
                .collect(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::cedar_core::{Context, Request};
    use super::super::tests::{principal, request, user};
    use super::*;
    use crate::bundle::tests::fixture::{load, sources, with};
    use crate::identity::{Identity, PrincipalKind};
    use crate::time::UnixMillis;

    #[test]
    fn the_context_is_the_one_that_cedar_is_given() {
        let bundle = load(&sources());
        let strong = principal(PrincipalKind::User, &["role:reader"]);
        let scoped = crate::identity::Principal {
            assurance: 3,
            scopes: ["docs.read".to_owned(), "docs.write".to_owned()].into(),
            ..strong
        };
        let identities = [user(&["role:reader"]), Identity::Known(Arc::new(scoped)), Identity::Anonymous];
        let long = "x".repeat(100);
        let parameters = [vec![], vec![("page", "7")], vec![("id", long.as_str()), ("page", "-1")]];
        let clients = ["192.0.2.1", "::ffff:192.0.2.9", "2001:db8::1", "::1"];
        let mut compared = 0;
        for (identity, parameters) in
            identities.iter().flat_map(|one| parameters.iter().map(move |two| (one, two)))
        {
            let parameters: Vec<_> =
                parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            for (client, now) in clients.iter().zip([0, 1_767_787_200_999, 4_107_542_400_000, u64::MAX]) {
                let asked = AuthzRequest {
                    parameters: &parameters,
                    client: client.parse().unwrap(),
                    tls: now == 0,
                    now: UnixMillis(now),
                    ..request(identity, "docs.read", "docs")
                };
                let action = bundle.prepared().action(&asked).unwrap();
                let principal = bundle.known(identity).unwrap();
                let facts = Facts::of(&asked, action, &principal, bundle.prepared());
                let Ok(long_way) = bundle.in_cedar(&asked) else {
                    // Nobody in particular may not ask for it: nothing to compare.
                    assert!(matches!(identity, Identity::Anonymous));
                    continue;
                };
                let request: &Request = long_way.request.as_ref();
                let Some(Context::Value(expected)) = request.context() else { panic!("it is known") };
                assert_eq!(facts.whole(), expected);
                // Each alone is what it is in the record, whichever is asked for first.
                let facts = Facts::of(&asked, action, &principal, bundle.prepared());
                for supplied in Supplied::ALL.into_iter().rev() {
                    assert_eq!(facts.get(supplied), expected.get(supplied.name()));
                }
                for (name, _) in &parameters {
                    assert!(facts.parameter(name).is_some());
                }
                assert_eq!(facts.parameter("unknown"), None);
                compared += 1;
            }
        }
        assert_eq!(compared, 24);
    }

    #[test]
    fn a_range_says_of_a_client_what_cedars_call_says() {
        let ranges = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.2.3/12",
            "192.0.2.1",
            "192.0.2.0/31",
            "255.255.255.255/32",
            "::/0",
            "2001:db8::/32",
            "2001:db8::1",
            "::1/128",
            "::ffff:c000:201/128",
            "::ffff:0:0/96",
        ];
        let clients = [
            "0.0.0.0",
            "9.255.255.255",
            "10.0.0.0",
            "10.15.255.255",
            "10.16.0.0",
            "11.0.0.0",
            "192.0.2.0",
            "192.0.2.1",
            "192.0.2.2",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "2001:db7:ffff::",
            "2001:db8::",
            "2001:db8::1",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::",
            "::ffff:192.0.2.1",
            "::ffff:10.0.0.1",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        let person = user(&["role:reader"]);
        let mut forbidden = 0;
        for range in ranges {
            let guard = format!("{{ context.client.isInRange(ip(\"{range}\")) }}");
            let bundle = load(&with("guardrails/account.cedar", "{ principal.suspended }", &guard));
            for client in clients {
                let client = client.parse().unwrap();
                let asked = AuthzRequest { client, ..request(&person, "docs.read", "docs") };
                let decision = bundle.decide(&asked);
                assert_eq!(bundle.hold_against_cedar(&asked, &decision), Ok(()), "{range} {client}");
                forbidden += usize::from(matches!(decision, super::super::Decision::Deny(_)));
            }
        }
        // Counted by hand, in the order of the ranges.
        assert_eq!(forbidden, 12 + 4 + 3 + 2 + 3 + 1 + 9 + 3 + 1 + 1);
    }
}
