//! The `when` and `unless` of a policy, evaluated without garbage.
//!
//! Cedar's evaluator copies every value on its way and spells out every error. Here a condition is compiled once, with
//! what is constant computed, and evaluated over borrowed values; of an error nothing is told but that there is one. The
//! rules of the language stand in `evaluate.rs`, one place for each operator. What is not understood here is evaluated by
//! Cedar's own evaluator: expressions that nest deeply, so that Cedar's limit of recursion stays what it is, and whatever
//! partial evaluation leaves open.

mod compile;
mod evaluate;

use std::sync::Arc;

use ipnet::IpNet;

use super::cedar_core::{EntityType, Expr, ExtensionFunction, Pattern, Policy, SlotEnv, Text, Value};
use super::context::Name;
use super::scene::{Part, Scene};
pub(crate) use compile::NESTING_MAX;
use evaluate::Fault;

/// A policy's condition, ready to be evaluated, with the slots of the template that it is a link of.
#[derive(Debug)]
pub(super) struct Condition {
    /// `None` is true.
    expression: Option<Arc<Expr>>,
    slots: SlotEnv,
    /// `None` where Cedar evaluates it.
    compiled: Option<Node>,
}

/// Whether a policy applies to a request whose scope it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applies {
    Yes,
    No,
    /// Its condition could not be evaluated, or is neither true nor false.
    Fails,
    /// There was no time left to find out.
    Spent,
}

/// An expression.
#[derive(Debug)]
pub(super) enum Node {
    Constant(Value),
    Subject(Part),
    Context,
    /// Fails whatever is asked, as `ip("no address")` does.
    Fails,
    /// The first of them that is not true decides.
    AllOf(Box<[Node]>),
    /// The first of them that is not false decides.
    AnyOf(Box<[Node]>),
    Not(Box<Node>),
    /// The second or the third, as the first says.
    If(Box<[Node; 3]>),
    Negated(Box<Node>),
    IsEmpty(Box<Node>),
    Attribute(Box<Node>, Name),
    Has(Box<Node>, Name),
    /// `has a.b.c`: one after the other.
    HasAll(Box<Node>, Box<[Name]>),
    Like(Box<Node>, Pattern),
    Is(Box<Node>, EntityType),
    Two(Operator, Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    /// The tag of an entity.
    Tag(Box<[Node; 2]>),
    Set(Box<[Node]>),
    Record(Box<[(Text, Node)]>),
    Call(Function, Box<[Node]>),
    /// `context.client.isInRange(ip("…"))`: of what the gateway supplies, without a value; else the call.
    ClientIn(IpNet, Box<Node>),
}

/// What is true of two values or not. Both are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Less,
    LessOrEqual,
    In,
    Contains,
    ContainsAll,
    ContainsAny,
    HasTag,
}

/// What two numbers make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
}

/// A function of an extension.
#[derive(Clone, Copy)]
pub(super) struct Function(&'static ExtensionFunction);

impl Function {
    fn is(self, name: &str) -> bool {
        self.0.name().to_string() == name
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.name())
    }
}

impl Condition {
    pub(super) fn of(policy: &Policy) -> Self {
        let expression = policy.non_scope_constraints_arc().cloned();
        let slots = policy.env().clone();
        let compiled = expression.as_ref().and_then(|expression| compile::compile(expression, &slots));
        Self { expression, slots, compiled }
    }

    /// What it is compiled to; `None` where there is no condition, or where Cedar evaluates it.
    pub(super) fn compiled(&self) -> Option<&Node> {
        self.compiled.as_ref()
    }

    /// Whether there is none: then the scope alone says whether a policy applies.
    pub(super) fn is_absent(&self) -> bool {
        self.expression.is_none()
    }

    /// Whether Cedar has to evaluate it, because it nests too deeply.
    pub(super) fn is_foreign(&self) -> bool {
        self.expression.is_some() && self.compiled.is_none()
    }

    pub(super) fn applies(&self, scene: &Scene<'_>) -> Applies {
        let Some(expression) = &self.expression else { return Applies::Yes };
        let cedars = || {
            let value = scene.ask_cedar(expression, &self.slots).ok_or(Fault::Fails)?;
            evaluate::truth(&value)
        };
        let truth = match &self.compiled {
            Some(node) => match node.truth(scene) {
                Err(Fault::Open) => cedars(),
                truth => truth,
            },
            None => cedars(),
        };
        match truth {
            Ok(true) => Applies::Yes,
            Ok(false) => Applies::No,
            Err(Fault::Fails | Fault::Open) => Applies::Fails,
            Err(Fault::Spent) => Applies::Spent,
        }
    }
}
