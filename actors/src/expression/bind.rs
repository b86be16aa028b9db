//! Binding: what is left of a wait's expression once the run's own event is known.
//!
//! Promises an expression over `async` only, whose text can be stored and compiled again. A path of
//! `event` that does not exist becomes null, so two missing fields match (semantics 22.3). Never
//! fails because a constant part fails: that part stays and fails when it is evaluated.

use super::ast::{Literal, MAX_DEPTH, Macro, Node};
use super::equality::Equality;
use super::error::CompileError;
use super::eval::Evaluator;
use super::render::render;
use super::scope::Scope;
use super::value::Value;
use super::{Expression, MAX_BOUND_BYTES};
use chrono::{DateTime, Utc};
use serde_json::Value as Json;

/// The variable whose value is put in.
const EVENT: &str = "event";
/// The variable that stays.
const ASYNC: &str = "async";

/// An expression after [`Expression::bind`].
#[derive(Debug, Clone)]
pub struct Bound {
    /// Over `async` alone. Its [`source`](Expression::source) is what to store; compile it again
    /// with [`Expression::compile_bound`].
    pub expression: Expression,
    /// What to look the wait up by, if the expression implies an equality.
    pub equality: Option<Equality>,
    /// Set if the incoming event makes no difference. `Some(false)` can never match: no pause is
    /// needed.
    pub constant: Option<bool>,
}

impl Expression {
    /// Puts the values of a run's trigger event in place of `event.…`.
    ///
    /// # Errors
    ///
    /// If the values make the text longer than four mebibytes.
    pub fn bind(&self, event: &Json) -> Result<Bound, CompileError> {
        let node = condition(substitute(&self.inner.node, event));
        let source = render(&node);
        if source.len() > MAX_BOUND_BYTES {
            let message = format!("the expression is longer than {MAX_BOUND_BYTES} bytes");
            return Err(CompileError::whole(message));
        }
        let constant = match &node {
            Node::Literal(Literal::Bool(truth)) => Some(*truth),
            // Not a bool: no event can match.
            Node::Literal(_) => Some(false),
            _ => None,
        };
        Ok(Bound {
            equality: Equality::implied_by(&node, ASYNC),
            constant,
            expression: Expression::from_parts(source, node),
        })
    }
}

fn substitute(node: &Node, event: &Json) -> Node {
    if let Some(found) = path(node, event) {
        return Node::Literal(found.map_or(Literal::Null, Literal::from_json));
    }
    if let Node::Has(operand, field) = node
        && let Some(found) = path(operand, event)
    {
        let has = found
            .and_then(Json::as_object)
            .is_some_and(|map| map.contains_key(&**field));
        return Node::Literal(Literal::Bool(has));
    }
    let boxed = |node: &Node| Box::new(substitute(node, event));
    let each = |nodes: &[Node]| nodes.iter().map(|node| substitute(node, event)).collect();
    let replaced = match node {
        Node::Literal(_) | Node::Root(_) | Node::Local(..) | Node::Type(_) => return node.clone(),
        Node::Select(operand, field) => Node::Select(boxed(operand), field.clone()),
        Node::Has(operand, field) => Node::Has(boxed(operand), field.clone()),
        Node::Index(operand, index) => Node::Index(boxed(operand), boxed(index)),
        Node::Not(operand) => Node::Not(boxed(operand)),
        Node::Negate(operand) => Node::Negate(boxed(operand)),
        Node::Binary(operator, left, right) => Node::Binary(*operator, boxed(left), boxed(right)),
        Node::And(operands) => return row(each(operands), false),
        Node::Or(operands) => return row(each(operands), true),
        Node::Conditional(branches) => {
            let [condition, then, otherwise] = &**branches;
            let branches = [condition, then, otherwise].map(|node| substitute(node, event));
            if let [Node::Literal(condition), then, otherwise] = branches {
                let truthy = Value::from_literal(&condition).truthy();
                return if truthy { then } else { otherwise };
            }
            return Node::Conditional(Box::new(branches));
        }
        Node::List(items) => Node::List(each(items)),
        Node::Map(entries) => Node::Map(
            entries
                .iter()
                .map(|(key, value)| (substitute(key, event), substitute(value, event)))
                .collect(),
        ),
        Node::Call(function, arguments) => Node::Call(*function, each(arguments)),
        Node::Macro(call) => Node::Macro(Box::new(Macro {
            kind: call.kind,
            range: substitute(&call.range, event),
            variable: call.variable.clone(),
            slot: call.slot,
            filter: call.filter.as_ref().map(|node| substitute(node, event)),
            body: substitute(&call.body, event),
        })),
    };
    fold(replaced)
}

