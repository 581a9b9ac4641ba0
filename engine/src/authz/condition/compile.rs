//! From Cedar's expressions to nodes, with what is constant computed.

use ipnet::IpNet;

use super::super::cedar_core::{
    BinaryOp, EntityUID, Expr, ExprKind, Literal, PartialValue, SlotEnv, UnaryOp, Value, ValueKind, Var,
    extensions, network, reference,
};
use super::super::context::{Name, Supplied};
use super::super::scene::Part;
use super::{Arithmetic, Function, Node, Operator};

/// Levels of an expression that are compiled. What nests deeper is Cedar's, so that it fails there when it fails in Cedar,
/// whose limit is what is left of the stack.
pub(crate) const NESTING_MAX: usize = 100;

/// The function that says whether an address is in a range.
const IN_RANGE: &str = "isInRange";

/// The node of an expression; `None` where Cedar has to evaluate it.
pub(super) fn compile(expression: &Expr, slots: &SlotEnv) -> Option<Node> {
    Compiling { slots }.node(expression, NESTING_MAX)
}

struct Compiling<'a> {
    slots: &'a SlotEnv,
}

impl Compiling<'_> {
    fn node(&self, expression: &Expr, depth: usize) -> Option<Node> {
        let depth = depth.checked_sub(1)?;
        let boxed = |expression: &Expr| self.node(expression, depth).map(Box::new);
        Some(match expression.expr_kind() {
            ExprKind::Lit(literal) => Node::Constant(Value::new(literal.clone(), None)),
            ExprKind::Var(Var::Principal) => Node::Subject(Part::Principal),
            ExprKind::Var(Var::Action) => Node::Subject(Part::Action),
            ExprKind::Var(Var::Resource) => Node::Subject(Part::Resource),
            ExprKind::Var(Var::Context) => Node::Context,
            ExprKind::Slot(slot) => Node::Constant(constant(self.slots.get(slot)?)),
            ExprKind::Unknown(_) => return None,
            ExprKind::If { test_expr, then_expr, else_expr } => Node::If(Box::new([
                self.node(test_expr, depth)?,
                self.node(then_expr, depth)?,
                self.node(else_expr, depth)?,
            ])),
            ExprKind::And { left, right } => {
                let (left, right) = (self.node(left, depth)?, self.node(right, depth)?);
                let row = |node| if let Node::AllOf(nodes) = node { nodes.into_vec() } else { vec![node] };
                Node::AllOf(joined(left, right, row))
            }
            ExprKind::Or { left, right } => {
                let (left, right) = (self.node(left, depth)?, self.node(right, depth)?);
                let row = |node| if let Node::AnyOf(nodes) = node { nodes.into_vec() } else { vec![node] };
                Node::AnyOf(joined(left, right, row))
            }
            ExprKind::UnaryApp { op: UnaryOp::Not, arg } => Node::Not(boxed(arg)?),
            ExprKind::UnaryApp { op: UnaryOp::Neg, arg } => Node::Negated(boxed(arg)?),
            ExprKind::UnaryApp { op: UnaryOp::IsEmpty, arg } => Node::IsEmpty(boxed(arg)?),
            ExprKind::BinaryApp { op, arg1, arg2 } => {
                two(*op, Box::new([self.node(arg1, depth)?, self.node(arg2, depth)?]))
            }
            ExprKind::ExtensionFunctionApp { fn_name, args } => {
                let function = extensions().func(fn_name).ok()?;
                call(Function(function), self.nodes(args.iter(), depth)?)
            }
            ExprKind::GetAttr { expr, attr } => Node::Attribute(boxed(expr)?, attr.clone().into()),
            ExprKind::HasAttr { expr, attr } => Node::Has(boxed(expr)?, attr.clone().into()),
            ExprKind::ExtHasAttr { expr, attrs } => {
                Node::HasAll(boxed(expr)?, attrs.iter().cloned().map(Name::from).collect())
            }
            ExprKind::Like { expr, pattern } => Node::Like(boxed(expr)?, pattern.clone()),
            ExprKind::Is { expr, entity_type } => Node::Is(boxed(expr)?, entity_type.clone()),
            ExprKind::Set(items) => set(self.nodes(items.iter(), depth)?),
            ExprKind::Record(attributes) => {
                let nodes = self.nodes(attributes.values(), depth)?;
                Node::Record(attributes.keys().cloned().zip(nodes).collect())
            }
        })
    }

    fn nodes<'e>(&self, expressions: impl Iterator<Item = &'e Expr>, depth: usize) -> Option<Vec<Node>> {
        expressions.map(|expression| self.node(expression, depth)).collect()
    }
}

