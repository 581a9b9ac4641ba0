//! Conditions: atoms in every order, guarded and not, and what joins them.

use super::terms::{KINDS, Kind, TAGS, Terms};
use super::words::{TEAMS, USERS};

impl Terms<'_, '_> {
    /// Chooses the paths that this set likes, before anything is written.
    pub(super) fn choose_liked(&mut self) {
        for _ in 0..self.source.below(5) {
            let kind = match self.source.below(4) {
                0 => self.source.one_of(&KINDS),
                _ => self.source.one_of(&KINDS[..6]),
            };
            let path = self.fresh_path(kind);
            let guards = std::mem::take(&mut self.guards);
            self.liked.push((kind, path, guards));
        }
    }

    /// Something that is true or false where everything is sound.
    pub(super) fn condition(&mut self, depth: usize) -> String {
        if depth == 0 || self.source.below(3) == 0 {
            return self.atom(depth);
        }
        match self.source.below(12) {
            0..=3 => self.joined(" && ", depth),
            4..=7 => self.joined(" || ", depth),
            8 => format!("!({})", self.condition(depth - 1)),
            9 => {
                let (test, yes) = (self.condition(depth - 1), self.condition(depth - 1));
                format!("(if {test} then {yes} else {})", self.condition(depth - 1))
            }
            10 => {
                let (open, close) = self.source.one_of(&[("!(", ")"), ("(", ")"), ("(true && ", ")")]);
                let times = 2 * self.source.below(8);
                format!("{}{}{}", open.repeat(times), self.atom(0), close.repeat(times))
            }
            _ => {
                let sign = self.source.one_of(&["==", "!="]);
                format!("(({}) {sign} ({}))", self.condition(depth - 1), self.condition(depth - 1))
            }
        }
    }

    fn joined(&mut self, by: &str, depth: usize) -> String {
        let members: Vec<String> = (0..2 + self.source.below(3)).map(|_| self.condition(depth - 1)).collect();
        format!("({})", members.join(by))
    }

    /// An atom with the guards that it needs: all, or where it may err, none or in the wrong place.
    pub(super) fn atom(&mut self, depth: usize) -> String {
        let (guards, atom) = self.atom_and_guards(depth);
        if guards.is_empty() {
            return atom;
        }
        let guards = guards.join(" && ");
        if self.is_sound {
            return format!("({guards} && {atom})");
        }
        match self.source.below(8) {
            0 => atom,
            1 => format!("({atom} && {guards})"),
            2 => format!("(!({guards}) || {atom})"),
            // Some `has`, which may be another's.
            3 => format!("({} && {atom})", self.presence()),
            _ => format!("({guards} && {atom})"),
        }
    }

    /// An atom, and what must hold before it in their order.
    pub(super) fn atom_and_guards(&mut self, depth: usize) -> (Vec<String>, String) {
        let outer = std::mem::take(&mut self.guards);
        let atom = self.bare_atom(depth);
        let mut guards = std::mem::replace(&mut self.guards, outer);
        let mut seen = std::collections::HashSet::new();
        guards.retain(|guard| seen.insert(guard.clone()));
        (guards, atom)
    }

    fn bare_atom(&mut self, depth: usize) -> String {
        match self.source.below(28) {
            0..=5 => self.equality(depth),
            6 | 7 => self.path(Kind::Bool),
            8..=10 => self.membership(depth),
            11..=13 => self.hierarchy(),
            14 | 15 => self.type_test(),
            16 | 17 => self.presence(),
            18 => self.tag_test(),
            19 => format!("{} like {}", self.term(Kind::Text, depth), self.pattern()),
            20 | 21 => self.order(depth),
            22 | 23 => self.extension(depth),
            24 => self.request_parts(),
            25 | 26 => self.alternatives(),
            _ if self.wrong_once_in(3) => {
                let kind = self.source.one_of(&KINDS);
                self.literal(kind)
            }
            _ => self.literal(Kind::Bool),
        }
    }

    fn equality(&mut self, depth: usize) -> String {
        let kind = match self.source.below(5) {
            0 => self.source.one_of(&KINDS),
            1 => Kind::User,
            2 => Kind::Long,
            _ => Kind::Text,
        };
        let (path, other) = match self.source.below(4) {
            0 => (self.path(kind), self.term(kind, depth)),
            _ => {
                let path = self.path(kind);
                (path, if self.wrong_once_in(4) { self.look_alike() } else { self.literal(kind) })
            }
        };
        let sign = if self.source.once_in(5) { "!=" } else { "==" };
        if self.source.once_in(3) {
            format!("{other} {sign} {path}")
        } else {
            format!("{path} {sign} {other}")
        }
    }