/// If the node is a path of the event with constant steps: what is there, `Some(None)` for nothing.
fn path<'j>(node: &Node, event: &'j Json) -> Option<Option<&'j Json>> {
    match node {
        Node::Root(name) => (&**name == EVENT).then_some(Some(event)),
        Node::Select(operand, field) => Some(path(operand, event)?.and_then(|json| json.as_object()?.get(&**field))),
        Node::Index(operand, index) => {
            let Node::Literal(index) = &**index else {
                return None;
            };
            let operand = path(operand, event)?;
            Some(operand.and_then(|json| match (json, index) {
                (Json::Object(entries), Literal::Text(key)) => entries.get(&**key),
                (Json::Array(items), Literal::Number(number)) => items.get(usize::try_from(number.whole()?).ok()?),
                _ => None,
            }))
        }
        _ => None,
    }
}

/// Evaluates a node whose parts are all constant, if the result can be written down.
fn fold(node: Node) -> Node {
    let literals = |nodes: &[Node]| nodes.iter().all(|node| matches!(node, Node::Literal(_)));
    let literal = |node: &Node| matches!(node, Node::Literal(_));
    let constant = match &node {
        Node::Select(operand, _) | Node::Has(operand, _) | Node::Not(operand) | Node::Negate(operand) => {
            literal(operand)
        }
        Node::Index(operand, index) => literal(operand) && literal(index),
        Node::Binary(_, left, right) => literal(left) && literal(right),
        // Without arguments it is `now()`, which is only known later.
        Node::Call(_, arguments) => !arguments.is_empty() && literals(arguments),
        _ => false,
    };
    if !constant {
        return node;
    }
    // The only functions of the time take part in no fold: their results are not literals.
    let scope = Scope::new(DateTime::<Utc>::UNIX_EPOCH);
    let folded = Evaluator::new(&scope)
        .eval(&node)
        .ok()
        .and_then(|value| value.to_literal());
    folded.map_or(node, Node::Literal)
}

/// Drops what cannot decide from the front of a row of `&&` or `||`, and the rest of the row after
/// an operand that does.
fn row(operands: Vec<Node>, deciding: bool) -> Node {
    let mut kept: Vec<Node> = Vec::with_capacity(operands.len());
    let mut operands = flat(operands, deciding).into_iter().peekable();
    while let Some(operand) = operands.next() {
        match &operand {
            Node::Literal(literal) if Value::from_literal(literal).truthy() == deciding => {
                kept.push(operand);
                break;
            }
            // Never the last one: it is the result if nothing decides.
            Node::Literal(_) if operands.peek().is_some() => {}
            _ => kept.push(operand),
        }
    }
    rebuilt(kept, deciding)
}

/// Rows inside rows of the same kind, which a decided condition can leave behind, become one row.
fn flat(operands: Vec<Node>, deciding: bool) -> Vec<Node> {
    let mut all = Vec::with_capacity(operands.len());
    for operand in operands {
        match operand {
            Node::Or(inner) if deciding => all.extend(inner),
            Node::And(inner) if !deciding => all.extend(inner),
            other => all.push(other),
        }
    }
    all
}

fn rebuilt(mut operands: Vec<Node>, deciding: bool) -> Node {
    match operands.len() {
        1 => operands.remove(0),
        _ if deciding => Node::Or(operands),
        _ => Node::And(operands),
    }
}

/// At the top only the truth counts: one false operand makes a conjunction false.
fn condition(node: Node) -> Node {
    match node {
        Node::And(operands)
            if operands
                .iter()
                .any(|operand| matches!(operand, Node::Literal(literal) if !Value::from_literal(literal).truthy())) =>
        {
            Node::Literal(Literal::Bool(false))
        }
        other => {
            debug_assert!(depth(&other) <= MAX_DEPTH, "binding never deepens a tree");
            other
        }
    }
}

fn depth(node: &Node) -> usize {
    1 + super::policy::children(node).into_iter().map(depth).max().unwrap_or(0)
}
