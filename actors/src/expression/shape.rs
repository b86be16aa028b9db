//! The guard in front of the parser: how long and how deep a source may be.
//!
//! Promises that whatever passes can be parsed, walked and dropped with recursion on a thread of
//! 2 MiB, in debug builds too. The parser bounds brackets by itself, but not chains such as
//! `a.b.c…` or `1+1+1…`, whose trees are as deep as they are long. Never judges syntax beyond what
//! it needs: strings and brackets; errors of the rest are the parser's.

use super::error::CompileError;
use super::{MAX_BOUND_BYTES, MAX_SOURCE_BYTES};

/// Deepest tree a source may lead to, estimated from above before parsing.
const MAX_ESTIMATED_DEPTH: usize = 256;
/// What a source may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    bytes: usize,
    /// Brackets within brackets: the parser needs some ten kibibytes of stack for each.
    brackets: usize,
}

/// For what users write.
pub(super) const WRITTEN: Limits = Limits {
    bytes: MAX_SOURCE_BYTES,
    brackets: 48,
};
/// For what binding renders: a value put in may need a bracket that the path did not.
pub(super) const BOUND: Limits = Limits {
    bytes: MAX_BOUND_BYTES,
    brackets: 52,
};

/// What is known of one bracket's content while it is read.
#[derive(Default)]
struct Level {
    /// Conditional operators nest to the right, across `&&` and `||`.
    conditionals: usize,
    /// Left-associative operators since the last `&&`, `||` or comma.
    operators: usize,
    /// Selections, indexes and calls in a row.
    chain: usize,
    longest_chain: usize,
    deepest_child: usize,
    /// Deepest term of `&&` and `||` so far; those two make balanced trees.
    deepest_term: usize,
    /// Deepest element between commas so far.
    deepest_element: usize,
}

impl Level {
    fn operator(&mut self) {
        self.operators += 1;
        self.chain = 0;
    }

    fn link(&mut self) {
        self.chain += 1;
        self.longest_chain = self.longest_chain.max(self.chain);
    }

    fn end_term(&mut self) {
        let depth = self.operators + self.longest_chain + self.deepest_child;
        self.deepest_term = self.deepest_term.max(depth);
        (self.operators, self.chain) = (0, 0);
        (self.longest_chain, self.deepest_child) = (0, 0);
    }

    fn end_element(&mut self) {
        self.end_term();
        // The balanced tree of `&&` and `||` adds the logarithm of its terms: 16 covers any source.
        let depth = self.conditionals + self.deepest_term + 16;
        self.deepest_element = self.deepest_element.max(depth);
        (self.conditionals, self.deepest_term) = (0, 0);
    }
}

