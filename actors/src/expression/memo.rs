//! Sources that were compiled a while ago, so that an event need not pay for a parser.
//!
//! A function's expressions are few and never change, and each event meets several of them; parsing one costs as much as
//! all else that its run start does. Only a memo: what it answers is what compiling would. Bounded: two generations of
//! [`GENERATION`] sources; what nobody asked for while one generation filled is forgotten.
//!
//! One per thread, since evaluation takes no locks. Sources that don't compile are not kept: registration refuses them.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{CompileError, Expression};

/// Sources of one generation.
const GENERATION: usize = 512;
/// Longest source that is kept, in bytes: a longer one has event data in it and is not met again.
const LONGEST: usize = 1_024;

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

/// The expression of a source over these roots, compiled now or before.
pub(super) fn compile(source: &str, roots: &'static [&'static str]) -> Result<Expression, CompileError> {
    if source.len() > LONGEST {
        return Expression::compile(source, roots);
    }
    if let Some(known) = MEMO.with_borrow_mut(|memo| memo.get(source, roots)) {
        return Ok(known);
    }
    let expression = Expression::compile(source, roots)?;
    MEMO.with_borrow_mut(|memo| memo.keep(roots, expression.clone()));
    Ok(expression)
}

/// By source; what a source may use is part of what it means.
type Generation = HashMap<Box<str>, (&'static [&'static str], Expression)>;

#[derive(Default)]
struct Memo {
    young: Generation,
    old: Generation,
}

impl Memo {
    fn get(&mut self, source: &str, roots: &'static [&'static str]) -> Option<Expression> {
        let is_meant = |(known, _): &&(&[&str], Expression)| *known == roots;
        if let Some((_, expression)) = self.young.get(source).filter(is_meant) {
            return Some(expression.clone());
        }
        let expression = self.old.get(source).filter(is_meant)?.1.clone();
        self.keep(roots, expression.clone());
        Some(expression)
    }

    fn keep(&mut self, roots: &'static [&'static str], expression: Expression) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(expression.source().into(), (roots, expression));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &[&str] = &["event"];
    const BOTH: &[&str] = &["event", "async"];

    fn expression(number: usize) -> Expression {
        Expression::compile(&format!("event.data.id == {number}"), EVENT).expect("the source is valid")
    }

    #[test]
    fn a_source_means_what_its_roots_allow() {
        let source = "async.data.id == event.data.id";
        assert!(compile(source, BOTH).is_ok());
        assert!(
            compile(source, EVENT).is_err(),
            "`async` is no name of the second caller"
        );
        assert!(compile(source, BOTH).is_ok());
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_is_forgotten() {
        let mut memo = Memo::default();
        let wanted = expression(0);
        memo.keep(EVENT, wanted.clone());
        for number in 1..=GENERATION * 4 {
            memo.keep(EVENT, expression(number));
            assert!(
                memo.get(wanted.source(), EVENT).is_some(),
                "asked for at each of {number} others"
            );
            assert!(memo.young.len() <= GENERATION && memo.old.len() <= GENERATION);
        }
        assert!(memo.get(expression(1).source(), EVENT).is_none());
    }
}
