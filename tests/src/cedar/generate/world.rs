//! Entities, contexts and requests.

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression as Value};

use super::source::Source;
use super::terms::{ADDRESSES, DECIMALS, KINDS, Kind, MOMENTS, SPANS};
use super::words::Words;

/// The texts that attributes have; conditions compare with the same.
const TEXTS: [&str; 9] = ["1", "true", "a", "1", "b", "", "ä*\"", "User::\"a\"", "10.1.2.3"];
const LONGS: [i64; 7] = [1, 1, 2, 0, -1, i64::MAX, i64::MIN];
const TAGS: [&str; 3] = ["t", "u v", ""];

/// The attributes that everything has, each with its kind and whether it may be absent.
const ATTRIBUTES: [(&str, Kind, bool); 15] = [
    ("name", Kind::Text, false),
    ("dept", Kind::Text, true),
    ("level", Kind::Long, false),
    ("on", Kind::Bool, false),
    ("boss", Kind::User, true),
    ("owner", Kind::User, true),
    ("home", Kind::Team, false),
    ("address", Kind::Record, false),
    ("words", Kind::Words, false),
    ("nums", Kind::Numbers, true),
    ("friends", Kind::Users, true),
    ("score", Kind::Decimal, false),
    ("ip", Kind::Ip, false),
    ("born", Kind::Moment, false),
    ("ttl", Kind::Span, false),
];

/// Makes what policies are asked about.
#[derive(Debug)]
pub(super) struct World<'s, 'a, 'w> {
    pub(super) source: &'s mut Source<'a>,
    pub(super) words: &'w Words,
    /// Whether everything must be valid by the schema.
    pub(super) is_sound: bool,
}

