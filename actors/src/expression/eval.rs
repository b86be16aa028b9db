//! The evaluator: operators, paths and macros of the dialect.
//!
//! Promises to end: every node, element and stretch of text costs steps, and the budget is finite.
//! Recursion is bounded by the depth of the tree. Never touches anything but its arguments.

use super::ast::{Binary, Macro, MacroKind, Node};
use super::error::EvalError;
use super::functions;
use super::number::{Arithmetic, Number};
use super::scope::Scope;
use super::value::{List, Map, Value};
use std::cmp::Ordering;
use std::sync::Arc;

/// Steps of one evaluation: tens of milliseconds of work at the very most, in a debug build, and a
/// quarter of a second for the worst regular expressions.
pub(super) const MAX_STEPS: usize = 200_000;

/// The result of evaluating a part of an expression.
pub(super) type Evaluated<'s> = Result<Value<'s>, EvalError>;

/// One evaluation.
pub(super) struct Evaluator<'s> {
    pub(super) scope: &'s Scope<'s>,
    locals: Vec<Value<'s>>,
    steps: usize,
}

impl<'s> Evaluator<'s> {
    pub(super) fn new(scope: &'s Scope<'s>) -> Self {
        Self {
            scope,
            locals: Vec::new(),
            steps: MAX_STEPS,
        }
    }

