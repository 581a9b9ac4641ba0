//! The context of a request: what the gateway knows of it, each attribute made a value when somebody looks at it.
//!
//! A record of all of them was a quarter of a decision's cost, and most conditions look at one or two. What is left out
//! here is missing for policies, so that a condition that looks at it fails.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::AuthzRequest;
use super::cedar_core::{Attributes, Text, Value};
use super::prepared::{KnownAction, KnownPrincipal, Prepared};

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
    whole: OnceCell<Arc<Attributes>>,
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
            whole: OnceCell::new(),
        }
    }

    /// The client's address as policies see it, without its value. A listener for both families sees IPv4 in IPv6 clothes:
    /// one spelling, so that ranges hold for it.
    pub(super) fn client(&self) -> IpAddr {
        self.request.client.to_canonical()
    }

    pub(super) fn get(&self, supplied: Supplied) -> Option<&Value> {
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
        let place = asked.iter().position(|(asked, _)| **asked == *name)?;
        let made = self.parameters.get_or_init(|| asked.iter().map(|_| OnceCell::new()).collect());
        let make = || asked.get(place).and_then(|(name, value)| self.action.parameter(name, value));
        made.get(place)?.get_or_init(make).as_ref()
    }

    fn record(&self) -> &Value {
        self.record.get_or_init(|| {
            let names = self.request.parameters.iter().map(|(name, _)| name);
            let record: Attributes =
                names.filter_map(|name| Some((Text::new(name), self.parameter(name)?.clone()))).collect();
            Value::record_arc(Arc::new(record), None)
        })
    }

    /// All of it as one record, for conditions that look at the context itself, and for Cedar.
    pub(super) fn whole(&self) -> &Arc<Attributes> {
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
