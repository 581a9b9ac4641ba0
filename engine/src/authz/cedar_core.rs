//! The only file that knows Cedar's inner crate: the public one evaluates whole policies only, and rebuilds the
//! expression of each of them every time.
//!
//! The inner crate promises no stable interface, so it is pinned to the very version of the public one, and the
//! comparison with Cedar's `Authorizer` is what would notice a change of meaning.

use std::sync::Arc;

use cedar_policy::{Entities, Policy, Request};
use cedar_policy_core::ast;
use cedar_policy_core::evaluator::Evaluator;
use cedar_policy_core::extensions::Extensions;

/// A policy's `when` and `unless`, ready to be evaluated, with the slots of the template that it is a link of.
#[derive(Debug)]
pub(super) struct Condition {
    /// `None` is true.
    expression: Option<Arc<ast::Expr>>,
    slots: ast::SlotEnv,
}

/// Whether a policy applies to a request whose scope it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applies {
    Yes,
    No,
    /// Its condition could not be evaluated, or is neither true nor false.
    Fails,
}

/// One request, against which conditions are evaluated.
pub(super) struct Evaluation<'a>(Evaluator<'a>);

impl Condition {
    pub(super) fn of(policy: &Policy) -> Self {
        let policy: &ast::Policy = policy.as_ref();
        Self { expression: policy.non_scope_constraints_arc().cloned(), slots: policy.env().clone() }
    }
}

impl<'a> Evaluation<'a> {
    pub(super) fn of(request: &Request, entities: &'a Entities) -> Self {
        let request: &ast::Request = request.as_ref();
        Self(Evaluator::new(request.clone(), entities.as_ref(), Extensions::all_available()))
    }

    pub(super) fn applies(&self, condition: &Condition) -> Applies {
        let Some(expression) = &condition.expression else { return Applies::Yes };
        let Ok(value) = self.0.interpret(expression, &condition.slots) else { return Applies::Fails };
        match value.value_kind() {
            ast::ValueKind::Lit(ast::Literal::Bool(true)) => Applies::Yes,
            ast::ValueKind::Lit(ast::Literal::Bool(false)) => Applies::No,
            ast::ValueKind::Lit(_)
            | ast::ValueKind::Set(_)
            | ast::ValueKind::Record(_)
            | ast::ValueKind::ExtensionValue(_) => Applies::Fails,
        }
    }
}
