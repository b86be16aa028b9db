//! The restrictive policy for conditions of cancellations (semantics 6.2).
//!
//! Promises that what passes is only paths, literals, operators and the numeric casts. Never looks
//! at values.

use super::Expression;
use super::ast::{Function, Node};
use super::error::CompileError;

/// Checks that an expression is free of macros and of functions other than `int`, `uint` and
/// `double`.
///
/// # Errors
///
/// Names the first macro or function that is not allowed.
pub fn restrictive(expression: &Expression) -> Result<(), CompileError> {
    check(&expression.inner.node)
}

fn check(node: &Node) -> Result<(), CompileError> {
    let refused = match node {
        Node::Has(..) => Some("has"),
        Node::Macro(call) => Some(call.kind.name()),
        Node::Call(Function::Int | Function::Uint | Function::Double, _) => None,
        Node::Call(function, _) => Some(function.name()),
        _ => None,
    };
    if let Some(name) = refused {
        let message = format!("'{name}' is not allowed here: only operators, int, uint and double");
        return Err(CompileError::whole(message));
    }
    children(node).into_iter().try_for_each(check)
}

/// The parts a node consists of.
pub(super) fn children(node: &Node) -> Vec<&Node> {
    match node {
        Node::Literal(_) | Node::Root(_) | Node::Local(..) | Node::Type(_) => Vec::new(),
        Node::Select(operand, _) | Node::Has(operand, _) | Node::Not(operand) | Node::Negate(operand) => vec![operand],
        Node::Index(left, right) | Node::Binary(_, left, right) => vec![left, right],
        Node::And(nodes) | Node::Or(nodes) | Node::List(nodes) | Node::Call(_, nodes) => nodes.iter().collect(),
        Node::Conditional(branches) => branches.iter().collect(),
        Node::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
        Node::Macro(call) => {
            let mut parts = vec![&call.range, &call.body];
            parts.extend(&call.filter);
            parts
        }
    }
}
