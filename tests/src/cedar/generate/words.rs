//! The names that everything generated is made of: few, so that policies, entities and requests meet.

use std::str::FromStr;

use cedar_policy::{Entities, EntityUid, Schema, Validator};

/// What stands for `SHAPE` in the schema, which names no type where an entity's attributes are declared.
const SHAPE: &str = "{ \
  name: String, dept?: String, level: Long, on: Bool, boss?: User, owner?: User, home: Team, address: Address, \
  words: Set<String>, nums?: Set<Long>, friends?: Set<User>, \
  score: decimal, ip: ipaddr, born: datetime, ttl: duration, \
 }";

/// Principals, resources and the context have the same attributes, so that every path is sound under every root and
/// one policy can be valid for several kinds.
const SCHEMA: &str = r#"
type Geo = { on: Bool, lat: decimal };
type Address = { city: String, zip?: Long, geo?: Geo };
entity Org;
entity Team in [Team, Org];
entity User, Bot in [Team, Org] = SHAPE tags String;
entity Doc, Folder in [Folder, Team] = SHAPE tags String;
namespace Shop {
  entity Clerk in [Team] = SHAPE tags String;
}
action all;
action look, edit in [all];
action read in [look] appliesTo { principal: [User, Bot], resource: [Doc], context: SHAPE };
action write in [edit] appliesTo { principal: [User, Bot], resource: [Doc], context: SHAPE };
action list in [look, edit] appliesTo { principal: [Shop::Clerk], resource: [Folder], context: SHAPE };
"#;

/// Several types have an entity `a`: only the type tells them apart.
pub(super) const USERS: [&str; 6] =
    [r#"User::"a""#, r#"User::"b""#, r#"User::"10""#, r#"User::"9""#, r#"User::"ä ö""#, r#"User::"ghost""#];
/// Those who ask besides users. The last is of a type that no schema may have beside `User`.
pub(super) const OTHERS: [&str; 5] =
    [r#"Bot::"a""#, r#"Bot::"b""#, r#"Shop::Clerk::"a""#, r#"Shop::Clerk::"10""#, r#"Shop::User::"a""#];
/// Each in the next, and the last in the organisation.
pub(super) const TEAMS: [&str; 7] = [
    r#"Team::"t0""#,
    r#"Team::"t1""#,
    r#"Team::"t2""#,
    r#"Team::"t3""#,
    r#"Team::"a""#,
    r#"Team::"t5""#,
    r#"Org::"a""#,
];
/// What is asked for.
pub(super) const THINGS: [&str; 6] =
    [r#"Doc::"a""#, r#"Doc::"b""#, r#"Doc::"\"🔑""#, r#"Folder::"a""#, r#"Folder::"f1""#, r#"Folder::"f2""#];
/// Actions and their groups, and one that nobody declares.
pub(super) const ACTIONS: [&str; 7] = [
    r#"Action::"read""#,
    r#"Action::"write""#,
    r#"Action::"list""#,
    r#"Action::"look""#,
    r#"Action::"edit""#,
    r#"Action::"all""#,
    r#"Action::"unknown""#,
];
/// Types, the last two of which are in no schema; the last has no entity either.
pub(super) const TYPES: [&str; 9] =
    ["User", "Bot", "Shop::Clerk", "Doc", "Folder", "Team", "Org", "Shop::User", "Ghost"];

/// The names as Cedar knows them, and the schema: made once, because parsing them costs more than a whole comparison.
#[derive(Debug)]
pub struct Words {
    /// The schema of what is sound.
    pub schema: Schema,
    pub(super) validator: Validator,
    pub(super) actions: Entities,
    pub(super) users: Vec<EntityUid>,
    pub(super) others: Vec<EntityUid>,
    pub(super) teams: Vec<EntityUid>,
    pub(super) things: Vec<EntityUid>,
    pub(super) verbs: Vec<EntityUid>,
}

impl Words {
    /// All of them.
    #[must_use]
    pub fn new() -> Self {
        let (schema, _) = Schema::from_cedarschema_str(&SCHEMA.replace("SHAPE", SHAPE))
            .expect("the generator's schema is sound");
        Self {
            validator: Validator::new(schema.clone()),
            actions: schema.action_entities().expect("the schema's actions are sound"),
            schema,
            users: parsed(&USERS),
            others: parsed(&OTHERS),
            teams: parsed(&TEAMS),
            things: parsed(&THINGS),
            verbs: parsed(&ACTIONS),
        }
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::new()
    }
}

fn parsed(names: &[&str]) -> Vec<EntityUid> {
    names.iter().map(|name| EntityUid::from_str(name).expect("the generator's names are sound")).collect()
}
