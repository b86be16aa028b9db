//! Expressions, event patterns, durations, dates and cron: every small language a user writes.
//!
//! Everything here is synchronous and pure: the current time and the seed of a jitter are
//! arguments. Any text whatsoever gives a value or an error, never a panic, and evaluation ends
//! within a budget of steps.
//!
//! # The dialect
//!
//! Expressions are CEL as the SDKs' users know it, which is not stock CEL. The `cel` crate parses;
//! the tree is evaluated here, for three reasons: a missing field is a value that nearly every
//! operator treats specially, and stock evaluation has failed before a caller could see it; the
//! budget has to be charged inside loops; and binding a wait to its run has to turn a tree back
//! into text.
//!
//! | construct | stock CEL | here |
//! |---|---|---|
//! | path that does not exist, index out of range, field of a scalar | error | *missing* |
//! | `missing == null` | | true; every other `==` with missing is false, with missing too |
//! | `missing != x` | | the opposite of `==` |
//! | `missing < x`, `missing <= x` | | true, whatever `x` is; `>` and `>=` are false |
//! | `x < missing`, `x <= missing` | | false; `>` and `>=` are true |
//! | `a + missing`, `missing + a` | | `a`; two missing give false. Null counts as missing |
//! | `-`, `*`, `/`, `%`, unary `-` with missing or null | | false |
//! | `size(missing)`, `size(null)` | | 0 |
//! | any other function, `in` or macro on missing (functions: or null) | | false |
//! | null with `<`, `<=`, `>`, `>=` | error | null stands for the other side's zero value |
//! | `a == b` of different types | error | false |
//! | int, uint, double together | error | compare by value; arithmetic between them works |
//! | `%` with a double | error | works for whole numbers |
//! | `+` of a string and anything, of different types | error | concatenates plain texts |
//! | `a && b`, `a \|\| b` | bool only | like JavaScript, give an operand |
//! | falsy values | | missing, null, false, `""`, 0, 0.0; empty lists and maps are truthy |
//! | condition of `?:`, operand of `!`, conditions of macros | bool only | any value, by truthiness |
//! | JSON numbers | double | int if written without a fraction, else double; `5 == 5.0` |
//! | names other than the roots | run-time error | compile error |
//! | `lowercase`, `uppercase`, `b64decode`, `json_parse` | | of a string |
//! | `date(s)`, `date(n)` | | lenient date; seconds or milliseconds of the epoch by magnitude |
//! | `now()`, `now_plus(d)`, `now_minus(d)` | | relative to the time of the [`Scope`] |
//! | `duration(s)` | Go's units | also days and weeks |
//! | result of a condition | bool | bool, or missing for false; all else is an error |
//! | messages, optionals, quoted field names, macros with two variables | yes | no |
//!
//! Limits: 16 KiB of source, trees 128 deep, 48 brackets deep, 200,000 steps, patterns of
//! `matches` up to 1 KiB.

mod ast;
mod bind;
pub mod cron;
pub mod duration;
mod equality;
mod error;
mod eval;
mod functions;
mod lower;
mod memo;
mod number;
pub mod pattern;
mod policy;
mod render;
mod scope;
mod shape;
pub mod time;
mod value;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use bind::Bound;
pub use equality::Equality;
pub use error::{CompileError, EvalError};
pub use policy::restrictive;
pub use scope::Scope;

use eval::Evaluator;
use std::sync::Arc;
use value::Value;

/// Longest source a user may write, in bytes.
pub const MAX_SOURCE_BYTES: usize = 16 * 1024;
/// Longest bound expression, in bytes: it may hold most of an event of the largest size.
pub const MAX_BOUND_BYTES: usize = 4 * 1024 * 1024;

/// A compiled expression. Cheap to clone; compile once and keep it.
#[derive(Clone)]
pub struct Expression {
    inner: Arc<Inner>,
}

struct Inner {
    source: String,
    node: ast::Node,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.inner.source).finish()
    }
}

impl Expression {
    /// Compiles a source that may use these variables (`["event"]`, `["event", "async"]`, …).
    ///
    /// # Errors
    ///
    /// Syntax errors, unknown names and functions, and sources beyond the limits.
    pub fn compile(source: &str, roots: &[&str]) -> Result<Self, CompileError> {
        let node = lower::compile(source, roots, shape::WRITTEN)?;
        Ok(Self::from_parts(source.to_owned(), node))
    }

    /// The expression of a source that is met again and again, such as one of a function's configuration: compiled once
    /// per thread and remembered for as long as it is asked for.
    ///
    /// # Errors
    ///
    /// As [`compile`](Self::compile).
    pub fn remembered(source: &str, roots: &'static [&'static str]) -> Result<Self, CompileError> {
        memo::compile(source, roots)
    }

    /// Compiles the stored source of a [`Bound`] expression, over `async`. Such a source may hold
    /// event data and be as long as that.
    ///
    /// # Errors
    ///
    /// As [`compile`](Self::compile); never for a source that [`bind`](Self::bind) gave.
    pub fn compile_bound(source: &str) -> Result<Self, CompileError> {
        let node = lower::compile(source, &["async"], shape::BOUND)?;
        Ok(Self::from_parts(source.to_owned(), node))
    }

    fn from_parts(source: String, node: ast::Node) -> Self {
        Self {
            inner: Arc::new(Inner { source, node }),
        }
    }

    /// The text this was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    fn eval<'s>(&'s self, scope: &'s Scope<'s>) -> Result<Value<'s>, EvalError> {
        Evaluator::new(scope).eval(&self.inner.node)
    }

    /// The value of a condition.
    ///
    /// # Errors
    ///
    /// If evaluation fails or gives anything but a bool or a missing value.
    pub fn truth(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        match self.eval(scope)? {
            Value::Bool(truth) => Ok(truth),
            Value::Missing => Ok(false),
            other => Err(EvalError::NotBoolean(other.type_name())),
        }
    }

    /// The value as JSON: a missing value is null, times and durations are texts.
    ///
    /// # Errors
    ///
    /// If evaluation fails.
    pub fn value(&self, scope: &Scope<'_>) -> Result<serde_json::Value, EvalError> {
        Ok(self.eval(scope)?.to_json())
    }

    /// The value as text, to be hashed: a string is itself, lists and maps are JSON with sorted
    /// keys, equal numbers are the same text.
    ///
    /// # Errors
    ///
    /// If evaluation fails.
    pub fn key(&self, scope: &Scope<'_>) -> Result<String, EvalError> {
        Ok(self.eval(scope)?.render())
    }

    /// The value as an integer; whole doubles count.
    ///
    /// # Errors
    ///
    /// If evaluation fails or gives anything else.
    pub fn integer(&self, scope: &Scope<'_>) -> Result<i64, EvalError> {
        let value = self.eval(scope)?;
        eval::integer(&value).ok_or(EvalError::NotInteger(value.type_name()))
    }
}