/// Refuses a source that is too long or too deep to be given to the parser.
pub(super) fn check(source: &str, limits: Limits) -> Result<(), CompileError> {
    if source.len() > limits.bytes {
        let message = format!("the expression is longer than {} bytes", limits.bytes);
        return Err(CompileError::whole(message));
    }
    let bytes = source.as_bytes();
    let mut levels = vec![Level::default()];
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let next = bytes.get(at + 1).copied().unwrap_or(0);
        let open = levels.len();
        let level = levels.last_mut().expect("the outermost level is never popped");
        match byte {
            b'"' | b'\'' => {
                at = skip_string(source, at, false)?;
                continue;
            }
            // A quoted name could hide a comment sign, and has no use: fields of such names are
            // reached with an index.
            b'`' => return Err(CompileError::at(source, at, "unsupported syntax: '`'")),
            b'/' if next == b'/' => {
                while at < bytes.len() && bytes[at] != b'\n' {
                    at += 1;
                }
                continue;
            }
            b'(' | b'[' | b'{' => {
                level.link();
                if open > limits.brackets {
                    return Err(too_deep(source, at));
                }
                levels.push(Level::default());
            }
            b')' | b']' | b'}' if open > 1 => {
                let depth = close(&mut levels);
                if depth > MAX_ESTIMATED_DEPTH {
                    return Err(too_deep(source, at));
                }
            }
            b',' => level.end_element(),
            b'&' | b'|' if next == byte => {
                level.end_term();
                at += 1;
            }
            b'?' => {
                level.end_term();
                level.conditionals += 1;
            }
            b':' => level.end_term(),
            b'.' => level.link(),
            b'=' | b'!' | b'<' | b'>' => {
                level.operator();
                if next == b'=' {
                    at += 1;
                }
            }
            b'+' | b'-' | b'*' | b'/' | b'%' => level.operator(),
            _ if byte.is_ascii_alphanumeric() || byte == b'_' => {
                let start = at;
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                    at += 1;
                }
                let word = &source[start..at];
                if word == "in" {
                    level.operator();
                }
                let prefix = word.to_ascii_lowercase();
                let quoted = matches!(bytes.get(at), Some(b'"' | b'\''));
                // The lexer would split `1r''` into a number and a raw string.
                if quoted && byte.is_ascii_digit() {
                    let message = "Syntax error: a string directly after a number";
                    return Err(CompileError::at(source, at, message));
                }
                if quoted && matches!(prefix.as_str(), "r" | "b" | "br") {
                    at = skip_string(source, at, prefix.contains('r'))?;
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    while levels.len() > 1 {
        close(&mut levels);
    }
    let outermost = levels.last_mut().expect("the outermost level is never popped");
    outermost.end_element();
    if outermost.deepest_element > MAX_ESTIMATED_DEPTH {
        return Err(too_deep(source, 0));
    }
    Ok(())
}

/// Ends the innermost level and adds its depth to the one around it.
fn close(levels: &mut Vec<Level>) -> usize {
    let mut inner = levels.pop().expect("only called inside a bracket");
    inner.end_element();
    // The allowance for balanced trees is counted once, at the outermost level.
    let depth = inner.deepest_element + 1 - 16;
    let outer = levels.last_mut().expect("the outermost level is never popped");
    outer.deepest_child = outer.deepest_child.max(depth);
    depth
}

/// The position after the string that opens at `open`.
///
/// As strict as the grammar: were a text taken for a string here but not by the parser, a deep
/// expression could hide in it.
fn skip_string(source: &str, open: usize, raw: bool) -> Result<usize, CompileError> {
    let bytes = source.as_bytes();
    let quote = bytes[open];
    let triple = bytes[open..].starts_with(&[quote; 3]);
    let mut at = open + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            byte if byte == quote && !triple => return Ok(at + 1),
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => return Ok(at + 3),
            b'\\' if !raw => at += escape_length(source, at)?,
            b'\n' | b'\r' if !triple => break,
            _ => at += 1,
        }
    }
    let message = "Syntax error: the string is not terminated";
    Err(CompileError::at(source, open, message))
}

/// Length of the escape sequence that starts with the backslash at `at`.
fn escape_length(source: &str, at: usize) -> Result<usize, CompileError> {
    let rest = &source.as_bytes()[at + 1..];
    let (skip, digits, radix): (usize, usize, u32) = match rest.first() {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'\\' | b'"' | b'\'' | b'`' | b'?') => {
            return Ok(2);
        }
        Some(b'x' | b'X') => (1, 2, 16),
        Some(b'u') => (1, 4, 16),
        Some(b'U') => (1, 8, 16),
        Some(b'0'..=b'3') => (0, 3, 8),
        _ => (0, usize::MAX, 10),
    };
    let code = skip.checked_add(digits).and_then(|end| rest.get(skip..end));
    match code {
        Some(code) if code.iter().all(|byte| char::from(*byte).is_digit(radix)) => Ok(1 + skip + digits),
        _ => Err(CompileError::at(source, at, "Syntax error: unknown escape sequence")),
    }
}

fn too_deep(source: &str, offset: usize) -> CompileError {
    CompileError::at(source, offset, "the expression is nested too deeply")
}