    /// Takes steps from the budget.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), EvalError> {
        self.steps = self.steps.checked_sub(steps).ok_or(EvalError::TooExpensive)?;
        Ok(())
    }

    pub(super) fn eval(&mut self, node: &'s Node) -> Evaluated<'s> {
        self.spend(1)?;
        match node {
            Node::Literal(literal) => Ok(Value::from_literal(literal)),
            Node::Root(name) => Ok(self.scope.variable(name)),
            Node::Local(_, slot) => Ok(self.locals.get(*slot).cloned().unwrap_or(Value::Missing)),
            Node::Type(name) => Ok(Value::Type(name)),
            Node::Select(operand, field) => Ok(match self.eval(operand)? {
                Value::Map(map) => {
                    self.spend(map.lookup_cost())?;
                    map.field(field).unwrap_or(Value::Missing)
                }
                _ => Value::Missing,
            }),
            Node::Has(operand, field) => Ok(Value::Bool(match self.eval(operand)? {
                Value::Map(map) => {
                    self.spend(map.lookup_cost())?;
                    map.field(field).is_some()
                }
                _ => false,
            })),
            Node::Index(operand, index) => self.index(operand, index),
            Node::Not(operand) => Ok(Value::Bool(!self.eval(operand)?.truthy())),
            Node::Negate(operand) => match self.eval(operand)? {
                Value::Number(number) => number.negate().map(Value::Number),
                Value::Span(span) => Ok(Value::Span(-span)),
                nothing if nothing.is_nothing() => Ok(Value::Bool(false)),
                other => Err(no_overload("-", &[other])),
            },
            Node::Binary(operator, left, right) => {
                let left = self.eval(left)?;
                let right = self.eval(right)?;
                self.binary(*operator, left, right)
            }
            Node::And(operands) => self.row(operands, false),
            Node::Or(operands) => self.row(operands, true),
            Node::Conditional(branches) => {
                let [condition, then, otherwise] = &**branches;
                let chosen = if self.eval(condition)?.truthy() {
                    then
                } else {
                    otherwise
                };
                self.eval(chosen)
            }
            Node::List(items) => {
                let items = self.all(items)?;
                Ok(Value::List(List::Built(items.into())))
            }
            Node::Map(entries) => {
                let entries: Result<Vec<_>, _> = entries
                    .iter()
                    .map(|(key, value)| Ok((self.eval(key)?, self.eval(value)?)))
                    .collect();
                Ok(Value::Map(Map::Built(entries?.into())))
            }
            Node::Call(function, arguments) => {
                let arguments = self.all(arguments)?;
                functions::call(self, *function, arguments)
            }
            Node::Macro(call) => self.macro_call(call),
        }
    }

    fn all(&mut self, nodes: &'s [Node]) -> Result<Vec<Value<'s>>, EvalError> {
        nodes.iter().map(|node| self.eval(node)).collect()
    }

    /// `&&` and `||`: the first operand that decides, else the last one. An error only counts if
    /// no other operand decides, in whatever order they are written.
    fn row(&mut self, operands: &'s [Node], deciding: bool) -> Evaluated<'s> {
        let mut last = Ok(Value::Bool(!deciding));
        let mut failed = None;
        for operand in operands {
            last = self.eval(operand);
            match &last {
                Ok(value) if value.truthy() == deciding => return last,
                Ok(_) => {}
                Err(EvalError::TooExpensive) => return last,
                Err(error) => failed = failed.or_else(|| Some(error.clone())),
            }
        }
        failed.map_or(last, Err)
    }

    fn index(&mut self, operand: &'s Node, index: &'s Node) -> Evaluated<'s> {
        let operand = self.eval(operand)?;
        let index = self.eval(index)?;
        Ok(match (&operand, &index) {
            (Value::List(list), Value::Number(number)) => number
                .whole()
                .and_then(|whole| usize::try_from(whole).ok())
                .and_then(|index| list.get(index))
                .unwrap_or(Value::Missing),
            (Value::Map(map), key) => {
                self.spend(map.lookup_cost())?;
                map.get(key).unwrap_or(Value::Missing)
            }
            _ => Value::Missing,
        })
    }

    fn binary(&mut self, operator: Binary, left: Value<'s>, right: Value<'s>) -> Evaluated<'s> {
        match operator {
            Binary::Equal => self.equal(&left, &right).map(Value::Bool),
            Binary::NotEqual => self.equal(&left, &right).map(|same| Value::Bool(!same)),
            Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
                self.spend(left.weight().min(right.weight()))?;
                compare(operator, left, right)
            }
            Binary::In => self.contains(&left, &right).map(Value::Bool),
            Binary::Add => self.add(left, right),
            Binary::Subtract => arithmetic(Arithmetic::Subtract, left, right),
            Binary::Multiply => arithmetic(Arithmetic::Multiply, left, right),
            Binary::Divide => arithmetic(Arithmetic::Divide, left, right),
            Binary::Remainder => arithmetic(Arithmetic::Remainder, left, right),
        }
    }

    fn equal(&mut self, left: &Value<'s>, right: &Value<'s>) -> Result<bool, EvalError> {
        self.spend(left.weight().max(right.weight()))?;
        Ok(left.equals(right))
    }

    fn contains(&mut self, needle: &Value<'s>, haystack: &Value<'s>) -> Result<bool, EvalError> {
        if matches!(needle, Value::Missing) || haystack.is_nothing() {
            return Ok(false);
        }
        match haystack {
            Value::List(list) => {
                for item in list.iter() {
                    self.spend(1 + item.weight())?;
                    if item.equals(needle) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Map(map) => {
                self.spend(map.lookup_cost())?;
                Ok(map.get(needle).is_some())
            }
            other => Err(no_overload("in", &[needle.clone(), other.clone()])),
        }
    }

    fn add(&mut self, left: Value<'s>, right: Value<'s>) -> Evaluated<'s> {
        match (left, right) {
            (left, right) if left.is_nothing() && right.is_nothing() => Ok(Value::Bool(false)),
            (some, nothing) | (nothing, some) if nothing.is_nothing() => Ok(some),
            (Value::Number(left), Value::Number(right)) => left.arithmetic(Arithmetic::Add, right).map(Value::Number),
            (Value::List(left), Value::List(right)) => {
                self.spend(left.len() + right.len())?;
                Ok(Value::List(List::Built(left.iter().chain(right.iter()).collect())))
            }
            (Value::Bytes(left), Value::Bytes(right)) => {
                self.spend((left.len() + right.len()) / 64)?;
                Ok(Value::Bytes(left.iter().chain(right.iter()).copied().collect()))
            }
            (Value::Span(left), Value::Span(right)) => left
                .checked_add(&right)
                .map(Value::Span)
                .ok_or(EvalError::Overflow("+")),
            (Value::Time(time), Value::Span(span)) | (Value::Span(span), Value::Time(time)) => time
                .checked_add_signed(span)
                .map(Value::Time)
                .ok_or(EvalError::Overflow("+")),
            (left @ Value::Map(_), right @ Value::Map(_))
            | (left @ Value::Bool(_), right @ Value::Bool(_))
            | (left @ Value::Time(_), right @ Value::Time(_))
            | (left @ Value::Type(_), right @ Value::Type(_)) => Err(no_overload("+", &[left, right])),
            (left, right) => {
                self.spend(left.weight() + right.weight())?;
                let mut text = left.render();
                text.push_str(&right.render());
                Ok(Value::text(text))
            }
        }
    }

    fn macro_call(&mut self, call: &'s Macro) -> Evaluated<'s> {
        let range = self.eval(&call.range)?;
        let elements: Vec<Value<'s>> = match &range {
            Value::List(list) => {
                // Charged before it is copied out; the loop itself charges again.
                self.spend(list.len())?;
                list.iter().collect()
            }
            Value::Map(map) => {
                self.spend(map.len())?;
                map.keys()
            }
            nothing if nothing.is_nothing() => return Ok(Value::Bool(false)),
            other => return Err(no_overload(call.kind.name(), std::slice::from_ref(other))),
        };
        self.locals.truncate(call.slot);
        let mut collected = Vec::new();
        let mut matches = 0_usize;
        let mut failed = None;
        for element in elements {
            self.locals.push(element.clone());
            let outcome = self.element(call, element, &mut collected, &mut matches);
            self.locals.truncate(call.slot);
            match (call.kind, outcome) {
                (_, Err(EvalError::TooExpensive)) => return Err(EvalError::TooExpensive),
                (MacroKind::All, Ok(false)) => return Ok(Value::Bool(false)),
                (MacroKind::Exists, Ok(true)) => return Ok(Value::Bool(true)),
                // As for `&&` and `||`: an error counts only if no other element decides.
                (MacroKind::All | MacroKind::Exists, Err(error)) => {
                    failed = failed.or(Some(error));
                }
                (_, Err(error)) => return Err(error),
                (_, Ok(_)) => {}
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(match call.kind {
            MacroKind::All => Value::Bool(true),
            MacroKind::Exists => Value::Bool(false),
            MacroKind::ExistsOne => Value::Bool(matches == 1),
            MacroKind::Map | MacroKind::Filter => Value::List(List::Built(collected.into())),
        })
    }

    /// One turn of a macro's loop; tells whether the element satisfies the condition.
    fn element(
        &mut self,
        call: &'s Macro,
        element: Value<'s>,
        collected: &mut Vec<Value<'s>>,
        matches: &mut usize,
    ) -> Result<bool, EvalError> {
        if let Some(filter) = &call.filter
            && !self.eval(filter)?.truthy()
        {
            return Ok(false);
        }
        let value = self.eval(&call.body)?;
        let satisfied = value.truthy();
        match call.kind {
            MacroKind::Map => collected.push(value),
            MacroKind::Filter if satisfied => collected.push(element),
            MacroKind::ExistsOne => *matches += usize::from(satisfied),
            _ => {}
        }
        Ok(satisfied)
    }
}

/// Ordering, with missing below everything and null as the other side's zero (semantics 6.3).
fn compare<'s>(operator: Binary, left: Value<'s>, right: Value<'s>) -> Evaluated<'s> {
    let order = match (&left, &right) {
        // Also against another missing value: the left side decides.
        (Value::Missing, _) => {
            let below = matches!(operator, Binary::Less | Binary::LessEqual);
            return Ok(Value::Bool(below));
        }
        (_, Value::Missing) => {
            let above = matches!(operator, Binary::Greater | Binary::GreaterEqual);
            return Ok(Value::Bool(above));
        }
        _ => left.order(&right),
    };
    let Some(order) = order else {
        return Err(no_overload(operator.symbol(), &[left, right]));
    };
    Ok(Value::Bool(order.is_some_and(|order| match operator {
        Binary::Less => order == Ordering::Less,
        Binary::LessEqual => order != Ordering::Greater,
        Binary::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })))
}

/// Arithmetic except `+`. With a value that is not there the result is false (protocol 9.8).
fn arithmetic<'s>(operator: Arithmetic, left: Value<'s>, right: Value<'s>) -> Evaluated<'s> {
    let overflow = EvalError::Overflow(operator.symbol());
    match (operator, left, right) {
        (_, Value::Number(left), Value::Number(right)) => left.arithmetic(operator, right).map(Value::Number),
        (Arithmetic::Subtract, Value::Time(left), Value::Time(right)) => {
            Ok(Value::Span(left.signed_duration_since(right)))
        }
        (Arithmetic::Subtract, Value::Time(time), Value::Span(span)) => {
            time.checked_sub_signed(span).map(Value::Time).ok_or(overflow)
        }
        (Arithmetic::Subtract, Value::Span(left), Value::Span(right)) => {
            left.checked_sub(&right).map(Value::Span).ok_or(overflow)
        }
        (_, left, right) if left.is_nothing() || right.is_nothing() => Ok(Value::Bool(false)),
        (_, left, right) => Err(no_overload(operator.symbol(), &[left, right])),
    }
}

/// The error for operands of the wrong types.
pub(super) fn no_overload(operation: &'static str, operands: &[Value<'_>]) -> EvalError {
    let names: Vec<_> = operands.iter().map(Value::type_name).collect();
    EvalError::NoOverload {
        operation,
        types: names.join(", "),
    }
}

/// The value as an integer, if it is a whole number in range.
pub(super) fn integer(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Number(number) => number.whole().and_then(|whole| i64::try_from(whole).ok()),
        _ => None,
    }
}

/// An integer as a value.
pub(super) fn from_integer<'s>(integer: impl Into<i64>) -> Value<'s> {
    Value::Number(Number::Int(integer.into()))
}

/// Bytes as a value.
pub(super) fn from_bytes<'s>(bytes: impl Into<Arc<[u8]>>) -> Value<'s> {
    Value::Bytes(bytes.into())
}