impl World<'_, '_, '_> {
    /// A store of entities: some names are missing from it, and some attributes are not what their name promises.
    pub(super) fn entities(&mut self) -> Entities {
        let words = self.words;
        let mut found = Vec::new();
        let last = words.teams.len() - 1;
        for (place, team) in words.teams.iter().enumerate() {
            let mut above = Vec::new();
            if place < last {
                above.push(words.teams[place + 1].clone());
            }
            // A shortcut upwards now and then, and a gap: what is not in the store has nothing above it.
            if self.source.once_in(6) && place + 2 <= last {
                above.push(words.teams[place + 2].clone());
            }
            if !self.source.once_in(12) {
                found.push(Entity::new_no_attrs(team.clone(), above.into_iter().collect()));
            }
        }
        let others = &words.others[..words.others.len() - usize::from(self.is_sound)];
        for uid in words.users.iter().chain(others).chain(&words.things) {
            if self.source.once_in(7) {
                continue;
            }
            let above = self.above(uid);
            let attributes = self.attributes();
            let tags = if self.source.below(2) == 0 { vec![] } else { self.tags() };
            let entity = Entity::new_with_tags(uid.clone(), attributes, above, tags);
            found.push(entity.expect("values are sound"));
        }
        let actions = words.actions.iter().cloned();
        let is_without = !self.is_sound && self.source.once_in(10);
        found.extend(actions.filter(|_| !is_without));
        let schema = self.is_sound.then_some(&words.schema);
        Entities::from_entities(found, schema).unwrap_or_else(|error| panic!("entities: {error:?}"))
    }

    fn above(&mut self, uid: &EntityUid) -> Vec<EntityUid> {
        let words = self.words;
        // The schema lets a user of the shop be in teams only, and the last team is the organisation.
        let teams = &words.teams[..words.teams.len() - 1];
        let mut above = Vec::new();
        if words.things.contains(uid) && self.source.below(2) == 0 {
            above.push(words.things[3 + self.source.below(3)].clone());
        }
        above.retain(|folder| folder < uid);
        for _ in 0..self.source.below(3) {
            above.push(teams[self.source.below(teams.len())].clone());
        }
        above
    }

    fn attributes(&mut self) -> Vec<(String, Value)> {
        let mut attributes = Vec::with_capacity(ATTRIBUTES.len());
        for (name, kind, is_optional) in ATTRIBUTES {
            let is_missing = if is_optional { self.source.once_in(3) } else { self.wrong_once_in(16) };
            if !is_missing {
                attributes.push((name.to_owned(), self.value(kind)));
            }
        }
        attributes
    }

    fn tags(&mut self) -> Vec<(String, Value)> {
        TAGS[..self.source.below(4)].iter().map(|tag| ((*tag).to_owned(), self.value(Kind::Text))).collect()
    }

    fn wrong_once_in(&mut self, times: usize) -> bool {
        !self.is_sound && self.source.once_in(times)
    }

    fn value(&mut self, kind: Kind) -> Value {
        let kind = match self.wrong_once_in(12) {
            // Half of them with a value that reads like one of the right kind.
            true if self.source.below(2) == 0 => self.source.one_of(&KINDS[..4]),
            true => self.source.one_of(&KINDS),
            false => kind,
        };
        match kind {
            Kind::Text => Value::new_string(self.source.one_of(&TEXTS).to_owned()),
            Kind::Long => Value::new_long(self.source.one_of(&LONGS)),
            Kind::Bool => Value::new_bool(self.source.below(2) == 0),
            Kind::User => Value::new_entity_uid(self.chosen(&self.words.users)),
            Kind::Team => {
                let teams = &self.words.teams[..self.words.teams.len() - 1];
                Value::new_entity_uid(self.chosen(teams))
            }
            Kind::Words => self.set(Kind::Text),
            Kind::Numbers => self.set(Kind::Long),
            Kind::Users => self.set(Kind::User),
            Kind::Decimal => Value::new_decimal(self.source.one_of(&DECIMALS)),
            Kind::Ip => Value::new_ip(self.source.one_of(&ADDRESSES)),
            Kind::Moment => Value::new_datetime(self.source.one_of(&MOMENTS)),
            Kind::Span => Value::new_duration(self.source.one_of(&SPANS)),
            Kind::Record => self.address(),
        }
    }

    fn chosen(&mut self, names: &[EntityUid]) -> EntityUid {
        names[self.source.below(names.len())].clone()
    }

    fn set(&mut self, kind: Kind) -> Value {
        let count = self.source.below(4);
        Value::new_set((0..count).map(|_| self.value(kind)).collect::<Vec<_>>())
    }

    fn address(&mut self) -> Value {
        let mut fields = Vec::new();
        if !self.wrong_once_in(12) {
            fields.push(("city".to_owned(), self.value(Kind::Text)));
        }
        if self.source.below(2) == 0 {
            fields.push(("zip".to_owned(), self.value(Kind::Long)));
        }
        if self.source.below(2) == 0 {
            let (on, lat) = (self.value(Kind::Bool), self.value(Kind::Decimal));
            let geo = Value::new_record([("on".to_owned(), on), ("lat".to_owned(), lat)]);
            fields.push(("geo".to_owned(), geo.expect("names are unlike")));
        }
        Value::new_record(fields).expect("names are unlike")
    }

    pub(super) fn context(&mut self) -> Context {
        Context::from_pairs(self.attributes()).expect("values are sound")
    }

    /// Somebody, something that is done, and a thing, that the schema allows together or that nobody would expect.
    pub(super) fn request(&mut self, contexts: &[Context]) -> Request {
        let words = self.words;
        let context = contexts[self.source.below(contexts.len())].clone();
        if self.is_sound {
            let is_listing = self.source.once_in(4);
            let asking: Vec<&EntityUid> = if is_listing {
                words.others[2..4].iter().collect()
            } else {
                words.users.iter().chain(&words.others[..2]).collect()
            };
            let principal = self.source.one_of(&asking).clone();
            let (verb, things) =
                if is_listing { (2, &words.things[3..]) } else { (self.source.below(2), &words.things[..3]) };
            let thing = self.chosen(things);
            let request =
                Request::new(principal, words.verbs[verb].clone(), thing, context, Some(&words.schema));
            return request.unwrap_or_else(|error| panic!("a sound request: {error}"));
        }
        let principal = match self.source.below(8) {
            0..=4 => self.chosen(&words.users),
            5 | 6 => self.chosen(&words.others),
            _ => self.chosen(&words.teams),
        };
        let resource = match self.source.below(8) {
            0..=5 => self.chosen(&words.things),
            6 => self.chosen(&words.users),
            _ => self.chosen(&words.teams),
        };
        let verb = self.chosen(&words.verbs);
        Request::new(principal, verb, resource, context, None).expect("nothing is checked without a schema")
    }
}