    /// A literal that reads like one of another kind.
    fn look_alike(&mut self) -> String {
        match self.source.below(4) {
            0 => {
                let kind = self.source.one_of(&KINDS);
                self.literal(kind)
            }
            1 => self.source.one_of(&["1", "true", r#"User::"a""#]).to_owned(),
            _ => self.source.one_of(&[r#""1""#, r#""true""#, r#""User::\"a\"""#]).to_owned(),
        }
    }

    /// An equality alone, which is what an index can tell without evaluating anything.
    pub(super) fn lone_equality(&mut self) -> String {
        let outer = std::mem::take(&mut self.guards);
        let equality = self.equality(0);
        let guards = std::mem::replace(&mut self.guards, outer);
        if self.is_sound && !guards.is_empty() {
            return format!("({} && {equality})", guards.join(" && "));
        }
        equality
    }

    /// Several literals for one path, by `||` or, where they cannot all hold, by `&&`.
    fn alternatives(&mut self) -> String {
        let kind = self.source.one_of(&[Kind::Text, Kind::Text, Kind::Long, Kind::User]);
        let (path, by) = (self.path(kind), self.source.one_of(&[" || ", " || ", " || ", " && "]));
        let members: Vec<String> = (0..2 + self.source.below(3))
            .map(|_| {
                let other = if self.wrong_once_in(6) { self.confused() } else { kind };
                match self.source.below(5) {
                    0 if kind == Kind::User => format!("{path} in {}", self.literal(Kind::Team)),
                    1 => format!("{} == {path}", self.literal(other)),
                    _ => format!("{path} == {}", self.literal(other)),
                }
            })
            .collect();
        format!("({})", members.join(by))
    }

    fn membership(&mut self, depth: usize) -> String {
        let (set, member) = self.source.one_of(&[
            (Kind::Words, Kind::Text),
            (Kind::Words, Kind::Text),
            (Kind::Numbers, Kind::Long),
            (Kind::Users, Kind::User),
        ]);
        match self.source.below(7) {
            0 | 1 => format!("{}.contains({})", self.path(set), self.literal(member)),
            2 => format!("{}.contains({})", self.list(member), self.path(member)),
            3 => format!("{}.contains({})", self.path(set), self.term(member, depth)),
            4 => format!("{}.containsAll({})", self.path(set), self.term(set, depth)),
            5 => format!("{}.containsAny({})", self.term(set, depth), self.term(set, depth)),
            _ => format!("{}.isEmpty()", self.term(set, depth)),
        }
    }

    /// What stands on the left of `in` and `is`.
    fn someone(&mut self) -> String {
        match self.source.below(8) {
            0..=2 => "principal".to_owned(),
            3..=5 => "resource".to_owned(),
            6 => "action".to_owned(),
            _ if self.wrong_once_in(3) => self.path(Kind::Text),
            _ => self.path(Kind::User),
        }
    }

    fn hierarchy(&mut self) -> String {
        let someone = self.someone();
        if someone == "action" {
            let groups = [r#"Action::"look""#, r#"Action::"edit""#, r#"Action::"all""#, r#"Action::"read""#];
            return format!("action in {}", self.source.one_of(&groups));
        }
        let above = match self.source.below(7) {
            0..=2 => self.literal(Kind::Team),
            3 => self.list(Kind::Team),
            4 => self.path(Kind::Team),
            5 if !self.is_sound => self.term(Kind::Users, 0),
            _ => self.source.one_of(&TEAMS).to_owned(),
        };
        format!("{someone} in {above}")
    }

    fn type_test(&mut self) -> String {
        let (someone, type_name) = (self.someone(), self.type_name());
        match self.source.below(3) {
            0 => format!("{someone} is {type_name}"),
            1 => format!("{someone} is {type_name} in {}", self.literal(Kind::Team)),
            _ => format!("{someone} is {type_name} in {}", self.list(Kind::Team)),
        }
    }

    fn presence(&mut self) -> String {
        let root = self.root();
        let name = self.source.one_of(&[
            "dept",
            "boss",
            "owner.dept",
            "address.zip",
            "address.geo.on",
            "boss.boss.dept",
            "friends",
            "level",
        ]);
        if self.wrong_once_in(8) {
            return format!("{} has missing", self.path(Kind::Text));
        }
        if self.wrong_once_in(6) { format!("{root} has \"no name\"") } else { format!("{root} has {name}") }
    }

    fn tag_test(&mut self) -> String {
        let root = self.source.one_of(&["principal", "resource"]);
        format!("{root}.hasTag({})", self.source.one_of(&TAGS))
    }

    fn order(&mut self, depth: usize) -> String {
        let sign = self.source.one_of(&["<", "<=", ">", ">="]);
        let kind = self.source.one_of(&[Kind::Long, Kind::Long, Kind::Long, Kind::Moment, Kind::Span]);
        // Sums and products belong here, where they overflow.
        let left = if self.source.below(3) == 0 { self.computed(kind, 1) } else { self.term(kind, depth) };
        format!("{left} {sign} {}", self.term(kind, depth))
    }

    fn extension(&mut self, depth: usize) -> String {
        let (decimal, ip) = (self.term(Kind::Decimal, 0), self.term(Kind::Ip, 0));
        match self.source.below(6) {
            0 => format!("{decimal}.lessThan({})", self.term(Kind::Decimal, depth)),
            1 => format!("{decimal}.greaterThanOrEqual({})", self.term(Kind::Decimal, depth)),
            2 => format!("{ip}.isInRange({})", self.term(Kind::Ip, depth)),
            3 => format!("{ip}.isLoopback()"),
            4 => format!("{}.toHours() > {}", self.term(Kind::Span, depth), self.term(Kind::Long, depth)),
            _ => format!("{ip}.isIpv6()"),
        }
    }

    /// The parts of the request themselves, which every policy set compares with something.
    fn request_parts(&mut self) -> String {
        match self.source.below(5) {
            0 => format!("principal == {}", self.source.one_of(&USERS)),
            1 => format!("{} == resource", self.path(Kind::User)),
            2 => "principal == resource".to_owned(),
            3 => format!("[principal, resource].contains({})", self.literal(Kind::User)),
            _ => format!("principal == {}", self.path(Kind::User)),
        }
    }
}
