//! What can go wrong with an expression: when it is compiled, and when it is evaluated.
//!
//! Promises texts a user can act on. Never carries event data beyond type names, so that a log line
//! with an error in it leaks nothing.

use thiserror::Error;

/// Why a source text is not a valid expression.
///
/// The text starts with `error compiling expression:` and names line and column, both counted from
/// one, wherever the position is known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("error compiling expression: {detail}")]
pub struct CompileError {
    detail: String,
}

impl CompileError {
    /// An error at a place in the source: `offset` counts bytes and may lie beyond the end.
    pub(super) fn at(source: &str, offset: usize, message: impl AsRef<str>) -> Self {
        let mut offset = offset.min(source.len());
        while !source.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &source[..offset];
        let line = before.matches('\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before[line_start..].chars().count() + 1;
        let message = message.as_ref();
        Self {
            detail: format!("ERROR: <input>:{line}:{column}: {message}"),
        }
    }

    /// An error of the whole source.
    pub(super) fn whole(message: impl AsRef<str>) -> Self {
        let message = message.as_ref();
        Self {
            detail: format!("ERROR: <input>: {message}"),
        }
    }

    /// An error that the parser already rendered with its position.
    pub(super) fn rendered(detail: String) -> Self {
        Self { detail }
    }

    /// The text without the leading `error compiling expression: `.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

/// Why an evaluation has no value. What that means is up to the caller: a trigger does not match, a
/// key falls into its error bucket (semantics 6.5).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EvalError {
    /// An operator or function does not take operands of these types.
    #[error("no such overload: {operation} applied to ({types})")]
    NoOverload {
        /// The operator or function.
        operation: &'static str,
        /// Type names of the operands, separated by commas.
        types: String,
    },
    /// An integer left its range.
    #[error("integer overflow in {0}")]
    Overflow(&'static str),
    /// Integer division or remainder by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// A function rejects the content of its argument.
    #[error("{function}: {reason}")]
    Rejected {
        /// The function.
        function: &'static str,
        /// What is wrong with the argument.
        reason: &'static str,
    },
    /// The result had to be a boolean.
    #[error("the expression must give a bool, it gave {0}")]
    NotBoolean(&'static str),
    /// The result had to be a whole number.
    #[error("the expression must give an integer, it gave {0}")]
    NotInteger(&'static str),
    /// The budget of steps is used up.
    #[error("too expensive")]
    TooExpensive,
}
