//! Terms of conditions: paths, literals and what is computed of them, each of a kind unless it is wrong on purpose.

use super::source::Source;
use super::words::{TEAMS, THINGS, TYPES, USERS};

pub(super) const TEXTS: [&str; 7] =
    [r#""a""#, r#""b""#, r#""1""#, r#""true""#, r#""""#, r#""ä*\"""#, r#""User::\"a\"""#];
pub(super) const LONGS: [&str; 6] = ["0", "1", "2", "-1", "9223372036854775807", "-9223372036854775808"];
pub(super) const DECIMALS: [&str; 4] = ["1.0", "1.5", "-0.0001", "922337203685477.5807"];
pub(super) const ADDRESSES: [&str; 5] = ["127.0.0.1", "10.0.0.0/8", "10.1.2.3", "::1", "2001:db8::/32"];
pub(super) const MOMENTS: [&str; 3] = ["2024-02-29", "1969-12-31T23:59:59.999Z", "2024-02-29T12:00:00+0100"];
pub(super) const SPANS: [&str; 4] = ["1h", "-1d2h", "0ms", "106751991167d"];
/// No decimal, no address, no moment and no span, though some only just.
const MALFORMED: [&str; 6] = ["", "1.23456", "256.0.0.1", "2023-02-29", "1h1d", "1"];
const PATTERNS: [&str; 6] = [r#""*""#, r#""a*""#, r#""*\"""#, r#""""#, r#""ä\**""#, r#""*r*e*""#];
pub(super) const TAGS: [&str; 3] = [r#""t""#, r#""u v""#, r#""""#];

/// What a term evaluates to where everything is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Long,
    Bool,
    User,
    Team,
    Words,
    Numbers,
    Users,
    Decimal,
    Ip,
    Moment,
    Span,
    Record,
}

pub(super) const KINDS: [Kind; 13] = [
    Kind::Text,
    Kind::Long,
    Kind::Bool,
    Kind::User,
    Kind::Team,
    Kind::Words,
    Kind::Numbers,
    Kind::Users,
    Kind::Decimal,
    Kind::Ip,
    Kind::Moment,
    Kind::Span,
    Kind::Record,
];

/// Writes terms, and remembers what must hold before they may be evaluated.
#[derive(Debug)]
pub(super) struct Terms<'s, 'a> {
    pub(super) source: &'s mut Source<'a>,
    /// Whether everything must be valid by the schema.
    pub(super) is_sound: bool,
    /// Whether nearly all policies of the set have no scope, so that they share one place of the index.
    pub(super) is_crowded: bool,
    /// `has` for each optional attribute that was written since they were last taken.
    pub(super) guards: Vec<String>,
    /// Roots and texts that this set likes, so that many of its policies ask the same of the same path.
    pub(super) liked: Vec<(Kind, String, Vec<String>)>,
}

impl Terms<'_, '_> {
    /// Once in `times`, and never in what must be valid.
    pub(super) fn wrong_once_in(&mut self, times: usize) -> bool {
        !self.is_sound && self.source.once_in(times)
    }

    /// A kind in the place of another: mostly one of those whose values read alike, as `1`, `"1"` and `true`, `"true"`.
    pub(super) fn confused(&mut self) -> Kind {
        if self.source.once_in(3) { self.source.one_of(&KINDS) } else { self.source.one_of(&KINDS[..4]) }
    }

    /// A term of a kind, or rarely of another.
    pub(super) fn term(&mut self, kind: Kind, depth: usize) -> String {
        let kind = if self.wrong_once_in(14) { self.confused() } else { kind };
        match self.source.below(8) {
            0..=3 => self.path(kind),
            4 | 5 => self.literal(kind),
            6 if depth > 0 => self.computed(kind, depth - 1),
            _ => self.path(kind),
        }
    }

    /// An attribute, reached from the request over at most a few entities.
    pub(super) fn path(&mut self, kind: Kind) -> String {
        if self.source.below(2) == 0 {
            let alike: Vec<usize> =
                (0..self.liked.len()).filter(|place| self.liked[*place].0 == kind).collect();
            if !alike.is_empty() {
                let (_, path, guards) = self.liked[self.source.one_of(&alike)].clone();
                self.guards.extend(guards);
                return path;
            }
        }
        self.fresh_path(kind)
    }

    pub(super) fn fresh_path(&mut self, kind: Kind) -> String {
        let root = self.root();
        if self.wrong_once_in(24) {
            return format!("{root}.missing");
        }
        match kind {
            Kind::Text => match self.source.below(5) {
                0 => self.optional(&root, "dept"),
                1 => format!("{root}.address.city"),
                2 => self.tag(&root),
                _ => format!("{root}.name"),
            },
            Kind::Long if self.source.once_in(3) => {
                self.guards.push(format!("{root}.address has zip"));
                format!("{root}.address.zip")
            }
            Kind::Long => format!("{root}.level"),
            Kind::Bool if self.source.once_in(4) => {
                self.guards.push(format!("{root} has address.geo.on"));
                format!("{root}.address.geo.on")
            }
            Kind::Bool => format!("{root}.on"),
            Kind::User => {
                let name = self.source.one_of(&["boss", "owner"]);
                self.optional(&root, name)
            }
            Kind::Team => format!("{root}.home"),
            Kind::Words => format!("{root}.words"),
            Kind::Numbers => self.optional(&root, "nums"),
            Kind::Users => self.optional(&root, "friends"),
            Kind::Decimal => format!("{root}.score"),
            Kind::Ip => format!("{root}.ip"),
            Kind::Moment => format!("{root}.born"),
            Kind::Span => format!("{root}.ttl"),
            Kind::Record => format!("{root}.address"),
        }
    }

    /// What has attributes: a part of the request, or an entity that one of its attributes names.
    pub(super) fn root(&mut self) -> String {
        let mut root = self.source.one_of(&["principal", "resource", "context"]).to_owned();
        while self.source.once_in(4) && root.len() < 40 {
            let name = self.source.one_of(&["boss", "owner"]);
            root = self.optional(&root, name);
        }
        root
    }

    fn optional(&mut self, root: &str, name: &str) -> String {
        let (by_name, quoted) = (format!("{root} has {name}"), format!("{root} has \"{name}\""));
        self.guards.push(if self.source.once_in(5) { quoted } else { by_name });
        if self.source.once_in(5) { format!("{root}[\"{name}\"]") } else { format!("{root}.{name}") }
    }

    fn tag(&mut self, root: &str) -> String {
        // A record has no tags: to ask it is an error of types.
        let root = if self.is_sound && root == "context" { "principal" } else { root };
        let tag = self.source.one_of(&TAGS);
        self.guards.push(format!("{root}.hasTag({tag})"));
        format!("{root}.getTag({tag})")
    }

    pub(super) fn literal(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Text => self.source.one_of(&TEXTS).to_owned(),
            Kind::Long => format!("({})", self.source.one_of(&LONGS)),
            Kind::Bool => self.source.one_of(&["true", "false"]).to_owned(),
            Kind::User => self.entity(&[(5, &USERS), (1, &THINGS), (1, &TEAMS)]),
            Kind::Team => self.entity(&[(6, &TEAMS), (1, &USERS)]),
            Kind::Words => self.list(Kind::Text),
            Kind::Numbers => self.list(Kind::Long),
            Kind::Users => self.list(Kind::User),
            Kind::Decimal => self.made("decimal", &DECIMALS),
            Kind::Ip => self.made("ip", &ADDRESSES),
            Kind::Moment => self.made("datetime", &MOMENTS),
            Kind::Span => self.made("duration", &SPANS),
            Kind::Record => {
                let (city, zip) = (self.source.one_of(&TEXTS), self.source.one_of(&LONGS));
                format!("{{ city: {city}, zip: {zip} }}")
            }
        }
    }

    /// An entity of one of these groups, by weight; in what must be valid, of the first.
    fn entity(&mut self, groups: &[(usize, &[&'static str])]) -> String {
        let mut left = self.source.below(groups.iter().map(|(weight, _)| weight).sum());
        for (weight, names) in groups {
            if left < *weight || self.is_sound {
                return self.source.one_of(names).to_owned();
            }
            left -= weight;
        }
        USERS[0].to_owned()
    }

    pub(super) fn list(&mut self, kind: Kind) -> String {
        // The schema's checks refuse the empty list, whose kind they cannot tell.
        let least = usize::from(self.is_sound);
        let count = self.source.below(4) + least;
        let members: Vec<String> = (0..count)
            .map(|_| match self.wrong_once_in(10) {
                true => {
                    let kind = self.source.one_of(&KINDS[..5]);
                    self.literal(kind)
                }
                false => self.literal(kind),
            })
            .collect();
        format!("[{}]", members.join(", "))
    }

    /// An extension's value, from a text that may be malformed or come from an attribute.
    fn made(&mut self, function: &str, texts: &[&'static str]) -> String {
        if self.wrong_once_in(8) {
            return format!("{function}(\"{}\")", self.source.one_of(&MALFORMED));
        }
        if self.wrong_once_in(12) {
            return format!("{function}({})", self.path(Kind::Text));
        }
        format!("{function}(\"{}\")", self.source.one_of(texts))
    }

    /// Something computed of a path.
    pub(super) fn computed(&mut self, kind: Kind, depth: usize) -> String {
        let choice = self.source.below(3);
        match (kind, choice) {
            (Kind::Long, 0) => {
                let sign = self.source.one_of(&["+", "-"]);
                format!("({} {sign} {})", self.term(kind, depth), self.term(kind, depth))
            }
            (Kind::Long, 1) => format!("({} * {})", self.path(kind), self.source.one_of(&["2", "3", "(-1)"])),
            (Kind::Long, _) => format!("(-{})", self.path(kind)),
            (Kind::Moment, 0) => format!("{}.offset({})", self.path(kind), self.term(Kind::Span, depth)),
            (Kind::Moment, 1) => format!("{}.toDate()", self.path(kind)),
            (Kind::Span, 0) => {
                format!("{}.durationSince({})", self.path(Kind::Moment), self.term(Kind::Moment, depth))
            }
            (Kind::Span, 1) => format!("{}.toTime()", self.path(Kind::Moment)),
            (Kind::Record, 0) if !self.is_sound => {
                format!("{{ city: {}, geo: {} }}", self.term(Kind::Text, depth), self.term(Kind::Bool, depth))
            }
            _ => {
                let (yes, no) = (self.literal(kind), self.path(kind));
                format!("(if {} then {yes} else {no})", self.path(Kind::Bool))
            }
        }
    }

    pub(super) fn pattern(&mut self) -> &'static str {
        self.source.one_of(&PATTERNS)
    }

    pub(super) fn type_name(&mut self) -> &'static str {
        // The last two are in no schema.
        let known = TYPES.len() - 2 * usize::from(self.is_sound);
        self.source.one_of(&TYPES[..known])
    }
}
