//! Policies and templates with their links.

use std::collections::HashMap;

use cedar_policy::{EntityUid, Policy, PolicyId, PolicySet, SlotId, Template};

use super::terms::Terms;
use super::words::{ACTIONS, OTHERS, TEAMS, THINGS, USERS, Words};

/// Ids sort as text: `p10` before `p9`, capitals before small letters, and what is not ASCII last.
const STEMS: [&str; 7] = ["p", "P", "policy", "ä", "_", "a b", "0"];

/// The links of a template: their ids, and what fills their slots.
pub type Links = Vec<(PolicyId, HashMap<SlotId, EntityUid>)>;

/// A policy or a template with its links, by itself, so that sets can be made of some of them.
#[derive(Clone, Debug)]
pub enum Written {
    /// A policy.
    Static(Policy),
    /// A template and its links.
    Linked(Template, Links),
}

impl Written {
    /// Adds it to a set.
    pub(super) fn add_to(&self, set: &mut PolicySet) {
        match self {
            Self::Static(policy) => set.add(policy.clone()).expect("ids are unlike"),
            Self::Linked(template, links) => {
                set.add_template(template.clone()).expect("ids are unlike");
                for (id, slots) in links {
                    set.link(template.id().clone(), id.clone(), slots.clone()).expect("all slots are filled");
                }
            }
        }
    }

    /// Whether it or a link of it has this id.
    pub(super) fn has_id(&self, sought: &PolicyId) -> bool {
        match self {
            Self::Static(policy) => policy.id() == sought,
            Self::Linked(template, links) => {
                template.id() == sought || links.iter().any(|(id, _)| id == sought)
            }
        }
    }
}

impl std::fmt::Display for Written {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Static(policy) => write!(out, "// {}\n{policy}", policy.id()),
            Self::Linked(template, links) => {
                write!(out, "// template {}\n{template}", template.id())?;
                for (id, slots) in links {
                    let slots: Vec<String> =
                        slots.iter().map(|(slot, entity)| format!("{slot} = {entity}")).collect();
                    write!(out, "\n// link {id}: {}", slots.join(", "))?;
                }
                Ok(())
            }
        }
    }
}

impl Terms<'_, '_> {
    /// One policy, by its number in the set. `known` are the conditions written so far, some of which come again.
    pub(super) fn policy(&mut self, number: usize, words: &Words, known: &mut Vec<String>) -> Written {
        let effect = if self.source.once_in(3) { "forbid" } else { "permit" };
        let is_template = self.source.once_in(8);
        let is_unscoped = self.is_crowded && !self.source.once_in(8);
        let [principal, action, resource] = if is_unscoped {
            ["principal", "action", "resource"].map(str::to_owned)
        } else {
            let principal = self.part("principal", is_template, &[&USERS, &OTHERS]);
            let resource = self.part("resource", is_template, &[&THINGS]);
            [principal, self.action(), resource]
        };
        let conditions = if !known.is_empty() && self.source.once_in(4) {
            known[self.source.below(known.len())].clone()
        } else {
            self.clauses()
        };
        let text = format!("{effect} ({principal}, {action}, {resource}){conditions};");
        known.push(conditions);
        let id = PolicyId::new(format!("{}{number}", STEMS[number % STEMS.len()]));
        if !text.contains('?') {
            let policy = Policy::parse(Some(id), &text);
            return Written::Static(policy.unwrap_or_else(|error| panic!("{error:?}\n{text}")));
        }
        let template = Template::parse(Some(id), &text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
        let links =
            (0..1 + self.source.below(3)).map(|link| self.link(number, link, &template, words)).collect();
        Written::Linked(template, links)
    }

    fn link(
        &mut self,
        number: usize,
        link: usize,
        template: &Template,
        words: &Words,
    ) -> (PolicyId, HashMap<SlotId, EntityUid>) {
        let slots = template.slots().map(|slot| {
            let lower = if *slot == SlotId::principal() { &words.users } else { &words.things };
            let names = if self.source.below(2) == 0 { lower } else { &words.teams };
            (slot.clone(), names[self.source.below(names.len())].clone())
        });
        let slots = slots.collect();
        (PolicyId::new(format!("{}{number}:{link}", STEMS[(number + link) % STEMS.len()])), slots)
    }

    fn part(&mut self, variable: &'static str, is_template: bool, names: &[&[&str]]) -> String {
        let names: Vec<&str> = names.iter().flat_map(|names| names.iter().copied()).collect();
        if is_template && self.source.below(3) > 0 {
            return match self.source.below(3) {
                0 => format!("{variable} == ?{variable}"),
                1 => format!("{variable} in ?{variable}"),
                _ => format!("{variable} is {} in ?{variable}", self.type_name()),
            };
        }
        match self.source.below(10) {
            0..=4 => variable.to_owned(),
            5 => format!("{variable} is {}", self.type_name()),
            6 => format!("{variable} == {}", self.source.one_of(&names)),
            7 => format!("{variable} in {}", self.source.one_of(&TEAMS)),
            8 => format!("{variable} in {}", self.source.one_of(&names)),
            _ => format!("{variable} is {} in {}", self.type_name(), self.source.one_of(&TEAMS)),
        }
    }

    fn action(&mut self) -> String {
        // The last is in no schema.
        let actions = &ACTIONS[..ACTIONS.len() - usize::from(self.is_sound)];
        match self.source.below(6) {
            0..=2 => "action".to_owned(),
            3 => format!("action == {}", self.source.one_of(actions)),
            4 => format!("action in {}", self.source.one_of(actions)),
            _ => {
                let members: Vec<&str> =
                    (0..self.source.below(4)).map(|_| self.source.one_of(actions)).collect();
                format!("action in [{}]", members.join(", "))
            }
        }
    }

    /// Any number of `when` and `unless`, also with the guards in a clause of their own.
    fn clauses(&mut self) -> String {
        match self.source.below(12) {
            0 => String::new(),
            10 | 11 => format!(" when {{ {} }}", self.lone_equality()),
            1 | 2 => {
                let (guards, atom) = self.atom_and_guards(1);
                let guards = guards.iter().map(|guard| format!(" when {{ {guard} }}")).collect::<String>();
                format!("{guards} when {{ {atom} }}")
            }
            3 => {
                let (guards, atom) = self.atom_and_guards(1);
                let guards =
                    guards.iter().map(|guard| format!(" unless {{ !({guard}) }}")).collect::<String>();
                format!("{guards} unless {{ {atom} }}")
            }
            _ => {
                let count = 1 + self.source.below(3) / 2;
                let clauses = (0..count).map(|_| {
                    let word = if self.source.once_in(4) { "unless" } else { "when" };
                    let depth = self.source.below(4);
                    format!(" {word} {{ {} }}", self.condition(depth))
                });
                clauses.collect()
            }
        }
    }
}
