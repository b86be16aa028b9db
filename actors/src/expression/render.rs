//! From the tree back to source text.
//!
//! Promises a text that compiles to the same tree again: `compile(render(tree)) == tree`. Brackets
//! are written only where precedence needs them, so that rendering never runs into the parser's
//! limit on nesting. Never keeps the user's layout.

use super::ast::{Binary, Function, Literal, Macro, Node, Style};
use super::number::Number;
use std::fmt::Write as _;

/// How tightly a construct binds; larger binds tighter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precedence {
    Conditional,
    Or,
    And,
    Relation,
    Sum,
    Product,
    Unary,
    Member,
}

/// The source text of a tree.
pub(super) fn render(node: &Node) -> String {
    let mut out = String::new();
    write(node, Precedence::Conditional, &mut out);
    out
}

fn precedence(node: &Node) -> Precedence {
    match node {
        Node::Conditional(_) => Precedence::Conditional,
        Node::Or(_) => Precedence::Or,
        Node::And(_) => Precedence::And,
        Node::Binary(operator, ..) => operator_precedence(*operator),
        Node::Not(_) | Node::Negate(_) => Precedence::Unary,
        // `-1` is a literal for the parser, but binds like a unary operator.
        Node::Literal(Literal::Number(number)) if is_signed(*number) => Precedence::Unary,
        _ => Precedence::Member,
    }
}

fn operator_precedence(operator: Binary) -> Precedence {
    match operator {
        Binary::Add | Binary::Subtract => Precedence::Sum,
        Binary::Multiply | Binary::Divide | Binary::Remainder => Precedence::Product,
        _ => Precedence::Relation,
    }
}

fn is_signed(number: Number) -> bool {
    match number {
        Number::Int(int) => int < 0,
        Number::Uint(_) => false,
        Number::Double(double) => double.is_sign_negative(),
    }
}

fn write(node: &Node, at_least: Precedence, out: &mut String) {
    let bracket = precedence(node) < at_least;
    if bracket {
        out.push('(');
    }
    write_bare(node, out);
    if bracket {
        out.push(')');
    }
}

fn write_bare(node: &Node, out: &mut String) {
    match node {
        Node::Literal(literal) => write_literal(literal, out),
        Node::Root(name) | Node::Local(name, _) => out.push_str(name),
        Node::Type(name) => out.push_str(name),
        Node::Select(operand, field) => {
            write(operand, Precedence::Member, out);
            write_field(field, out);
        }
        Node::Has(operand, field) => {
            out.push_str("has(");
            write(operand, Precedence::Member, out);
            write_field(field, out);
            out.push(')');
        }
        Node::Index(operand, index) => {
            write(operand, Precedence::Member, out);
            out.push('[');
            write(index, Precedence::Conditional, out);
            out.push(']');
        }
        Node::Not(operand) => write_unary('!', operand, out),
        Node::Negate(operand) => write_unary('-', operand, out),
        Node::Binary(operator, left, right) => {
            let precedence = operator_precedence(*operator);
            write(left, precedence, out);
            let _ = write!(out, " {} ", operator.symbol());
            // Left-associative: an equal operator on the right needs its brackets.
            let above = match precedence {
                Precedence::Relation => Precedence::Sum,
                Precedence::Sum => Precedence::Product,
                _ => Precedence::Unary,
            };
            write(right, above, out);
        }
        // Rows are flat already, so a row inside a row of the same kind had brackets.
        Node::And(operands) => write_row(operands, " && ", Precedence::Relation, out),
        Node::Or(operands) => write_row(operands, " || ", Precedence::And, out),
        Node::Conditional(branches) => {
            let [condition, then, otherwise] = &**branches;
            write(condition, Precedence::Or, out);
            out.push_str(" ? ");
            write(then, Precedence::Or, out);
            out.push_str(" : ");
            write(otherwise, Precedence::Conditional, out);
        }
        Node::List(items) => write_list('[', items, ']', out),
        Node::Map(entries) => {
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                separate(index, out);
                write(key, Precedence::Conditional, out);
                out.push_str(": ");
                write(value, Precedence::Conditional, out);
            }
            out.push('}');
        }
        Node::Call(function, arguments) => write_call(*function, arguments, out),
        Node::Macro(call) => write_macro(call, out),
    }
}

fn write_unary(operator: char, operand: &Node, out: &mut String) {
    out.push(operator);
    let mut inner = String::new();
    write(operand, Precedence::Member, &mut inner);
    // The parser takes a minus before a number for a part of it, even in `-0.contains(x)`.
    if inner.starts_with(|first: char| first.is_ascii_digit()) {
        inner = format!("({inner})");
    }
    out.push_str(&inner);
}

fn write_row(operands: &[Node], operator: &str, above: Precedence, out: &mut String) {
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            out.push_str(operator);
        }
        write(operand, above, out);
    }
}

fn separate(index: usize, out: &mut String) {
    if index > 0 {
        out.push_str(", ");
    }
}

fn write_list(open: char, items: &[Node], close: char, out: &mut String) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        separate(index, out);
        write(item, Precedence::Conditional, out);
    }
    out.push(close);
}

fn write_field(field: &str, out: &mut String) {
    out.push('.');
    out.push_str(field);
}

fn write_call(function: Function, arguments: &[Node], out: &mut String) {
    match arguments {
        [receiver, rest @ ..] if function.style() == Style::Member => {
            write(receiver, Precedence::Member, out);
            out.push('.');
            out.push_str(function.name());
            write_list('(', rest, ')', out);
        }
        _ => {
            out.push_str(function.name());
            write_list('(', arguments, ')', out);
        }
    }
}

fn write_macro(call: &Macro, out: &mut String) {
    write(&call.range, Precedence::Member, out);
    let _ = write!(out, ".{}({}", call.kind.name(), call.variable);
    for argument in call.filter.iter().chain([&call.body]) {
        out.push_str(", ");
        write(argument, Precedence::Conditional, out);
    }
    out.push(')');
}

fn write_literal(literal: &Literal, out: &mut String) {
    // Writing to a string cannot fail.
    let _ = match literal {
        Literal::Null => write!(out, "null"),
        Literal::Bool(truth) => write!(out, "{truth}"),
        Literal::Number(Number::Int(int)) => write!(out, "{int}"),
        Literal::Number(Number::Uint(uint)) => write!(out, "{uint}u"),
        Literal::Number(Number::Double(double)) => write!(out, "{double:?}"),
        Literal::Text(text) => {
            write_text(text, out);
            Ok(())
        }
        Literal::Bytes(bytes) => {
            out.push_str("b\"");
            for byte in bytes.iter() {
                let _ = write!(out, "\\x{byte:02x}");
            }
            out.push('"');
            Ok(())
        }
        // One string instead of nested literals: the parser's limits do not apply to its content.
        Literal::Json(json) => {
            out.push_str("json_parse(");
            write_text(&json.to_string(), out);
            out.push(')');
            Ok(())
        }
    };
}

/// A string literal. Control characters are escaped: a raw line end would end the literal, and
/// databases refuse NUL in text.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            plain => out.push(plain),
        }
    }
    out.push('"');
}