/// `(a && b) && (c && d)` as one row: the operator is evaluated from the left and associates.
fn joined(left: Node, right: Node, row: impl Fn(Node) -> Vec<Node>) -> Box<[Node]> {
    let mut nodes = row(left);
    nodes.extend(row(right));
    nodes.into_boxed_slice()
}

fn two(op: BinaryOp, nodes: Box<[Node; 2]>) -> Node {
    let operator = match op {
        BinaryOp::Add => return Node::Arithmetic(Arithmetic::Add, nodes),
        BinaryOp::Sub => return Node::Arithmetic(Arithmetic::Subtract, nodes),
        BinaryOp::Mul => return Node::Arithmetic(Arithmetic::Multiply, nodes),
        BinaryOp::GetTag => return Node::Tag(nodes),
        BinaryOp::Eq => Operator::Equal,
        BinaryOp::Less => Operator::Less,
        BinaryOp::LessEq => Operator::LessOrEqual,
        BinaryOp::In => Operator::In,
        BinaryOp::Contains => Operator::Contains,
        BinaryOp::ContainsAll => Operator::ContainsAll,
        BinaryOp::ContainsAny => Operator::ContainsAny,
        BinaryOp::HasTag => Operator::HasTag,
    };
    Node::Two(operator, nodes)
}

fn constant(uid: &EntityUID) -> Value {
    reference(&std::sync::Arc::new(uid.clone()))
}

/// The values, where all are constant.
fn constants(nodes: &[Node]) -> Option<Vec<Value>> {
    let value = |node: &Node| if let Node::Constant(value) = node { Some(value.clone()) } else { None };
    nodes.iter().map(value).collect()
}

fn set(nodes: Vec<Node>) -> Node {
    match constants(&nodes) {
        Some(values) => Node::Constant(Value::set(values, None)),
        None => Node::Set(nodes.into_boxed_slice()),
    }
}

/// A call with constant arguments gives the same for every request: `ip("10.0.0.0/8")` is parsed once.
fn call(function: Function, nodes: Vec<Node>) -> Node {
    let Some(values) = constants(&nodes) else {
        let range = range_of_clients(function, &nodes);
        let call = Node::Call(function, nodes.into_boxed_slice());
        return match range {
            Some(range) => Node::ClientIn(range, Box::new(call)),
            None => call,
        };
    };
    match function.0.call(&values) {
        Ok(PartialValue::Value(value)) => Node::Constant(value.with_maybe_source_loc(None)),
        // Left to Cedar when it is asked for.
        Ok(PartialValue::Residual(_)) => Node::Call(function, nodes.into_boxed_slice()),
        Err(_) => Node::Fails,
    }
}

/// The range in `context.client.isInRange(ip("…"))`.
fn range_of_clients(function: Function, nodes: &[Node]) -> Option<IpNet> {
    let [Node::Attribute(holder, name), Node::Constant(range)] = nodes else { return None };
    let client = matches!(**holder, Node::Context) && name.supplied() == Some(Supplied::Client);
    (client && function.is(IN_RANGE)).then(|| network(range)).flatten()
}

impl Node {
    /// The literal that it is, where it is one.
    pub(in super::super) fn literal(&self) -> Option<&Literal> {
        let Self::Constant(value) = self else { return None };
        if let ValueKind::Lit(literal) = value.value_kind() { Some(literal) } else { None }
    }
}
